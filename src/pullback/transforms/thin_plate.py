r"""Thin-plate splines: the smoothest maps through landmarks, or near them.

$T(x) = A x + t + \sum_i w_i\,\psi(\|x - x_i\|)$ with $\psi(r) = r^2 \log r$ in 2-D and $\psi(r) = -r$ in 3-D, and with
$\sum_i w_i = 0$, $\sum_i w_i x_i^T = 0$: far from the landmarks the map goes on as an affine one.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pullback.checks import as_float64, as_points, check_at_least
from pullback.transforms.abstract import AbstractTransform
from pullback.transforms.linear import Affine
from pullback.transforms.newton import origins_of

ENTRIES_AT_A_TIME = 1 << 22
"""Pairs of a point and a landmark looked at together, so that memory stays small."""
FLAT = 1e-7
"""Landmarks whose extent across a plane (in 2-D a line) is this share of that along it lie in it."""


@dataclass(frozen=True, eq=False)
class ThinPlateSpline(AbstractTransform):
    """A thin-plate spline; make it with :meth:`fit`.

    Attributes:
        landmarks: x_i, ``(N, D)`` float64, fixed world mm.
        weights: w_i, ``(N, D)`` float64.
        affine: A and t.

    Raises:
        ValueError: If the shapes do not fit, or a number is not finite.

    Reference:
        Bookstein, Principal warps, IEEE TPAMI 11(6), 1989, doi:10.1109/34.24792; with smoothing: Wahba, Spline models
        for observational data, 1990, doi:10.1137/1.9781611970128.
    """

    landmarks: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    affine: Affine

    def __post_init__(self) -> None:
        object.__setattr__(self, "landmarks", as_float64(self.landmarks))
        object.__setattr__(self, "weights", as_float64(self.weights))
        if self.landmarks.shape != self.weights.shape or self.landmarks.ndim != 2:
            raise ValueError(
                f"`landmarks` {tuple(self.landmarks.shape)} and `weights` {tuple(self.weights.shape)} must both be (N, "
                f"{self.affine.num_dims})."
            )
        if self.landmarks.shape[1] != self.affine.num_dims:
            raise ValueError(
                f"`landmarks` has {self.landmarks.shape[1]} coordinates, but `affine` has {self.affine.num_dims}."
            )
        if not (torch.isfinite(self.landmarks).all() and torch.isfinite(self.weights).all()):
            raise ValueError("`landmarks` or `weights` hold NaN or infinite numbers.")

    @classmethod
    def fit(cls, fixed: Tensor, moving: Tensor, *, smoothing: float = 0.0) -> Self:
        r"""The spline of the least $\sum_i \|T(x_i) - y_i\|^2 + \lambda \sum_{ij} w_i^T w_j\,\psi(\|x_i - x_j\|)$.

        Args:
            fixed: Landmarks x_i, ``(N, D)`` in mm.
            moving: Where they belong, y_i, ``(N, D)`` in mm.
            smoothing: :math:`\lambda`, in mm^2 in 2-D and mm in 3-D: 0 goes through every landmark, ever larger values
                come ever nearer to the affine map of least squares.

        Raises:
            ValueError: If there are too few landmarks, they lie in a plane (in 2-D on a line), or two coincide and
                `smoothing` is 0.

        Example:
            >>> square = torch.tensor([[0.0, 0], [8, 0], [0, 8], [8, 8]])
            >>> pulled = square + torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 0]])
            >>> spline = ThinPlateSpline.fit(square, pulled)
            >>> bool((spline(square) - pulled).abs().max() < 1e-12)
            True
        """
        num_dims = np.shape(fixed)[-1]
        fixed, moving = as_points(fixed, num_dims).detach(), as_points(moving, num_dims).detach()
        _check(fixed, moving, smoothing)
        middle, reach = fixed.mean(0), fixed.std(0).max()
        polynomial = torch.cat([torch.ones(len(fixed), 1, dtype=torch.float64), (fixed - middle) / reach], dim=1)
        q, r = torch.linalg.qr(polynomial, mode="complete")
        inside, across = q[:, : num_dims + 1], q[:, num_dims + 1 :]
        kernel = _kernel(_distances(fixed, fixed), num_dims) + smoothing * torch.eye(len(fixed), dtype=torch.float64)
        weights = across @ torch.linalg.solve(across.T @ kernel @ across, across.T @ moving)
        rows = torch.linalg.solve(r[: num_dims + 1], inside.T @ (moving - kernel @ weights))
        matrix = torch.eye(num_dims + 1, dtype=torch.float64)
        matrix[:-1, :-1] = rows[1:].T / reach
        matrix[:-1, -1] = rows[0] - matrix[:-1, :-1] @ middle
        return cls(fixed, weights, Affine(matrix))

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.affine.num_dims

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        bent = [_kernel(_distances(some, self.landmarks), self.num_dims) @ self.weights for some in self._split(points)]
        return self.affine.map_points(points) + torch.cat(bent)

    def determinant_at(self, points: Tensor) -> Tensor:
        """Of the analytic derivative."""
        return torch.linalg.det(self.derivative_at(points))

    def derivative_at(self, points: Tensor) -> Tensor:
        """``dT/dx`` at points ``(N, D)`` in mm, ``(N, D, D)``; at a landmark in 3-D the mean over all directions."""
        bent = []
        for some in self._split(points):
            away = some[:, None] - self.landmarks
            slope = _slope_by_distance(torch.linalg.vector_norm(away, dim=-1), self.num_dims)
            bent.append(torch.einsum("nl,lr,nlc->nrc", slope, self.weights, away))
        return self.affine.linear + torch.cat(bent)

    def inverse(self) -> "InverseThinPlateSpline":
        """The inverse, found point by point."""
        return InverseThinPlateSpline(self)

    def _split(self, points: Tensor) -> tuple[Tensor, ...]:
        return points.split(max(1, ENTRIES_AT_A_TIME // max(len(self.landmarks), 1)))


@dataclass(frozen=True, eq=False)
class InverseThinPlateSpline(AbstractTransform):
    """The inverse of a `ThinPlateSpline` by Newton's method; where the spline folds, the best origin that is found."""

    forward: ThinPlateSpline

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.forward.num_dims

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        return origins_of(self.forward, points, guess=self.forward.affine.inverse().map_points(points))

    def determinant_at(self, points: Tensor) -> Tensor:
        """One over the spline's determinant where the points come from."""
        return 1 / self.forward.determinant_at(self.map_points(points))

    def inverse(self) -> ThinPlateSpline:
        """The spline."""
        return self.forward


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a[:, None] - b, dim=-1)


def _kernel(distances: Tensor, num_dims: int) -> Tensor:
    if num_dims == 3:
        return -distances
    return distances.square() * distances.clamp(min=torch.finfo(torch.float64).tiny).log()


def _slope_by_distance(distances: Tensor, num_dims: int) -> Tensor:
    """The kernel's derivative over the distance; 0 at a landmark."""
    safe = torch.where(distances > 0, distances, torch.ones_like(distances))
    slope = -1 / safe if num_dims == 3 else 2 * safe.log() + 1
    return torch.where(distances > 0, slope, torch.zeros_like(slope))


def _check(fixed: Tensor, moving: Tensor, smoothing: float) -> None:
    num_dims = fixed.shape[-1]
    if fixed.shape != moving.shape:
        raise ValueError(f"{len(fixed)} fixed and {len(moving)} moving landmarks came, but they must correspond.")
    if not (torch.isfinite(fixed).all() and torch.isfinite(moving).all()):
        raise ValueError("The landmarks hold NaN or infinite numbers.")
    check_at_least("smoothing", smoothing, 0)
    if len(fixed) <= num_dims:
        raise ValueError(f"{len(fixed)} landmarks came, but a thin-plate spline needs {num_dims + 1} or more.")
    extents = torch.linalg.svdvals(fixed - fixed.mean(0))
    if extents[-1] <= FLAT * extents[0]:
        where = "in a plane" if num_dims == 3 else "on a line"
        raise ValueError(f"The fixed landmarks lie {where}, so a map of all space does not follow; add one beside it.")
    if smoothing == 0 and len(torch.unique(fixed, dim=0)) < len(fixed):
        raise ValueError("Two fixed landmarks coincide, so no map goes through both; remove one, or give `smoothing`.")
