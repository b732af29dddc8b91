"""A second, thorough search for a start: every turn, a few sizes, every shift, judged by local structure.

For what centres of mass cannot find, because a cut field of view moves them, and plain correlation cannot tell apart,
because seen from afar a head is a ball. Both images are reduced to their local structure (what differs from the
surroundings, in units of its spread there), which no slow shading changes; what the moving field of view misses says
nothing. Correlating them over all shifts at once costs two transforms of a small cube.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import fft

from pullback import functional
from pullback.registration.initialisation import (
    OBJECT_VOXELS,
    Candidate,
    Initialisation,
    best_in_detail,
    comparison_at,
    distinct,
    evenly_spread_rotations,
    factors_for,
    geometry_of,
    pick,
    refine,
)
from pullback.registration.volume import Volume
from pullback.similarity import LNCC

LENGTH_VOXELS = 16
"""Length of the fixed object in the sweep."""
ROOM = 1.7
"""Side of the cube of shifts, in lengths of the fixed object."""
NUM_TURNS, SIZES = 600, (0.87, 1.0, 1.15)
"""What is tried: turns in 3-D (none is farther than 27 degrees from one of them), each at these scales if the map may
have one."""
SURROUNDINGS_VOXELS, FLOOR = 1.5, 0.1
"""Standard deviation of the window that local structure is relative to, and the share of the largest spread that counts
as none."""
NUM_IMPROVED, NUM_STEPS = 32, 12
"""The best of the sweep, improved by so many steps."""
NUM_DETAILED = 8
"""Of these and those known before, how many are improved in detail."""


def search_thoroughly(
    fixed: Volume, moving: Volume, known: Sequence[Candidate], *, kind: str, clear_margin: float
) -> Initialisation:
    """Search again where :func:`initialise` is in doubt.

    Args:
        fixed, moving: Volumes at full resolution.
        known: Candidates of the first search, by local correlation; one that fits best of all stays.
        kind: The kind of map of the last refinement.
        clear_margin: As in :func:`initialise`.

    Returns:
        The best of all candidates, new and known, and what it was chosen from.
    """
    centre, _, radius = geometry_of(fixed)
    sizes = SIZES if kind in ("similarity", "affine") else (1.0,)
    turns = np.concatenate([size * evenly_spread_rotations(NUM_TURNS, fixed.is_flat) for size in sizes])
    found = sweep(fixed, moving, turns, 2 * radius / LENGTH_VOXELS)
    found = distinct(sorted(found, key=lambda c: -c.score), centre, radius, NUM_IMPROVED)
    comparison = comparison_at(fixed, moving, 2 * radius / OBJECT_VOXELS, LNCC(squared=False), moving.is_empty_beyond)
    coarse_kind = "similarity" if len(sizes) > 1 else "rigid"
    found = [refine(c, comparison, centre, radius, coarse_kind, fixed.is_flat, NUM_STEPS) for c in found]
    found = [replace(c, score=comparison.value_inside(c.matrix)) for c in (*known, *found)]
    found.sort(key=lambda c: -c.score)
    again = best_in_detail(fixed, moving, found, NUM_DETAILED, kind=kind, clear_margin=clear_margin)
    return Initialisation(*pick([*known, *again.candidates], clear_margin))


def sweep(fixed: Volume, moving: Volume, turns: np.ndarray, spacing_mm: float) -> list[Candidate]:
    """For each turn the shift that fits best.

    The score is the product of the two structures over the root of the moving one's norm: divided by the norm itself a
    small overlap could win, undivided strong contrast could.

    Args:
        fixed, moving: Volumes at full resolution.
        turns: Linear parts of world matrices to try, ``(N, 3, 3)``.
        spacing_mm: Resolution.

    Returns:
        One candidate per turn, in their order.
    """
    centre, _, radius = geometry_of(fixed)
    middle = geometry_of(moving)[0]
    side = fft.next_fast_len(int(np.ceil(ROOM * 2 * radius / spacing_mm)), real=True)
    shape = np.array([1 if fixed.is_flat else side, side, side])
    cube = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    cube[:3, 3] = centre - spacing_mm * (shape - 1) / 2
    spectrum = np.conj(_spectrum(_seen(local_structure(fixed, spacing_mm), np.eye(4), cube, shape)))
    structure, found = local_structure(moving, spacing_mm), []
    for number, turn in enumerate(turns):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, middle - turn @ centre
        seen = _seen(structure, matrix, cube, shape)
        fit = fft.irfftn((_spectrum(seen) * spectrum).sum(axis=0), s=tuple(shape))
        best = int(fit.argmax())
        shift = np.array(np.unravel_index(best, fit.shape))
        matrix[:3, 3] += turn @ (np.where(shift > shape // 2, shift - shape, shift) * spacing_mm)
        # Summed by NumPy itself: BLAS, behind np.linalg.norm, could round by the number of threads.
        norm = float(np.square(seen, dtype=np.float64).sum()) ** 0.5
        score = float(fit.flat[best]) / max(norm, 1e-6) ** 0.5
        found.append(Candidate(f"turn {number + 1} of the sweep", matrix, score))
    return found


def local_structure(volume: Volume, spacing_mm: float) -> Volume:
    """What differs from the surroundings, in units of its spread there; 0 where nothing is known."""
    coarse = volume.coarsen(factors_for(volume, spacing_mm))
    rest = coarse.tensor - functional.gaussian_smooth(coarse.tensor, SURROUNDINGS_VOXELS)
    spread = functional.gaussian_smooth(rest * rest, SURROUNDINGS_VOXELS).clamp(min=0).sqrt()
    structure = rest / (spread + FLOOR * spread.amax(dim=(2, 3, 4), keepdim=True).clamp(min=1e-6))
    return replace(coarse, tensor=structure if coarse.weights is None else structure * coarse.weights)


def _seen(volume: Volume, matrix: np.ndarray, cube: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A volume through a world matrix on a cube, ``(C, *shape)``; 0 beyond its field of view."""
    voxel_map = volume.grid.world_to_voxel.numpy() @ matrix @ cube
    return functional.warp(volume.tensor, torch.zeros(1, 3, *shape), voxel_map, fill=0.0)[0].numpy()


def _spectrum(values: np.ndarray) -> np.ndarray:
    """Fourier coefficients of each channel of ``(C, I, J, K)``."""
    return fft.rfftn(values, axes=(1, 2, 3))
