"""The linear stage: the best translation, rigid, similarity or affine map, by L-BFGS with exact derivatives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from pullback import functional
from pullback.functional.rotations import cross_matrix, rotation_from_vector
from pullback.registration.volume import Volume
from pullback.similarity import AbstractSimilarity

KINDS = ("translation", "rigid", "similarity", "affine")
SMALLEST_STEEPNESS = 1e-6
"""Change of the similarity per mm below which a start counts as flat."""
SMALLEST_OVERLAP = 0.05
"""A start that leaves a smaller share of the compared voxels inside the moving image has the worst score."""

LARGEST_STRETCH, LARGEST_SHEAR = 1.6, 0.3
"""How far a linear map may stretch in all, and shear at each level: bodies of one species do not differ more."""


@dataclass(frozen=True)
class Restraint:
    r"""What holds a linear map A near another, B, where images say too little to let it go.

    $\lambda\,\frac{1}{r^2}\,\overline{|A x - B x|^2}$, the mean over the ball of radius r around a centre c, which is
    $|(A - B) c|^2 + \frac{r^2}{5} \|L\|^2$ with L the linear part of A - B.

    Attributes:
        anchor: World matrix B, ``(4, 4)``.
        centre: World point c of the fixed image, ``(3,)``.
        radius_mm: r.
        weight: $\lambda$, in units of the similarity: what it costs to move everything by r.
    """

    anchor: np.ndarray
    centre: np.ndarray
    radius_mm: float
    weight: float

    def energy_and_gradient(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """The energy of a world matrix, and its derivative by the upper ``(3, 4)``."""
        difference, scale = (matrix - self.anchor)[:3], self.weight / self.radius_mm**2
        moved, inertia = difference @ np.append(self.centre, 1.0), self.radius_mm**2 / 5
        energy = float(moved @ moved + inertia * (difference[:, :3] ** 2).sum())
        by_matrix = np.outer(moved, np.append(self.centre, 1.0))
        by_matrix[:, :3] += inertia * difference[:, :3]
        return scale * energy, 2 * scale * by_matrix


class Comparison:
    """The similarity of two volumes at one resolution as a function of a world matrix, with its derivative.

    Args:
        fixed, moving: Volumes at the resolution of this level.
        similarity: What to maximise.
        ignores_view: Take voxels beyond the moving field of view for background even if the image has none; a robust
            rule for far starts, where small overlaps would otherwise look good.
        restraint: Its energy is taken off the similarity.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        similarity: AbstractSimilarity,
        *,
        ignores_view: bool = False,
        restraint: Restraint | None = None,
    ) -> None:
        self.fixed, self.moving, self.similarity, self.restraint = fixed, moving, similarity, restraint
        self._still = torch.zeros(1, 3, *fixed.grid.shape)
        needs_valid = moving.weights is not None or not (moving.is_empty_beyond or ignores_view)
        ones = torch.ones_like(moving.tensor[:, :1]) if moving.weights is None else moving.weights
        self._valid = ones if needs_valid else None
        self._to_voxel = moving.grid.world_to_voxel.numpy()
        self._to_world = fixed.grid.voxel_to_world.numpy()
        self._full_weight = float(fixed.grid.num_voxels if fixed.weights is None else fixed.weights.sum())

    def warp(self, matrix: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """The moving volume on the fixed grid under a world matrix, and the voxels' weights."""
        voxel_map = self._to_voxel @ matrix @ self._to_world
        warped = functional.warp(self.moving.tensor, self._still, voxel_map, fill=0.0)
        weights = self.fixed.weights
        if self._valid is not None:
            seen = functional.warp(self._valid, self._still, voxel_map, fill=0.0)
            weights = seen if weights is None else weights * seen
        return warped, weights

    def value(self, matrix: np.ndarray) -> float:
        """Similarity under a world matrix ``(4, 4)``; minus infinity where hardly anything overlaps."""
        warped, weights = self.warp(matrix)
        if self._is_empty(weights):
            return -np.inf
        value = float(self.similarity.value_and_gradient(self.fixed.tensor, warped, weights)[0][0])
        return value if self.restraint is None else value - self.restraint.energy_and_gradient(matrix)[0]

    def value_and_gradient(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Similarity and its derivative by the upper ``(3, 4)`` of the world matrix."""
        warped, weights = self.warp(matrix)
        if self._is_empty(weights):
            return -1e3, np.zeros((3, 4))
        values, slope = self.similarity.value_and_gradient(self.fixed.tensor, warped, weights)
        voxel_map = self._to_voxel @ matrix @ self._to_world
        by_voxel_map = sum(
            functional.affine_derivative(self.moving.tensor[:, c : c + 1], voxel_map[:3], slope[:, c : c + 1])
            for c in range(slope.shape[1])
        )
        value, by_matrix = float(values[0]), self._to_voxel[:3, :3].T @ by_voxel_map @ self._to_world.T
        if self.restraint is None:
            return value, by_matrix
        energy, pull = self.restraint.energy_and_gradient(matrix)
        return value - energy, by_matrix - pull

    def value_inside(self, matrix: np.ndarray) -> float:
        """Similarity where the fixed object is, times the root of the share of it that the moving image shows.

        Air around it, which fits in any pose, then says nothing for a pose, and a small overlap cannot look good.
        """
        warped, weights = self.warp(matrix)
        foreground = self.fixed.foreground[None, None].to(torch.float32)
        inside = foreground if weights is None else foreground * weights
        # Summed by NumPy, whose rounding does not depend on the number of threads.
        share = inside.numpy().sum(dtype=np.float64) / max(foreground.numpy().sum(dtype=np.float64), 1.0)
        if share < SMALLEST_OVERLAP:
            return -np.inf
        return float(self.similarity.value_and_gradient(self.fixed.tensor, warped, inside)[0][0]) * float(share) ** 0.5

    def _is_empty(self, weights: Tensor | None) -> bool:
        return weights is not None and float(weights.sum()) < SMALLEST_OVERLAP * self._full_weight


@dataclass(frozen=True)
class Frame:
    """The parameters of a linear map near a start: about a centre, in units of about one mm of movement.

    Attributes:
        start: World matrix ``(4, 4)`` at parameters zero.
        centre: World point of the fixed image about which to turn and stretch, ``(3,)``.
        radius_mm: Distance at which a unit of a rotation, scale or shear parameter moves points by about a mm.
        kind: One of `KINDS`.
        is_flat: 2-D: nothing moves along the first axis.
    """

    start: np.ndarray
    centre: np.ndarray
    radius_mm: float
    kind: str
    is_flat: bool

    def directions(self) -> list[tuple[str, int, int]]:
        """The free parameters: their part and their indices."""
        axes = [1, 2] if self.is_flat else [0, 1, 2]
        free = [("shift", axis, 0) for axis in axes]
        if self.kind != "translation":
            free += [("turn", axis, 0) for axis in ([0] if self.is_flat else axes)]
        if self.kind == "similarity":
            free += [("grow", -1, 0)]
        if self.kind == "affine":
            free += [("grow", axis, 0) for axis in axes]
            free += [("shear", a, b) for a in axes for b in axes if a < b]
        return free

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Limits of the parameters: the whole map may stretch by `LARGEST_STRETCH` and shear by `LARGEST_SHEAR`."""
        upper = np.linalg.qr(self.start[:3, :3])[1]
        grown = np.log(np.abs(np.diag(upper)))
        limits: list[tuple[float | None, float | None]] = []
        for part, axis, _ in self.directions():
            if part == "grow":
                done = grown[axis] if axis >= 0 else grown[1:].mean()
                limit = np.log(LARGEST_STRETCH)
                limits.append((min(-limit - done, 0) * self.radius_mm, max(limit - done, 0) * self.radius_mm))
            elif part == "shear":
                limits.append((-LARGEST_SHEAR * self.radius_mm, LARGEST_SHEAR * self.radius_mm))
            else:
                limits.append((None, None))
        return limits

    def matrix(self, parameters: np.ndarray) -> np.ndarray:
        """World matrix ``(4, 4)`` at `parameters`."""
        shift, turn, scales, shear = self._parts(parameters)
        linear = self.start[:3, :3]
        matrix = np.eye(4)
        matrix[:3, :3] = linear @ rotation_from_vector(turn) @ scales @ shear
        matrix[:3, 3] = self.start[:3, 3] + linear @ self.centre - matrix[:3, :3] @ self.centre + shift
        return matrix

    def gradient(self, parameters: np.ndarray, by_matrix: np.ndarray) -> np.ndarray:
        """Chain rule from the derivative by the upper ``(3, 4)`` of the matrix to that by the parameters."""
        _, turn, scales, shear = self._parts(parameters)
        rotation = rotation_from_vector(turn)
        by_inner = self.start[:3, :3].T @ (by_matrix[:, :3] - np.outer(by_matrix[:, 3], self.centre))
        by_turn = _by_vector(turn, rotation, by_inner @ (scales @ shear).T)
        by_grow = np.diag(rotation.T @ by_inner @ shear.T) * np.diag(scales)
        by_shear = scales @ rotation.T @ by_inner
        both = by_grow[1:].sum() if self.is_flat else by_grow.sum()
        found = []
        for part, a, b in self.directions():
            if part == "shift":
                found.append(by_matrix[a, 3])
            elif part == "turn":
                found.append(by_turn[a] / self.radius_mm)
            elif part == "grow":
                found.append((both if a < 0 else by_grow[a]) / self.radius_mm)
            else:
                found.append(by_shear[a, b] / self.radius_mm)
        return np.array(found)

    def _parts(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Shift in mm, rotation vector, scales as a diagonal matrix, shear as an upper triangle."""
        shift, turn, grow, shear = np.zeros(3), np.zeros(3), np.zeros(3), np.eye(3)
        for (part, a, b), value in zip(self.directions(), parameters, strict=True):
            if part == "shift":
                shift[a] = value
            elif part == "turn":
                turn[a] = value / self.radius_mm
            elif part == "grow":
                grow[(slice(1, 3) if self.is_flat else slice(0, 3)) if a < 0 else a] = value / self.radius_mm
            else:
                shear[a, b] = value / self.radius_mm
        return shift, turn, np.diag(np.exp(grow)), shear


def _by_vector(vector: np.ndarray, rotation: np.ndarray, by_rotation: np.ndarray) -> np.ndarray:
    """The derivative by v of a function of the rotation exp([v]x), from its derivative by the matrix.

    Reference:
        Gallego and Yezzi, 2015, doi:10.1007/s10851-014-0528-x.
    """
    turned = by_rotation @ rotation.T
    swirl = np.array([turned[2, 1] - turned[1, 2], turned[0, 2] - turned[2, 0], turned[1, 0] - turned[0, 1]])
    square = float(vector @ vector)
    if square < 1e-16:
        return swirl
    across = cross_matrix(swirl) @ vector
    return (vector * (vector @ swirl) + (np.eye(3) - rotation).T @ across) / square


def optimise(
    comparison: Comparison,
    frame: Frame,
    *,
    max_steps: int = 50,
    tolerance: float = 1e-7,
    on_step: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, float, list[float]]:
    """Maximise the similarity from the frame's start.

    Args:
        comparison: What to maximise.
        frame: Which parameters are free, and where they start.
        max_steps: Iterations of L-BFGS at most.
        tolerance: Stop when an iteration gains less than this share of the similarity.
        on_step: Called with the similarity after each iteration.

    Returns:
        The best world matrix ``(4, 4)``, its similarity, and the similarity after each iteration.
    """
    history: list[float] = []
    start = np.zeros(len(frame.directions()))
    steepness = float(np.linalg.norm(frame.gradient(start, comparison.value_and_gradient(frame.start)[1])))
    # With bounds, the first step of L-BFGS-B is the plain gradient: a thousandth of a mm for a similarity below 1, a
    # gain so small that it stops there. In these units the first step is a mm.
    scale = 1 / max(steepness, SMALLEST_STEEPNESS)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_matrix = comparison.value_and_gradient(frame.matrix(parameters))
        return -scale * value, -scale * frame.gradient(parameters, by_matrix)

    def record(intermediate_result: optimize.OptimizeResult) -> None:
        history.append(-float(intermediate_result.fun) / scale)
        if on_step is not None:
            on_step(history[-1])

    result = optimize.minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=frame.bounds(),
        callback=record,
        options={"maxiter": max_steps, "ftol": tolerance, "gtol": 1e-9, "maxcor": 10, "maxls": 10},
    )
    return frame.matrix(result.x), -float(result.fun) / scale, history
