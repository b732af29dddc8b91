"""Several channels that count differently."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pullback.similarity.abstract import AbstractSimilarity


class WeightedChannels(AbstractSimilarity):
    r"""$\sum_c \lambda_c S(f_c, m_c) / \sum_c \lambda_c$: a similarity of each channel, weighted.

    Args:
        similarity: S, used for every channel.
        weights: $\lambda_c$, one per channel, 0 or more, not all 0.
    """

    def __init__(self, similarity: AbstractSimilarity, weights: Sequence[float]) -> None:
        total = float(sum(weights))
        if min(weights) < 0 or total <= 0:
            raise ValueError(f"`weights` is {list(weights)}, but numbers of 0 or more are needed, one of them above 0.")
        self.similarity, self.shares = similarity, [float(w) / total for w in weights]

    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`AbstractSimilarity`."""
        if fixed.shape[1] != len(self.shares):
            raise ValueError(f"The images have {fixed.shape[1]} channels, but there are {len(self.shares)} weights.")
        gradient = torch.zeros_like(warped) if out is None else out.zero_()
        values = torch.zeros(fixed.shape[0], dtype=torch.float64)
        for c, share in enumerate(self.shares):
            if share == 0:
                continue
            value, slope = self.similarity.value_and_gradient(fixed[:, c : c + 1], warped[:, c : c + 1], weights)
            values += share * value
            gradient[:, c : c + 1] = share * slope
        return values, gradient

    def as_guide(self, fixed: Tensor) -> "WeightedChannels":
        """The same weights for the guide of all channels that count."""
        heard = fixed[:, [c for c, share in enumerate(self.shares) if share > 0]]
        return WeightedChannels(self.similarity.as_guide(heard), self.shares)

    def as_judge(self) -> "WeightedChannels":
        """The same weights for the judge of one channel."""
        return WeightedChannels(self.similarity.as_judge(), self.shares)
