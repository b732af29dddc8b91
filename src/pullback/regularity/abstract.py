"""What every regularity is: an opinion on how a deformation may bend, given as smoothing, as an energy, or both."""

from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor


class AbstractRegularity(ABC):
    """Fields are ``(B, D, *shape)`` in voxels. What a subclass does not override leaves everything as it is."""

    @abstractmethod
    def scaled(self, smoothness: float) -> Self:
        """The same for structures so many times as wide: widths grow with it, weights with the power they go by."""

    def smooth_update(self, update: Tensor, scratch: Tensor) -> Tensor:
        """Smooth an update before it is applied (fluid), in place or into `scratch`, and return where it is."""
        return update

    def smooth_field(self, displacement: Tensor, scratch: Tensor) -> Tensor:
        """Smooth the whole displacement (elastic), in place or into `scratch`, and return where it is."""
        return displacement

    def energy(self, displacement: Tensor) -> Tensor:
        """Energy per pair, ``(B,)``, a mean over voxels; differentiable. 0 for the identity."""
        return displacement.new_zeros(displacement.shape[0])

    def force(self, displacement: Tensor) -> Tensor | None:
        """Minus the derivative of the energy by the displacement, times the number of voxels; None if there is none."""
        return None
