"""Mean squared error."""

from torch import Tensor

from pullback.functional import weighted_moments
from pullback.similarity.abstract import AbstractSimilarity


class MSE(AbstractSimilarity):
    r"""$-\frac{1}{\sum w} \sum_x w(x) (f(x) - m(x))^2$, averaged over channels; 0 is a perfect match.

    For images of one scanner and one contrast, in the same units.
    """

    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`AbstractSimilarity`."""
        sums = weighted_moments(fixed, warped, weights)
        count = sums[..., 0].clamp(min=1e-12)
        values = -((sums[..., 3] + sums[..., 4] - 2 * sums[..., 5]) / count).mean(dim=1)
        difference = fixed - warped if weights is None else (fixed - warped) * weights
        scale = (2 / (count * fixed.shape[1])).to(difference)
        return values, difference * scale.reshape(*scale.shape, *[1] * (fixed.ndim - 2))
