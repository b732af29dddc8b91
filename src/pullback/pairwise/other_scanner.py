"""The same object seen by another scanner: a moving image whose true map to the fixed image is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pullback.data import Image
from pullback.functional import gaussian_smooth
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, StationaryVelocity, chain, identity, warp


@dataclass(frozen=True)
class OtherScanner:
    """How the other scanner and the other day differ.

    Attributes:
        spacing_mm: Voxel size of the moving image.
        rotation: Rotation vector in radians.
        scaling, shear: Of the affine part.
        translation_mm: Of the affine part.
        deformation_mm: Largest displacement of the smooth deformation.
        deformation_width_mm: Width of its bumps.
        bias: Largest change of gain by the bias field, as a share.
        noise: Standard deviation of the noise, as a share of the brightest tissue.
        seed: Of bias field, deformation and noise.
    """

    spacing_mm: tuple[float, ...] = (1.2, 1.0, 1.5)
    rotation: tuple[float, ...] = (0.15, -0.1, 0.25)
    scaling: tuple[float, ...] = (1.05, 0.96, 1.03)
    shear: tuple[float, ...] = (0.02, -0.03, 0.02)
    translation_mm: tuple[float, ...] = (12.0, -20.0, 8.0)
    deformation_mm: float = 8.0
    deformation_width_mm: float = 16.0
    bias: float = 0.3
    noise: float = 0.02
    seed: int = 0


def simulate(fixed: Image, scanner: OtherScanner | None = None) -> tuple[Image, AbstractTransform]:
    """A moving image and the true map of fixed points to it.

    The moving image is stored with its axes flipped and permuted, on an oblique grid of another spacing.

    Args:
        fixed: A 3-D image of one channel.
        scanner: How the other scanner differs.
    """
    scanner = scanner or OtherScanner()
    random = torch.Generator().manual_seed(scanner.seed)
    truth = _true_map(fixed.grid, scanner, random)
    moving_grid = _grid_around(fixed.grid, truth, scanner)
    moving = warp(fixed, ~truth, onto=moving_grid)
    gain = 1 + scanner.bias * _smooth_noise(moving_grid.shape, 1, 0.15, random)[0]
    noise = scanner.noise * float(fixed.tensor.max()) * torch.randn(moving_grid.shape, generator=random)
    tensor = (moving.tensor * gain + noise).clamp(min=0)
    return Image(tensor, moving_grid, {"name": f"{fixed.name}, other scanner"}), truth


def _true_map(grid: Grid, scanner: OtherScanner, random: torch.Generator) -> AbstractTransform:
    extent = [n * s for n, s in zip(grid.shape, grid.spacing_mm.tolist(), strict=True)]
    coarse = grid.resize([max(8, round(e / 4)) for e in extent])
    width = scanner.deformation_width_mm / max(extent)
    velocity = scanner.deformation_mm * _smooth_noise(coarse.shape, 3, width, random)
    affine = Affine.from_parts(
        translation_mm=scanner.translation_mm,
        rotation=scanner.rotation,
        scaling=scanner.scaling,
        shear=scanner.shear,
        centre_mm=grid.centre.tolist(),
    )
    return chain(affine, StationaryVelocity(velocity, coarse))


def _grid_around(fixed: Grid, truth: AbstractTransform, scanner: OtherScanner) -> Grid:
    """A grid that covers the moved field of view, stored in another order, a little oblique."""
    tilt = Affine.from_parts(rotation=(0.1, 0.05, -0.08)).linear
    flips = torch.tensor([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]], dtype=torch.float64)
    direction = tilt @ flips
    spacing = torch.tensor([scanner.spacing_mm[i] for i in (0, 2, 1)], dtype=torch.float64)
    along = (truth(fixed.corners()) @ direction) / spacing
    low, high = along.min(dim=0).values, along.max(dim=0).values
    shape = [int(n) + 1 for n in (high - low).ceil().tolist()]
    return Grid.from_spacing(shape, spacing, origin=(direction @ (low * spacing)).tolist(), direction=direction)


def _smooth_noise(shape: tuple[int, ...], channels: int, width: float, random: torch.Generator) -> Tensor:
    """Smooth random fields ``(channels, *shape)`` of largest value 1; `width` is a share of the longest axis.

    They are made on a coarse copy of the grid and interpolated, since they have no detail.
    """
    coarse_shape = [max(8, min(n, round(3 * n / (max(shape) * width)))) for n in shape]
    noise = torch.randn(1, channels, *coarse_shape, generator=random)
    smooth = gaussian_smooth(noise, [width * max(shape) * c / n for c, n in zip(coarse_shape, shape, strict=True)])
    smooth = smooth / smooth.abs().max()
    grid, coarse = Grid.from_spacing(shape), Grid.from_spacing(shape).resize(coarse_shape)
    return warp(Image(smooth[0], coarse), identity(3), onto=grid).tensor
