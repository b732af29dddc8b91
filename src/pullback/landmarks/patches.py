"""Patches: what an image looks like around points of the world, along the world's axes."""

import torch
from torch import Tensor

from pullback import functional
from pullback.checks import check_positive
from pullback.data import Image
from pullback.space import Grid

FLAT = 1e-6
"""Standard deviation, as a share of the image's, below which a patch holds nothing."""


def patches_at(image: Image, points: Tensor, *, size: int, spacing_mm: float) -> Tensor:
    """Patches ``(N, 1, *[size] * D)`` float32, each with mean 0 and standard deviation 1 (0 where it is flat).

    Args:
        image: One channel (of several, the first).
        points: Their middles, ``(N, D)`` float64 in mm.
        size: Samples along each axis.
        spacing_mm: Their distance.

    Raises:
        ValueError: If `size` or `spacing_mm` is out of range.
    """
    check_positive("spacing_mm", spacing_mm)
    if size < 2:
        raise ValueError(f"`size` is {size}, but a patch needs 2 or more samples along each axis.")
    num_dims = image.grid.num_dims
    along = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * spacing_mm
    offsets = torch.stack(torch.meshgrid(*[along] * num_dims, indexing="ij"), dim=-1).reshape(-1, num_dims)
    positions = image.grid.to_voxel(points[:, None] + offsets)
    values = functional.sample(image.tensor[:1].to(torch.float32), positions, fill=None)[0]
    away = values - values.mean(1, keepdim=True)
    spread = away.square().mean(1, keepdim=True).sqrt()
    least = FLAT * float(image.tensor.to(torch.float32).std())
    flat = spread <= least
    normalised = torch.where(flat, torch.zeros_like(away), away / torch.where(flat, torch.ones_like(spread), spread))
    return normalised.reshape(len(points), 1, *[size] * num_dims)


def spacing_of(grid: Grid) -> Tensor:
    """Distance of voxels along each axis, ``(D,)`` in mm."""
    return torch.linalg.vector_norm(grid.voxel_to_world[:-1, :-1], dim=0)
