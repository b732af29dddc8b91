"""Global normalised cross-correlation."""

import torch
from torch import Tensor

from pullback.functional import weighted_moments
from pullback.similarity.abstract import AbstractSimilarity

SMALLEST_VARIANCE = 1e-12
"""Below this, absolute or as a share of the mean square (where rounding takes over), an image counts as constant."""


class NCC(AbstractSimilarity):
    r"""Pearson's correlation over all voxels, from -1 to 1, averaged over channels.

    $\mathrm{cov}(f, m) / \sqrt{\mathrm{var}(f)\,\mathrm{var}(m)}$; blind to a linear change of intensities. A constant
    image gives 0.

    Args:
        squared: Return the square, which also rewards inverted contrast.
    """

    def __init__(self, *, squared: bool = False) -> None:
        self.squared = squared

    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`AbstractSimilarity`."""
        n, f, w, ff, ww, fw = weighted_moments(fixed, warped, weights).unbind(-1)
        n = n.clamp(min=1e-12)
        mean_f, mean_w = f / n, w / n
        var_f, var_w, covariance = ff / n - mean_f**2, ww / n - mean_w**2, fw / n - mean_f * mean_w
        valid = (var_f > SMALLEST_VARIANCE * (1 + ff / n)) & (var_w > SMALLEST_VARIANCE * (1 + ww / n))
        root = torch.where(valid, (var_f * var_w).clamp(min=SMALLEST_VARIANCE**2).rsqrt(), 0.0)
        correlation = covariance * root
        outer = 2 * correlation if self.squared else torch.ones_like(correlation)
        a = outer * root / n / fixed.shape[1]
        b = torch.where(valid, outer * correlation / var_w.clamp(min=SMALLEST_VARIANCE) / n / fixed.shape[1], 0.0)

        def spread(numbers: Tensor) -> Tensor:
            return numbers.to(warped).reshape(*numbers.shape, *[1] * (fixed.ndim - 2))

        gradient = spread(a) * (fixed - spread(mean_f)) - spread(b) * (warped - spread(mean_w))
        if weights is not None:
            gradient = gradient * weights
        values = correlation**2 if self.squared else correlation
        return values.mean(dim=1), gradient
