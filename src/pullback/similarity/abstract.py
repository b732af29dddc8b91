"""What every similarity is: a number that grows with agreement, and its derivative by the warped image."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class AbstractSimilarity(ABC):
    """Agreement of a fixed and a warped image; larger is better for every subclass.

    Images are ``(B, C, *shape)``; `weights` is ``(B, 1, *shape)`` from 0 to 1, None for all ones: voxels of weight 0
    take no part.
    """

    @abstractmethod
    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The value per pair, ``(B,)`` float64, and its derivative by `warped`, shaped like it.

        Args:
            fixed: Intensities on the fixed grid.
            warped: Moving intensities sampled there.
            weights: Weight of each voxel.
            out: Where the derivative may be written.
        """

    def as_guide(self, fixed: Tensor) -> "AbstractSimilarity":
        """The similarity whose derivative leads a deformation onto a fixed image ``(B, C, *shape)``."""
        return self

    def as_judge(self) -> "AbstractSimilarity":
        """The similarity by which two results are compared; its maximum is two equal images."""
        return self

    def __call__(self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None) -> Tensor:
        """The value per pair, ``(B,)``, differentiable in `warped`."""
        return _Value.apply(warped, fixed, weights, self)


class _Value(torch.autograd.Function):
    """Hands the closed-form derivative to autograd."""

    @staticmethod
    def forward(ctx: Any, warped: Tensor, fixed: Tensor, weights: Tensor | None, similarity: Any) -> Tensor:
        values, gradient = similarity.value_and_gradient(fixed.detach(), warped.detach(), weights)
        ctx.save_for_backward(gradient)
        return values.to(warped)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.reshape(-1, *[1] * (gradient.ndim - 1)), None, None, None
