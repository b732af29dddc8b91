"""Diffusion: the squared first derivatives."""

import torch
from torch import Tensor

from pullback.checks import check_at_least
from pullback.regularity.abstract import AbstractRegularity


class Diffusion(AbstractRegularity):
    r"""$\frac{\lambda}{|\Omega|} \sum_x \|\nabla u(x)\|^2$ by forward differences, in voxels; 0 for a constant field.

    Args:
        weight: $\lambda$.

    Reference:
        Fischer and Modersitzki, Fast diffusion registration, Contemporary Mathematics 313 (2002).
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = check_at_least("weight", weight, 0)

    def scaled(self, smoothness: float) -> "Diffusion":
        """The weight, of first derivatives squared, times the square."""
        return Diffusion(self.weight * smoothness**2)

    def energy(self, displacement: Tensor) -> Tensor:
        """See the class."""
        num_dims = displacement.ndim - 2
        total = sum(displacement.diff(dim=axis).square().flatten(1).sum(dim=1) for axis in range(2, 2 + num_dims))
        return self.weight * total / displacement[0, 0].numel()

    def force(self, displacement: Tensor) -> Tensor:
        """Twice the weighted Laplacian (natural boundary)."""
        return 2 * self.weight * laplacian(displacement)


def laplacian(field: Tensor) -> Tensor:
    """Sum of second differences along the axes, with a zero derivative across the edges."""
    result = torch.zeros_like(field)
    for axis in range(2, field.ndim):
        size = field.shape[axis]
        if size == 1:
            continue
        steps = field.diff(dim=axis)
        result.narrow(axis, 0, size - 1).add_(steps)
        result.narrow(axis, 1, size - 1).sub_(steps)
    return result
