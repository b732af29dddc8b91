"""Images and label maps: a tensor of voxels and the grid that says where they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from pullback.space import Grid, Reorientation, closest_to_ras


@dataclass(frozen=True, eq=False)
class AbstractVoxels:
    """Voxel values on a grid.

    Attributes:
        tensor: ``(C, *shape)``, channels first.
        grid: Where the voxels are.
        header: What the file said beyond that and what a file written from this should say again (data type, codes,
            units, name); never needed to compute.
    """

    tensor: Tensor
    grid: Grid
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if tuple(self.tensor.shape[1:]) != self.grid.shape:
            raise ValueError(
                f"`tensor` has shape {tuple(self.tensor.shape)}, but (C, {', '.join(map(str, self.grid.shape))}) is "
                "needed to fit the grid; add a channel axis with `tensor[None]`."
            )

    @property
    def num_channels(self) -> int:
        """Channels of a multi-channel image; 1 for a plain one."""
        return self.tensor.shape[0]

    @property
    def name(self) -> str:
        """A short name for messages and reports."""
        return str(self.header.get("name", type(self).__name__.lower()))

    def batch(self) -> Tensor:
        """The voxels as a batch of one, ``(1, C, *shape)``."""
        return self.tensor[None]

    def with_tensor(self, tensor: Tensor, grid: Grid | None = None) -> Self:
        """The same kind of image with other voxels, and another grid if given; the header is kept."""
        return type(self)(tensor, self.grid if grid is None else grid, self.header)

    def reorient(self, reorientation: Reorientation | None = None) -> Self:
        """Reorder the array axes (default: as near to RAS as they get); no voxel moves in the world."""
        reorientation = closest_to_ras(self.grid) if reorientation is None else reorientation
        return self.with_tensor(reorientation.apply(self.tensor), reorientation.apply_to_grid(self.grid))


@dataclass(frozen=True, eq=False)
class Image(AbstractVoxels):
    """Intensities, float32 or float64, interpolated when resampled."""

    def __post_init__(self) -> None:
        _check_tensor(self.tensor)
        if not self.tensor.is_floating_point():
            object.__setattr__(self, "tensor", self.tensor.to(torch.float32))
        super().__post_init__()


@dataclass(frozen=True, eq=False)
class LabelMap(AbstractVoxels):
    """Integer labels, one channel, never averaged. 0 is the background.

    Raises:
        ValueError: If the tensor holds fractions or more than one channel.
    """

    def __post_init__(self) -> None:
        _check_tensor(self.tensor)
        if self.tensor.is_floating_point():
            rounded = self.tensor.round()
            if not torch.equal(rounded, self.tensor):
                raise ValueError("A label map holds whole numbers, but this one has fractions: is it an image?")
            object.__setattr__(self, "tensor", rounded.to(torch.int32))
        super().__post_init__()
        if self.num_channels != 1:
            raise ValueError(f"A label map has one channel, but this one has {self.num_channels}.")

    @property
    def labels(self) -> list[int]:
        """The labels present, without the background, sorted."""
        return [int(label) for label in torch.unique(self.tensor) if label != 0]


def _check_tensor(tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"`tensor` is a {type(tensor).__name__}, but a torch tensor is needed: torch.as_tensor(...)[None]."
        )
