"""Local normalised cross-correlation."""

from torch import Tensor

from pullback.functional import local_correlation
from pullback.similarity.abstract import AbstractSimilarity

GUIDE_NOISE = 3.0
"""Noise of the guide of a deformation, in units of that of the judge (``docs/accuracy.md``)."""


class LNCC(AbstractSimilarity):
    r"""Correlation in small windows, averaged over windows and channels; 1 is a perfect match.

    $\frac{1}{|\Omega|} \sum_x \frac{\mathrm{cov}_w^2}{(\mathrm{var}_w f + \epsilon)(\mathrm{var}_w m + \epsilon)}$ over
    windows w of ``2 radius + 1`` voxels a side; blind to any slow change of intensities. Its derivative is exact.

    In windows with little contrast $\epsilon$ rewards more of it, so that an image moves a little against itself. With
    shared noise ($\mathrm{cov} + \epsilon$ for cov) equal images are the maximum, at the price of some blindness to
    changes of intensity: so guide and judge of a deformation share it (``docs/accuracy.md``).

    Args:
        radius_voxels: Half width of the windows.
        noise: $\epsilon$, the variance below which a window says nothing, for images of unit variance.
        noise_is_shared: Whether the images have that noise in common.
        squared: Whether the correlation is squared, so that locally inverted contrast counts too.

    Reference:
        Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Medical Image Analysis 12
        (2008), doi:10.1016/j.media.2007.06.004.
    """

    def __init__(
        self, *, radius_voxels: int = 2, noise: float = 1e-3, noise_is_shared: bool = False, squared: bool = True
    ) -> None:
        if radius_voxels < 1:
            raise ValueError(f"`radius_voxels` is {radius_voxels}, but windows need a radius of at least 1 voxel.")
        if noise <= 0:
            raise ValueError(f"`noise` is {noise}, but a variance above zero is needed to keep flat windows finite.")
        self.radius_voxels, self.noise = radius_voxels, noise
        self.noise_is_shared, self.squared = noise_is_shared, squared

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
            squared=self.squared,
            out=out,
        )

    def as_guide(self) -> "LNCC":
        """The same with more noise, which is shared: faint windows do not lead, at the price of some blindness."""
        return self._with_shared(GUIDE_NOISE * self.noise)

    def as_judge(self) -> "LNCC":
        """The same with shared noise."""
        return self._with_shared(self.noise)

    def _with_shared(self, noise: float) -> "LNCC":
        return LNCC(radius_voxels=self.radius_voxels, noise=noise, noise_is_shared=True, squared=self.squared)
