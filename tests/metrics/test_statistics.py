"""Statistics against SciPy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from pullback.metrics import (
    bootstrap_interval,
    combine_rank_scores,
    compare_paired,
    dice30,
    hardest_cases,
    holm,
    rank_methods,
)

RANDOM = np.random.default_rng(0)
A = RANDOM.normal(0.80, 0.05, 40)
B = A - RANDOM.normal(0.01, 0.02, 40)


def test_the_signed_rank_test_is_scipys():
    found = compare_paired(A, B)
    theirs = stats.wilcoxon(A, B)
    assert (found.statistic, found.p_value) == (theirs.statistic, theirs.pvalue)
    assert found.mean_difference == pytest.approx((A - B).mean())
    assert found.cohens_dz == pytest.approx(stats.ttest_rel(A, B).statistic / math.sqrt(len(A)))
    ranks = stats.rankdata(abs(A - B))
    assert found.rank_biserial == pytest.approx((ranks[A > B].sum() - ranks[A < B].sum()) / ranks.sum())
    assert found.statistic == pytest.approx(min(ranks[A > B].sum(), ranks[A < B].sum()))
    assert compare_paired(B, A).rank_biserial == pytest.approx(-found.rank_biserial)


def test_equal_methods_do_not_differ_and_nothing_is_no_number():
    found = compare_paired([1.0, 2.0], [1.0, 2.0])
    assert (found.p_value, found.rank_biserial, found.share_a_larger) == (1.0, 0.0, 0.5)
    assert math.isnan(found.cohens_dz)
    assert compare_paired([math.nan, math.inf], [1.0, 1.0]).num_cases == 0
    assert math.isnan(compare_paired([], []).p_value)
    with pytest.raises(ValueError, match="one number per case"):
        compare_paired([1.0], [1.0, 2.0])


def test_cases_without_a_number_are_left_out():
    assert compare_paired([*A, math.nan], [*B, 0.5]) == compare_paired(A, B)


def test_equal_differences_of_decimal_numbers_are_ties():
    a = np.array([0.81, 0.82, 0.83, 0.84, 0.7, 0.65, 0.91])
    same = compare_paired(a, np.round(a - 0.01, 2))
    assert math.isnan(same.cohens_dz)
    assert same.interval_low == same.interval_high == pytest.approx(0.01)
    assert math.isnan(compare_paired(np.full(11, 0.11), np.full(11, 0.1)).cohens_dz)
    tenths = RANDOM.integers(-5, 5, 20)
    for scale in (0.1, 1e-290, 1e9):
        found = compare_paired(np.arange(20) * scale + tenths * scale, np.arange(20) * scale)
        theirs = stats.wilcoxon(tenths[tenths != 0])
        assert (found.statistic, found.p_value) == (theirs.statistic, theirs.pvalue)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    with_gap = holm([0.01, math.nan, 0.03])
    assert with_gap[[0, 2]].tolist() == pytest.approx([0.02, 0.03])
    assert math.isnan(with_gap[1])


def test_the_interval_is_seeded_and_covers():
    low, high = bootstrap_interval(A, seed=3)
    assert (low, high) == bootstrap_interval(A, seed=3) != bootstrap_interval(A, seed=4)
    assert low < A.mean() < high
    error = A.std(ddof=1) / math.sqrt(len(A))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    narrow = bootstrap_interval(A, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval([], confidence=0.9)


def test_ranking_of_three_methods_with_a_tie():
    cases = np.linspace(0, 1, 30)
    wobble = 0.001 * np.sin(50 * cases)
    results = {"worst": cases, "good": cases + 0.2 + wobble, "as good": cases + 0.2 - wobble}
    scores = rank_methods(results, larger_is_better=True)
    assert scores == pytest.approx({"worst": 0.1, "good": 0.775, "as good": 0.775})
    assert rank_methods(results, larger_is_better=False) == pytest.approx(
        {"worst": 1.0, "good": 0.325, "as good": 0.325}
    )
    assert rank_methods({"alone": cases}, larger_is_better=True) == {"alone": 1.0}


def test_a_paired_test_sees_what_the_rank_sum_test_of_learn2reg_does_not():
    cases = np.linspace(0, 1, 30)
    results = {"a": cases, "b": cases + 0.01}
    assert rank_methods(results, larger_is_better=True) == pytest.approx({"a": 0.1, "b": 1.0})
    assert rank_methods(results, larger_is_better=True, is_paired=False) == pytest.approx({"a": 0.55, "b": 0.55})


def test_rank_scores_combine_by_the_geometric_mean():
    assert combine_rank_scores([{"a": 0.1, "b": 1.0}, {"a": 1.0, "b": 1.0}]) == pytest.approx(
        {"a": math.sqrt(0.1), "b": 1}
    )
    with pytest.raises(ValueError, match="rank the methods"):
        combine_rank_scores([])


def test_the_worst_third():
    assert hardest_cases([0.5, 0.1, 0.9, 0.2, 0.8, 0.7, 0.6, 0.4, 0.3, 0.95], larger_is_better=True).tolist() == [
        1,
        3,
        8,
    ]
    assert hardest_cases([5.0, 1.0, 9.0], larger_is_better=False).tolist() == [2]
    assert dice30([0.1, 0.2, 0.3, 0.4, math.nan, 0.5]) == pytest.approx(np.quantile([0.1, 0.2, 0.3, 0.4, 0.5], 0.3))
    assert math.isnan(dice30([]))
