"""What a registration found teaches a network: maps beside the prepared scans, both ways, and trained by."""

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

import small_cohort
from pullback import functional
from pullback.data import Pair
from pullback.registration import Plan, RegistrationResult, register
from pullback.training import teacher
from pullback.training.cache import Cache, open_cache
from pullback.training.checkpoint import BEST
from pullback.training.cohort import Cohort
from pullback.training.loop import train
from pullback.training.recipe import Recipe
from pullback.training.weights import load_card

CPU = torch.device("cpu")
TAUGHT = {
    "teacher": {},
    "pairs": {"training": {"of": "random", "num_pairs": 2}},
    "losses": [{"kind": "true-displacement", "in_view": True}, {"kind": "similarity", "in_view": True}],
    "augmentation": {"flips": [0], "own": {"translation_voxels": 1.0}},
}


def taught_cache(folder: Path, recipe: Recipe) -> Cache:
    cache = small_cohort.make_cache(folder, recipe)
    return teacher.teach(cache, small_cohort.manifest_in(folder), recipe)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    taught_cache(folder, small_cohort.recipe(**TAUGHT))
    return folder


def test_maps_lead_from_one_lattice_to_the_other_both_ways(taught: Path):
    cohort = Cohort(open_cache(taught / "cache"), ("training",), CPU, is_taught=True)
    pairs = cohort.pairs(small_cohort.recipe(**TAUGHT).pairs.training, "training")
    assert len(pairs) == 4
    assert {pair[::-1] for pair in pairs} == set(pairs)
    batch = cohort.batch(pairs)
    before = (batch.moving - batch.fixed).square().mean(dim=(1, 2, 3, 4))
    after = (functional.warp(batch.moving, batch.displacement) - batch.fixed).square().mean(dim=(1, 2, 3, 4))
    assert (after < 0.3 * before).all()
    gap = functional.compose(batch.displacement[:2], batch.displacement[2:])  # there, then back
    assert float(gap[..., 3:-3, 3:-3, 3:-3].abs().max()) < 0.1


def test_other_cohorts_see_no_maps(taught: Path):
    cohort = Cohort(open_cache(taught / "cache"), ("training",), CPU)
    pairs = cohort.pairs(small_cohort.recipe(**TAUGHT).pairs.training, "training")
    assert len(pairs) == 2
    assert cohort.batch(pairs).displacement is None


def test_what_was_found_is_not_looked_for_again(taught: Path):
    recipe, told = small_cohort.recipe(**TAUGHT), []
    with mock.patch.object(teacher, "registrar", return_value=mock.Mock(side_effect=AssertionError)):
        again = teacher.teach(
            open_cache(taught / "cache"),
            small_cohort.manifest_in(taught),
            recipe,
            lambda *number: told.append(number[:2]),
        )
    assert told == [(0, 2), (1, 2)]
    assert len(again.maps) == 4
    assert again.teacher == {"weights": "", "refine": 0, "has_seen_labels": False}


def test_a_failed_registration_teaches_nothing(tmp_path: Path):
    recipe = small_cohort.recipe(**TAUGHT)
    cache, verdicts = small_cohort.make_cache(tmp_path, recipe), ["failed", "good"]

    def registered(pair: Pair) -> RegistrationResult:
        found = register(pair, Plan(deformable=None))
        return replace(found, verdict=replace(found.verdict, value=verdicts.pop(0)))

    with mock.patch.object(teacher, "registrar", return_value=registered):
        taught = teacher.teach(cache, small_cohort.manifest_in(tmp_path), recipe)
    cohort = Cohort(taught, ("training",), CPU, is_taught=True)
    pairs = cohort.pairs(recipe.pairs.training, "training")
    assert len(pairs) == 2
    assert pairs[0] == pairs[1][::-1]
    assert [taught.failed(pair) for pair in taught.maps] == [True, True, False, False]
    assert train(recipe, taught, tmp_path / "out", device="cpu").progress.step == 6


def test_a_network_learns_what_the_teacher_found(taught: Path, tmp_path: Path):
    recipe = small_cohort.recipe(
        **TAUGHT | {"augmentation": {"flips": [], "own": {}, "noise": 0}},
        optimisation={"num_steps": 60, "learning_rate": 0.01, "decay": "constant"},
        validation={"every_steps": 60},
    )
    errors: list[float] = []
    cache = open_cache(taught / "cache")
    train(recipe, cache, tmp_path, device="cpu", on_step=lambda _, __, f: errors.append(f["true-displacement"]))
    assert sum(errors[-6:]) < 0.7 * sum(errors[:6])
    card = load_card(tmp_path / BEST)
    assert card.recipe["teacher"] == {"weights": "", "refine": 0, "has_seen_labels": False}
    assert recipe.supervision == "unsupervised"
    biased = small_cohort.recipe(**TAUGHT | {"teacher": {"weights": "w", "has_seen_labels": True}})
    assert (biased.supervision, biased.needs_labels) == ("semi-supervised", False)


def test_a_cache_without_the_teachers_maps_is_refused(taught: Path, tmp_path: Path):
    recipe = small_cohort.recipe(**TAUGHT)
    with pytest.raises(ValueError, match=r"holds no maps of a teacher, but .* give --data too"):
        train(recipe, small_cohort.make_cache(tmp_path), tmp_path / "out", device="cpu")
    described = json.loads((taught / "cache" / "cache.json").read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "cache.json").write_text(json.dumps(described | {"teacher": {"weights": "w", "refine": 3}}))
    with pytest.raises(ValueError, match="holds those of the teacher"):
        train(recipe, open_cache(copy), tmp_path / "out", device="cpu")


def test_more_pairs_than_the_teacher_saw_are_refused(taught: Path, tmp_path: Path):
    recipe = small_cohort.recipe(**TAUGHT | {"pairs": {"training": {"of": "all"}}})
    with pytest.raises(ValueError, match=r"no map of the teacher for .*give --data too"):
        train(recipe, open_cache(taught / "cache"), tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": {"refine": 3}}, "no network to refine"),
        ({"simulation": {}, "augmentation": {"flips": [], "own": {}, "noise": 0}}, "both say what is true"),
        ({"augmentation": {"deformation_voxels": 1.0}}, "affine maps alone"),
        ({"preprocessing": {"slices": {"axis": 2, "first": 6, "last": 8}}}, "registers whole scans"),
        ({"losses": [{"kind": "similarity"}]}, "no term .* learns from it"),
    ],
)
def test_what_does_not_go_with_a_teacher_is_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        small_cohort.recipe(**TAUGHT | changes)
