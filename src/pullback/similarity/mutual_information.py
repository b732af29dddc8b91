"""Mutual information."""

import torch
from torch import Tensor

from pullback.functional import histogram_gradient, joint_histogram
from pullback.functional.lifting import lift_volumes
from pullback.similarity.abstract import AbstractSimilarity

TINY = 1e-12


class MutualInformation(AbstractSimilarity):
    r"""$\sum_{ab} p_{ab} \log \frac{p_{ab}}{p_a p_b}$ in nats, averaged over channels; 0 is no relation.

    The joint histogram is smoothed by cubic B-splines along both axes (Parzen windows), every voxel counts, and sums
    are made in a fixed order, so the value does not depend on sampling, seeds or threads.

    Args:
        num_bins: Bins along each axis.
        fixed_range, warped_range: Intensities of the first and the last bin; None takes each image's own extremes
            where weights are above 0, which is right for one evaluation but would move the bins during a registration.

    Reference:
        Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22 (2003),
        doi:10.1109/TMI.2003.809072.
    """

    def __init__(
        self,
        *,
        num_bins: int = 32,
        fixed_range: tuple[float, float] | None = None,
        warped_range: tuple[float, float] | None = None,
    ) -> None:
        if num_bins < 5:
            raise ValueError(f"`num_bins` is {num_bins}, but cubic Parzen windows need at least 5.")
        self.num_bins, self.fixed_range, self.warped_range = num_bins, fixed_range, warped_range

    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`AbstractSimilarity`."""
        num_dims = fixed.ndim - 2
        f, w = (lift_volumes(t, num_dims).to(torch.float32) for t in (fixed, warped))
        m = torch.ones_like(f[:, :1]) if weights is None else lift_volumes(weights, num_dims).to(torch.float32)
        values = torch.zeros(f.shape[0], dtype=torch.float64)
        gradient = torch.empty_like(w)
        for b in range(f.shape[0]):
            for c in range(f.shape[1]):
                value, gradient[b, c] = self._one(f[b, c], w[b, c], m[b, 0])
                values[b] += value / f.shape[1]
        return values, (gradient / f.shape[1]).reshape(warped.shape).to(warped.dtype)

    def _one(self, fixed: Tensor, warped: Tensor, weights: Tensor) -> tuple[float, Tensor]:
        fixed_bins, _ = self._to_bins(fixed, weights, self.fixed_range)
        warped_bins, bins_per_unit = self._to_bins(warped, weights, self.warped_range)
        histogram = joint_histogram(fixed_bins, warped_bins, weights, self.num_bins)
        total = histogram.sum().clamp(min=TINY)
        joint = histogram / total
        marginal_f, marginal_w = joint.sum(dim=1, keepdim=True), joint.sum(dim=0, keepdim=True)
        ratio = torch.where(joint > TINY, joint / (marginal_f * marginal_w).clamp(min=TINY**2), torch.ones_like(joint))
        value = float((joint * ratio.log()).sum())
        # d MI / d histogram, without what is constant along the fixed axis (it cancels: B-splines sum to one).
        table = torch.where(joint > TINY, (joint / marginal_w.clamp(min=TINY)).clamp(min=TINY).log(), 0.0) / total
        slope = histogram_gradient(fixed_bins, warped_bins, weights, table, self.num_bins)
        return value, slope * bins_per_unit

    def _to_bins(self, image: Tensor, weights: Tensor, limits: tuple[float, float] | None) -> tuple[Tensor, float]:
        if limits is None:
            seen = image[weights > 0]
            limits = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
        low, high = limits
        bins_per_unit = (self.num_bins - 3.002) / max(high - low, TINY)
        return ((image - low) * bins_per_unit + 1).clamp(1, self.num_bins - 2.001), bins_per_unit
