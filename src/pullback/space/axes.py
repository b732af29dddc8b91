"""Names of axes: the three-letter codes of medical images, and reordering a grid's axes without interpolation."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from pullback.space.grid import Grid

POSITIVE_ENDS = ("R", "A", "S")
NEGATIVE_ENDS = ("L", "P", "I")


@dataclass(frozen=True)
class Reorientation:
    """A permutation and flips of array axes.

    Attributes:
        order: Axis ``order[n]`` of the old array becomes axis n of the new one.
        flips: Whether new axis n runs against the old one.
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]

    def apply(self, tensor: Tensor) -> Tensor:
        """Reorder the last D axes of `tensor` (a view where torch allows)."""
        lead = tensor.ndim - len(self.order)
        tensor = tensor.permute(*range(lead), *(lead + axis for axis in self.order))
        flipped = [lead + axis for axis, flip in enumerate(self.flips) if flip]
        return tensor.flip(flipped) if flipped else tensor

    def apply_to_grid(self, grid: Grid) -> Grid:
        """The grid of the reordered array: the same points of the world."""
        size = grid.num_dims + 1
        new_to_old = torch.zeros(size, size, dtype=torch.float64)
        new_to_old[-1, -1] = 1.0
        for new, old in enumerate(self.order):
            new_to_old[old, new] = -1.0 if self.flips[new] else 1.0
            new_to_old[old, -1] = grid.shape[old] - 1.0 if self.flips[new] else 0.0
        return Grid(tuple(grid.shape[old] for old in self.order), grid.voxel_to_world @ new_to_old)


def closest_to_ras(grid: Grid) -> Reorientation:
    """The reorientation whose axes point as nearly as possible to Right, Anterior and Superior.

    Of all permutations the one with the largest sum of absolute cosines is taken, so oblique grids have an answer too.
    """
    cosines = grid.direction
    orders = itertools.permutations(range(grid.num_dims))
    order = max(orders, key=lambda axes: sum(abs(float(cosines[row, axis])) for row, axis in enumerate(axes)))
    return Reorientation(order, tuple(float(cosines[row, axis]) < 0 for row, axis in enumerate(order)))


def closest_to(grid: Grid, orientation: str) -> Reorientation:
    """The reorientation whose axes point as nearly as possible to the letters of `orientation`, such as ``LIA``.

    Raises:
        ValueError: If the letters do not name each axis of the world once.
    """
    rows = [(POSITIVE_ENDS + NEGATIVE_ENDS).index(c) % 3 for c in orientation if c in POSITIVE_ENDS + NEGATIVE_ENDS]
    if sorted(rows) != list(range(grid.num_dims)) or len(rows) != len(orientation):
        pairs = ", ".join(f"{POSITIVE_ENDS[n]} or {NEGATIVE_ENDS[n]}" for n in range(grid.num_dims))
        raise ValueError(
            f"`orientation` is '{orientation}', but {grid.num_dims} letters are needed, one of each pair: {pairs}."
        )
    ras = closest_to_ras(grid)
    flips = tuple(ras.flips[row] != (code in NEGATIVE_ENDS) for row, code in zip(rows, orientation, strict=True))
    return Reorientation(tuple(ras.order[row] for row in rows), flips)


def axis_codes(grid: Grid) -> str:
    """Where each array axis points, such as ``RAS`` or ``LPI`` (2-D: two letters).

    Example:
        >>> axis_codes(Grid.from_spacing((4, 4, 4), 1.0))
        'RAS'
    """
    reorientation = closest_to_ras(grid)
    letters = [""] * grid.num_dims
    for row, axis in enumerate(reorientation.order):
        letters[axis] = (NEGATIVE_ENDS if reorientation.flips[row] else POSITIVE_ENDS)[row]
    return "".join(letters)
