"""Whole volumes as sprites: all axial slices of an image side by side in one picture, for a browser to cut anywhere.

A sprite is in RAS order without flips: along a tile's width x grows, along its height y, from tile to tile z. Tiles are
multiples of 8 pixels wide and high, so that the blocks of JPEG never cross from one slice into the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from pullback.data import Image, LabelMap
from pullback.functional import block_mean
from pullback.reports.drawings import Drawings
from pullback.reports.markup import jpeg, plain_png, to_bytes
from pullback.reports.slices import ras_array
from pullback.space import Grid, Reorientation, closest_to_ras

MOST_VOXELS = 6_000_000
"""Voxels of one volume in a page; finer images are averaged over blocks. A 1 mm brain stays whole."""

JPEG_BLOCK = 8
MOST_LABELS = 65_535

WHOLE = 0.999
"""Share of a block from which all of it counts."""

JACOBIAN_LIMIT = 4.0
"""Factor at the ends of the stored levels of the Jacobian."""
JACOBIAN_LEVELS = 64
"""Levels of log(Jacobian): 1 is 1 / limit, the last is the limit, 0 is folded."""


@dataclass(frozen=True)
class Layout:
    """Where the voxels of a volume lie in its sprite.

    Attributes:
        reorientation: From the stored order of the fixed image to RAS.
        factors: Voxels of the fixed image, in RAS order, that make one voxel of the sprite.
        grid: The grid of the sprite's voxels, RAS order.
    """

    reorientation: Reorientation
    factors: tuple[int, int, int]
    grid: Grid

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of a tile in pixels."""
        width, height = (ceil(n / JPEG_BLOCK) * JPEG_BLOCK for n in self.grid.shape[:2])
        return width, height

    @property
    def columns(self) -> int:
        """Tiles side by side, so that the sprite is about square."""
        width, height = self.tile
        return max(1, round((self.grid.shape[2] * height / width) ** 0.5))

    def mosaic(self, volume: np.ndarray) -> np.ndarray:
        """The sprite ``(rows, columns)`` of a volume ``(I, J, K)`` in RAS order."""
        (width, height), depth = self.tile, volume.shape[2]
        rows = ceil(depth / self.columns)
        padding = [(0, width - volume.shape[0]), (0, height - volume.shape[1]), (0, rows * self.columns - depth)]
        tiles = np.pad(volume, padding, mode="edge").transpose(2, 1, 0)
        tiles = tiles.reshape(rows, self.columns, height, width).swapaxes(1, 2)
        return np.ascontiguousarray(tiles.reshape(rows * height, self.columns * width))

    def pick(self, labels: LabelMap) -> np.ndarray:
        """Labels at the middle of each block, ``(I, J, K)`` in RAS order."""
        volume = ras_array(labels.tensor, self.reorientation)[0]
        return volume[np.ix_(*(_middles(n, factor) for n, factor in zip(volume.shape, self.factors, strict=True)))]

    def average(self, volume: np.ndarray) -> np.ndarray:
        """Means over blocks of a volume ``(I, J, K)`` in RAS order, float32."""
        tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
        return block_mean(tensor[None, None], self.factors)[0, 0].numpy()


def layout_of(fixed: Image, most_voxels: int = MOST_VOXELS) -> Layout:
    """The finest layout of at most so many voxels; the axis with the smallest voxels is made coarser first."""
    reorientation = closest_to_ras(fixed.grid)
    grid = reorientation.apply_to_grid(fixed.grid)
    factors = [1, 1, 1]
    while grid.coarsen(factors).num_voxels > most_voxels:
        spacing = [float(mm) * factor for mm, factor in zip(grid.spacing_mm, factors, strict=True)]
        finest = min(range(3), key=lambda axis: spacing[axis] if grid.shape[axis] > factors[axis] else np.inf)
        factors[finest] += 1
    return Layout(reorientation, tuple(factors), grid.coarsen(factors))


def grey_volume(drawings: Drawings, side: str, layout: Layout) -> np.ndarray:
    """Grey levels of ``fixed``, ``before`` or ``warped``, float32 ``(I, J, K)`` in [0, 1]."""
    return layout.average(drawings.grey_volume(side))


def grey_sprite(volume: np.ndarray, layout: Layout) -> str:
    """Grey levels in [0, 1] as a JPEG data URI."""
    return jpeg(to_bytes(layout.mosaic(volume)))


def jacobian_sprite(jacobian: torch.Tensor, layout: Layout) -> str:
    """log(Jacobian) in `JACOBIAN_LEVELS` levels as a PNG data URI; a block with a folded voxel is folded."""
    values = np.nan_to_num(ras_array(jacobian, layout.reorientation), nan=1.0, posinf=1e3, neginf=-1.0)
    folded = layout.average(values <= 0) > 0
    logarithm = layout.average(np.log(np.maximum(values, 1e-3))) / np.log(JACOBIAN_LIMIT)
    middle = JACOBIAN_LEVELS / 2
    levels = np.clip(np.rint(middle + logarithm * (middle - 1)), 1, JACOBIAN_LEVELS - 1)
    levels[folded] = 0
    return plain_png(layout.mosaic(levels.astype(np.uint8)))


def mask_sprite(mask: torch.Tensor, layout: Layout) -> str:
    """A mask as a PNG data URI: 255 where all voxels of a block are in it, else 0."""
    whole = layout.average(ras_array(mask, layout.reorientation)) > WHOLE
    return plain_png(layout.mosaic(255 * whole.astype(np.uint8)))


def label_sprite(labels: LabelMap, order: Sequence[int], layout: Layout) -> str:
    """Labels as their position in `order`, counted from 1, as a PNG data URI: low byte in red, high byte in green."""
    known = np.array(order)
    volume = layout.pick(labels)
    indices = np.where(volume == 0, 0, np.searchsorted(known, volume) + 1)
    mosaic = layout.mosaic(indices.astype(np.uint16))
    if len(known) < 256:
        return plain_png(mosaic.astype(np.uint8))
    return plain_png(np.stack([mosaic & 255, mosaic >> 8, np.zeros_like(mosaic)], axis=-1).astype(np.uint8))


def _middles(count: int, factor: int) -> np.ndarray:
    """The voxel in the middle of each block of `factor` out of `count`."""
    return np.minimum(np.arange(0, count, factor) + factor // 2, count - 1)
