"""The figures of a study, of networks and of anything else."""

import torch
from torch import Tensor

from pullback.training.cache import Cache
from pullback.training.cohort import Batch
from pullback.training.recipe import PairPlan
from pullback.training.results import cohort_for, evaluate_network, row_of
from pullback.training.validation import score_pairs


def nothing_moves(batch: Batch) -> Tensor:
    return torch.zeros(len(batch.fixed), 3, *batch.fixed.shape[2:])


def test_what_is_no_network_is_scored_by_the_same_numbers(cache: Cache):
    plan = PairPlan()
    cohort = cohort_for(cache, plan, "validation", torch.device("cpu"))
    pairs, labels = cohort.pairs(plan, "validation"), cohort.label_values()
    none, still = (score_pairs(m, cohort, pairs, labels, with_surfaces=True) for m in (None, nothing_moves))
    assert none == still
    (initial,) = evaluate_network(None, cache, part="validation", device="cpu")
    assert row_of(none, method="initial") == initial
    assert initial.scores == tuple(none)
    assert initial.hd95 > 0
    assert "scores" not in initial.as_dict()


def test_surfaces_are_measured_only_when_asked_for_and_in_mm(cache: Cache):
    plan = PairPlan()
    cohort = cohort_for(cache, plan, "validation", torch.device("cpu"))
    assert {tuple(spacing.tolist()) for spacing in cohort.spacings_mm().values()} == {(2.0, 2.0, 2.0)}
    assert all(score.hd95 is None for score in score_pairs(None, cohort, cohort.pairs(plan, "validation"), (1, 2)))
