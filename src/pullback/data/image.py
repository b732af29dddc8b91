"""Images and label maps: a tensor of voxels and the grid that says where they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from pullback.checks import as_data
from pullback.space import Grid, Reorientation, closest_to_ras

LABEL_LIMIT = 2.0**63
"""Labels are smaller than this in size, as int64 holds them."""


@dataclass(frozen=True, eq=False)
class AbstractVoxels:
    """Voxel values on a grid: data, so that a gradient stays behind; `functional.warp` is the differentiable way.

    Attributes:
        tensor: ``(C, *shape)``, channels first.
        grid: Where the voxels are.
        header: What the file said beyond that and what a file written from this should say again (data type, codes,
            units, name); never needed to compute.
    """

    tensor: Tensor = field(repr=False)
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
        """The same kind of image with other voxels, and another grid if given; the header is kept.

        Where ``invalid`` voxels were is forgotten with the grid they were on.
        """
        header = self.header if grid is None else {k: v for k, v in self.header.items() if k != "invalid"}
        return type(self)(tensor, self.grid if grid is None else grid, header)

    def reorient(self, reorientation: Reorientation | None = None) -> Self:
        """Reorder the array axes (default: as near to RAS as they get); no voxel moves in the world."""
        reorientation = closest_to_ras(self.grid) if reorientation is None else reorientation
        header = dict(self.header)
        if "invalid" in header:
            header["invalid"] = reorientation.apply(header["invalid"][None])[0]
        return type(self)(reorientation.apply(self.tensor), reorientation.apply_to_grid(self.grid), header)


@dataclass(frozen=True, eq=False)
class Image(AbstractVoxels):
    """Intensities, float32 or float64, interpolated when resampled; other real types become float32.

    Raises:
        TypeError: If `tensor` is none.
        ValueError: If it is complex, holds nothing, or does not fit the grid.
    """

    def __post_init__(self) -> None:
        tensor = as_data("tensor", self.tensor)
        object.__setattr__(self, "tensor", tensor if tensor.is_floating_point() else tensor.to(torch.float32))
        super().__post_init__()

    def with_numbers_only(self) -> "Image":
        """Voxels that are no finite numbers in single precision become 0 and invalid, with a note, as readers do it."""
        tensor = self.tensor.to(torch.float32)
        bad = ~torch.isfinite(tensor).all(dim=0)
        if not bool(bad.any()):
            return self
        note = f"{int(bad.sum())} voxels hold NaN or infinity; they were set to 0 and marked invalid."
        invalid = bad | self.header["invalid"] if "invalid" in self.header else bad
        about = {"invalid": invalid, "notes": (*self.header.get("notes", ()), note)}
        return Image(tensor.masked_fill(bad, 0.0), self.grid, {**self.header, **about})


@dataclass(frozen=True, eq=False)
class LabelMap(AbstractVoxels):
    """Integer labels, one channel, never averaged. 0 is the background.

    Whole floating-point numbers become int32, or int64 where a label needs it.

    Raises:
        TypeError: If `tensor` is none.
        ValueError: If the tensor holds fractions, infinity or more than one channel, or does not fit the grid.
    """

    def __post_init__(self) -> None:
        tensor = as_data("tensor", self.tensor)
        object.__setattr__(self, "tensor", _whole(tensor) if tensor.is_floating_point() else tensor)
        super().__post_init__()
        if self.num_channels != 1:
            raise ValueError(f"A label map has one channel, but this one has {self.num_channels}.")

    @property
    def labels(self) -> list[int]:
        """The labels present, without the background, sorted."""
        return [int(label) for label in torch.unique(self.tensor) if label != 0]


def _whole(tensor: Tensor) -> Tensor:
    """Floating-point labels as int32, or int64 where one needs it."""
    wrong = tensor[(tensor.round() != tensor) | ~(tensor.abs() < LABEL_LIMIT)]
    if wrong.numel():
        raise ValueError(
            f"A label map holds whole numbers below 2^63, no fractions, but this one holds {float(wrong[0]):.6g}: is "
            "it an image?"
        )
    limits = torch.iinfo(torch.int32)
    is_small = limits.min <= float(tensor.min()) and float(tensor.max()) <= limits.max
    return tensor.to(torch.int32 if is_small else torch.int64)
