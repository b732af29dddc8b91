"""What every transform is: a function from points of the fixed world to points of the moving world, in mm."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from pullback.checks import as_points
from pullback.space import Grid

POINTS_AT_A_TIME = 1 << 18
"""Points mapped together when a whole grid is asked for, so that memory stays small."""


class AbstractTransform(ABC):
    """A map of world points (RAS+ mm) to world points; ``(a @ b)(x) == a(b(x))`` and ``~a`` is the inverse.

    Transforms are data, not differentiable operations: what they are made of and what they map leave their gradients
    behind. The differentiable functions are those of :mod:`pullback.functional` that say so, such as ``warp``.
    """

    @property
    @abstractmethod
    def num_dims(self) -> int:
        """2 or 3."""

    @abstractmethod
    def map_points(self, points: Tensor) -> Tensor:
        """Map float64 points ``(N, D)`` in mm."""

    @abstractmethod
    def determinant_at(self, points: Tensor) -> Tensor:
        """Jacobian determinant of the map at float64 points ``(N, D)`` in mm, ``(N,)``."""

    @abstractmethod
    def inverse(self) -> "AbstractTransform":
        """The map back."""

    def __call__(self, points: Tensor) -> Tensor:
        """Map points ``(..., D)`` of the fixed world, mm, to the moving world, mm, float64, without gradient.

        Raises:
            ValueError: If the last axis does not hold one coordinate per dimension.
        """
        points = as_points(points, self.num_dims).detach()
        return self.map_points(points.reshape(-1, self.num_dims)).reshape(points.shape)

    def __invert__(self) -> "AbstractTransform":
        return self.inverse()

    def __matmul__(self, other: "AbstractTransform") -> "AbstractTransform":
        from pullback.transforms.chain import chain  # a chain is made of transforms, and made by them

        if not isinstance(other, AbstractTransform):
            return NotImplemented
        return chain(self, other)

    def jacobian_determinant(self, grid: Grid) -> Tensor:
        """Determinant of the map's derivative at every voxel centre of `grid`, shape ``grid.shape``, float32."""
        self._check_dimensions(grid)
        parts = [self.determinant_at(points).to(torch.float32) for points in points_of(grid)]
        return torch.cat(parts).reshape(grid.shape)

    def displacement_on(self, grid: Grid) -> Tensor:
        """``T(x) - x`` in mm at every voxel centre of `grid`, shape ``(D, *grid.shape)``, float32."""
        self._check_dimensions(grid)
        parts = [(self.map_points(points) - points).to(torch.float32) for points in points_of(grid)]
        return torch.cat(parts).T.reshape(self.num_dims, *grid.shape).contiguous()

    def _check_dimensions(self, grid: Grid) -> None:
        if grid.num_dims != self.num_dims:
            raise ValueError(
                f"The transform has {self.num_dims} dimensions and the grid {grid.num_dims}; they must agree."
            )


def points_of(grid: Grid) -> Iterator[Tensor]:
    """World positions of the voxel centres of `grid` in order, a slab of about `POINTS_AT_A_TIME` at a time."""
    plane = grid.num_voxels // grid.shape[0]
    depth = max(1, POINTS_AT_A_TIME // plane)
    for start in range(0, grid.shape[0], depth):
        stop = min(start + depth, grid.shape[0])
        slab = grid.crop((start, *[0] * (grid.num_dims - 1)), (stop, *grid.shape[1:]))
        yield slab.centres().reshape(-1, grid.num_dims)
