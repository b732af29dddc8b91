"""Is one method better than another: paired tests, intervals, effect sizes, and Learn2Reg's ranking."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05
NUM_RESAMPLES = 2000
RESAMPLED_AT_A_TIME = 1 << 20
"""Numbers drawn together, so that memory stays small."""

WORST_RANK_SCORE = 0.1
HARDEST_SHARE = 0.3
MOST_DECIMALS = 300
TRUE_DIGITS = 12
"""Decimals of differences that are believed, of those of the largest number: what is behind them is rounding."""


@dataclass(frozen=True)
class PairedComparison:
    r"""Method a against method b on the same cases; differences are a - b.

    Attributes:
        num_cases: Cases with a number from both.
        mean_a, mean_b: Means over these cases.
        mean_difference, median_difference: Of a - b.
        interval_low, interval_high: Bootstrap interval (percentiles) of the mean difference.
        statistic: Wilcoxon's W, the smaller of the two sums of ranks.
        p_value: Of the two-sided Wilcoxon signed-rank test; 1 where all differences are 0, NaN without cases.
        rank_biserial: Effect size of that test: (sum of ranks for a - sum for b) / sum of all, -1 to 1.
        cohens_dz: Mean difference over the standard deviation of the differences; NaN where they are all the same.
        share_a_larger: Share of cases where a is larger; ties count half.

    Reference:
        Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1 (1945), doi:10.2307/3001968; Kerby,
        The simple difference formula, Comprehensive Psychology 3 (2014), doi:10.2466/11.IT.3.1.
    """

    num_cases: int
    mean_a: float
    mean_b: float
    mean_difference: float
    median_difference: float
    interval_low: float
    interval_high: float
    statistic: float
    p_value: float
    rank_biserial: float
    cohens_dz: float
    share_a_larger: float

    as_dict = asdict


def compare_paired(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> PairedComparison:
    """Compare two methods case by case. Cases where either is not finite are left out.

    Args:
        a, b: ``(N,)``, the same cases in the same order.
        confidence: Of the bootstrap interval.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> compare_paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]).rank_biserial
        1.0
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"`a` has shape {a.shape} and `b` {b.shape}, but one number per case is needed from both.")
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if not len(a):
        return PairedComparison(0, *[float("nan")] * 11)
    difference = _differences(a, b)
    statistic, p_value = _wilcoxon(difference)
    low, high = bootstrap_interval(difference, confidence=confidence, seed=seed)
    spread = difference.std(ddof=1) if np.ptp(difference) > 0 else 0.0
    return PairedComparison(
        num_cases=len(a),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        mean_difference=float(difference.mean()),
        median_difference=float(np.median(difference)),
        interval_low=low,
        interval_high=high,
        statistic=statistic,
        p_value=p_value,
        rank_biserial=_rank_biserial(difference),
        cohens_dz=float(difference.mean() / spread) if spread > 0 else float("nan"),
        share_a_larger=float((difference > 0).mean() + 0.5 * (difference == 0).mean()),
    )


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's correction for asking several questions: adjusted p-values in the same order; NaN stays NaN.

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    asked = np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, confidence: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Raises:
        ValueError: If there is no value or the confidence is not between 0 and 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size or not 0 < confidence < 1:
        raise ValueError(
            f"{values.size} values and `confidence` {confidence} came, but at least one value and a number between 0 "
            "and 1 are needed."
        )
    generator = np.random.default_rng(seed)
    at_a_time = max(1, RESAMPLED_AT_A_TIME // len(values))
    means = np.concatenate(
        [
            values[generator.integers(0, len(values), (min(at_a_time, num_resamples - done), len(values)))].mean(axis=1)
            for done in range(0, num_resamples, at_a_time)
        ]
    )
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail]).tolist()
    return low, high


def rank_methods(
    results: Mapping[str, np.ndarray], *, larger_is_better: bool, is_paired: bool = True
) -> dict[str, float]:
    """Rank scores in Learn2Reg's manner on one metric: 0.1 (worst) to 1 (best).

    Each method gets a point for every other one it is significantly better than (p < 0.05). Methods are ranked by
    points onto evenly spaced scores from 0.1 to 1; ties share their mean.

    Args:
        results: Method to ``(N,)`` numbers, the same cases in the same order for all.
        larger_is_better: The direction of the metric.
        is_paired: Use the signed-rank test, which knows that the cases are the same. False uses the rank-sum test of
            Learn2Reg's own script, which does not, and finds fewer differences.

    Reference:
        Hering et al., Learn2Reg: comprehensive multi-task medical image registration challenge, IEEE TMI 42 (2023),
        doi:10.1109/TMI.2022.3213983.
    """
    names = list(results)
    signed = {name: (1 if larger_is_better else -1) * np.asarray(results[name], dtype=np.float64) for name in names}
    points = [
        sum(_is_better(signed[name], signed[other], is_paired) for other in names if other != name) for name in names
    ]
    scale = np.linspace(WORST_RANK_SCORE, 1, len(names)) if len(names) > 1 else np.ones(1)
    ranks = stats.rankdata(points, method="min").astype(int) - 1
    ties = [sum(q == p for q in points) for p in points]
    return {name: float(scale[r : r + n].mean()) for name, r, n in zip(names, ranks, ties, strict=True)}


def combine_rank_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The geometric mean of each method's rank scores over metrics, as Learn2Reg combines them.

    Raises:
        ValueError: If there is no metric.
    """
    if not scores:
        raise ValueError("`scores` is empty: rank the methods on one metric first.")
    return {name: float(stats.gmean([score[name] for score in scores])) for name in scores[0]}


def hardest_cases(initial: Sequence[float] | np.ndarray, *, larger_is_better: bool) -> np.ndarray:
    """Indices of the 30 % of cases that were worst before registration: Learn2Reg ranks robustness on them."""
    order = np.argsort(np.asarray(initial) * (1 if larger_is_better else -1), kind="stable")
    return order[: round(HARDEST_SHARE * len(order))]


def _is_better(a: np.ndarray, b: np.ndarray, is_paired: bool) -> bool:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if not len(a):
        return False
    if is_paired:
        difference = _differences(a, b)
        _, p = _wilcoxon(difference)
        return p < SIGNIFICANCE and _rank_biserial(difference) > 0
    statistic, p = stats.ranksums(a, b)
    return bool(p < SIGNIFICANCE and statistic > 0)


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The differences a - b without the rounding of computers, by which equal ones would not be ties."""
    largest = max(np.abs(a).max(), np.abs(b).max())
    if largest == 0:
        return a - b
    return np.round(a - b, min(TRUE_DIGITS - math.ceil(math.log10(largest)), MOST_DECIMALS))


def _wilcoxon(difference: np.ndarray) -> tuple[float, float]:
    """Two-sided, zeros dropped (Wilcoxon's own treatment); exact for few cases without ties."""
    changed = difference[difference != 0]
    if not len(changed):
        return 0.0, 1.0
    found = stats.wilcoxon(changed, alternative="two-sided")
    return float(found.statistic), float(found.pvalue)


def _rank_biserial(difference: np.ndarray) -> float:
    changed = difference[difference != 0]
    if not len(changed):
        return 0.0
    ranks = stats.rankdata(np.abs(changed))
    return float((ranks * np.sign(changed)).sum() / ranks.sum())
