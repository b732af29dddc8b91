r"""The deformable stage: a diffeomorphism by composing small smooth updates, coarse to fine.

With the current map $\phi = id + u$ on the fixed lattice, each step finds the direction v in which the similarity of
the fixed image and $m \circ A \circ \phi \circ (id + v)$ grows, whose derivative is $\nabla (m \circ A \circ \phi)$,
the gradient of the warped image itself; smooths it; makes its longest vector a set fraction of a voxel; and composes:
$u \leftarrow v + u \circ (id + v)$. Updates fade to zero at the edges of the lattice, so the map is the identity
there and beyond. Why this and not a symmetric or a stationary-velocity model: ``docs/accuracy.md``.

Reference:
    Vercauteren et al., Diffeomorphic demons, NeuroImage 45 (2009), doi:10.1016/j.neuroimage.2008.10.040;
    Yushkevich et al., Fast automatic segmentation of hippocampal subfields, Alzheimer's & Dementia 12 (2016) (greedy).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.functional.lifting import empty_like_shape
from pullback.registration.schedule import Level, Plateau, fitting_levels
from pullback.registration.volume import Volume
from pullback.regularity import AbstractRegularity
from pullback.similarity import AbstractSimilarity
from pullback.space import Grid

MARGIN_VOXELS = 8
"""Room for the deformation to fade out in, around the field of view, in voxels of the finest axis."""
BACKGROUND_MARGIN_VOXELS = 4
"""The same around an object that is surrounded by background, where little is lost."""
LATTICE_VOXELS = 8
"""The lattice of the deformation starts and ends at multiples of this many voxels, counted from the world's origin."""


@dataclass(frozen=True)
class SteepestAscent:
    """The longest vector of each update has a set length, which shrinks evenly over a level.

    Attributes:
        first_voxels: That length in the first step of a level, in voxels of the level.
        last_voxels: The same in the last step.
    """

    first_voxels: float = 1.0
    last_voxels: float = 0.3

    def scale(self, force: Tensor, done: float) -> float:
        """The factor from a smoothed force to an update, when a share `done` of the level's steps is behind."""
        largest = functional.largest_length(force)
        length = self.first_voxels + done * (self.last_voxels - self.first_voxels)
        return length / largest if largest > 0 else 0.0


@dataclass(frozen=True)
class LevelHistory:
    """What happened at one level."""

    factor: int
    shape: tuple[int, ...]
    values: list[float]
    reason: str


@dataclass(frozen=True, eq=False)
class Deformation:
    """The result: a displacement on a lattice of fixed voxels.

    Attributes:
        displacement: ``(1, 3, I, J, K)`` in voxels of `grid`.
        grid: The lattice: fixed voxels around the object.
        history: One entry per level.
    """

    displacement: Tensor
    grid: Grid
    history: list[LevelHistory] = field(default_factory=list)


def domain_of(fixed: Volume, moving: Volume, matrix: np.ndarray) -> Volume:
    """The part of the fixed lattice where the deformation lives: around the object, with a margin.

    If the image has a constant background that is the foreground of both images within the field of view; else the
    whole field of view. The bounds are multiples of `LATTICE_VOXELS` from the world's origin, so that cropping or
    padding a file changes nothing.
    """
    factors = Level(LATTICE_VOXELS, 0).factors(fixed)
    low, high = np.zeros(3), np.array(fixed.grid.shape) - 1.0
    if fixed.has_background:
        corners = [_extent(fixed.foreground)]
        if moving.has_background:
            seen = torch.from_numpy(np.stack(_box(_extent(moving.foreground))))
            back = np.linalg.inv(matrix)
            world = moving.grid.to_world(seen).numpy() @ back[:3, :3].T + back[:3, 3]
            voxels = fixed.grid.to_voxel(world).numpy().clip(low, high)
            corners.append((voxels.min(axis=0), voxels.max(axis=0)))
        low = np.minimum.reduce([c[0] for c in corners])
        high = np.maximum.reduce([c[1] for c in corners])
    anchor = np.round(fixed.grid.to_voxel(torch.zeros(1, 3))[0].numpy())
    margin = np.array([max(2, _margin_of(fixed) * f // LATTICE_VOXELS) for f in factors])
    steps = np.array(factors)
    start = (np.floor((low - margin - anchor) / steps) * steps + anchor).astype(int)
    stop = (np.ceil((high + 1 + margin - anchor) / steps) * steps + anchor).astype(int)
    if fixed.is_flat:
        start[0], stop[0] = 0, 1
    return fixed.crop(start.tolist(), stop.tolist())


def _margin_of(fixed: Volume) -> int:
    return BACKGROUND_MARGIN_VOXELS if fixed.has_background else MARGIN_VOXELS


def _extent(foreground: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest index of the foreground along each axis."""
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        seen = np.flatnonzero(foreground.numpy().any(axis=others))
        low[axis], high[axis] = seen[0], seen[-1]
    return low, high


def _box(extent: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """The corners of a box."""
    ends = np.stack(extent)
    return [np.array([ends[a, 0], ends[b, 1], ends[c, 2]]) for a in (0, 1) for b in (0, 1) for c in (0, 1)]


def deform(
    fixed: Volume,
    moving: Volume,
    matrix: np.ndarray,
    *,
    similarity: AbstractSimilarity,
    regularities: Sequence[AbstractRegularity],
    levels: Sequence[Level],
    optimiser: SteepestAscent | None = None,
    stop: Plateau | None = None,
    device: str = "cpu",
    start: Deformation | None = None,
    on_step: Callable[[int, int, int, float], None] | None = None,
) -> Deformation:
    """Find the deformation of the fixed lattice after which an affine map aligns the images.

    Args:
        fixed, moving: Volumes at full resolution.
        matrix: World matrix ``(4, 4)`` of the linear stage, applied after the deformation.
        similarity: What to maximise.
        regularities: Applied in order.
        levels: Coarse to fine.
        optimiser: From force to update.
        stop: When to leave a level early.
        device: Where to compute, ``cpu`` or ``cuda``.
        start: Where to start from (default: the identity), on a lattice with the axes of `fixed`; it fades out at the
            edges.
        on_step: Called with factor, step, steps of the level and similarity.
    """
    optimiser, stop = optimiser or SteepestAscent(), stop or Plateau()
    domain = domain_of(fixed, moving, matrix)
    displacement, history, grid = None, [], domain.grid
    for level in fitting_levels(levels, domain):
        stage = _Stage(domain, moving, matrix, level, device)
        if start is not None and displacement is None:
            displacement = stage.start(start.displacement.to(device), start.grid)
            stage.fade_out(displacement)
        else:
            displacement = stage.start(displacement, grid)
        grid = stage.grid
        values, reason = stage.run(displacement, similarity, regularities, optimiser, stop, on_step)
        history.append(LevelHistory(level.factor, grid.shape, values, reason))
    return Deformation(displacement.cpu(), grid, history)


class _Stage:
    """One level: the images at its resolution and room to work in."""

    def __init__(self, domain: Volume, moving: Volume, matrix: np.ndarray, level: Level, device: str) -> None:
        factors = level.factors(domain)
        fixed = domain.coarsen(factors)
        moving = moving.coarsen(_matching_factors(moving, fixed, matrix))
        self.level, self.grid, self.device = level, fixed.grid, device
        self.fixed, self.moving = fixed.tensor.contiguous().to(device), moving.tensor.contiguous().to(device)
        self.fixed_weights = None if fixed.weights is None else fixed.weights.to(device)
        self.fill = 0.0 if moving.has_background else None
        self.valid = None
        if moving.weights is not None or not moving.has_background:
            valid = torch.ones_like(moving.tensor[:, :1]) if moving.weights is None else moving.weights
            self.valid = valid.contiguous().to(device)
        self.voxel_map = moving.grid.world_to_voxel.numpy() @ matrix @ fixed.grid.voxel_to_world.numpy()
        self.warped, self.slope = self._empty(self.fixed.shape[1]), self._empty(self.fixed.shape[1])
        self.fade = [max(1, _margin_of(domain) // f) for f in factors]

    def start(self, previous: Tensor | None, previous_grid: Grid) -> Tensor:
        """The displacement to start from: none, or the coarser level's."""
        if previous is None:
            return torch.zeros(1, 3, *self.grid.shape, device=self.device)
        to_coarse = self.grid.voxel_to_voxel(previous_grid).numpy()
        still = torch.zeros(1, 3, *self.grid.shape, device=self.device)
        finer = functional.warp(previous, still, to_coarse)
        scale = torch.from_numpy(1 / np.diag(to_coarse)[:3]).to(finer).reshape(1, 3, 1, 1, 1)
        return finer * scale

    def run(
        self,
        displacement: Tensor,
        similarity: AbstractSimilarity,
        regularities: Sequence[AbstractRegularity],
        optimiser: SteepestAscent,
        stop: Plateau,
        on_step: Callable[[int, int, int, float], None] | None,
    ) -> tuple[list[float], str]:
        """Improve `displacement` in place; return the similarity at each step and why it stopped.

        A level that does not end better than it began leaves the displacement as it was.
        """
        start, reason = displacement.clone(), "made all its steps"
        room = [self._empty(3), self._empty(3), self._empty(3)]
        values: list[float] = []
        for step in range(self.level.num_steps):
            value, force = self._force(displacement, similarity, room)
            for regularity in regularities:
                pull = regularity.force(displacement)
                if pull is not None:
                    force.add_(pull)
            for regularity in regularities:
                force = regularity.smooth_update(force, room[1])
            force.mul_(optimiser.scale(force, step / max(self.level.num_steps - 1, 1)))
            self.fade_out(force)
            functional.compose(displacement, force, out=room[2])
            displacement.copy_(room[2])
            for regularity in regularities:
                smoothed = regularity.smooth_field(displacement, room[1])
                if smoothed is not displacement:
                    displacement.copy_(smoothed)
            self._clamp_edges(displacement)
            values.append(value)
            if on_step is not None:
                on_step(self.level.factor, step + 1, self.level.num_steps, value)
            if stop.is_reached(values):
                reason = f"gained less than {stop.tolerance:g} in {stop.window} steps"
                break
        values.append(self._compare(displacement, similarity)[0])
        if self._objective(displacement, values[-1], regularities) <= self._objective(start, values[0], regularities):
            displacement.copy_(start)
            return values, "gained nothing and was taken back"
        return values, reason

    @staticmethod
    def _objective(displacement: Tensor, value: float, regularities: Sequence[AbstractRegularity]) -> float:
        return value - sum(float(regularity.energy(displacement)[0]) for regularity in regularities)

    def _empty(self, channels: int) -> Tensor:
        if self.device == "cpu":
            return empty_like_shape(1, channels, *self.grid.shape)
        return torch.empty(1, channels, *self.grid.shape, device=self.device)

    def _compare(self, displacement: Tensor, similarity: AbstractSimilarity) -> tuple[float, Tensor, Tensor]:
        """The similarity, its derivative by the warped image, and the warped image."""
        warped = functional.warp(self.moving, displacement, self.voxel_map, fill=self.fill, out=self.warped)
        weights = self.fixed_weights
        if self.valid is not None:
            seen = functional.warp(self.valid, displacement, self.voxel_map, fill=0.0)
            weights = seen if weights is None else seen.mul_(weights)
        values, slope = similarity.value_and_gradient(self.fixed, warped, weights, out=self.slope)
        return float(values[0]), slope, warped

    def _force(self, displacement: Tensor, similarity: AbstractSimilarity, room: list[Tensor]) -> tuple[float, Tensor]:
        """The similarity and, per voxel, how it grows with a displacement (times the number of voxels)."""
        value, slope, warped = self._compare(displacement, similarity)
        force = functional.multiply_by_gradient(slope[:, :1], warped[:, :1], out=room[0])
        for c in range(1, slope.shape[1]):
            force.add_(functional.multiply_by_gradient(slope[:, c : c + 1], warped[:, c : c + 1], out=room[1]))
        return value, force.mul_(float(self.grid.num_voxels))

    def fade_out(self, update: Tensor) -> None:
        """Fade an update to zero towards the edges of the lattice."""
        for axis, width in enumerate(self.fade, start=2):
            size = update.shape[axis]
            for depth in range(min(width, size // 2) if size > 1 else 0):
                update.select(axis, depth).mul_(depth / width)
                update.select(axis, size - 1 - depth).mul_(depth / width)

    def _clamp_edges(self, displacement: Tensor) -> None:
        """The identity on the outermost voxels."""
        for axis in range(2, 5):
            if displacement.shape[axis] > 1:
                displacement.select(axis, 0).zero_()
                displacement.select(axis, displacement.shape[axis] - 1).zero_()


def _matching_factors(moving: Volume, fixed: Volume, matrix: np.ndarray) -> tuple[int, ...]:
    """How to average moving voxels so that they are about as large as the fixed voxels of this level."""
    spacing = fixed.spacing_mm()
    stretch = abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
    wanted = float(np.exp(np.mean(np.log(spacing[np.isfinite(spacing)])))) * stretch
    return tuple(max(1, int(wanted / s + 0.5)) if np.isfinite(s) else 1 for s in moving.spacing_mm())
