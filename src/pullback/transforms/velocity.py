"""Stationary velocity fields: diffeomorphisms by scaling and squaring."""

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from pullback import functional
from pullback.checks import as_data
from pullback.space import Grid
from pullback.transforms.abstract import AbstractTransform
from pullback.transforms.displacement import DisplacementField, to_voxel_vectors


@dataclass(frozen=True, eq=False)
class StationaryVelocity(AbstractTransform):
    r"""``T = exp(v)``: the flow of a constant velocity for one unit of time.

    Attributes:
        velocity: v, ``(D, *grid.shape)`` in mm per unit time, components along the world axes (RAS).
        grid: Where the vectors are.
        num_steps: Squarings; the field is halved that many times first.

    Reference:
        Arsigny et al., MICCAI 2006, doi:10.1007/11866565_113.
    """

    velocity: Tensor = field(repr=False)
    grid: Grid
    num_steps: int = 7

    def __post_init__(self) -> None:
        object.__setattr__(self, "velocity", as_data("velocity", self.velocity))
        expected = (self.grid.num_dims, *self.grid.shape)
        if tuple(self.velocity.shape) != expected:
            raise ValueError(f"`velocity` has shape {tuple(self.velocity.shape)}, but {expected} is needed.")
        if self.num_steps < 0:
            raise ValueError(f"`num_steps` is {self.num_steps}, but 0 or more squarings are needed.")

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.grid.num_dims

    @cached_property
    def displacement_field(self) -> DisplacementField:
        """``exp(v)`` as a dense field on the same grid."""
        voxels = functional.exponential(to_voxel_vectors(self.velocity, self.grid)[None], num_steps=self.num_steps)
        return DisplacementField.from_voxels(voxels[0], self.grid)

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        return self.displacement_field.map_points(points)

    def determinant_at(self, points: Tensor) -> Tensor:
        """Of the dense field."""
        return self.displacement_field.determinant_at(points)

    def inverse(self) -> "StationaryVelocity":
        """``exp(-v)``."""
        return StationaryVelocity(-self.velocity, self.grid, self.num_steps)
