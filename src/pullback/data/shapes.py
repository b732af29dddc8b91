"""Shapes far apart: a disc and a C, the experiment in which one-way registration is hard."""

import math

import torch
from torch import Tensor

from pullback.data.image import Image, LabelMap
from pullback.data.pair import Pair
from pullback.space import Grid

SUBSAMPLES = 4
"""Points per voxel and axis whose mean is a voxel's value."""


def c_shape_pair(
    num_voxels: int = 64,
    *,
    spacing_mm: float = 1.0,
    radius: float = 0.35,
    thickness: float = 0.16,
    gap_degrees: float = 60.0,
    turn_degrees: float = 0.0,
    disc_radius: float | None = None,
) -> Pair:
    """A disc to be registered onto a C: 2-D images from 0 to 1 with soft edges, and their labels.

    To become a C, the disc must be pushed in from one side and drawn around what is left out: far for most of its
    points, and without an edge to follow in its middle. Half-way lies a shape that shares features with both.

    Args:
        num_voxels: Along both axes.
        spacing_mm: Of the voxels.
        radius: Outer radius of the C, as a share of the field of view.
        thickness: Of its stroke, as a share of the field of view.
        gap_degrees: Opening angle of the C.
        turn_degrees: Where it opens, from the first axis towards the second.
        disc_radius: As a share of the field of view (default: that of the C).

    Returns:
        The C as the fixed and the disc as the moving image.

    Raises:
        ValueError: If a number does not give a C.

    Reference:
        Sha et al., Hierarchical symmetric normalization registration using deformation-inverse network, MICCAI 2024,
        figure 1; the shapes go back to Christensen et al., IEEE TIP 5 (1996), doi:10.1109/83.536892.

    Example:
        >>> pair = c_shape_pair(32)
        >>> pair.fixed.tensor.shape, float(pair.moving.tensor.max())
        (torch.Size([1, 32, 32]), 1.0)
    """
    if num_voxels < 8:
        raise ValueError(f"`num_voxels` is {num_voxels}, but shapes need 8 or more.")
    disc_radius = radius if disc_radius is None else disc_radius
    for name, share in (("radius", radius), ("disc_radius", disc_radius)):
        if not 0 < share <= 0.5:
            raise ValueError(f"`{name}` is {share}, but a share of the field of view above 0 and up to 0.5 is needed.")
    if not 0 < thickness < radius:
        raise ValueError(f"`thickness` is {thickness}, but a C needs more than 0 and less than its radius, {radius}.")
    if not 0 < gap_degrees < 360:
        raise ValueError(f"`gap_degrees` is {gap_degrees}, but a C opens by more than 0 and less than 360 degrees.")
    distance, angle = _polar(num_voxels, turn_degrees)
    stroke = (distance <= radius) & (distance >= radius - thickness) & (angle.abs() >= math.radians(gap_degrees) / 2)
    grid = Grid.from_spacing((num_voxels, num_voxels), spacing_mm)
    (fixed, fixed_labels), (moving, moving_labels) = (
        _image(shape, name, grid) for shape, name in ((stroke, "C"), (distance <= disc_radius, "disc"))
    )
    return Pair(fixed, moving, fixed_labels=fixed_labels, moving_labels=moving_labels)


def _polar(num_voxels: int, turn_degrees: float) -> tuple[Tensor, Tensor]:
    """Distance from the middle in fields of view, and angle from where the C opens, -pi to pi, of each subsample."""
    fine = num_voxels * SUBSAMPLES
    axis = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine - 0.5
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    turn = math.radians(turn_degrees)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    return torch.hypot(x, y), torch.atan2(across, along)


def _image(shape: Tensor, name: str, grid: Grid) -> tuple[Image, LabelMap]:
    """The share of each voxel that a shape covers, and the voxels of which it covers half or more."""
    covered = shape.to(torch.float32).unflatten(0, (-1, SUBSAMPLES)).unflatten(2, (-1, SUBSAMPLES)).mean(dim=(1, 3))
    return Image(covered[None], grid, {"name": name}), LabelMap((covered[None] >= 0.5).to(torch.int32), grid)
