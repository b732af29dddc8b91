"""One pair, start to verdict."""

import time

import numpy as np
from torch import Tensor

from pullback.data import Pair
from pullback.metrics import inverse_consistency, summarise_jacobian
from pullback.registration.alignment import at, find_linear_map
from pullback.registration.choice import ACROSS_CONTRASTS, Choice, mutual_information
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
from pullback.registration.initialisation import Initialisation, geometry_of
from pullback.registration.mending import invert_evenly, make_invertible
from pullback.registration.plan import Plan
from pullback.registration.result import RegistrationResult, SimilarityReport, StageHistory
from pullback.registration.verdict import Evidence, judge
from pullback.registration.volume import Volume, prepare
from pullback.registration.work import OnProgress, Work
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

LINEAR_CLASSES = {"translation": Translation, "rigid": Rigid, "similarity": Similarity, "affine": Affine}
EVIDENCE_OBJECT_VOXELS = 80
"""Resolution, as the length of the fixed object in voxels, at which evidence is gathered."""
USEFUL_OVERLAP = 0.25
"""Overlap of the objects by headers from which "before" means the headers' alignment."""


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
    work = Work(plan, fixed, moving, on_progress, {"preparation": round(time.perf_counter() - start, 3)})
    initialisation, choice, matrix = find_linear_map(work)
    linear = _as_transform(matrix, plan, fixed.is_flat)
    deformation, field_, inverse_field = None, None, None
    if plan.network is not None:
        with work.stage("network"):
            answer = plan.network(pair, matrix)
        deformation = answer.deformation
        if answer.matrix is not matrix:
            matrix = answer.matrix
            linear = Affine(matrix[1:, 1:] if fixed.is_flat else matrix)
    if deforms := plan.deformable is not None and not choice.restraint:  # from a pose that nothing vouches for it harms
        with work.stage("deformable"):
            deformation = _run_deformable(work, choice, matrix, deformation)
    if deformation is not None:
        with work.stage("inverse"):
            field_ = _as_field(deformation, fixed.is_flat, is_free=deforms)
            inverse_field = field_.inverse()
    forward = linear if field_ is None else chain(linear, field_)
    backward = linear.inverse() if inverse_field is None else chain(inverse_field, linear.inverse())
    with work.stage("evidence"):
        return _conclude(pair, work, initialisation, choice, linear, field_, forward, backward)


def _run_deformable(work: Work, choice: Choice, matrix: np.ndarray, start: Deformation | None) -> Deformation:
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
    work: Work,
    initialisation: Initialisation | None,
    choice: Choice,
    linear: AbstractLinear,
    field_: DisplacementField | None,
    forward: AbstractTransform,
    backward: AbstractTransform,
) -> RegistrationResult:
    fixed, moving = at(work, EVIDENCE_OBJECT_VOXELS)
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
