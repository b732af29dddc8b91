"""One pair, start to verdict."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from pullback.data import Pair
from pullback.metrics import inverse_consistency, summarise_jacobian
from pullback.registration.choice import (
    ACROSS_CONTRASTS,
    SAME_CONTRAST,
    Choice,
    build,
    correlation_inside,
    mutual_information,
    weigh,
)
from pullback.registration.deformable import Deformation, deform
from pullback.registration.evidence import (
    View,
    flat_grid,
    is_whole,
    look_through,
    margin_over_rivals,
    overlap_of,
    similarity_through,
)
from pullback.registration.first_start import doubts_about, narrowed
from pullback.registration.initialisation import (
    CLEAR_MARGIN,
    CLEAR_MARGIN_ACROSS_CONTRASTS,
    ELSEWHERE_DEGREES,
    Candidate,
    Initialisation,
    factors_for,
    geometry_of,
    initialise,
    middles,
    turn_degrees,
)
from pullback.registration.linear import Comparison, Frame, Restraint, optimise
from pullback.registration.mending import invert_evenly, make_invertible
from pullback.registration.plan import Plan
from pullback.registration.result import RegistrationResult, SimilarityReport, StageHistory
from pullback.registration.sweep import search_thoroughly
from pullback.registration.verdict import PLAUSIBLE_MARGIN, Evidence, judge
from pullback.registration.volume import Volume, prepare
from pullback.space import Grid
from pullback.transforms import (
    AbstractLinear,
    AbstractTransform,
    Affine,
    DisplacementField,
    Rigid,
    Similarity,
    Translation,
    chain,
    identity,
    to_world_vectors,
)

OnProgress = Callable[[str, float, str], None]
"""Called with the stage, the share of it that is done, and a word."""

LINEAR_CLASSES = {"translation": Translation, "rigid": Rigid, "similarity": Similarity, "affine": Affine}
COARSE_OBJECT_VOXELS, EVIDENCE_OBJECT_VOXELS = 40, 80
"""Resolutions, as the length of the fixed object in voxels, at which the similarity is chosen and evidence gathered."""
USEFUL_OVERLAP = 0.25
"""Overlap of the objects by headers from which "before" means the headers' alignment."""
SURE_CORRELATION, SURE_MARGIN = 0.6, 0.25
"""Correlation inside the overlap from which a start by local correlation needs no second opinion, and the margin over
other poses that it needs as well not to be searched for again, thoroughly."""
CERTAIN_CORRELATION = 0.8
"""Correlation from which a pose is believed although others fit nearly as well. Wrong poses of two contrasts reach
0.76 (``docs/accuracy.md``)."""
RESTRAINT = 0.15
"""Restraint of a map that is held near its start, in units of MIND; set on six prostates (``docs/accuracy.md``)."""


@dataclass
class _Work:
    """What is known so far."""

    plan: Plan
    fixed: Volume
    moving: Volume
    on_progress: OnProgress
    seconds: dict[str, float] = field(default_factory=dict)
    history: list[StageHistory] = field(default_factory=list)
    margin: float | None = None
    """Of the linear map over rivals, if it was looked for already."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.on_progress(name, 0.0, "")
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)
        self.on_progress(name, 1.0, "")


def register(pair: Pair, plan: Plan | None = None, *, on_progress: OnProgress | None = None) -> RegistrationResult:
    """Register the moving image of a pair to its fixed image.

    Args:
        pair: The images, with masks if there are any. Labels and points are not looked at.
        plan: What to do (default: start found by search, affine, deformable).
        on_progress: Called as the work goes on.

    Returns:
        The map both ways, with the evidence and a verdict. A registration that did not succeed says so there; it does
        not raise.

    Raises:
        ValueError: If an image is constant, or the plan contradicts itself.
    """
    plan, on_progress = plan or Plan(), on_progress or (lambda stage, share, word: None)
    start = time.perf_counter()
    heard = None if plan.channel_weights is None else [weight > 0 for weight in plan.channel_weights]
    fixed = prepare(pair.fixed, pair.fixed_mask, heard)
    moving = prepare(pair.moving, pair.moving_mask, heard)
    work = _Work(plan, fixed, moving, on_progress, {"preparation": round(time.perf_counter() - start, 3)})
    initialisation, choice, matrix = _run_linear_map(work)
    linear = _as_transform(matrix, plan, fixed.is_flat)
    deformation, field_, inverse_field = None, None, None
    if plan.network is not None:
        with work.stage("network"):
            answer = plan.network(pair, matrix)
        deformation = answer.deformation
        if answer.matrix is not matrix:
            matrix = answer.matrix
            linear = Affine(matrix[1:, 1:] if fixed.is_flat else matrix)
    if plan.deformable is not None:
        with work.stage("deformable"):
            deformation = _run_deformable(work, choice, matrix, deformation)
    if deformation is not None:
        with work.stage("inverse"):
            field_ = _as_field(deformation, fixed.is_flat, is_free=plan.deformable is not None)
            inverse_field = field_.inverse()
    forward = linear if field_ is None else chain(linear, field_)
    backward = linear.inverse() if inverse_field is None else chain(inverse_field, linear.inverse())
    with work.stage("evidence"):
        return _conclude(pair, work, initialisation, choice, linear, field_, forward, backward)


def _build(work: _Work, name: str, why: str) -> Choice:
    """The similarity of a name, with the channels' weights."""
    return weigh(build(name, work.fixed, work.moving, why), work.plan.channel_weights)


def _run_linear_map(work: _Work) -> tuple[Initialisation | None, Choice, np.ndarray]:
    """Start and linear stage: from the first start alone if that looks right, before and after; else from all."""
    plan = work.plan
    wanted = weigh(plan.similarity(work.fixed, work.moving), plan.channel_weights) if plan.similarity else None
    if plan.first is None:
        return _run_from(work, lambda: _compete(work, wanted, plan.given))
    if "none" in plan.methods:
        raise ValueError("`first` is given, but `methods` is 'none', which leaves no start to fall back on.")
    first = narrowed(plan.first, _kind(plan), work.fixed)
    with work.stage("initialisation"):
        across = wanted is not None and wanted.name in ACROSS_CONTRASTS
        tried = _search(work, _build(work, "mi", "") if across else None, (first,), methods=())
        doubts = doubts_about(tried, *_at(work, COARSE_OBJECT_VOXELS))
    if not doubts:
        alone = replace(tried, why=f"'{first.name}' was used: it looked right, and no other pose fits better")
        found = _run_from(work, lambda: (alone, wanted or _choose(work, first.matrix), tried.chosen.matrix))
        with work.stage("rivals"):
            work.margin = margin_over_rivals(work.fixed, work.moving, found[1], found[2])
        if work.margin >= 0:
            return found
        doubts = (f"another pose fits better (by {-100 * work.margin:.0f} %)",)
        work.margin = None
        work.history.clear()
    found, choice, matrix = _run_from(work, lambda: _compete(work, wanted, (*plan.given, first)))
    why = f"'{first.name}' was not trusted: {'; '.join(doubts)}; it competed with the classical starts"
    return replace(found, why=why), choice, matrix


def _run_from(
    work: _Work, start: Callable[[], tuple[Initialisation | None, Choice, np.ndarray]]
) -> tuple[Initialisation | None, Choice, np.ndarray]:
    """The linear stage, if there is one, from a start and with the similarity that follows from it."""
    with work.stage("initialisation"):
        initialisation, choice, matrix = start()
    if work.plan.linear is not None:
        with work.stage(work.plan.linear.kind):
            matrix = _run_linear(work, choice, matrix)
            revised = _reconsider(work, choice, matrix)
            if revised is not choice:
                choice, matrix = revised, _run_linear(work, revised, matrix)
    return initialisation, choice, matrix


def _compete(
    work: _Work, wanted: Choice | None, given: tuple[Candidate, ...]
) -> tuple[Initialisation | None, Choice, np.ndarray]:
    """The best of all starts, and the similarity: they follow from each other."""
    plan = work.plan
    if "none" in plan.methods:
        matrix = given[0].matrix if given else np.eye(4)
        return None, wanted or _choose(work, matrix), matrix
    if wanted is not None and wanted.name in ACROSS_CONTRASTS:
        found = _search(work, wanted if wanted.name == "mi" else _build(work, "mi", ""), given)
        if wanted.name == "mind" and _may_hold(work) and found.margin < CLEAR_MARGIN_ACROSS_CONTRASTS:
            return _hold(work, wanted.why)
        return found, wanted, found.chosen.matrix
    found = _search(work, None, given)
    correlation = _correlation(work, found)
    if "search" in plan.methods and (correlation < SURE_CORRELATION or found.margin < SURE_MARGIN):
        found = search_thoroughly(
            work.fixed, work.moving, found.candidates, kind=_kind(plan), clear_margin=CLEAR_MARGIN
        )
        correlation = _correlation(work, found)
    if wanted is None and (correlation < SURE_CORRELATION or found.margin < CLEAR_MARGIN):
        other = _search(work, _build(work, "mi", ""), given)
        agree = correlation >= SURE_CORRELATION and _agree(found, other)
        is_clear = found.margin >= (PLAUSIBLE_MARGIN if agree else CLEAR_MARGIN)
        other_is_clear = other.margin >= CLEAR_MARGIN_ACROSS_CONTRASTS
        if _may_hold(work) and correlation < CERTAIN_CORRELATION and not is_clear and not other_is_clear:
            why = f"neither correlation (margin {found.margin:.2f}) nor mutual information ({other.margin:.2f}) finds a"
            return _hold(work, f"{why} clear pose: two contrasts, compared by local structure")
        keeps = agree and is_clear and correlation > SAME_CONTRAST
        if not keeps and (
            abs(_correlation(work, other)) > abs(correlation)
            or (abs(correlation) < SAME_CONTRAST and other.margin > found.margin)
            or (other_is_clear and not is_clear)
        ):
            found = other
    return found, wanted or _choose(work, found.chosen.matrix), found.chosen.matrix


def _agree(one: Initialisation, other: Initialisation) -> bool:
    """Whether two searches put the same pose first, and neither chose it only because it trusts the headers."""
    near = turn_degrees(one.chosen.matrix, other.chosen.matrix) <= ELSEWHERE_DEGREES
    return near and one.margin > 0 and other.margin > 0


def _may_hold(work: _Work) -> bool:
    """Whether a search may be overruled: nobody named other starts, and the objects have no outlines to tell by."""
    has_outline = work.fixed.has_background and work.moving.has_background
    return not has_outline and "search" in work.plan.methods and not work.plan.given


def _hold(work: _Work, why: str) -> tuple[Initialisation, Choice, np.ndarray]:
    """Where no pose is clear: stay near the one in which whoever pointed the scanner had the object in the middle.

    A constant background is then where nothing was seen, such as around an ultrasound's fan.
    """
    start = middles(work.fixed, work.moving)
    work.fixed, work.moving = work.fixed.without_background(), work.moving.without_background()
    return Initialisation(start, (start,)), replace(_build(work, "mind", why), restraint=RESTRAINT), start.matrix


def _kind(plan: Plan) -> str:
    """Of the linear map that is looked for."""
    return plan.linear.kind if plan.linear is not None else "affine"


def _search(
    work: _Work, choice: Choice | None, given: tuple[Candidate, ...], *, methods: tuple[str, ...] | None = None
) -> Initialisation:
    """Search a start by local correlation, or by the mutual information of `choice`; by all methods or those named."""
    methods = work.plan.methods if methods is None else methods
    options: dict[str, Any] = {"methods": methods, "given": given, "kind": _kind(work.plan)}
    if choice is not None:
        options |= {"coarse": choice.similarity, "fine": choice.similarity}
        options["clear_margin"] = CLEAR_MARGIN_ACROSS_CONTRASTS
    return initialise(work.fixed, work.moving, **options)


def _correlation(work: _Work, found: Initialisation) -> float:
    return correlation_inside(*_at(work, COARSE_OBJECT_VOXELS), found.chosen.matrix)


def _choose(work: _Work, matrix: np.ndarray) -> Choice:
    """Local correlation for one contrast, mutual information for two."""
    correlation = correlation_inside(*_at(work, COARSE_OBJECT_VOXELS), matrix)
    if correlation > SAME_CONTRAST:
        why = f"the intensities correlate ({correlation:.2f}) where the objects overlap: one contrast"
        return _build(work, "lncc", why)
    why = f"the intensities hardly correlate ({correlation:.2f}) where the objects overlap: two contrasts"
    return _build(work, "mi", why)


def _reconsider(work: _Work, choice: Choice, matrix: np.ndarray) -> Choice:
    """The similarity again, after the linear stage: from a poor start one contrast can look like two."""
    if work.plan.similarity is not None or choice.name != "mi":
        return choice
    revised = _choose(work, matrix)
    return choice if revised.name == choice.name else revised


def _at(work: _Work, object_voxels: int) -> tuple[Volume, Volume]:
    """Both volumes at the resolution at which the fixed object is so many voxels long."""
    _, _, radius = geometry_of(work.fixed)
    spacing = 2 * radius / object_voxels
    return tuple(v.coarsen(factors_for(v, spacing)) for v in (work.fixed, work.moving))


def _run_linear(work: _Work, choice: Choice, matrix: np.ndarray) -> np.ndarray:
    plan = work.plan.linear
    centre, _, radius = geometry_of(work.fixed)
    restraint = Restraint(matrix, centre, radius, choice.restraint) if choice.restraint else None
    previous = None
    for number, object_voxels in enumerate(plan.object_voxels):
        fixed, moving = _at(work, object_voxels)
        if fixed.grid.shape == previous:
            continue
        previous = fixed.grid.shape
        done = number / len(plan.object_voxels)
        frame = Frame(matrix, centre, radius, plan.kind, fixed.is_flat)
        matrix, _, values = optimise(
            Comparison(fixed, moving, choice.linear, restraint=restraint),
            frame,
            max_steps=plan.max_steps,
            on_step=lambda value, done=done: work.on_progress(plan.kind, done, f"similarity {value:.4f}"),
        )
        level = "x".join(map(str, fixed.grid.shape[1:] if fixed.is_flat else fixed.grid.shape))
        work.history.append(StageHistory(plan.kind, level, values, "converged or made all its steps"))
    return matrix


def _run_deformable(work: _Work, choice: Choice, matrix: np.ndarray, start: Deformation | None) -> Deformation:
    plan = work.plan.deformable
    total = sum(level.num_steps * 8.0 ** -np.log2(level.factor) for level in plan.levels)
    steps = {level.factor: level.num_steps for level in plan.levels}
    before = {
        level.factor: sum(
            other.num_steps * 8.0 ** -np.log2(other.factor) for other in plan.levels if other.factor > level.factor
        )
        for level in plan.levels
    }

    def on_step(factor: int, share: float, value: float) -> None:
        done = (before[factor] + share * steps[factor] * 8.0 ** -np.log2(factor)) / total
        work.on_progress("deformable", done, f"1/{factor}, similarity {value:.4f}")

    deformation = deform(
        work.fixed,
        work.moving,
        matrix,
        similarity=choice.similarity,
        regularities=plan.regularities,
        levels=plan.levels,
        optimiser=plan.optimiser,
        stop=plan.stop,
        device=work.plan.device,
        start=start,
        on_step=on_step,
    )
    for level in deformation.history:
        work.history.append(StageHistory("deformable", f"1/{level.factor}", level.values, level.reason))
    return deformation


def _as_transform(matrix: np.ndarray, plan: Plan, is_flat: bool) -> AbstractLinear:
    """The world matrix as a transform of the narrowest class that the plan promises."""
    matrix = matrix[1:, 1:] if is_flat else matrix
    if plan.linear is None or plan.given:
        return identity(len(matrix) - 1) if np.array_equal(matrix, np.eye(len(matrix))) else Affine(matrix)
    kind = LINEAR_CLASSES[plan.linear.kind]
    return kind(_orthogonalise(matrix) if kind in (Rigid, Similarity) else matrix)


def _orthogonalise(matrix: np.ndarray) -> np.ndarray:
    """Remove the rounding of many small rotations."""
    u, scales, vt = np.linalg.svd(matrix[:-1, :-1])
    clean = matrix.copy()
    clean[:-1, :-1] = u @ vt * scales.mean()
    return clean


def _as_field(deformation: Deformation, is_flat: bool, *, is_free: bool) -> DisplacementField:
    """The deformation in the world, with its inverse; each knows the other. One that is not free stays as it is."""
    there, grid = deformation.displacement, deformation.grid
    there, back = make_invertible(there) if is_free else (there, invert_evenly(there))
    if is_flat:
        there, back = there[:, 1:, 0], back[:, 1:, 0]
        grid = Grid(grid.shape[1:], grid.voxel_to_world[1:, 1:])
    displacement = to_world_vectors(there[0], grid)
    inverse = DisplacementField(to_world_vectors(back[0], grid), grid, DisplacementField(displacement, grid))
    return DisplacementField(displacement, grid, inverse)


def _conclude(
    pair: Pair,
    work: _Work,
    initialisation: Initialisation | None,
    choice: Choice,
    linear: AbstractLinear,
    field_: DisplacementField | None,
    forward: AbstractTransform,
    backward: AbstractTransform,
) -> RegistrationResult:
    fixed, moving = _at(work, EVIDENCE_OBJECT_VOXELS)
    before, before_name, seen = _before(fixed, moving)
    values = [similarity_through(fixed, seen, choice.similarity)]
    view = look_through(fixed, moving, linear)
    values.append(similarity_through(fixed, view, choice.similarity))
    if field_ is not None:
        view = look_through(fixed, moving, forward)
        values.append(similarity_through(fixed, view, choice.similarity))
    grid, region = flat_grid(work.fixed), _in_image(work.fixed)
    has_outline = work.fixed.has_background and work.moving.has_background
    jacobian = summarise_jacobian(forward.jacobian_determinant(grid), region)
    consistency = inverse_consistency(forward, backward, grid, region)
    dependence = None
    if choice.name in ACROSS_CONTRASTS and not has_outline:
        seen = look_through(fixed, moving, linear)
        measure = choice.similarity if choice.name == "mi" else mutual_information(fixed, moving)
        dependence = similarity_through(fixed, seen, measure)
    if choice.restraint:
        margin = 0.0
    elif work.margin is not None:
        margin = work.margin
    elif initialisation is not None and "search" in work.plan.methods:
        margin = initialisation.margin
    else:
        lifted = _lift(linear.matrix.numpy(), work.fixed.is_flat)
        margin = margin_over_rivals(work.fixed, work.moving, choice, lifted)
    evidence = Evidence(
        margin=margin,
        scales=tuple(float(s) for s in Affine(linear.matrix).decompose().scaling),
        overlap=overlap_of(fixed.foreground, view.foreground) if has_outline else None,
        view=float((view.inside & fixed.foreground).sum()) / max(float(fixed.foreground.sum()), 1.0),
        gain=values[-1] - values[0],
        jacobian=jacobian,
        consistency=consistency,
        dependence=dependence,
        is_whole=is_whole(work.fixed),
        is_held=choice.restraint > 0,
    )
    return RegistrationResult(
        fixed_to_moving=forward,
        moving_to_fixed=backward,
        linear=linear,
        field=field_,
        before=before,
        before_name=before_name,
        initialisation=initialisation,
        similarity=SimilarityReport(choice.name, choice.why, values[0], values[1], values[-1]),
        evidence=evidence,
        history=tuple(work.history),
        seconds=work.seconds,
        verdict=judge(evidence),
    )


def _before(fixed: Volume, moving: Volume) -> tuple[AbstractTransform, str, View]:
    """What "before" means: the headers' alignment, or centres of mass where the objects hardly overlap by headers."""
    num_dims = 2 if fixed.is_flat else 3
    by_headers = identity(num_dims)
    view = look_through(fixed, moving, by_headers)
    if overlap_of(fixed.foreground, view.foreground) >= USEFUL_OVERLAP:
        return by_headers, "as the headers say", view
    shift = (geometry_of(moving)[0] - geometry_of(fixed)[0])[3 - num_dims :]
    by_centres = Translation.by(shift)
    return by_centres, "centres of mass together", look_through(fixed, moving, by_centres)


def _in_image(fixed: Volume) -> Tensor:
    """The fixed object, in the dimensions of the image."""
    return fixed.foreground[0] if fixed.is_flat else fixed.foreground


def _lift(matrix: np.ndarray, is_flat: bool) -> np.ndarray:
    if not is_flat:
        return matrix
    lifted = np.eye(4)
    lifted[1:, 1:] = matrix
    return lifted
