"""The figures of a study, of networks and of anything else."""

from pathlib import Path

import torch
from torch import Tensor

import small_cohort
from pullback.networks import affine, build, measure_cost
from pullback.registration.card import Card
from pullback.training.augmentation import RandomAffine, Simulation
from pullback.training.cache import Cache
from pullback.training.cohort import Batch, seed_of
from pullback.training.recipe import PairPlan
from pullback.training.results import cohort_for, evaluate_network, row_of
from pullback.training.validation import SEED, carried_away, mean_scores, score_pairs
from pullback.training.weights import save_network


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


def test_images_that_training_carries_away_are_carried_away_for_the_scores_too(cache: Cache):
    plan = PairPlan()
    cohort = cohort_for(cache, plan, "training", torch.device("cpu"))
    pairs = cohort.pairs(plan, "training")[:4]
    away = Simulation(RandomAffine(translation_voxels=4.0), makes="moving")
    plain = score_pairs(None, cohort, pairs, (1, 2))
    moved = score_pairs(None, cohort, pairs, (1, 2), simulation=away)
    assert moved == score_pairs(None, cohort, pairs, (1, 2), simulation=away, batch_size=1)
    assert mean_scores(moved)["dice"] < mean_scores(plain)["dice"] - 0.1
    assert plain == score_pairs(
        None, cohort, pairs, (1, 2), simulation=Simulation(RandomAffine(translation_voxels=4.0))
    )

    def brings_back(batch: Batch) -> Tensor:
        places = [pairs.index(name) for name in batch.names]
        still = [carried_away(cohort.batch([pairs[n]]), away, n) for n in places]
        assert all(torch.equal(one.moving[0], batch.moving[k]) for k, one in enumerate(still))
        matrices = [away.draw(1, cohort.shape, torch.Generator().manual_seed(seed_of(SEED, n))) for n in places]
        return affine.displacement_of(torch.cat(matrices), cohort.shape)

    back = score_pairs(brings_back, cohort, pairs, (1, 2), simulation=away)
    assert abs(mean_scores(back)["dice"] - mean_scores(plain)["dice"]) < 0.05


def test_a_network_s_row_tells_its_costs_and_its_training(cache: Cache, tmp_path: Path):
    recipe = small_cohort.recipe()
    torch.manual_seed(0)
    network = build(recipe.network.family, **recipe.network.settings)
    card = Card(
        family=network.family,
        settings=network.settings,
        shape=(16, 16, 16),
        spacing_mm=(2.0, 2.0, 2.0),
        alignment="view",
        recipe=recipe.as_dict(),
        figures={"step": 4, "seconds": 1.5, "dice": 0.5},
    )
    save_network(tmp_path / "n.safetensors", network, card)
    (row,) = evaluate_network(tmp_path / "n.safetensors", cache, part="validation", device="cpu")
    cost = measure_cost(network, (16, 16, 16))
    assert (row.parameters, row.multiply_adds) == (cost.parameters, cost.multiply_adds)
    assert row.training == {"num_steps": 6, "batch_size": 2, "precision": "32-true", "step": 4, "seconds": 1.5}
    (initial,) = evaluate_network(None, cache, part="validation", device="cpu")
    assert (initial.multiply_adds, initial.training) == (0, {})
