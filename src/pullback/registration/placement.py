"""Where a network's lattice lies in an image's world, and what the image looks like there."""

from collections.abc import Sequence

import torch

from pullback import functional
from pullback.data import Image, LabelMap
from pullback.registration.card import Card
from pullback.registration.initialisation import geometry_of
from pullback.registration.volume import orthonormal_cover, prepare
from pullback.space import Grid, closest_to
from pullback.transforms import identity, warp

SAME_SPACING = 1e-4
"""Relative difference of spacings below which voxels are copied, not interpolated."""


def place(
    image: Image,
    shape: Sequence[int],
    spacing_mm: Sequence[float] | None = None,
    *,
    centre: str,
    orientation: str | None = None,
) -> Grid:
    """A lattice in the image's world, along its axes reordered.

    Where the spacing is the image's own, the lattice falls on its voxels: cropping and padding, no interpolation.

    Args:
        image: The image.
        shape: Voxels of the lattice.
        spacing_mm: Their spacing (default: the image's own).
        centre: What lies in the lattice's middle: ``view`` (the middle of the field of view) or ``mass`` (the centre of
            mass of the foreground).
        orientation: Where the lattice's axes should point, such as ``LIA`` (default: nearest RAS).
    """
    grid = reordered(image.grid, orientation)
    spacing = grid.spacing_mm if spacing_mm is None else torch.tensor(list(spacing_mm), dtype=torch.float64)
    middle = grid.centre if centre == "view" else torch.from_numpy(geometry_of(prepare(image))[0][3 - grid.num_dims :])
    steps = spacing / grid.spacing_mm
    start = grid.to_voxel(middle[None])[0] - (torch.tensor(shape, dtype=torch.float64) - 1) / 2 * steps
    snapped = (start + 0.5).floor()
    start = torch.where((steps - 1).abs() < SAME_SPACING, snapped, start)
    origin = grid.to_world(start[None])[0]
    return Grid.from_spacing(tuple(shape), spacing, origin=origin.tolist(), direction=grid.direction)


def reordered(grid: Grid, orientation: str | None = None) -> Grid:
    """A grid with its axes in another order (default: nearest RAS), upright where it was sheared."""
    grid = closest_to(grid, orientation or "RAS"[: grid.num_dims]).apply_to_grid(grid)
    return grid if grid.is_orthonormal(1e-4) else orthonormal_cover(grid)


def resample_image(image: Image, grid: Grid) -> Image:
    """The image on a lattice; smoothed first along axes that get coarser; its lowest value beyond its edges."""
    steps = torch.linalg.vector_norm(image.grid.world_to_voxel[:-1, :-1] @ grid.voxel_to_world[:-1, :-1], dim=1)
    sigmas = [0.5 * float(s) if s > 1.2 else 0.0 for s in steps]
    if any(sigmas):
        image = image.with_tensor(functional.gaussian_smooth(image.tensor[None].to(torch.float32), sigmas)[0])
    return warp(image, identity(grid.num_dims), onto=grid, fill=float(image.tensor.min()))


def resample_labels(labels: LabelMap, grid: Grid) -> LabelMap:
    """The labels on a lattice, nearest neighbour."""
    return warp(labels, identity(grid.num_dims), onto=grid, interpolation="nearest")


def see(image: Image, card: Card, grid: Grid) -> torch.Tensor:
    """What a network is shown of an image on a lattice, ``(1, C, *shape)`` float32."""
    return resample_image(card.normalisation.apply(image), grid).tensor[None].to(torch.float32).contiguous()
