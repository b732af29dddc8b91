"""Which of many registrations stand out: robust distances of their numbers from those of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.reports.formats import finite, lookup

FEWEST = 5
"""With fewer known values than this nothing can stand out."""

OUTLIER_SCORE = 3.5
"""Robust distance from which a value counts as an outlier (Iglewicz and Hoaglin, 1993)."""

HIGHEST_SCORE = 99.0
MAD_TO_SD, MEAN_TO_SD = 1.4826, 1.2533
"""What makes the median, or the mean, of absolute deviations a standard deviation of normal values."""

RANKS = ("unreadable", "failed", "doubtful", "unknown", "good")
"""Verdicts, the most pressing first."""


@dataclass(frozen=True)
class Metric:
    """A number of ``result.json`` that may stand out.

    Attributes:
        name: As people call it.
        keys: Where it is.
        worse: +1 if larger is worse, -1 if smaller is.
        floor: Differences from the median below this do not count.
        by_similarity: Whether only results of the same similarity can be compared.
    """

    name: str
    keys: tuple[str, ...]
    worse: int
    floor: float
    by_similarity: bool = False


METRICS = (
    Metric("similarity", ("similarity", "after"), -1, 1e-3, by_similarity=True),
    Metric("Dice", ("labels", "mean_dice_after"), -1, 0.01),
    Metric("landmark error", ("points", "mean_mm_after"), +1, 0.05),
    Metric("overlap", ("evidence", "overlap"), -1, 0.01),
    Metric("margin", ("evidence", "margin"), -1, 0.01),
    Metric("view", ("evidence", "view"), -1, 0.01),
    Metric("folding", ("jacobian", "percent_nonpositive"), +1, 1e-3),
    Metric("SD of log Jacobian", ("jacobian", "sd_log"), +1, 0.01),
    Metric("inverse consistency", ("inverse_consistency", "mean_voxels"), +1, 1e-3),
)


@dataclass(frozen=True)
class Score:
    """How far a result stands out.

    Attributes:
        value: The largest robust distance of its numbers on the bad side, in standard deviations; 0 if none.
        metric: Which number that is, or None.
    """

    value: float
    metric: str | None


def score(summaries: Sequence[Mapping[str, Any] | None]) -> list[Score]:
    r"""Score each of many results against all.

    For each metric $z = (x - \mathrm{median}) / (1.4826\,\mathrm{MAD})$, turned so that positive is worse; the score is
    the largest z, and 0 if all are negative. Where more than half of the values are equal the mean absolute deviation
    takes the place of the MAD. A value that lies within the metric's floor of the median does not stand out.

    Args:
        summaries: Contents of ``result.json``; None where it could not be read.

    Returns:
        One score for each, in order.

    Reference:
        B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers, ASQC Quality Press, 1993.
    """
    best = [Score(0.0, None)] * len(summaries)
    for metric in METRICS:
        for distances in _distances(metric, summaries):
            for index, distance in distances.items():
                if distance > best[index].value:
                    best[index] = Score(min(distance, HIGHEST_SCORE), metric.name)
    return best


def rank(verdict: str, one: Score) -> tuple[int, float]:
    """The key that puts outliers first: by verdict, then by falling score."""
    return (RANKS.index(verdict), -one.value)


def robust_distances(values: Sequence[float]) -> np.ndarray:
    """Distances from the median in robust standard deviations; 0 if all values are equal.

    Example:
        >>> robust_distances([1.0, 2.0, 3.0, 4.0, 100.0]).round(2).tolist()
        [-1.35, -0.67, 0.0, 0.67, 65.43]
    """
    array = np.asarray(values, dtype=np.float64)
    deviations = array - np.median(array)
    spread = MAD_TO_SD * float(np.median(np.abs(deviations))) or MEAN_TO_SD * float(np.abs(deviations).mean())
    return deviations / spread if spread > 0 else np.zeros_like(deviations)


def _distances(metric: Metric, summaries: Sequence[Mapping[str, Any] | None]) -> list[dict[int, float]]:
    """Index of result to distance on the bad side, for each group that can be compared."""
    groups: dict[str, dict[int, float]] = {}
    for index, summary in enumerate(summaries):
        value = finite(lookup(summary, *metric.keys))
        if value is not None:
            group = str(lookup(summary, "similarity", "name")) if metric.by_similarity else ""
            groups.setdefault(group, {})[index] = value
    return [
        dict(zip(known, _worse(metric, list(known.values())).tolist(), strict=True))
        for known in groups.values()
        if len(known) >= FEWEST
    ]


def _worse(metric: Metric, values: list[float]) -> np.ndarray:
    """Robust distances, positive on the bad side; 0 for values within the floor of the median."""
    distances = metric.worse * robust_distances(values)
    return np.where(np.abs(np.array(values) - np.median(values)) < metric.floor, 0.0, distances)
