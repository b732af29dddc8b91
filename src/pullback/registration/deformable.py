r"""The deformable stage: a diffeomorphism by composing small smooth updates, coarse to fine.

With the current map $\phi = id + u$ on the fixed lattice, each step finds the direction v in which the similarity of
the fixed image and $m \circ A \circ \phi \circ (id + v)$ grows, whose derivative is $\nabla (m \circ A \circ \phi)$,
the gradient of the warped image itself; smooths it; makes its longest vector a set fraction of a voxel; and composes:
$u \leftarrow v + u \circ (id + v)$. Updates fade to zero at the edges of the lattice, so the map is the identity
there and beyond.

Each level but the finest is solved both ways, fixed to moving and moving to fixed, and goes on from the mean of the
first answer and the inverse of the second: what only one of them saw, mostly noise, is halved. Where the lattice is
small the finest level is gone through in rounds, and these are solved both ways too, but for the last. Why this and not
a symmetric or a stationary-velocity model: ``docs/accuracy.md``.

Reference:
    Vercauteren et al., Diffeomorphic demons, NeuroImage 45 (2009), doi:10.1016/j.neuroimage.2008.10.040;
    Yushkevich et al., Fast automatic segmentation of hippocampal subfields, Alzheimer's & Dementia 12 (2016) (greedy).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.functional.lifting import empty_like_shape
from pullback.registration.schedule import Level, Plateau, fitting_levels, is_cheap
from pullback.registration.volume import Volume
from pullback.regularity import AbstractRegularity
from pullback.similarity import AbstractSimilarity
from pullback.space import Grid

OnStep = Callable[[int, float, float], None]
"""Called with the factor of a level, the share of it that is done, and the similarity."""

MARGIN_VOXELS = 8
"""Room for the deformation to fade out in, around the field of view, in voxels of the finest axis."""
BACKGROUND_MARGIN_VOXELS = 4
"""The same around an object that is surrounded by background, where little is lost."""
LEAST_GAIN = 1e-4
"""Of the objective: no deformation at all stays unless another gains more than this, which is more than noise does."""
SEEN_AT_VOXELS, SEEN_BETWEEN_VOXELS = 1 / 12, 1 / 4
"""Variance, in squared voxels, of what a voxel averages, and of what is seen between voxels, by interpolation too."""
LEAST_BLUR_VOXELS = 1.0
"""An image is blurred to be as coarse as the other from this standard deviation on, in voxels of the level: voxels of
the other that are 2.2 times as long. Brains of 1 mm onto whom 2 mm ones come lose by it (Dice 0.634 to 0.631)."""
THICK = 1.5
"""Voxels are thick whose longest side is so much longer than their shortest."""
LATTICE_VOXELS = 8
"""The lattice of the deformation starts and ends at multiples of this many voxels, counted from the world's origin: the
coarsest level averages so many, so that its voxels too lie where they did in a file that was cropped or padded."""


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
    low, high = _bounds_of_objects(fixed, moving, matrix)
    margin = np.array([max(2, _margin_of(fixed) * f // LATTICE_VOXELS) for f in factors])
    return _crop_to_blocks(fixed, low - margin, high + 1 + margin, factors)


def _crop_to_blocks(volume: Volume, low: np.ndarray, high: np.ndarray, factors: Sequence[int]) -> Volume:
    """Voxels `low` to `high` and up to a block more on each side: blocks are counted from the world's origin."""
    anchor, steps = np.round(volume.grid.to_voxel(torch.zeros(1, 3))[0].numpy()), np.array(factors)
    start = (np.floor((low - anchor) / steps) * steps + anchor).astype(int)
    stop = (np.ceil((high - anchor) / steps) * steps + anchor).astype(int)
    if volume.is_flat:
        start[0], stop[0] = 0, 1
    return volume.crop(start.tolist(), stop.tolist())


def _bounds_of_objects(fixed: Volume, moving: Volume, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest fixed voxel of both objects, or of the field of view if the fixed one has no background."""
    low, high = np.zeros(3), np.array(fixed.grid.shape) - 1.0
    if not fixed.is_empty_beyond:
        return low, high
    first, last = _extent(fixed.foreground)
    if moving.is_empty_beyond:
        back = np.linalg.inv(matrix)
        world = moving.grid.to_world(_corners(*_extent(moving.foreground))).numpy() @ back[:3, :3].T + back[:3, 3]
        voxels = fixed.grid.to_voxel(world).numpy().clip(low, high)
        first, last = np.minimum(first, voxels.min(axis=0)), np.maximum(last, voxels.max(axis=0))
    return first, last


def _margin_of(fixed: Volume) -> int:
    """Room around the object, in voxels of the finest axis."""
    return BACKGROUND_MARGIN_VOXELS if fixed.is_empty_beyond else MARGIN_VOXELS


def _extent(foreground: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest index of the foreground along each axis."""
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        seen = np.flatnonzero(foreground.numpy().any(axis=others))
        low[axis], high[axis] = seen[0], seen[-1]
    return low, high


def _corners(low: np.ndarray, high: np.ndarray) -> Tensor:
    """The corners of a box, ``(8, 3)``."""
    return torch.cartesian_prod(*torch.from_numpy(np.stack([low, high], axis=1)))


def deform(
    fixed: Volume,
    moving: Volume,
    matrix: np.ndarray,
    *,
    similarity: AbstractSimilarity,
    regularities: Sequence[AbstractRegularity],
    levels: Sequence[Level],
    fine_regularities: Sequence[AbstractRegularity] | None = None,
    optimiser: SteepestAscent | None = None,
    stop: Plateau | None = None,
    device: str = "cpu",
    start: Deformation | None = None,
    on_step: OnStep | None = None,
) -> Deformation:
    """Find the deformation of the fixed lattice after which an affine map aligns the images.

    Args:
        fixed, moving: Volumes at full resolution.
        matrix: World matrix ``(4, 4)`` of the linear stage, applied after the deformation.
        similarity: What to maximise.
        regularities: Applied in order.
        levels: Coarse to fine.
        fine_regularities: In place of `regularities` at the finest level of a lattice that is not small (default: the
            same).
        optimiser: From force to update.
        stop: When to leave a level early.
        device: Where to compute, ``cpu`` or ``cuda``.
        start: Where to start from (default: the identity), on a lattice with the axes of `fixed`; it fades out at the
            edges.
        on_step: Called with the factor of the level, the share of it that is done, and the similarity.
    """
    parts = _Parts(similarity, regularities, optimiser or SteepestAscent(), stop or Plateau(), on_step)
    domain = domain_of(fixed, moving, matrix)
    fitting = fitting_levels(levels, domain)
    there, back, history, grid = None, None, [], domain.grid
    if start is not None:
        there, grid = start.displacement.to(device), start.grid
    for level in fitting:
        stage = _Stage.between(domain, moving, matrix, level, device)
        there = stage.start(there, grid)
        if start is not None and level is fitting[0]:
            stage.fade_out(there)
        num_rounds = level.rounds_on(stage.grid.num_voxels)
        if level is fitting[-1] and fine_regularities is not None and not is_cheap(stage.grid.num_voxels):
            parts = replace(parts, regularities=fine_regularities)
        for number in range(num_rounds):
            begin, end = number / num_rounds, (number + 1) / num_rounds
            if level is fitting[-1] and number == num_rounds - 1:
                rivals = (stage.start(None, stage.grid),) if start is None else ()
                there, values, reason = stage.run(there, parts, (begin, end), rivals)
            else:
                back = functional.invert(there)[0] if back is None else stage.start(back, grid)
                there, values, reason = stage.run(there, parts, (begin, (begin + end) / 2))
                back, _, _ = stage.mirrored().run(back, parts, ((begin + end) / 2, end))
                there, back = _agree(there, back)
            grid = stage.grid
            history.append(LevelHistory(level.factor, grid.shape, values, reason))
    return Deformation(there.cpu(), grid, history)


def _agree(there: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of a displacement and of the inverse of its counterpart, and the inverse of that mean."""
    inverse, _ = functional.invert(back, start=there)
    mean = inverse.add_(there).mul_(0.5)
    return mean, functional.invert(mean, start=back)[0]


@dataclass(frozen=True)
class _Parts:
    """What every level and direction works with."""

    similarity: AbstractSimilarity
    regularities: Sequence[AbstractRegularity]
    optimiser: SteepestAscent
    stop: Plateau
    on_step: OnStep | None

    def objective(self, displacement: Tensor, value: float) -> float:
        """A similarity's value less the energies of a displacement."""
        return value - sum(float(regularity.energy(displacement)[0]) for regularity in self.regularities)


@dataclass(eq=False)
class _Stage:
    """One level in one direction: the images at its resolution, on the lattice of the fixed image.

    The moving image is denser than the lattice (see :func:`pullback.functional.dense_strides`), since it is sampled
    anywhere; `around` is the fixed image as dense, for the opposite direction.
    """

    level: Level
    grid: Grid
    fixed: Tensor
    moving: Tensor
    around: Tensor
    fixed_weights: Tensor | None
    around_weights: Tensor | None
    valid: Tensor | None
    fill: float | None
    mirrored_fill: float | None
    voxel_map: np.ndarray
    around_map: np.ndarray
    fade: list[int]

    @classmethod
    def between(cls, domain: Volume, moving: Volume, matrix: np.ndarray, level: Level, device: str) -> "_Stage":
        """The stage of a level from volumes at full resolution: moving voxels about as large as the fixed ones."""
        factors = level.factors(domain)
        blocks = _matching_factors(moving, domain, factors, matrix)
        moving = _crop_to_blocks(moving, np.zeros(3), np.array(moving.grid.shape), blocks)
        grids, linear = (domain.grid.coarsen(factors), moving.grid.coarsen(blocks)), matrix[:3, :3]
        domain = domain.smooth(_blur_mm(*grids, np.linalg.inv(linear), SEEN_BETWEEN_VOXELS))
        moving = moving.smooth(_blur_mm(*grids[::-1], linear, SEEN_AT_VOXELS))
        around = domain.coarsen(factors, is_dense=True)
        fixed = around.thin([f // s for f, s in zip(factors, functional.dense_strides(factors), strict=True)])
        moving = moving.coarsen(blocks, is_dense=True)
        valid = None
        if moving.weights is not None or not moving.is_empty_beyond:
            valid = torch.ones_like(moving.tensor[:, :1]) if moving.weights is None else moving.weights
        to_world = fixed.grid.voxel_to_world.numpy()
        return cls(
            level=level,
            grid=fixed.grid,
            fixed=fixed.tensor.contiguous().to(device),
            moving=moving.tensor.contiguous().to(device),
            around=around.tensor.contiguous().to(device),
            fixed_weights=None if fixed.weights is None else fixed.weights.to(device),
            around_weights=None if around.weights is None else around.weights.to(device),
            valid=None if valid is None else valid.contiguous().to(device),
            fill=0.0 if moving.is_empty_beyond else None,
            mirrored_fill=0.0 if domain.is_empty_beyond else None,
            voxel_map=moving.grid.world_to_voxel.numpy() @ matrix @ to_world,
            around_map=around.grid.world_to_voxel.numpy() @ to_world,
            fade=[max(1, _margin_of(domain) // f) for f in factors],
        )

    def mirrored(self) -> "_Stage":
        """The opposite direction, on the same lattice: the moving image, through the linear map, is the fixed one."""
        still = torch.zeros(1, 3, *self.grid.shape, device=self.fixed.device)
        moving = functional.warp(self.moving, still, self.voxel_map, fill=self.fill)
        weights = None
        if self.valid is not None:
            weights = functional.warp(self.valid, still, self.voxel_map, fill=0.0)
        valid = self.around_weights
        if valid is None and self.mirrored_fill is None:
            valid = torch.ones_like(self.around[:, :1])
        return replace(
            self,
            fixed=moving,
            moving=self.around,
            fixed_weights=weights,
            valid=valid,
            fill=self.mirrored_fill,
            mirrored_fill=self.fill,
            voxel_map=self.around_map,
        )

    def start(self, previous: Tensor | None, previous_grid: Grid) -> Tensor:
        """The displacement to start from: none, or the coarser level's."""
        still = torch.zeros(1, 3, *self.grid.shape, device=self.fixed.device)
        if previous is None:
            return still
        to_coarse = self.grid.voxel_to_voxel(previous_grid).numpy()
        finer = functional.warp(previous, still, to_coarse)
        scale = torch.from_numpy(1 / np.diag(to_coarse)[:3]).to(finer).reshape(1, 3, 1, 1, 1)
        return finer.mul_(scale)

    def run(
        self, start: Tensor, parts: _Parts, share: tuple[float, float], rivals: Sequence[Tensor] = ()
    ) -> tuple[Tensor, list[float], str]:
        """Improve on a displacement; return the better one, the similarity at each step and why it stopped.

        A level that does not end better than it began returns the displacement that it was given, or one of the
        `rivals` if neither beats it by `LEAST_GAIN`. `share` is the part of the level that this run is, for `on_step`.
        """
        reason, num_steps = "made all its steps", self.level.steps_on(self.grid.num_voxels)
        displacement, spare, force, room = (self._empty(3) for _ in range(4))
        displacement.copy_(start)
        images = self._empty(self.fixed.shape[1]), self._empty(self.fixed.shape[1])
        values: list[float] = []
        led = replace(parts, similarity=parts.similarity.as_guide(self.fixed))
        for step in range(num_steps):
            value, force = self._force(displacement, led, force, room, images)
            for regularity in parts.regularities:
                smooth = regularity.smooth_update(force, room)
                force, room = (smooth, force) if smooth is room else (smooth, room)
            scale = parts.optimiser.scale(force, step / max(num_steps - 1, 1))
            self.fade_out(force)
            displacement, spare = functional.compose(displacement, force, scale=scale, out=spare), displacement
            for regularity in parts.regularities:
                smooth = regularity.smooth_field(displacement, spare)
                displacement, spare = (smooth, displacement) if smooth is spare else (smooth, spare)
            self._clamp_edges(displacement)
            values.append(value)
            if parts.on_step is not None:
                parts.on_step(self.level.factor, share[0] + (share[1] - share[0]) * (step + 1) / num_steps, value)
            if parts.stop.is_reached(values):
                reason = f"gained less than {parts.stop.tolerance:g} in {parts.stop.window} steps"
                break
        values.append(self._compare(displacement, led.similarity, images)[0])
        best = self._best_of([start, displacement], rivals, parts, images)
        return (best, values, reason) if best is displacement else (best, values, "gained nothing and was taken back")

    def _best_of(
        self, found: Sequence[Tensor], rivals: Sequence[Tensor], parts: _Parts, images: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The displacement with the largest objective, by the similarity's own judge; the first of equals.

        What was found has to beat the rivals by `LEAST_GAIN`.
        """
        judge, fields = parts.similarity.as_judge(), [*rivals, *found]
        objectives = [parts.objective(field, self._compare(field, judge, images)[0]) for field in fields]
        objectives[: len(rivals)] = [objective + LEAST_GAIN for objective in objectives[: len(rivals)]]
        return fields[objectives.index(max(objectives))]

    def _empty(self, channels: int) -> Tensor:
        """Room for so many channels on this lattice; what is in it does not matter."""
        if self.fixed.device.type == "cpu":
            return empty_like_shape(1, channels, *self.grid.shape)
        return torch.empty(1, channels, *self.grid.shape, device=self.fixed.device)

    def _compare(
        self, displacement: Tensor, similarity: AbstractSimilarity, images: tuple[Tensor, Tensor]
    ) -> tuple[float, Tensor, Tensor]:
        """The similarity, its derivative by the warped image, and the warped image (in `images`)."""
        warped = functional.warp(self.moving, displacement, self.voxel_map, fill=self.fill, out=images[0])
        weights = self.fixed_weights
        if self.valid is not None:
            seen = functional.warp(self.valid, displacement, self.voxel_map, fill=0.0)
            weights = seen if weights is None else seen.mul_(weights)
        values, slope = similarity.value_and_gradient(self.fixed, warped, weights, out=images[1])
        return float(values[0]), slope, warped

    def _force(
        self, displacement: Tensor, parts: _Parts, force: Tensor, room: Tensor, images: tuple[Tensor, Tensor]
    ) -> tuple[float, Tensor]:
        """The objective's similarity and, per voxel, how it grows with a displacement."""
        value, slope, warped = self._compare(displacement, parts.similarity, images)
        functional.multiply_by_gradient(slope[:, :1], warped[:, :1], out=force)
        for c in range(1, slope.shape[1]):
            force.add_(functional.multiply_by_gradient(slope[:, c : c + 1], warped[:, c : c + 1], out=room))
        for regularity in parts.regularities:
            pull = regularity.force(displacement)
            if pull is not None:  # of single voxels, where the similarity is a mean
                force.add_(pull, alpha=1 / self.grid.num_voxels)
        return value, force

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


def _blur_mm(own: Grid, other: Grid, onto: np.ndarray, variance: float) -> np.ndarray:
    """Standard deviations in mm along its axes by which one image is blurred to be as coarse as another, ``(3,)``.

    Thick slices do not show what lies between them: an image that does would be torn to fit. Of images that are about
    as fine, as most are, none is blurred.

    Args:
        own, other: Where both are compared.
        onto: World matrix ``(3, 3)`` from the other's world to its own.
        variance: Of a voxel of the other, in squared voxels.
    """
    spacing = own.spacing_mm.numpy()
    voxel = own.direction.numpy().T @ onto @ other.direction.numpy() * other.spacing_mm.numpy()
    blur = np.sqrt(variance * ((voxel**2).sum(axis=1) - spacing**2).clip(0))
    return np.where(blur >= LEAST_BLUR_VOXELS * spacing, blur, 0.0)


def _matching_factors(moving: Volume, fixed: Volume, factors: Sequence[int], matrix: np.ndarray) -> tuple[int, ...]:
    """How to average moving voxels so that they are about as large as fixed ones are when averaged by `factors`.

    If those are thick, as large as their shortest side says; what is left is blurred.
    """
    spacing = fixed.spacing_mm() * factors
    finite = spacing[np.isfinite(spacing)]
    length = finite.min() if finite.max() >= THICK * finite.min() else float(np.exp(np.mean(np.log(finite))))
    wanted = length * abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
    return tuple(max(1, int(wanted / s + 0.5)) if np.isfinite(s) else 1 for s in moving.spacing_mm())
