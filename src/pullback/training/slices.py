"""2-D slices of 3-D volumes."""

from dataclasses import dataclass
from typing import TypeVar

import torch

from pullback.data import AbstractVoxels
from pullback.space import Grid

Voxels = TypeVar("Voxels", bound=AbstractVoxels)


@dataclass(frozen=True)
class Slices:
    """Which slices of a volume become images of their own.

    Attributes:
        axis: Across which to cut: 0 sagittal, 1 coronal, 2 axial, on a lattice along R, A, S.
        first, last: Voxels of the lattice, both included.
        step: Every how many.
    """

    axis: int = 2
    first: int = 0
    last: int = 0
    step: int = 1

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2):
            raise ValueError(f"`axis` is {self.axis}, but 0, 1 or 2 is needed.")
        if not 0 <= self.first <= self.last or self.step < 1:
            raise ValueError(
                f"Slices from {self.first} to {self.last} by {self.step} are none; give first, last and a step of 1 or "
                "more."
            )

    def positions(self, shape: tuple[int, ...]) -> range:
        """The voxels along the axis.

        Raises:
            ValueError: If the lattice is not 3-D or too short.
        """
        if len(shape) != 3 or self.last >= shape[self.axis]:
            raise ValueError(f"There is no slice {self.last} across axis {self.axis} of a lattice of {shape}.")
        return range(self.first, self.last + 1, self.step)

    def take(self, volume: Voxels, position: int) -> Voxels:
        """One slice, in a plane of its own: coordinates in mm along the two axes that stay."""
        kept = [axis for axis in range(3) if axis != self.axis]
        origin = [float(volume.grid.direction[:, a] @ volume.grid.origin) for a in kept]
        spacing = volume.grid.spacing_mm[kept]
        grid = Grid.from_spacing([volume.grid.shape[a] for a in kept], spacing, origin=origin)
        index = torch.tensor(position)
        return volume.with_tensor(volume.tensor.index_select(1 + self.axis, index[None]).squeeze(1 + self.axis), grid)
