"""A start that is tried first: used if it looks right, and else no worse than none."""

import numpy as np
import pytest
import torch

import phantoms
import pullback as pb
from pullback.data import Pair
from pullback.networks import build
from pullback.pairwise.words import learned_start
from pullback.registration import Candidate, Card, Normalisation, Plan, first_start, register
from pullback.registration.first_start import narrowed, nonsense_of
from pullback.registration.volume import prepare
from pullback.reports import tables
from pullback.training.weights import save_network
from pullback.transforms import Affine, Rigid, Similarity

FEW = ("header", "centre")


def run(first: np.ndarray, **options):
    scan, truth = phantoms.plain_scan()
    plan = Plan(first=Candidate("learned", first), deformable=None, **{"methods": FEW} | options)
    result = register(Pair(phantoms.head(), scan), plan)
    return result, float(phantoms.gaps_mm(result.fixed_to_moving, truth, phantoms.head()).mean())


def test_a_right_start_is_used_alone():
    with phantoms.no_rivals():
        result, gap = run(phantoms.truth_of("affine").matrix.numpy())
    assert gap < 1.0
    assert [c.name for c in result.initialisation.candidates] == ["learned"]
    assert result.initialisation.why == "'learned' was used: it looked right, and no other pose fits better"
    assert result.evidence.margin == 1.0


def test_a_start_that_looks_wrong_does_no_harm():
    far = Affine.from_parts(translation_mm=(300.0, 0.0, 0.0)).matrix.numpy()
    with phantoms.no_rivals():
        result, gap = run(far)
    assert gap < 1.0
    assert result.initialisation.chosen.name != "learned"
    assert result.initialisation.why.startswith("'learned' was not trusted: the intensities correlate by 0.00")


def test_a_start_that_looks_right_is_held_against_other_poses(monkeypatch):
    monkeypatch.setattr(first_start, "TRUSTED_CORRELATION", 0.6)
    turned = Affine.from_parts(rotation=(0.0, 2.5, 0.0), translation_mm=(60.0, 0.0, 0.0)).matrix.numpy()
    result, gap = run(turned)
    assert gap < 1.0
    assert result.initialisation.why.startswith("'learned' was not trusted: another pose fits better")
    assert [h.stage for h in result.history] == ["affine"] * len(result.history)


def test_there_must_be_something_to_fall_back_on():
    with pytest.raises(ValueError, match="no start to fall back on"):
        run(np.eye(4), methods=("none",))


@pytest.mark.parametrize(("kind", "expected"), [("rigid", Rigid), ("similarity", Similarity)])
def test_a_start_is_narrowed_to_the_kind_that_was_asked_for(kind: str, expected: type):
    volume = prepare(phantoms.head())
    centre = volume.grid.to_world(np.argwhere(volume.foreground.numpy()).astype(float)).mean(0)
    start = Candidate("learned", phantoms.truth_of("affine").matrix.numpy())
    near = expected(narrowed(start, kind, volume).matrix)
    np.testing.assert_allclose(near(centre), Affine(start.matrix)(centre), atol=1e-6)
    assert narrowed(start, "affine", volume) is start


def test_a_mirror_is_narrowed_to_a_turn():
    volume = prepare(phantoms.head())
    start = Candidate("learned", np.diag([-1.0, 1.0, 1.1, 1.0]))
    linear = narrowed(start, "rigid", volume).matrix[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(linear) > 0


@pytest.mark.parametrize(("kind", "expected"), [("rigid", Rigid), ("similarity", Similarity)])
def test_a_given_transform_gives_no_more_freedom_than_the_model(kind: str, expected: type):
    scan, truth = phantoms.plain_scan()
    stretched = Affine(truth.matrix @ torch.diag(torch.tensor([1.2, 0.85, 1.0, 1.0], dtype=torch.float64)))
    for initial in (stretched, [stretched, "header"]):
        found = phantoms.register(phantoms.head(), scan, model=kind, initial=initial).fixed_to_moving
        assert isinstance(found, expected)
        scales = np.linalg.svd(found.linear.numpy())[1]
        assert np.ptp(scales) < 1e-9
        assert kind == "similarity" or abs(scales[0] - 1) < 1e-9


def test_weights_of_an_affine_network_give_the_start(tmp_path):
    network = build("airnet")
    card = Card("airnet", network.settings, (16,) * 3, (12.0,) * 3, Normalisation("min-max"), "mass")
    save_network(tmp_path / "airnet.safetensors", network, card)
    scan, truth = phantoms.plain_scan()
    options = {"model": "affine", "initial_model": tmp_path / "airnet.safetensors"}
    starts = [*FEW, str(tmp_path / "airnet.safetensors")]
    registration = phantoms.register(phantoms.head(), scan, initial=starts, model="affine")
    said = registration.summary()["initialisation"]
    assert said["why"].startswith("'airnet' was ")
    assert "The start &#x27;airnet&#x27; was " in str(tables.initialisation(registration.summary()))
    assert float(phantoms.gaps_mm(registration.fixed_to_moving, truth, phantoms.head()).mean()) < 1.0
    with pytest.raises(ValueError, match="`initial_model` needs starts to fall back on"):
        pb.register(phantoms.head(), scan, initial="none", **options)


def test_weights_may_stand_among_the_starts():
    assert learned_start(["header", "a.safetensors"], None) == (["header"], "a.safetensors")
    assert learned_start("a.safetensors", None) == (None, "a.safetensors")
    assert learned_start("header", "a.safetensors") == ("header", "a.safetensors")
    with pytest.raises(ValueError, match="weights of two networks"):
        learned_start("a.safetensors", "b.safetensors")


@pytest.mark.parametrize(
    ("linear", "word"),
    [(np.nan, "not finite"), (1e30, "flattens"), (np.diag([1, 1, 0]), "flattens"), (np.eye(3), "")],
    ids=["nan", "huge", "flat", "identity"],
)
def test_matrices_that_are_no_maps(linear, word: str):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    found = nonsense_of(Candidate("learned", matrix))
    assert word in found
    assert bool(found) == bool(word)


def test_a_network_that_gives_nonsense_leaves_the_classical_starts():
    matrix = np.full((4, 4), np.nan)
    result, gap = run(matrix)
    assert gap < 1.0
    assert result.initialisation.why == (
        "'learned' could not be tried: its matrix holds numbers that are not finite; the classical starts competed "
        "without it"
    )
