"""A start that is tried alone, before all others: when to trust it, and what to say about it.

A network gives a start in milliseconds, and a wrong one without a warning where an image is unlike those it learned
from. So it is improved like any other start, at a coarse resolution, and held against what right alignments look like;
one that does not pass competes with the classical starts like any other.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pullback.registration.choice import correlation_inside
from pullback.registration.evidence import look_through, overlap_of
from pullback.registration.initialisation import Candidate, Initialisation, geometry_of
from pullback.registration.verdict import PLAUSIBLE_OVERLAP, PLAUSIBLE_SCALE
from pullback.registration.volume import Volume
from pullback.transforms import Affine

TRUSTED_CORRELATION = 0.85
"""Of the intensities where the objects overlap, from which a start is trusted (``docs/learned-affine.md``)."""

SMALLEST_SCALE = 1e-6
"""Of a map that keeps three dimensions apart."""


def nonsense_of(start: Candidate) -> str:
    """Why the matrix of a start is no map at all, such as a network gives that has gone astray; empty if it is one."""
    if not np.isfinite(start.matrix).all():
        return "its matrix holds numbers that are not finite"
    scales = np.linalg.svd(start.matrix[:-1, :-1])[1]
    if scales[-1] <= SMALLEST_SCALE * scales[0] or scales[-1] < SMALLEST_SCALE or scales[0] > 1 / SMALLEST_SCALE:
        return "its matrix flattens the world"
    return ""


def narrowed(start: Candidate, kind: str, fixed: Volume) -> Candidate:
    """The start as a map of a kind, the nearest one that takes the fixed object's centre to the same place.

    Only an affine map may mirror.

    Args:
        start: Any linear map.
        kind: ``translation``, ``rigid``, ``similarity`` or ``affine``.
        fixed: At full resolution.
    """
    if kind == "affine":
        return start
    skip = 1 if fixed.is_flat else 0
    centre = geometry_of(fixed)[0][skip:]
    linear = start.matrix[skip:3, skip:3]
    u, scales, vt = np.linalg.svd(linear)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    kept = {"translation": np.eye(len(linear)), "rigid": u @ vt}.get(kind, u @ vt * np.exp(np.log(scales).mean()))
    matrix = start.matrix.copy()
    matrix[skip:3, skip:3] = kept
    matrix[skip:3, 3] += (linear - kept) @ centre
    return replace(start, matrix=matrix)


def doubts_about(found: Initialisation, fixed: Volume, moving: Volume) -> tuple[str, ...]:
    """Why not to trust the chosen start, in words; nothing if it looks right.

    Args:
        found: The start after its refinement.
        fixed, moving: At the resolution at which a similarity is chosen.
    """
    return tuple(_doubts(found.chosen.matrix, fixed, moving))


def _doubts(matrix: np.ndarray, fixed: Volume, moving: Volume) -> Iterator[str]:
    correlation = correlation_inside(fixed, moving, matrix)
    if correlation < TRUSTED_CORRELATION:
        yield f"the intensities correlate by {correlation:.2f} in the overlap, {TRUSTED_CORRELATION} is wanted"
    skip = 1 if fixed.is_flat else 0
    transform = Affine(matrix[skip:, skip:])
    if fixed.has_background and moving.has_background:
        view = look_through(fixed, moving, transform)
        overlap = overlap_of(fixed.foreground, view.foreground)
        if overlap < PLAUSIBLE_OVERLAP:
            yield f"the outlines overlap by {overlap:.2f} (Dice), {PLAUSIBLE_OVERLAP} is wanted"
    stretch = float(np.exp(np.abs(np.log(np.linalg.svd(transform.linear.numpy())[1])).max()))
    if stretch > PLAUSIBLE_SCALE:
        yield f"it stretches by a factor of {stretch:.2f}, more than {PLAUSIBLE_SCALE}"
