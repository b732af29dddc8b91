"""Where to start: candidates from headers, centres of mass, second moments and a rotation search, scored and refined.

The images are brought to a coarse resolution at which the fixed object is about twenty voxels long. There every
candidate is scored, the best distinct ones are improved as rigid maps, the best of those as affine maps at twice the
resolution, and the winner starts the linear stage. Beyond its field of view the moving image is taken for background
here, so that a small overlap cannot look good.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from pullback.registration.linear import Comparison, Frame, optimise
from pullback.registration.volume import Volume
from pullback.similarity import LNCC, NCC, AbstractSimilarity

METHODS = ("header", "centre", "moments", "search")
"""Sources of candidates."""
OBJECT_VOXELS = 20
"""Length of the fixed object at the coarse resolution, in voxels."""
NUM_ROTATIONS = 300
"""Of the search in 3-D: no turn is farther than 35 degrees from one of them, 18 on average."""
MIDDLES = "middles of the fields of view"
UPRIGHT_NAMES = ("header", MIDDLES, "centre of mass")
"""Starts that trust the headers' orientation; they are always refined, and preferred when no other wins clearly."""
NUM_RIGID, NUM_AFFINE = 12, 5
"""Candidates improved as rigid maps, and of these as affine maps."""
DISTINCT_DEGREES, DISTINCT_SHARE = 15.0, 0.1
"""Two candidates are distinct if they differ by this angle, or by this share of the object's length in position."""
ELSEWHERE_DEGREES = 30.0
"""A refined candidate that differs by this angle from the winner has ended elsewhere."""
CLEAR_MARGIN, CLEAR_MARGIN_ACROSS_CONTRASTS = 0.15, 0.25
"""A pose that contradicts the headers' orientation must win by this share of its score, more where contrasts differ."""


@dataclass(frozen=True)
class Candidate:
    """A start.

    Attributes:
        name: How it was found.
        matrix: World matrix ``(4, 4)``, fixed to moving.
        score: Similarity, after refinement if it was refined.
    """

    name: str
    matrix: np.ndarray = field(repr=False)
    score: float = float("nan")


@dataclass(frozen=True)
class Initialisation:
    """The start that was chosen and what it was chosen from.

    Attributes:
        chosen: The winner.
        candidates: The refined candidates, best first, the winner included.
        why: What became of a start that was tried before all others; empty if there was none.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    why: str = ""

    @property
    def margin(self) -> float:
        """How far the best candidate that ended in another pose stays behind the chosen one, as a share of its score.

        1 if there is none; negative if another pose scored better (see `CLEAR_MARGIN`).
        """
        return margin_of(self.chosen, self.candidates)


def margin_of(own: Candidate, candidates: Sequence[Candidate]) -> float:
    """How far the best of the candidates in another pose stays behind `own`, as a share of its score, at most 1."""
    others = [c.score for c in candidates if turn_degrees(c.matrix, own.matrix) > ELSEWHERE_DEGREES]
    if not others:
        return 1.0
    return float(np.clip((own.score - max(others)) / max(abs(own.score), 1e-9), -1.0, 1.0))


def geometry_of(volume: Volume) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre of mass of the foreground, principal axes (right-handed columns, shortest first), half length, in mm."""
    centre, covariance = _moments(volume.foreground, volume.grid.voxel_to_world.numpy())
    values, axes = np.linalg.eigh(covariance)
    if volume.is_flat:
        along = int(np.argmax(np.abs(axes[0])))
        order = [along, *(n for n in range(3) if n != along)]
        axes = axes[:, order] * np.where(axes[0, order][:1] < 0, -1.0, 1.0)
        values = values[order]
    if np.linalg.det(axes) < 0:
        axes[:, -1] *= -1
    return centre, axes, float(np.sqrt(5.0 * values.max()))


def _moments(foreground: Tensor, voxel_to_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the world positions of a mask's voxels, from whole numbers and so exact to rounding."""
    marks = foreground.view(torch.uint8)
    planes = {(a, b): marks.sum(dim=3 - a - b, dtype=torch.int32).long().numpy() for a, b in ((0, 1), (0, 2), (1, 2))}
    lines = [planes[0, 1].sum(axis=1), planes[0, 1].sum(axis=0), planes[0, 2].sum(axis=0)]
    count = lines[0].sum()
    if count == 0:
        raise ValueError(
            "One image is so much smaller than the other that nothing of it is left at a resolution of both; look at "
            "their voxel sizes (`pullback info`), which should be in mm."
        )
    first = np.array([line @ np.arange(len(line)) for line in lines])
    second = np.diag([line @ np.arange(len(line)) ** 2 for line in lines])
    for (a, b), plane in planes.items():
        second[a, b] = second[b, a] = np.arange(plane.shape[0]) @ plane @ np.arange(plane.shape[1])
    mean = first / count
    covariance = (second - np.outer(first, mean)) / max(count - 1, 1)
    directions = voxel_to_world[:3, :3]
    return directions @ mean + voxel_to_world[:3, 3], directions @ covariance @ directions.T


def initialise(
    fixed: Volume,
    moving: Volume,
    *,
    methods: tuple[str, ...] = METHODS,
    given: tuple[Candidate, ...] = (),
    coarse: AbstractSimilarity | None = None,
    fine: AbstractSimilarity | None = None,
    kind: str = "affine",
    clear_margin: float = CLEAR_MARGIN,
) -> Initialisation:
    """Find where to start.

    Args:
        fixed, moving: Volumes at full resolution.
        methods: Sources of candidates, among `METHODS`.
        given: Further candidates, such as a transform read from a file.
        coarse: Similarity at the coarse resolution (default: NCC).
        fine: Similarity of the last refinement (default: signed LNCC).
        kind: The kind of map of the last refinement.
        clear_margin: Share of its score by which a pose must win that contradicts the headers' orientation.

    Returns:
        The winner and what it was chosen from, after the last refinement.
    """
    coarse = coarse or NCC()
    centre, _, radius = geometry_of(fixed)
    candidates = [*given, *_candidates(fixed, moving, methods)]
    comparison = comparison_at(fixed, moving, 2 * radius / OBJECT_VOXELS, coarse)
    scored = [Candidate(c.name, c.matrix, comparison.value(c.matrix)) for c in candidates]
    scored.sort(key=lambda c: -c.score)
    chosen = distinct(scored, centre, radius, NUM_RIGID)
    chosen += [c for c in scored if c.name in UPRIGHT_NAMES and all(c is not k for k in chosen)]
    rigid = "rigid" if kind != "translation" else kind
    chosen = [refine(c, comparison, centre, radius, rigid, fixed.is_flat) for c in chosen]
    chosen.sort(key=lambda c: -c.score)
    return best_in_detail(fixed, moving, chosen, NUM_AFFINE, fine=fine, kind=kind, clear_margin=clear_margin)


def best_in_detail(
    fixed: Volume,
    moving: Volume,
    ordered: Sequence[Candidate],
    limit: int,
    *,
    fine: AbstractSimilarity | None = None,
    kind: str,
    clear_margin: float,
) -> Initialisation:
    """Improve the first distinct candidates, and the first upright one, at twice the coarse resolution; choose one.

    By local correlation only what the moving field of view shows is compared, unless background surrounds the object;
    what counts in the end is then how well the object fits (:meth:`Comparison.value_inside`).

    Args:
        fixed, moving: Volumes at full resolution.
        ordered: Candidates, best first.
        limit: How many distinct ones to improve.
        fine: The similarity (default: signed LNCC).
        kind: The kind of map.
        clear_margin: As in :func:`initialise`.
    """
    centre, _, radius = geometry_of(fixed)
    upright = [c for c in ordered if turn_degrees(c.matrix, np.eye(4)) <= ELSEWHERE_DEGREES][:1]
    chosen = distinct(ordered, centre, radius, limit)
    chosen += [c for c in upright if all(c is not k for k in chosen)]
    ignores_view = fine is not None or moving.is_empty_beyond
    comparison = comparison_at(fixed, moving, radius / OBJECT_VOXELS, fine or LNCC(squared=False), ignores_view)
    chosen = [refine(c, comparison, centre, radius, kind, fixed.is_flat) for c in chosen]
    if not ignores_view:
        chosen = [replace(c, score=comparison.value_inside(c.matrix)) for c in chosen]
    return Initialisation(*pick(chosen, clear_margin))


def middles(fixed: Volume, moving: Volume) -> Candidate:
    """The start that brings the middles of the two fields of view together, unturned."""
    matrix = np.eye(4)
    matrix[:3, 3] = moving.grid.centre.numpy() - fixed.grid.centre.numpy()
    return Candidate(MIDDLES, matrix)


def pick(refined: Sequence[Candidate], clear_margin: float) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The best candidate, and all, best first; in doubt the best of those that agree with the headers' orientation."""
    ordered = sorted(refined, key=lambda c: -c.score)
    best = ordered[0]
    upright = [c for c in ordered if turn_degrees(c.matrix, np.eye(4)) <= ELSEWHERE_DEGREES]
    if upright and best.score - upright[0].score < clear_margin * abs(best.score):
        best = upright[0]
    return best, (best, *(c for c in ordered if c is not best))


def factors_for(volume: Volume, spacing_mm: float) -> tuple[int, ...]:
    """Voxels to average along each axis to come near to a spacing."""
    return tuple(max(1, round(float(spacing_mm / s))) for s in volume.spacing_mm())


def comparison_at(
    fixed: Volume, moving: Volume, spacing_mm: float, similarity: AbstractSimilarity, ignores_view: bool = True
) -> Comparison:
    """The comparison of two volumes at about a spacing; see :class:`Comparison` for `ignores_view`."""
    coarse = [v.coarsen(factors_for(v, spacing_mm)) for v in (fixed, moving)]
    return Comparison(coarse[0], coarse[1], similarity, ignores_view=ignores_view)


def refine(
    candidate: Candidate,
    comparison: Comparison,
    centre: np.ndarray,
    radius: float,
    kind: str,
    is_flat: bool,
    max_steps: int = 30,
) -> Candidate:
    """A candidate improved by the linear stage's optimiser, with its new score.

    Args:
        candidate: The start.
        comparison: Of the volumes, at the resolution that counts.
        centre: Of the fixed object, mm.
        radius: Half its length, mm.
        kind: The kind of map.
        is_flat: Whether the images are 2-D.
        max_steps: Steps of the optimiser at most.
    """
    frame = Frame(candidate.matrix, centre, radius, kind, is_flat)
    matrix, score, _ = optimise(comparison, frame, max_steps=max_steps)
    return Candidate(candidate.name, matrix, score)


def _candidates(fixed: Volume, moving: Volume, methods: tuple[str, ...]) -> list[Candidate]:
    """Unscored starts of the methods that are named."""
    fixed_centre, fixed_axes, _ = geometry_of(fixed)
    moving_centre, moving_axes, _ = geometry_of(moving)

    def about_centres(rotation: np.ndarray) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = moving_centre - rotation @ fixed_centre
        return matrix

    found = []
    if "header" in methods:
        found.append(Candidate("header", np.eye(4)))
        found.append(middles(fixed, moving))
    if "centre" in methods:
        found.append(Candidate("centre of mass", about_centres(np.eye(3))))
    if "moments" in methods:
        for signs in _proper_signs(fixed.is_flat):
            turn = moving_axes @ np.diag(signs) @ fixed_axes.T
            found.append(Candidate(f"moments, signs {' '.join(f'{s:+.0f}' for s in signs)}", about_centres(turn)))
    if "search" in methods:
        for number, rotation in enumerate(evenly_spread_rotations(NUM_ROTATIONS, fixed.is_flat)):
            found.append(Candidate(f"rotation {number + 1} of the search", about_centres(rotation)))
    return found


def _proper_signs(is_flat: bool) -> list[tuple[float, float, float]]:
    """Flips of the principal axes that are rotations: anatomy has no mirror image."""
    if is_flat:
        return [(1, 1, 1), (1, -1, -1)]
    return [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)]


def evenly_spread_rotations(count: int, is_flat: bool) -> np.ndarray:
    """Rotation matrices ``(N, 3, 3)``: every 15 degrees in 2-D, so many on a super-Fibonacci spiral in 3-D.

    Reference:
        Alexa, Super-Fibonacci spirals, CVPR 2022, doi:10.1109/CVPR52688.2022.00811.
    """
    if is_flat:
        angles = np.arange(0, 360, 15)
        return Rotation.from_euler("x", angles, degrees=True).as_matrix()
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    quaternions = [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)]
    return Rotation.from_quat(np.stack(quaternions, axis=1)).as_matrix()


def distinct(ordered: Sequence[Candidate], centre: np.ndarray, radius: float, limit: int) -> list[Candidate]:
    """The first `limit` candidates that differ from all before them."""
    kept: list[Candidate] = []
    for candidate in ordered:
        if all(_differ(candidate.matrix, other.matrix, centre, radius) for other in kept):
            kept.append(candidate)
        if len(kept) == limit:
            break
    return kept


def _differ(a: np.ndarray, b: np.ndarray, centre: np.ndarray, radius: float) -> bool:
    """Whether two world matrices turn an object differently, or take its centre elsewhere."""
    moved = np.linalg.norm((a - b)[:3, :3] @ centre + (a - b)[:3, 3])
    return turn_degrees(a, b) > DISTINCT_DEGREES or bool(moved > DISTINCT_SHARE * 2 * radius)


def turn_degrees(a: np.ndarray, b: np.ndarray) -> float:
    """Angle of the rotation between two matrices' linear parts."""
    u, _, vt = np.linalg.svd(a[:3, :3] @ np.linalg.inv(b[:3, :3]))
    rotation = u @ vt
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
