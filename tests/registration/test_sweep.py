"""The thorough search for a start: finds what was cut and turned, is blind to shading; and when two searches agree."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import phantoms
from examples import smooth_noise
from pullback.data import Image
from pullback.registration import Plan, alignment, sweep
from pullback.registration.choice import ALIKE, is_alike, structure_distance
from pullback.registration.initialisation import Candidate, Initialisation, comparison_at, geometry_of
from pullback.registration.volume import Volume, prepare
from pullback.registration.work import Work
from pullback.similarity import AbstractSimilarity
from pullback.space import Grid
from pullback.transforms import Affine

SPACING_MM = 7.0


def turned_and_cut(size: float = 1.2) -> tuple[Image, Affine]:
    """The head turned by 110 degrees, of another size, less a third of its field of view; and the map to it."""
    vector = np.radians(110) * np.array([0.6, -0.64, 0.48])
    truth = Affine.from_parts(rotation=vector, scaling=[size] * 3, translation_mm=(60.0, -40.0, 25.0))
    whole = phantoms.seen_by(phantoms.head(), truth)
    stop = whole.grid.shape[2] * 2 // 3
    return Image(
        whole.tensor[..., :stop].contiguous(), whole.grid.crop((0, 0, 0), (*whole.grid.shape[:2], stop))
    ), truth


def gap_share(found: np.ndarray, truth: Affine, volume: Volume) -> float:
    """How far the centre goes elsewhere, as a share of the object's length in the moving image."""
    centre, _, radius = geometry_of(volume)
    here = found[:3, :3] @ centre + found[:3, 3]
    there = truth(torch.from_numpy(centre)[None])[0].numpy()
    return float(np.linalg.norm(here - there)) / (2.4 * radius)


def test_each_turn_gets_its_shift_and_the_right_one_wins():
    moving, truth = turned_and_cut()
    fixed, moving = prepare(phantoms.head()), prepare(moving)
    wrong = 1.2 * Rotation.random(12, random_state=0).as_matrix()
    turns = np.concatenate([wrong, truth.linear.numpy()[None]])
    found = sweep.sweep(fixed, moving, turns, SPACING_MM)
    assert max(range(13), key=lambda n: found[n].score) == 12
    assert gap_share(found[12].matrix, truth, fixed) < 0.07


def test_flat_images_are_swept_in_their_plane():
    volume = prepare(phantoms.slice_of_head())
    angles = np.radians([0, 60, 120, 180, 240, 300])
    turns = Rotation.from_rotvec(angles[:, None] * [1, 0, 0]).as_matrix()
    found = sweep.sweep(volume, volume, turns, 5.0)
    assert max(range(6), key=lambda n: found[n].score) == 0
    np.testing.assert_allclose(found[0].matrix, np.eye(4), atol=1e-9)
    np.testing.assert_allclose([c.matrix[0] for c in found], 6 * [[1, 0, 0, 0]], atol=1e-9)


def test_local_structure_is_blind_to_slow_shading():
    head = phantoms.head()
    shade = torch.linspace(0.6, 1.5, head.grid.shape[1])[None, None, :, None]
    plain, shaded = (prepare(Image(head.tensor * s, head.grid)) for s in (1.0, shade))
    plain, shaded = (sweep.local_structure(v, SPACING_MM).tensor.numpy().ravel() for v in (plain, shaded))
    assert np.corrcoef(plain, shaded)[0, 1] > 0.95


@pytest.mark.parametrize(("kind", "size"), [("rigid", 1.0), ("affine", 1.2)])
def test_a_head_turned_grown_and_cut_is_found(kind: str, size: float):
    moving, truth = turned_and_cut(size)
    fixed, moving = prepare(phantoms.head()), prepare(moving)
    with mock.patch.multiple(sweep, NUM_TURNS=120, NUM_IMPROVED=10, NUM_DETAILED=2):
        found = sweep.search_thoroughly(fixed, moving, (), kind=kind, clear_margin=0.15)
    error = np.linalg.inv(truth.matrix.numpy()) @ found.chosen.matrix
    np.testing.assert_allclose(error[:3, :3], np.eye(3), atol=0.1)
    assert gap_share(found.chosen.matrix, truth, fixed) < 0.05


class Same(AbstractSimilarity):
    """Everything fits."""

    def value_and_gradient(self, fixed, warped, weights=None, *, out=None):
        """1 everywhere."""
        return torch.ones(1), torch.zeros_like(warped)


def test_a_value_counts_what_is_seen_of_the_object():
    fixed = replace(prepare(phantoms.head()), has_background=False)
    away = np.eye(4)
    away[0, 3] = geometry_of(fixed)[0][0] - fixed.grid.corners()[:, 0].min().item()
    comparison = comparison_at(fixed, fixed, SPACING_MM, Same(), False)
    assert comparison.value_inside(np.eye(4)) == pytest.approx(1.0, abs=0.01)
    assert comparison.value_inside(away) == pytest.approx(0.5**0.5, abs=0.1)
    assert comparison.value_inside(away + 9 * (away - np.eye(4))) == -np.inf


def initialisation(margin: float, degrees: float) -> Initialisation:
    chosen, other = np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])
    chosen[:3, :3] = Rotation.from_rotvec([0, 0, np.radians(degrees)]).as_matrix()
    other[:3, :3] = other[:3, :3] @ chosen[:3, :3]
    best = Candidate("chosen", chosen, 1.0)
    return Initialisation(best, (best, Candidate("other", other, 1.0 - margin)))


@pytest.mark.parametrize(
    ("margins", "degrees", "agree"),
    [((0.1, 0.1), 5, True), ((0.1, 0.1), 90, False), ((-0.1, 0.1), 5, False), ((0.1, -0.1), 5, False)],
)
def test_two_searches_agree_only_if_both_put_the_pose_first(margins, degrees, agree):
    one, other = initialisation(margins[0], 0), initialisation(margins[1], degrees)
    assert alignment._agree(one, other) == agree


def test_what_the_first_search_found_stays_if_it_fits_best():
    fixed = prepare(phantoms.head())
    known = Candidate("known", np.eye(4), 2.0)
    with mock.patch.multiple(sweep, NUM_TURNS=12, NUM_IMPROVED=3, NUM_DETAILED=1):
        found = sweep.search_thoroughly(fixed, fixed, (known,), kind="rigid", clear_margin=0.15)
    assert found.chosen is known


def test_structure_is_blind_to_contrast_and_sees_a_wrong_pose():
    head = phantoms.head()
    volumes = [prepare(image) for image in (head, Image(head.tensor.max() - head.tensor, head.grid))]
    turned = Affine.from_parts(rotation=np.radians([0.0, 0.0, 40.0])).matrix.numpy()
    here, there = (structure_distance(*volumes, matrix) for matrix in (np.eye(4), turned))
    assert here < 0.01 < ALIKE < there
    assert structure_distance(*volumes, np.diag([1, 1, 1, 1.0]) + 1e4 * np.eye(4, k=3)) == np.inf


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("second", "expected"), [(1, True), (2, False)])
def test_alike_structure_tells_the_pose_in_any_contrast(second: int, expected: bool, sign: int):
    fixed, moving = noise_without_outlines(1), noise_without_outlines(second, sign)
    assert is_alike(fixed, moving, np.eye(4)) == expected


def noise_without_outlines(seed: int, sign: int = 1) -> Volume:
    shape = (30, 34, 26)
    return prepare(Image(sign * smooth_noise(1, *shape, sigma=3.0, seed=seed) + 2, Grid.from_spacing(shape, 2.0)))


@pytest.mark.parametrize(
    ("margin", "score", "second", "is_clear"),
    [(0.3, 0.7, 2, True), (0.2, 0.7, 2, False), (0.3, 0.5, 2, False), (0.3, 0.5, 1, True), (0.2, 0.5, 1, False)],
)
def test_across_contrasts_a_pose_without_outlines_needs_a_margin_and_information_or_structure(
    margin: float, score: float, second: int, is_clear: bool
):
    work = Work(Plan(), noise_without_outlines(1), noise_without_outlines(second, -1), lambda *told: None)
    found = mock.Mock(margin=margin, chosen=Candidate("a", np.eye(4), score))
    assert not work.has_outlines
    assert alignment._is_clear_across(work, found) == is_clear


def test_outlines_need_no_more_than_the_margin():
    head = prepare(phantoms.head())
    work = Work(Plan(), head, head, lambda *told: None)
    assert alignment._is_clear_across(work, mock.Mock(margin=0.3, chosen=Candidate("a", np.eye(4), 0.1)))
