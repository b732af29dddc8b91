"""Bending energy: the squared second derivatives."""

import torch
from torch import Tensor

from pullback.checks import check_at_least
from pullback.regularity.abstract import AbstractRegularity


class Bending(AbstractRegularity):
    r"""$\frac{\lambda}{|\Omega|} \sum_x \sum_{ab} (\partial_a \partial_b u(x))^2$, in voxels; 0 for an affine field.

    Pure second derivatives are central, mixed ones are products of forward differences; each sum runs over the voxels
    where its stencil fits.

    Args:
        weight: $\lambda$.

    Reference:
        Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 18 (1999), doi:10.1109/42.796284.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = check_at_least("weight", weight, 0)

    def scaled(self, smoothness: float) -> "Bending":
        """The weight, of second derivatives squared, times the fourth power."""
        return Bending(self.weight * smoothness**4)

    def energy(self, displacement: Tensor) -> Tensor:
        """See the class."""
        total = displacement.new_zeros(displacement.shape[0])
        for a in range(2, displacement.ndim):
            for b in range(a, displacement.ndim):
                second = displacement.diff(dim=a).diff(dim=b)
                total = total + (1 if a == b else 2) * second.square().flatten(1).sum(dim=1)
        return self.weight * total / displacement[0, 0].numel()

    def force(self, displacement: Tensor) -> Tensor:
        """By automatic differentiation of the energy."""
        with torch.enable_grad():
            leaf = displacement.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(leaf).sum(), leaf)
        return gradient.mul_(-displacement[0, 0].numel())
