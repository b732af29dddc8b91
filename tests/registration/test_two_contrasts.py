"""Two contrasts: known even where the images correlate as a whole, and aligned by what does not depend on contrast."""

import importlib
from dataclasses import replace
from functools import cache
from unittest import mock

import numpy as np
import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.registration import Plan, alignment, extraction
from pullback.registration import choice as choices
from pullback.registration.choice import SAME_CONTRAST, SAME_SIGN, correlation_inside, fall_of_means, sign_agreement
from pullback.registration.initialisation import Candidate, Initialisation
from pullback.registration.volume import prepare
from pullback.registration.work import Work
from pullback.transforms import Affine

STILL = np.eye(4)
TURNED = Affine.from_parts(rotation=np.radians([0.0, 0.0, 60.0])).matrix.numpy()


def through(image: Image, x: list[float], y: list[float]) -> Image:
    """The image after a curve of its intensities."""
    return phantoms.with_values(image, torch.from_numpy(np.interp(image.tensor.numpy(), x, y).astype(np.float32)))


def like_flair(image: Image) -> Image:
    """What is grey becomes the brightest; what is dark stays so."""
    return through(image, [0, 2, 30, 60, 100, 190, 250], [0, 5, 40, 200, 110, 90, 90])


def inverted(image: Image) -> Image:
    return through(image, [0, 2, 250], [0, 255, 5])


def work_of(fixed: Image, moving: Image, plan: Plan | None = None) -> Work:
    return Work(plan or Plan(), prepare(fixed), prepare(moving), lambda *told: None)


@cache
def scan_like_flair() -> Image:
    return like_flair(phantoms.plain_scan()[0])


@pytest.mark.parametrize("image", [phantoms.head(), phantoms.slice_of_head()], ids=["3-D", "2-D"])
def test_signs_agree_in_one_contrast_and_not_in_two(image: Image):
    same, other = prepare(through(image, [0, 250], [0, 80])), prepare(inverted(image))
    fixed = prepare(image)
    assert sign_agreement(fixed, same, STILL) > 0.999
    assert sign_agreement(fixed, other, STILL) < -0.6  # at the rim both rise from the background
    assert -0.6 < sign_agreement(fixed, prepare(like_flair(image)), STILL) < SAME_SIGN


def test_means_fall_in_two_contrasts_alone():
    head = phantoms.head()
    fixed, turned = prepare(head), prepare(inverted(head))
    noisy = head.tensor + 20 * torch.randn(head.tensor.shape, generator=torch.Generator().manual_seed(1))
    assert fall_of_means(fixed, prepare(through(head, [0, 250], [0, 80])), STILL) == 0
    assert fall_of_means(fixed, prepare(phantoms.with_values(head, noisy * (head.tensor > 0))), STILL) < 0.05
    assert fall_of_means(fixed, turned, STILL) > 0.9
    assert fall_of_means(fixed, prepare(like_flair(head)), STILL) > 0.4
    assert fall_of_means(prepare(like_flair(head)), fixed, STILL) > 0.4


def test_a_fall_of_few_voxels_has_to_be_sure():
    rising, random = np.arange(200.0), np.random.default_rng(3)
    assert choices._fall(rising, -rising) > 0.8
    assert choices._fall(rising, rising + random.normal(0, 150, 200)) == 0
    many = np.repeat(rising, 500)
    dip = np.where(many > 150, 280 - many, many) + random.normal(0, 150, len(many))
    assert 0.1 < choices._fall(many, dip) < 0.5
    assert choices._fall(many[::500], dip[::500]) == 0


def test_every_channel_has_to_fall():
    head = phantoms.head()
    one, other = (Image(torch.cat([head.tensor, last.tensor]), head.grid) for last in (head, inverted(head)))
    assert fall_of_means(prepare(one), prepare(one), STILL) == 0
    assert fall_of_means(prepare(one), prepare(other), STILL) < 0.1


@pytest.mark.parametrize(("agreement", "fall", "name"), [(0.9, 0.2, "mi"), (0.96, 0.2, "lncc"), (0.9, 0.03, "lncc")])
def test_what_looked_like_one_contrast_is_asked_again_in_its_place(agreement: float, fall: float, name: str):
    work = work_of(phantoms.head(), scan_like_flair())
    chosen = alignment.build("lncc", work.fixed, work.moving, "asked")
    with (
        mock.patch.object(alignment, "sign_agreement", return_value=agreement),
        mock.patch.object(alignment, "fall_of_means", return_value=fall),
    ):
        found, matrix = alignment._reconsider(work, chosen, STILL, STILL)
    assert found.name == name
    assert (matrix is STILL) is (name == "lncc")
    assert name == "lncc" or "means of one fall where the other's rise (by 20 %): two contrasts" in found.why


def test_somebody_who_asks_for_a_similarity_keeps_it():
    work = work_of(phantoms.head(), scan_like_flair(), Plan(similarity=lambda *images: None))
    chosen = alignment.build("lncc", work.fixed, work.moving, "asked")
    assert alignment._reconsider(work, chosen, STILL, STILL) == (chosen, STILL)


def test_objects_that_do_not_meet_say_nothing():
    head, apart = prepare(phantoms.head()), np.eye(4)
    apart[0, 3] = 1e3
    assert sign_agreement(head, head, apart) == 0
    assert fall_of_means(head, head, apart) == 0


def test_two_contrasts_that_correlate_are_still_two():
    work = work_of(phantoms.head(), like_flair(phantoms.head()))
    assert correlation_inside(*alignment.at(work, alignment.COARSE_OBJECT_VOXELS), STILL) > SAME_CONTRAST
    choice = alignment._choose(work, STILL)
    assert choice.name == "mi"
    assert "local contrasts differ" in choice.why


@pytest.mark.parametrize("direction", ["onto T1", "T1 onto it"])
def test_a_contrast_that_correlates_as_a_whole_is_registered(direction: str):
    truth = phantoms.plain_scan()[1]
    head, scan = phantoms.head(), scan_like_flair()
    if direction == "T1 onto it":
        head, scan = like_flair(head), phantoms.plain_scan()[0]
    found = phantoms.register(head, scan, model="affine")
    assert found.result.similarity.name == "mi"
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head()).mean() < 0.5
    assert found.verdict.value == "good"


def test_a_part_of_another_contrast_finds_its_pose_in_a_whole_with_outlines():
    head = phantoms.head()
    inner = ((head.grid.centres() / torch.tensor([28.0, 37.0, 25.0])) ** 2).sum(dim=-1) < 1
    part = phantoms.with_values(head, inverted(head).tensor * inner)
    truth = phantoms.truth_of("affine")
    found = phantoms.register(head, phantoms.seen_by(part, truth), model="affine")
    points = head.grid.to_world(torch.nonzero(inner).to(torch.float64))
    assert "the moving object was cut out" in found.result.similarity.why
    assert float((found.fixed_to_moving(points) - truth(points)).norm(dim=1).mean()) < 1.5
    assert found.verdict.value == "good"


def started(matrix: np.ndarray, margin: float) -> Initialisation:
    """A start that beats a pose elsewhere by a margin."""
    turned = matrix @ np.diag([-1.0, -1.0, 1.0, 1.0])
    best = Candidate("start", matrix, 1.0)
    return Initialisation(best, (best, Candidate("elsewhere", turned, 1.0 - margin)))


@pytest.mark.parametrize(
    ("second", "by_correlation", "by_information", "chosen"),
    [
        (phantoms.head(), STILL, TURNED, STILL),  # one contrast: shading can mislead mutual information
        (inverted(phantoms.head()), TURNED, STILL, STILL),
        (inverted(phantoms.head()), STILL, TURNED, STILL),
        (like_flair(phantoms.head()), TURNED, STILL, STILL),
    ],
    ids=["one contrast", "inverted", "inverted, information astray", "like FLAIR"],
)
def test_of_two_poses_the_one_with_like_structures_is_taken(second, by_correlation, by_information, chosen):
    work = work_of(phantoms.head(), second)
    with mock.patch.object(alignment, "_search", return_value=started(by_information, 0.4)):
        start, _, matrix = alignment._ask_mutual_information(work, started(by_correlation, 0.4), 0.4, ())
    assert np.array_equal(matrix, chosen)
    assert np.array_equal(start.chosen.matrix, chosen)


def test_where_both_poses_fit_two_contrasts_start_from_that_of_mutual_information():
    nearly = Affine.from_parts(rotation=np.radians([0.0, 0.0, 1.0])).matrix.numpy()
    for second, expected in ((phantoms.head(), STILL), (inverted(phantoms.head()), nearly)):
        work = work_of(phantoms.head(), second)
        with (
            mock.patch.object(alignment, "_search", return_value=started(nearly, 0.4)),
            mock.patch.object(alignment, "structure_distance", return_value=0.02),
        ):
            _, _, matrix = alignment._ask_mutual_information(work, started(STILL, 0.4), 0.4, ())
        assert np.array_equal(matrix, expected)


def noisy(image: Image, seed: int) -> Image:
    """The image without a constant background."""
    noise = torch.randn(image.tensor.shape, generator=torch.Generator().manual_seed(seed))
    return phantoms.with_values(image, image.tensor + 2 * noise)


@pytest.mark.parametrize(("moved", "is_held"), [(STILL, False), (TURNED, True)], ids=["in place", "astray"])
def test_without_outlines_a_pose_is_held_unless_structures_are_alike(moved: np.ndarray, is_held: bool):
    work = work_of(noisy(phantoms.head(), 1), noisy(like_flair(phantoms.head()), 2))
    assert not work.has_outlines
    with mock.patch.object(alignment, "_search", return_value=started(moved, 0.05)):
        _, choice, _ = alignment._ask_mutual_information(work, started(TURNED, 0.05), 0.4, ())
    assert (choice.restraint > 0) == is_held


def test_alike_structures_need_no_more_information():
    head, scan = noisy(phantoms.head(), 1), noisy(inverted(phantoms.head()), 2)
    found = phantoms.register(head, scan, model="affine", similarity="mi", initial="header")
    assert found.result.evidence.dependence is None
    other = phantoms.with_values(scan, scan.tensor.flip(1, 2, 3))
    found = phantoms.register(head, other, model="affine", similarity="mi", initial="none")
    assert found.result.evidence.dependence is not None


@pytest.mark.parametrize("similarity", ["lncc", "ncc", "mse"])
def test_two_contrasts_compared_as_one_are_doubtful_and_one_is_not(similarity: str):
    options = {"model": "affine", "similarity": similarity, "initial": "header"}
    found = phantoms.register(phantoms.head(), scan_like_flair(), **options)
    assert found.verdict.value == "doubtful"
    assert any("local contrasts of the images differ" in reason for reason in found.verdict.reasons)
    found = phantoms.register(phantoms.head(), phantoms.plain_scan()[0], **options)
    assert found.verdict.value == "good"
    assert found.result.evidence.agreement > 0.95


@pytest.mark.parametrize(
    ("signs", "distances", "name"),
    [
        ((0.8, 0.99), (0.02, 0.03), "lncc"),  # by the other's end: one contrast, and nearer
        ((0.8, 0.99), (0.03, 0.02), "mi"),
        ((0.8, 0.8), (0.02, 0.03), "mi"),
        ((0.5, 0.99), (0.02, 0.03), "mi"),  # plainly two
    ],
)
def test_what_is_not_plainly_two_contrasts_is_tried_as_one(signs, distances, name):
    work, nearer = work_of(phantoms.head(), like_flair(phantoms.head())), STILL.copy()
    by_sign, by_structure = (lambda f, m, matrix, v=v: v[int(matrix is nearer)] for v in (signs, distances[::-1]))
    choice = alignment._build(work, "mi", "asked")
    with (
        mock.patch.object(alignment, "sign_agreement", side_effect=by_sign),
        mock.patch.object(alignment, "structure_distance", side_effect=by_structure),
        mock.patch.object(alignment, "_run_linear_from", return_value=(nearer, 1.0, [mock.Mock()])),
    ):
        revised, matrix = alignment._reconsider(work, choice, STILL, TURNED)
    assert revised.name == name
    assert (matrix is nearer) == (name == "lncc")
    assert len(work.history) == (name == "lncc")


def test_bins_are_those_of_what_both_show_where_one_was_cut_out():
    head = phantoms.head()
    bright = head.tensor.clone()
    bright[:, :2, :10, :10] = 500  # far from the head
    work = work_of(phantoms.with_values(head, bright), inverted(head))
    choice = alignment._build(work, "mi", "asked")
    assert alignment.settle_bins(work, choice, STILL) is choice
    alignment._take_alone(work, "moving")
    part = alignment.settle_bins(work, choice, STILL)
    assert part.linear is choice.linear
    assert part.similarity.fixed_range[1] < 0.5 * choice.similarity.fixed_range[1]
    lncc = alignment._build(work, "lncc", "asked")
    assert alignment.settle_bins(work, lncc, STILL) is lncc


def test_a_part_counts_where_both_sides_count():
    fixed = prepare(phantoms.head())
    part = fixed.with_object_alone()
    counted = extraction.within_part(fixed, part, STILL)
    assert torch.equal(counted.weights, part.weights)
    halved = extraction.within_part(replace(fixed, weights=torch.full_like(part.weights, 0.5)), part, STILL)
    assert torch.equal(halved.weights, part.weights / 2)


class SeenError(Exception):
    """In place of a deformation."""


@pytest.mark.parametrize("cut_out", ["fixed", "moving", ""])
def test_a_deformation_cannot_choose_what_of_a_part_is_compared(cut_out: str):
    work = work_of(phantoms.head(), phantoms.head(), Plan(methods=("none",)))
    if cut_out:
        alignment._take_alone(work, cut_out)
    registering = importlib.import_module("pullback.registration.register")
    with mock.patch.object(registering, "deform", side_effect=SeenError) as deform, pytest.raises(SeenError):
        registering._run(mock.Mock(), work)
    fixed, moving, _ = deform.call_args.args
    assert (fixed.weights is not None) == bool(cut_out)
    assert (moving.weights is not None) == (cut_out == "moving")
