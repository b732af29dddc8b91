"""Grids: where the voxels of an image lie in the world.

Conventions of the whole package (page one of ``docs/conventions.md``):

- **World** is RAS+ millimetres in float64: x grows to the patient's Right, y to Anterior, z to Superior.
- **Voxel** coordinates are array indices (i, j, k) in the order of the tensor axes; an integer is a voxel centre.
- Image tensors are ``(B, C, I, J, K)`` (2-D: ``(B, C, I, J)``); components of vectors keep that same order.
- A transform maps a point of the *fixed* world to a point of the *moving* world (a pull-back).
- Points move by a whole matrix, vectors by its linear part; the two functions have different names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pullback.checks import as_float64, as_points, check_positive

SMALLEST_SPACING_MM = 1e-6
"""Below this a voxel is taken to have no extent and the matrix to be broken."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxel centres in the world: a shape and a matrix, nothing else.

    Attributes:
        shape: Voxels along each axis, 2 or 3 numbers.
        voxel_to_world: ``(D+1, D+1)`` float64 matrix from voxel indices to world mm (RAS+). It may be oblique,
            left-handed or sheared, but not singular. A gradient stays behind.

    Raises:
        ValueError: If the shape or the matrix cannot describe a grid.

    Example:
        >>> grid = Grid.from_spacing((10, 20, 30), (1.0, 1.0, 2.0), origin=(5.0, 0.0, 0.0))
        >>> grid.to_world([[0.0, 0.0, 1.0]])
        tensor([[5., 0., 2.]], dtype=torch.float64)
    """

    shape: tuple[int, ...]
    voxel_to_world: Tensor

    def __post_init__(self) -> None:
        shape = _whole("shape", self.shape)
        matrix = as_float64(self.voxel_to_world)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"`shape` is {shape}, but a grid has 2 or 3 axes of at least one voxel each.")
        size = len(shape) + 1
        if matrix.shape != (size, size):
            raise ValueError(
                f"`voxel_to_world` has shape {tuple(matrix.shape)}, but a grid of shape {shape} needs ({size}, {size})."
            )
        if not torch.isfinite(matrix).all():
            raise ValueError("`voxel_to_world` holds NaN or infinite numbers; the header of the image is broken.")
        last_row = torch.zeros(size, dtype=torch.float64)
        last_row[-1] = 1.0
        if not torch.allclose(matrix[-1], last_row):
            raise ValueError(f"The last row of `voxel_to_world` is {matrix[-1].tolist()}, not {last_row.tolist()}.")
        spacing = torch.linalg.vector_norm(matrix[:-1, :-1], dim=0)
        if spacing.min() < SMALLEST_SPACING_MM:
            raise ValueError(
                f"The spacing {[round(s, 9) for s in spacing.tolist()]} mm of `voxel_to_world` has an axis without "
                "extent; correct the header (sform, qform or pixdim) first."
            )
        if abs(torch.linalg.det(matrix[:-1, :-1] / spacing)) < 1e-6:
            raise ValueError("`voxel_to_world` is singular: its axes lie in one plane; correct the header first.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "voxel_to_world", matrix)

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing_mm: float | Sequence[float] = 1.0,
        *,
        origin: Sequence[float] | None = None,
        direction: Tensor | np.ndarray | None = None,
    ) -> "Grid":
        """Build a grid from its parts.

        Args:
            shape: Voxels along each axis.
            spacing_mm: Distance between voxel centres, one number or one per axis.
            origin: World position of voxel 0 in mm (default: the world's origin).
            direction: ``(D, D)`` matrix whose columns are the unit axes in the world (default: identity, RAS).

        Raises:
            ValueError: If spacing or origin are not one number per axis, or a spacing is not above zero: an axis that
                runs the other way is for `direction`.
        """
        num_dims = len(shape)
        spacing = torch.as_tensor(spacing_mm, dtype=torch.float64)
        for name, numbers in (("spacing_mm", spacing if spacing.ndim else None), ("origin", origin)):
            if numbers is not None and len(numbers) != num_dims:
                raise ValueError(f"`{name}` holds {len(numbers)} numbers, but the shape has {num_dims} axes.")
        spacing = spacing.expand(num_dims)
        for number in spacing.tolist():
            check_positive("spacing_mm", number)
        matrix = torch.eye(num_dims + 1, dtype=torch.float64)
        axes = torch.eye(num_dims, dtype=torch.float64) if direction is None else torch.as_tensor(np.asarray(direction))
        matrix[:-1, :-1] = axes.to(torch.float64) * spacing
        if origin is not None:
            matrix[:-1, -1] = torch.as_tensor(origin, dtype=torch.float64)
        return cls(tuple(shape), matrix)

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def num_voxels(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)

    @cached_property
    def spacing_mm(self) -> Tensor:
        """Distance in mm between neighbouring centres along each axis, shape ``(D,)``."""
        return torch.linalg.vector_norm(self.voxel_to_world[:-1, :-1], dim=0)

    @cached_property
    def direction(self) -> Tensor:
        """Unit axes of the grid in the world, one per column, shape ``(D, D)``."""
        return self.voxel_to_world[:-1, :-1] / self.spacing_mm

    @cached_property
    def origin(self) -> Tensor:
        """World position of voxel 0 in mm, shape ``(D,)``."""
        return self.voxel_to_world[:-1, -1]

    @cached_property
    def centre(self) -> Tensor:
        """World position in mm of the middle of the field of view, shape ``(D,)``."""
        middle = (torch.tensor(self.shape, dtype=torch.float64) - 1) / 2
        return self.to_world(middle[None])[0]

    @cached_property
    def world_to_voxel(self) -> Tensor:
        """Inverse of ``voxel_to_world``."""
        return torch.linalg.inv(self.voxel_to_world)

    @property
    def voxel_volume(self) -> float:
        """Volume (2-D: area) of one voxel in mm^D."""
        return float(abs(torch.linalg.det(self.voxel_to_world[:-1, :-1])))

    def is_orthonormal(self, tolerance: float = 1e-5) -> bool:
        """Whether the axes are at right angles (no shear), as ITK demands."""
        gram = self.direction.T @ self.direction
        return bool((gram - torch.eye(self.num_dims, dtype=torch.float64)).abs().max() < tolerance)

    def to_world(self, voxel_points: Tensor | Sequence) -> Tensor:
        """Map voxel coordinates ``(..., D)`` to world mm ``(..., D)``, float64."""
        return apply_matrix(self.voxel_to_world, as_points(voxel_points, self.num_dims))

    def to_voxel(self, world_points: Tensor | Sequence) -> Tensor:
        """Map world mm ``(..., D)`` to voxel coordinates ``(..., D)``, float64."""
        return apply_matrix(self.world_to_voxel, as_points(world_points, self.num_dims))

    def vectors_to_world(self, voxel_vectors: Tensor | Sequence) -> Tensor:
        """Turn voxel vectors ``(..., D)`` (differences of voxel coordinates) into mm ``(..., D)``."""
        return as_points(voxel_vectors, self.num_dims) @ self.voxel_to_world[:-1, :-1].T

    def vectors_to_voxel(self, world_vectors: Tensor | Sequence) -> Tensor:
        """Turn mm vectors ``(..., D)`` into voxel vectors ``(..., D)``."""
        return as_points(world_vectors, self.num_dims) @ self.world_to_voxel[:-1, :-1].T

    def centres(self) -> Tensor:
        """World positions of all voxel centres, shape ``(*shape, D)``, float64 (memory: 8 D bytes a voxel)."""
        axes = [torch.arange(n, dtype=torch.float64) for n in self.shape]
        return self.to_world(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1))

    def corners(self) -> Tensor:
        """World positions of the centres of the corner voxels, shape ``(2**D, D)``."""
        ends = [torch.tensor([0.0, n - 1.0], dtype=torch.float64) for n in self.shape]
        return self.to_world(torch.stack(torch.meshgrid(*ends, indexing="ij"), dim=-1).reshape(-1, self.num_dims))

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Grid":
        """The grid of voxels ``start`` to ``stop`` (exclusive); outside the old bounds this pads."""
        matrix = self.voxel_to_world.clone()
        matrix[:-1, -1] = self.to_world([[float(s) for s in start]])[0]
        return Grid(tuple(int(b) - int(a) for a, b in zip(start, stop, strict=True)), matrix)

    def resize(self, shape: Sequence[int]) -> "Grid":
        """A grid of another shape over the same field of view (outer voxel faces stay where they are)."""
        old = torch.tensor(self.shape, dtype=torch.float64)
        new = torch.tensor(tuple(shape), dtype=torch.float64)
        return self._restep(old / new, tuple(shape), offset=(old / new - 1) / 2)

    def coarsen(self, factors: Sequence[int], strides: Sequence[int] | None = None) -> "Grid":
        """Blocks of ``factors`` voxels become one voxel at their centre; a partial last block counts as one.

        Args:
            factors: Voxels per block along each axis.
            strides: A block begins every so many voxels (default: `factors`).

        Raises:
            ValueError: If the factors or strides are not one whole number of 1 or more per axis.
        """
        factors = self._whole_per_axis("factors", factors)
        strides = factors if strides is None else self._whole_per_axis("strides", strides)
        offset = (torch.tensor(factors, dtype=torch.float64) - 1) / 2
        shape = tuple(-(-n // s) for n, s in zip(self.shape, strides, strict=True))
        return self._restep(torch.tensor(strides, dtype=torch.float64), shape, offset=offset)

    def thin(self, steps: Sequence[int]) -> "Grid":
        """The first and then every so many-th voxel along each axis.

        Raises:
            ValueError: If the steps are not one whole number of 1 or more per axis.
        """
        return self.coarsen([1] * self.num_dims, steps)

    def _whole_per_axis(self, name: str, values: Sequence[int]) -> tuple[int, ...]:
        values = _whole(name, values)
        if len(values) != self.num_dims or min(values) < 1:
            raise ValueError(f"`{name}` is {values}, but {self.num_dims} whole numbers of 1 or more are needed.")
        return values

    def _restep(self, steps: Tensor, shape: tuple[int, ...], offset: Tensor) -> "Grid":
        matrix = self.voxel_to_world.clone()
        matrix[:-1, -1] = self.to_world(offset[None])[0]
        matrix[:-1, :-1] = matrix[:-1, :-1] * steps
        return Grid(shape, matrix)

    def same_as(self, other: "Grid", tolerance_voxels: float = 1e-3) -> bool:
        """Whether both grids have the same voxels, to a fraction of a voxel at every corner."""
        if self.shape != other.shape:
            return False
        gap = self.vectors_to_voxel(self.corners() - other.corners())
        return bool(gap.abs().max() <= tolerance_voxels)

    def voxel_to_voxel(self, other: "Grid", world_map: Tensor | None = None) -> Tensor:
        """Matrix from this grid's voxels to `other`'s voxels, through an optional world matrix."""
        middle = torch.eye(self.num_dims + 1, dtype=torch.float64) if world_map is None else world_map
        return other.world_to_voxel @ middle @ self.voxel_to_world

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and torch.equal(self.voxel_to_world, other.voxel_to_world)

    def __hash__(self) -> int:
        return hash((self.shape, tuple(self.voxel_to_world.flatten().tolist())))

    def __repr__(self) -> str:
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing_mm.tolist())
        origin = ", ".join(f"{o:.5g}" for o in self.origin.tolist())
        return f"Grid({' x '.join(map(str, self.shape))} voxels of {spacing} mm, voxel 0 at ({origin}))"


def _whole(name: str, numbers: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers as integers; fractions are refused."""
    if not all(float(number).is_integer() for number in numbers):
        raise ValueError(f"`{name}` is {tuple(numbers)}, but whole numbers are needed.")
    return tuple(int(number) for number in numbers)


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply a homogeneous ``(D+1, D+1)`` matrix to points ``(..., D)``."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]
