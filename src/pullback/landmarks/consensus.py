"""Which landmarks to believe: the map that most of them agree on (RANSAC)."""

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from pullback.checks import check_at_least
from pullback.landmarks.closed_form import is_degenerate, matrices_of, num_needed
from pullback.space import apply_matrix

SETS_AT_A_TIME = 256
MOST_SETS = 20_000
SURENESS = 0.999
"""Probability that one of the sets drawn holds no outlier, after which the search stops."""
EXPECTED = 0.99
"""Share of the sound landmarks that an estimated tolerance leaves in."""
NUM_REFITS = 20
SMALLEST_SHARE = 1e-6
"""Of the landmarks' extent: below it, distances are rounding."""


def agreeing(
    fixed: Tensor, moving: Tensor, kind: str, *, tolerance_mm: float | None = None, seed: int = 0
) -> tuple[Tensor, float]:
    """Which landmarks agree on a map, ``(N,)`` bool, and the tolerance in mm.

    Small sets of landmarks are drawn, each gives a map, and the one with the most landmarks within the tolerance wins
    (each counted less the farther off it is); it is then fitted anew to those until they stay the same. Without a
    tolerance, the map with the least median distance tells how far sound landmarks are off, which bears up to half of
    outliers.

    Args:
        fixed, moving: Corresponding landmarks ``(N, D)`` float64 in mm.
        kind: As in :func:`pullback.landmarks.closed_form.matrices_of`.
        tolerance_mm: How far a landmark may be off; None estimates it.
        seed: Of the sets that are drawn.

    Raises:
        ValueError: If no map follows from the landmarks.

    Reference:
        Fischler and Bolles, Comm. ACM 24(6), 1981, doi:10.1145/358669.358692; Torr and Zisserman, CVIU 78, 2000,
        doi:10.1006/cviu.1999.0832; Rousseeuw, JASA 79, 1984, doi:10.1080/01621459.1984.10477105.
    """
    by_median = tolerance_mm is None
    if by_median:
        matrix = _search(fixed, moving, kind, None, seed)
        tolerance_mm = _estimated_tolerance(fixed, moving, matrix, kind)
    else:
        matrix = _search(fixed, moving, kind, tolerance_mm, seed)
    inside = _errors(matrix, fixed, moving) <= tolerance_mm
    for _ in range(NUM_REFITS):
        if int(inside.sum()) < num_needed(kind, fixed.shape[1]) or is_degenerate(fixed[inside], kind):
            break
        again = _errors(matrices_of(kind, fixed[inside], moving[inside]), fixed, moving) <= tolerance_mm
        if torch.equal(again, inside):
            break
        inside = again
    return inside, float(tolerance_mm)


def _search(fixed: Tensor, moving: Tensor, kind: str, tolerance_mm: float | None, seed: int) -> Tensor:
    """The best matrix of all sets drawn."""
    generator = np.random.default_rng(int(check_at_least("seed", seed, 0)))
    size, best, least, drawn, needed = num_needed(kind, fixed.shape[1]), None, math.inf, 0, float(MOST_SETS)
    while drawn < min(needed, MOST_SETS):
        index = torch.from_numpy(generator.random((SETS_AT_A_TIME, len(fixed))).argpartition(size - 1)[:, :size])
        index = index[~is_degenerate(fixed[index], kind)]
        drawn += SETS_AT_A_TIME
        if not len(index):
            continue
        matrices = matrices_of(kind, fixed[index], moving[index])
        errors = torch.linalg.vector_norm(_mapped(matrices, fixed) - moving, dim=-1)
        costs = errors.median(1).values if tolerance_mm is None else errors.clamp(max=tolerance_mm).square().sum(1)
        number = int(costs.argmin())
        if float(costs[number]) < least:
            best, least = matrices[number], float(costs[number])
            share = 0.5 if tolerance_mm is None else float((errors[number] <= tolerance_mm).double().mean())
            needed = _num_sets(share, size)
    if best is None:
        raise ValueError(f"No {kind} map follows from these landmarks: they lie on a line or in a plane.")
    return best


def _num_sets(share: float, size: int) -> float:
    """Sets to draw until one of them holds no outlier, most likely."""
    clean = min(share**size, 1 - 1e-12)
    return math.log(1 - SURENESS) / math.log1p(-clean) if clean > 0 else math.inf


def _estimated_tolerance(fixed: Tensor, moving: Tensor, matrix: Tensor, kind: str) -> float:
    """From the median distance: normal errors of the same spread along every axis."""
    num_dims, num_points = fixed.shape[1], len(fixed)
    spare = max(num_points - num_needed(kind, num_dims), 1)
    median = float(np.median(_errors(matrix, fixed, moving).numpy()))
    spread = (1 + 5 / spare) * median / math.sqrt(stats.chi2.median(num_dims))
    smallest = SMALLEST_SHARE * float(torch.linalg.vector_norm(moving - moving.mean(0), dim=1).max())
    return max(math.sqrt(stats.chi2.ppf(EXPECTED, num_dims)) * spread, smallest)


def _errors(matrix: Tensor, fixed: Tensor, moving: Tensor) -> Tensor:
    return torch.linalg.vector_norm(apply_matrix(matrix, fixed) - moving, dim=-1)


def _mapped(matrices: Tensor, points: Tensor) -> Tensor:
    """Points ``(N, D)`` by matrices ``(S, D + 1, D + 1)``, ``(S, N, D)``."""
    return points @ matrices[:, :-1, :-1].mT + matrices[:, None, :-1, -1]
