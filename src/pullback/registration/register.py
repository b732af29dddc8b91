"""One pair, start to verdict."""

import time
from collections.abc import Sequence

import numpy as np

from pullback.data import Pair
from pullback.kernels.threads import one_blas_thread
from pullback.registration.alignment import find_linear_map, settle_bins, settle_extraction, settle_shading
from pullback.registration.conclusion import Maps, conclude
from pullback.registration.deformable import Deformation, deform
from pullback.registration.extraction import within_part
from pullback.registration.mending import invert_evenly, make_invertible
from pullback.registration.plan import Plan
from pullback.registration.planes import lower_grid, lower_matrix
from pullback.registration.result import RegistrationResult, StageHistory
from pullback.registration.volume import Volume, prepare
from pullback.registration.work import OnProgress, Work
from pullback.similarity import AbstractSimilarity
from pullback.transforms import (
    AbstractLinear,
    Affine,
    DisplacementField,
    Rigid,
    Similarity,
    Translation,
    identity,
    to_world_vectors,
)

LINEAR_CLASSES = {"translation": Translation, "rigid": Rigid, "similarity": Similarity, "affine": Affine}


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
    with one_blas_thread():
        return _run(pair, _prepare(pair, plan or Plan(), on_progress or (lambda stage, share, word: None)))


def _run(pair: Pair, work: Work) -> RegistrationResult:
    """Start, linear stage, network and deformable stage, as far as the plan has them, and the verdict."""
    initialisation, choice, matrix = find_linear_map(work)
    linear, deformation = _as_transform(matrix, work.plan, work.fixed.is_flat), None
    if work.plan.network is not None:
        with work.stage("network"):
            answer = work.plan.network(pair, matrix)
        deformation = answer.deformation
        if answer.matrix is not matrix:  # the network's own linear map: affine, whatever the plan is
            matrix, linear = answer.matrix, Affine(lower_matrix(answer.matrix, work.fixed.is_flat))
    deforms = work.plan.deformable is not None and not choice.restraint  # from a pose that nothing vouches for it harms
    if deforms:
        with work.stage("deformable"):
            settle_extraction(work, choice, matrix)
            choice = settle_bins(work, choice, matrix)
            choice, *volumes = settle_shading(work, choice, matrix)
            if work.cut_out == "moving":
                volumes[0] = within_part(*volumes, matrix)
            deformation = _run_deformable(work, volumes, choice.similarity, matrix, deformation)
    field = None
    if deformation is not None:
        with work.stage("inverse"):
            field = _as_field(deformation, work.fixed.is_flat, is_mended=deforms)
    with work.stage("evidence"):
        has_to_gain = deforms and work.plan.network is None
        return conclude(work, initialisation, choice, Maps(linear, field), has_to_gain=has_to_gain)


def _prepare(pair: Pair, plan: Plan, on_progress: OnProgress) -> Work:
    """Both images as volumes; only the channels that the plan listens to say where the objects are."""
    start = time.perf_counter()
    heard = None if plan.channel_weights is None else [weight > 0 for weight in plan.channel_weights]
    fixed = prepare(pair.fixed, pair.fixed_mask, heard)
    moving = prepare(pair.moving, pair.moving_mask, heard)
    return Work(plan, fixed, moving, on_progress, {"preparation": round(time.perf_counter() - start, 3)})


def _run_deformable(
    work: Work,
    volumes: Sequence[Volume],
    similarity: AbstractSimilarity,
    matrix: np.ndarray,
    start: Deformation | None,
) -> Deformation:
    plan = work.plan.deformable
    costs = {level.factor: level.num_steps / level.factor**3 for level in plan.levels}

    def on_step(factor: int, share: float, value: float) -> None:
        before = sum(cost for other, cost in costs.items() if other > factor)
        done = (before + share * costs[factor]) / sum(costs.values())
        work.on_progress("deformable", done, f"1/{factor}, similarity {value:.4f}")

    deformation = deform(
        *volumes,
        matrix,
        similarity=similarity,
        regularities=plan.regularities,
        fine_regularities=plan.fine_regularities,
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
    matrix = lower_matrix(matrix, is_flat)
    if plan.linear is None:
        return identity(len(matrix) - 1) if np.array_equal(matrix, np.eye(len(matrix))) else Affine(matrix)
    kind = LINEAR_CLASSES[plan.linear.kind]
    return kind(_orthogonalise(matrix) if kind in (Rigid, Similarity) else matrix)


def _orthogonalise(matrix: np.ndarray) -> np.ndarray:
    """Remove the rounding of many small rotations."""
    u, scales, vt = np.linalg.svd(matrix[:-1, :-1])
    clean = matrix.copy()
    clean[:-1, :-1] = u @ vt * scales.mean()
    return clean


def _as_field(deformation: Deformation, is_flat: bool, *, is_mended: bool) -> DisplacementField:
    """The deformation in the world, mended first if it may be changed, with its inverse; each knows the other."""
    there = deformation.displacement
    there, back = make_invertible(there) if is_mended else (there, invert_evenly(there))
    if is_flat:
        there, back = there[:, 1:, 0], back[:, 1:, 0]
    grid = lower_grid(deformation.grid, is_flat)
    displacement = to_world_vectors(there[0], grid)
    inverse = DisplacementField(to_world_vectors(back[0], grid), grid, DisplacementField(displacement, grid))
    return DisplacementField(displacement, grid, inverse)
