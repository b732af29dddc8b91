"""Inputs that many tests share: grids of every kind, noise, and smooth random fields."""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback.space import Grid

SHAPES_3D = [(7, 8, 9), (1, 6, 7), (5, 1, 6), (4, 5, 1), (2, 2, 2), (1, 1, 1), (70, 3, 5)]
SHAPES_2D = [(9, 8), (1, 5), (6, 1), (1, 1)]
SHAPES = SHAPES_3D + SHAPES_2D


def turn(degrees: float) -> np.ndarray:
    """A right-handed rotation of the plane."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def oblique_axes() -> np.ndarray:
    """A rotation about two axes, far from any symmetry."""
    first, second = np.eye(3), np.eye(3)
    first[:2, :2], second[1:, 1:] = turn(20), turn(-35)
    return first @ second


def _sheared() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3] = [[2.0, 0.3, 0.1, -30.0], [0.0, 1.5, -0.4, 12.0], [0.2, 0.0, 1.2, 7.0]]
    return matrix


GRIDS: dict[str, Grid] = {
    "RAS": Grid.from_spacing((6, 7, 8), 1.0),
    "LAS": Grid.from_spacing((6, 7, 8), (1.0, 2.0, 3.0), origin=(90, -126, -72), direction=np.diag([-1.0, 1, 1])),
    "LPS": Grid.from_spacing((6, 7, 8), 1.25, origin=(4, 5, 6), direction=np.diag([-1.0, -1, 1])),
    "AIR": Grid.from_spacing((6, 7, 8), (1, 2, 3), direction=[[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": Grid.from_spacing((6, 7, 8), (0.8, 1.1, 2.5), origin=(-40, 31.5, 7), direction=oblique_axes()),
    "sheared": Grid((6, 7, 8), _sheared()),
    "anisotropic": Grid.from_spacing((9, 8, 5), (0.4, 0.4, 6.0), origin=(1000, -2000, 3000)),
    "one voxel thick": Grid.from_spacing((6, 1, 8), (1, 5, 2), origin=(3, 2, 1), direction=oblique_axes()),
    "2-D": Grid.from_spacing((6, 7), (0.5, 2.0), origin=(-4, 9)),
    "2-D oblique": Grid.from_spacing((6, 7), (0.5, 0.7), origin=(-4, 9), direction=turn(30) @ np.diag([-1.0, 1])),
}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def smooth_noise(
    *shape: int, largest: float = 1.0, sigma: float = 3.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Noise ``(channels, *space)`` smoothed along the space axes and scaled to a largest magnitude."""
    rough = noise(*shape, seed=seed, dtype=torch.float64).numpy()
    soft = ndimage.gaussian_filter(rough, [0.0] + [sigma] * (len(shape) - 1), mode="nearest")
    return torch.from_numpy(soft * (largest / np.abs(soft).max())).to(dtype)


def voxel_points(*shape: int) -> Tensor:
    """Voxel coordinates of all voxels, ``(*shape, D)`` float64."""
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def inner_points(grid: Grid, margin: float = 1.5, num: int = 50, seed: int = 0) -> Tensor:
    """Random world points at least `margin` voxels inside the outer voxel centres, ``(num, D)``."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([max(n - 1 - 2 * margin, 0.0) for n in grid.shape], dtype=torch.float64)
    start = torch.tensor([min(margin, (n - 1) / 2) for n in grid.shape], dtype=torch.float64)
    return grid.to_world(start + spread * torch.rand(num, grid.num_dims, generator=generator, dtype=torch.float64))
