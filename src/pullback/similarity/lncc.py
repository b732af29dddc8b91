"""Local normalised cross-correlation."""

import numpy as np
from torch import Tensor

from pullback.functional import block_mean, local_correlation
from pullback.similarity.abstract import AbstractSimilarity

GUIDE_NOISE = 0.3
"""Noise of the guide of a deformation, in units of that of the judge (``docs/accuracy.md``)."""
GUIDE_CONTRAST = 0.5
"""Variance at which a window counts half for that guide, in units of what is usual in the fixed image."""


class LNCC(AbstractSimilarity):
    r"""Correlation in small windows, averaged over windows and channels; 1 is a perfect match.

    $\frac{1}{|\Omega|} \sum_x \frac{\mathrm{cov}_w^2}{(\mathrm{var}_w f + \epsilon)(\mathrm{var}_w m + \epsilon)}$ over
    windows w of ``2 radius + 1`` voxels a side; blind to any slow change of intensities. Its derivative is exact.

    In windows with little contrast $\epsilon$ rewards more of it, so that an image moves a little against itself. With
    shared noise ($\mathrm{cov} + \epsilon$ for cov) equal images are the maximum, but it minds slow changes of
    intensity, the more the larger $\epsilon$ is. Guide and judge of a deformation share it (``docs/accuracy.md``).

    Each window may count by the contrast of the fixed image in it, as
    $\mathrm{var}_w f / (\mathrm{var}_w f + \kappa)$. What is a perfect match stays one, as this does not depend on the
    moving image, but its value is below 1. Faint windows lead little then, even if $\epsilon$ is small.

    Args:
        radius_voxels: Half width of the windows.
        noise: $\epsilon$, the variance below which a window says nothing, for images of unit variance.
        noise_is_shared: Whether the images have that noise in common.
        contrast: $\kappa$; 0: all windows count alike.
        squared: Whether the correlation is squared, so that locally inverted contrast counts too.

    Reference:
        Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Medical Image Analysis 12
        (2008), doi:10.1016/j.media.2007.06.004.
    """

    def __init__(
        self,
        *,
        radius_voxels: int = 2,
        noise: float = 1e-3,
        noise_is_shared: bool = False,
        contrast: float = 0.0,
        squared: bool = True,
    ) -> None:
        if radius_voxels < 1:
            raise ValueError(f"`radius_voxels` is {radius_voxels}, but windows need a radius of at least 1 voxel.")
        if noise <= 0:
            raise ValueError(f"`noise` is {noise}, but a variance above zero is needed to keep flat windows finite.")
        if contrast < 0:
            raise ValueError(f"`contrast` is {contrast}, but a variance is 0 or more.")
        self.radius_voxels, self.noise, self.noise_is_shared = radius_voxels, noise, noise_is_shared
        self.contrast, self.squared = contrast, squared

    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`AbstractSimilarity`."""
        return local_correlation(
            fixed,
            warped,
            weights,
            radius_voxels=self.radius_voxels,
            noise=self.noise,
            noise_is_shared=self.noise_is_shared,
            contrast=self.contrast,
            squared=self.squared,
            out=out,
        )

    def as_guide(self, fixed: Tensor) -> "LNCC":
        """The same with less noise, which is shared, and windows that count by their contrast."""
        return self._with_shared(GUIDE_NOISE * self.noise, GUIDE_CONTRAST * usual_variance(fixed, self.radius_voxels))

    def as_judge(self) -> "LNCC":
        """The same with shared noise."""
        return self._with_shared(self.noise, self.contrast)

    def _with_shared(self, noise: float, contrast: float) -> "LNCC":
        return LNCC(
            radius_voxels=self.radius_voxels,
            noise=noise,
            noise_is_shared=True,
            contrast=contrast,
            squared=self.squared,
        )


def usual_variance(image: Tensor, radius_voxels: int) -> float:
    """The variance in windows below which half of an image's contrast lies, which is the sum of standard deviations.

    Neither a background that is faint, or flat, nor a few windows of very much contrast change it much.

    Args:
        image: ``(B, C, *shape)``; all channels together.
        radius_voxels: Of the windows, which are blocks side by side here.
    """
    factors = [min(2 * radius_voxels + 1, n) for n in image.shape[2:]]
    variances = block_mean(image * image, factors) - block_mean(image, factors) ** 2
    ordered = np.sort(variances.clamp(min=0).cpu().numpy(), axis=None)
    contrast = np.sqrt(ordered, dtype=np.float64).cumsum()
    return float(ordered[np.searchsorted(contrast, contrast[-1] / 2)])
