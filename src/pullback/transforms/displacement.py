"""Dense displacement fields in mm on a grid."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from pullback import functional
from pullback.checks import as_data
from pullback.functional import Inversion
from pullback.space import Grid
from pullback.transforms.abstract import AbstractTransform


def to_voxel_vectors(displacement: Tensor, grid: Grid) -> Tensor:
    """Turn a field ``(D, *shape)`` from mm in the world to voxels of `grid`."""
    matrix = grid.world_to_voxel[:-1, :-1].to(displacement)
    return torch.einsum("rc,c...->r...", matrix, displacement).contiguous()


def to_world_vectors(displacement: Tensor, grid: Grid) -> Tensor:
    """Turn a field ``(D, *shape)`` from voxels of `grid` to mm in the world."""
    matrix = grid.voxel_to_world[:-1, :-1].to(displacement)
    return torch.einsum("rc,c...->r...", matrix, displacement).contiguous()


@dataclass(frozen=True, eq=False)
class DisplacementField(AbstractTransform):
    """``T(x) = x + u(x)``, u interpolated linearly between voxel centres.

    As in ITK, a point more than half a voxel outside the outer centres is not moved.

    Attributes:
        displacement: u, ``(D, *grid.shape)`` in mm, components along the world axes (RAS); half precision becomes
            float32.
        grid: Where the vectors are.
        known_inverse: The inverse, where it is known already.
        inversion: How exact this field is as an inverse, when it came out of one (lengths in voxels).

    Raises:
        TypeError: If `displacement` is no tensor.
        ValueError: If the shapes do not fit or a vector is not finite.
    """

    displacement: Tensor = field(repr=False)
    grid: Grid
    known_inverse: "DisplacementField | None" = field(default=None, repr=False)
    inversion: Inversion | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "displacement", as_data("displacement", self.displacement))
        expected = (self.grid.num_dims, *self.grid.shape)
        if tuple(self.displacement.shape) != expected:
            raise ValueError(f"`displacement` has shape {tuple(self.displacement.shape)}, but {expected} is needed.")
        if not self.displacement.is_floating_point():
            raise ValueError(f"`displacement` holds {self.displacement.dtype}, but mm as floating-point are needed.")
        if not torch.isfinite(self.displacement).all():
            raise ValueError("`displacement` holds NaN or infinite vectors.")

    @classmethod
    def from_voxels(cls, displacement: Tensor, grid: Grid) -> "DisplacementField":
        """Take a field ``(D, *shape)`` in voxels of `grid`."""
        return cls(to_world_vectors(displacement, grid), grid)

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.grid.num_dims

    @property
    def in_voxels(self) -> Tensor:
        """The field in voxels of its grid, ``(D, *shape)``."""
        return to_voxel_vectors(self.displacement, self.grid)

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        vectors = functional.sample(self.displacement, self.grid.to_voxel(points), fill=0.0)
        return points + vectors.T.to(torch.float64)

    def determinant_at(self, points: Tensor) -> Tensor:
        """Central differences on the grid, interpolated linearly; 1 outside."""
        return functional.sample(self._determinant, self.grid.to_voxel(points), fill=1.0)[0].to(torch.float64)

    @cached_property
    def _determinant(self) -> Tensor:
        """Jacobian determinant at the voxels, ``(1, *shape)``."""
        return functional.jacobian_determinant(self.in_voxels[None].to(torch.float32))

    def inverse(self) -> "DisplacementField":
        """The inverse on the same grid, by fixed-point iteration; its ``inversion`` says how exact it is."""
        if self.known_inverse is not None:
            return self.known_inverse
        inverse, inversion = functional.invert(self.in_voxels[None].to(torch.float32))
        return DisplacementField(to_world_vectors(inverse[0], self.grid), self.grid, self, inversion)

    def resample(self, grid: Grid) -> "DisplacementField":
        """The same map with its vectors on another grid (linear interpolation, zero outside)."""
        return DisplacementField(self.displacement_on(grid), grid)
