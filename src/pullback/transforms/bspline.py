r"""Free-form deformations: uniform B-splines on a lattice of control points.

$u(x) = \sum_i c_i \prod_d \beta(v_d(x) - i_d)$, with v the position in the lattice's voxels and $\beta$ the centred
B-spline of the given order.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pullback.checks import as_data
from pullback.space import Grid
from pullback.transforms.abstract import AbstractTransform
from pullback.transforms.newton import origins_of

ORDERS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class BSpline(AbstractTransform):
    """``T(x) = x + u(x)``, u a uniform B-spline.

    As in ITK, a point is moved only where all the control points that bear on it exist; elsewhere it stays.

    Attributes:
        coefficients: c, ``(D, *grid.shape)`` in mm, components along the world axes (RAS).
        grid: The lattice of control points.
        order: 1 linear, 2 quadratic, 3 cubic.

    Raises:
        ValueError: If the shapes do not fit, a number is not finite, the order is another, or the lattice too small.

    Reference:
        Rueckert et al., IEEE TMI 18(8), 1999, doi:10.1109/42.796284; order and support as in ITK's BSplineTransform.
    """

    coefficients: Tensor = field(repr=False)
    grid: Grid
    order: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", as_data("coefficients", self.coefficients))
        expected = (self.grid.num_dims, *self.grid.shape)
        if tuple(self.coefficients.shape) != expected:
            raise ValueError(f"`coefficients` has shape {tuple(self.coefficients.shape)}, but {expected} is needed.")
        if not torch.isfinite(self.coefficients).all():
            raise ValueError("`coefficients` holds NaN or infinite numbers.")
        if self.order not in ORDERS:
            raise ValueError(f"`order` is {self.order}, but it can be {', '.join(map(str, ORDERS))}.")
        if min(self.grid.shape) <= self.order:
            raise ValueError(
                f"`grid` has {self.grid.shape} control points, but a B-spline of order {self.order} needs at least "
                f"{self.order + 1} along each axis."
            )

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.grid.num_dims

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        voxels, inside = self._supported(points)
        mapped = points.clone()
        mapped[inside] += self._sum(voxels, [bspline_weights] * self.num_dims)
        return mapped

    def determinant_at(self, points: Tensor) -> Tensor:
        """Of the analytic derivative; 1 where points stay."""
        return torch.linalg.det(self.derivative_at(points))

    def derivative_at(self, points: Tensor) -> Tensor:
        """``dT/dx`` at points ``(N, D)`` in mm, ``(N, D, D)``."""
        voxels, inside = self._supported(points)
        derivative = torch.eye(self.num_dims, dtype=torch.float64).repeat(len(points), 1, 1)
        slopes = [
            self._sum(voxels, [bspline_slopes if axis == along else bspline_weights for axis in range(self.num_dims)])
            for along in range(self.num_dims)
        ]
        derivative[inside] += torch.stack(slopes, dim=-1) @ self.grid.world_to_voxel[:-1, :-1]
        return derivative

    def inverse(self) -> "InverseBSpline":
        """The inverse, found point by point."""
        return InverseBSpline(self)

    def _supported(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Lattice positions of the points with full support, and which they are."""
        voxels = self.grid.to_voxel(points)
        last = torch.tensor(self.grid.shape, dtype=torch.float64) - 1
        rim = (self.order - 1) / 2
        inside = ((voxels >= rim) & (voxels <= last - rim)).all(dim=-1)
        return voxels[inside], inside

    def _sum(self, voxels: Tensor, bases: list[Callable[[int, Tensor], Tensor]]) -> Tensor:
        """Sum of coefficients times one function of position per axis, ``(N, D)``."""
        start = self._first_knot(voxels)
        weights = [basis(self.order, voxels[:, axis] - start[:, axis]) for axis, basis in enumerate(bases)]
        flat = self.coefficients.detach().cpu().reshape(self.num_dims, -1)
        total = torch.zeros(self.num_dims, len(voxels), dtype=torch.float64)
        for offsets, index in self._neighbours(start):
            factor = weights[0][offsets[0]].clone()
            for axis in range(1, self.num_dims):
                factor *= weights[axis][offsets[axis]]
            total += flat[:, index].to(torch.float64) * factor
        return total.T

    def _first_knot(self, voxels: Tensor) -> Tensor:
        """The first of the ``order + 1`` control points along each axis that bear on a position."""
        first = torch.floor(voxels - (self.order - 1) / 2).to(torch.int64)
        last = torch.tensor(self.grid.shape) - 1 - self.order
        return torch.minimum(first.clamp(min=0), last)

    def _neighbours(self, start: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Offsets along the axes and the flat indices of the control points there."""
        strides = torch.tensor([math.prod(self.grid.shape[axis + 1 :]) for axis in range(self.num_dims)])
        base = (start * strides).sum(dim=-1)
        for offsets in itertools.product(range(self.order + 1), repeat=self.num_dims):
            yield offsets, base + int((torch.tensor(offsets) * strides).sum())


@dataclass(frozen=True, eq=False)
class InverseBSpline(AbstractTransform):
    """The inverse of a `BSpline` by Newton's method at each point.

    Where the spline folds, or jumps at the rim of its support, some points have no or several origins: the best one
    found is returned, and :meth:`residual_mm` says how far it misses.
    """

    forward: BSpline

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.forward.num_dims

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        return origins_of(self.forward, points, guess=points)

    def determinant_at(self, points: Tensor) -> Tensor:
        """One over the spline's determinant where the points come from."""
        return 1 / self.forward.determinant_at(self.map_points(points))

    def inverse(self) -> BSpline:
        """The spline."""
        return self.forward

    def residual_mm(self, points: Tensor) -> Tensor:
        """How far the spline takes the found origins of points ``(N, D)`` from them, ``(N,)`` mm."""
        return torch.linalg.vector_norm(self.forward.map_points(self.map_points(points)) - points, dim=-1)


def bspline_weights(order: int, position: Tensor) -> Tensor:
    """Values of the ``order + 1`` B-splines that bear on positions ``(N,)`` counted from the first knot, ``(O+1, N)``.

    Example:
        >>> bspline_weights(3, torch.tensor([1.0], dtype=torch.float64)).flatten() * 6
        tensor([1., 4., 1., 0.], dtype=torch.float64)
    """
    return torch.stack([_bspline(order, position - knot) for knot in range(order + 1)])


def bspline_slopes(order: int, position: Tensor) -> Tensor:
    """Their derivatives, ``(O+1, N)``: differences of the splines of one order less."""
    if order == 1:  # steps, whose value at a knot must not depend on rounding
        return torch.stack([-torch.ones_like(position), torch.ones_like(position)])
    lower = [_bspline(order - 1, position - knot + 0.5) for knot in range(order + 2)]
    return torch.stack([first - second for first, second in itertools.pairwise(lower)])


def _bspline(order: int, x: Tensor) -> Tensor:
    """The centred B-spline of order 1 to 3."""
    x = x.abs()
    if order == 1:
        return (1 - x).clamp(min=0)
    if order == 2:
        return torch.where(x < 0.5, 0.75 - x**2, (1.5 - x).clamp(min=0) ** 2 / 2)
    return torch.where(x < 1, 2 / 3 - x**2 + x**3 / 2, (2 - x).clamp(min=0) ** 3 / 6)
