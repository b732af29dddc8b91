"""A brain without its skull onto a head: what was cut away is unknown, not empty."""

from unittest import mock

import numpy as np
import pytest
import torch

import phantoms
import pullback as pb
from pullback.data import Image
from pullback.registration import Plan, extraction
from pullback.registration.alignment import settle_extraction
from pullback.registration.choice import build
from pullback.registration.volume import prepare
from pullback.registration.work import Work
from pullback.space import Grid

STILL = np.eye(4)


def noisy(image: Image) -> Image:
    """The image without a constant background."""
    noise = torch.randn(image.tensor.shape, generator=torch.Generator().manual_seed(7))
    return phantoms.with_values(image, image.tensor + 2 * noise)


def inner_part() -> Image:
    """Ones in the middle of the head, as far as two thirds of its radii."""
    head = phantoms.head()
    away = head.grid.centres() / torch.tensor([28.0, 37.0, 25.0])
    return phantoms.with_values(head, ((away**2).sum(dim=-1) < 1)[None].to(torch.float32))


def cut_out(image: Image, part: Image) -> Image:
    """The image in the part, 0 around it."""
    return phantoms.with_values(image, image.tensor * (part.tensor > 0.5))


def work_of(fixed: Image, moving: Image) -> Work:
    return Work(Plan(), prepare(fixed), prepare(moving), lambda *told: None)


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_the_background_of_an_object_that_was_cut_out_is_unknown(side: str):
    part, whole = cut_out(phantoms.head(), inner_part()), noisy(phantoms.head())
    work = work_of(part, whole) if side == "fixed" else work_of(whole, part)
    before = getattr(work, side)
    settle_extraction(work, build("lncc", work.fixed, work.moving, "asked for"), STILL)
    assert work.cut_out == side
    alone = getattr(work, side)
    assert not alone.has_background
    assert float(alone.weights.sum()) < float(before.foreground.sum())
    assert not (alone.weights[0, 0] > 0)[~before.foreground].any()
    assert float(alone.tensor.min()) > 0.2  # no edge where it was cut


@pytest.mark.parametrize("whole", ["fixed", "moving", "both"])
def test_whole_objects_keep_their_background(whole: str):
    head = phantoms.head()
    pairs = {"fixed": (noisy(head), head), "moving": (head, noisy(head)), "both": (head, head)}
    work = work_of(*pairs[whole])
    before = work.fixed, work.moving
    settle_extraction(work, build("lncc", work.fixed, work.moving, "asked for"), STILL)
    assert not work.cut_out
    assert (work.fixed, work.moving) == before


def test_a_thin_object_keeps_its_rim():
    thin = torch.zeros(1, 20, 20, 20)
    thin[:, 4:16, 4:16, 9:12] = torch.rand(1, 12, 12, 3, generator=torch.Generator().manual_seed(0)) + 1
    volume = prepare(Image(thin, Grid.from_spacing((20, 20, 20), 1.0)))
    assert torch.equal(volume.with_object_alone().weights[0, 0] > 0, volume.foreground & (volume.tensor[0, 0] > 0))


def test_a_view_that_ends_does_not_cut_out():
    whole = noisy(phantoms.head())
    head = phantoms.head()
    half = Image(head.tensor[:, :24], head.grid.crop((0, 0, 0), (24, *head.grid.shape[1:])))
    assert extraction.surroundings(prepare(half), prepare(whole), STILL)["fixed"] < 0.1
    assert extraction.surroundings(prepare(whole), prepare(half), STILL)["moving"] < 0.1


def test_what_surrounds_an_object_in_the_other_image_does_not_press_it():
    part, (scan, truth) = inner_part(), phantoms.other_scan()
    points = part.grid.to_world(torch.nonzero(part.tensor[0]).to(torch.float64))

    def error() -> float:
        found = phantoms.register(cut_out(phantoms.head(), part), noisy(scan), initial="header").fixed_to_moving
        return float((found(points) - truth(points)).norm(dim=1).mean())

    with mock.patch.object(extraction, "SURROUNDED", np.inf):
        pressed = error()
    assert pressed > 2.8
    assert error() < 1.6


def part_onto_whole(whole: Image, **options: object) -> tuple[pb.Registration, float]:
    """A part of the head, from its own scanner, onto the whole head, and the mean error in mm there."""
    part, truth = inner_part(), phantoms.truth_of("affine")
    moving = phantoms.seen_by(cut_out(phantoms.head(), part), truth)
    found = phantoms.register(whole, moving, **options)
    points = part.grid.to_world(torch.nonzero(part.tensor[0]).to(torch.float64))
    return found, float((found.fixed_to_moving(points) - truth(points)).norm(dim=1).mean())


@pytest.mark.parametrize("whole", ["without a background", "in a background"])
def test_a_part_finds_its_pose_in_the_whole(whole: str):
    image = noisy(phantoms.head()) if whole == "without a background" else phantoms.head()
    found, error_mm = part_onto_whole(image, model="affine")
    assert "the moving object was cut out" in found.result.similarity.why
    assert found.verdict.value == "good"
    assert found.result.evidence.view > 0.99  # of the part, as the rest of the head is nowhere else
    assert error_mm < 1.0  # voxels of 3 mm; with their rim 2.3


def test_a_part_of_another_contrast_is_not_pressed_by_the_whole():
    head, part = phantoms.head(), inner_part()
    inverted = phantoms.with_values(head, (head.tensor.max() + 10 - head.tensor) * (part.tensor > 0.5))
    points = part.grid.to_world(torch.nonzero(part.tensor[0]).to(torch.float64))
    found = phantoms.register(head, inverted, similarity="mi", initial="none").fixed_to_moving
    with mock.patch.object(extraction, "SURROUNDED", np.inf):
        pressed = phantoms.register(head, inverted, similarity="mi", initial="none").fixed_to_moving
    errors = [float((each(points) - points).norm(dim=1).mean()) for each in (found, pressed)]
    assert errors[0] < 0.5
    assert errors[1] > 2 * errors[0]


def test_a_smaller_outline_alone_is_no_part_of_a_larger_one():
    head = phantoms.head()
    away = (head.grid.centres() / torch.tensor([30.0, 40.0, 27.0])).square().sum(dim=-1)
    small, large = (phantoms.with_values(head, 100.0 * (away < size)[None]) for size in (1.0, 1.8))
    found = phantoms.register(small, large, initial="none", model="deformable")
    assert "cut out" not in found.result.similarity.why
    assert found.result.evidence.overlap > 0.9
