"""A brain without its skull onto a head: what was cut away is unknown, not empty."""

from unittest import mock

import numpy as np
import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.registration import Plan, extraction
from pullback.registration.choice import build
from pullback.registration.volume import prepare
from pullback.registration.work import Work

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
    choice = extraction.settle_extraction(work, build("lncc", work.fixed, work.moving, "asked for"), STILL)
    assert f"asked for; the {side} object was cut out" in choice.why
    alone = getattr(work, side)
    assert not alone.has_background
    assert torch.equal(alone.weights[0, 0] > 0, alone.foreground & (prepare(part).tensor[0, 0] > 0))
    assert float(alone.tensor.min()) > 0  # no edge where it was cut


@pytest.mark.parametrize("whole", ["fixed", "moving", "both"])
def test_whole_objects_keep_their_background(whole: str):
    head = phantoms.head()
    pairs = {"fixed": (noisy(head), head), "moving": (head, noisy(head)), "both": (head, head)}
    work = work_of(*pairs[whole])
    before = work.fixed, work.moving
    choice = build("lncc", work.fixed, work.moving, "asked for")
    assert extraction.settle_extraction(work, choice, STILL) is choice
    assert (work.fixed, work.moving) == before


def test_a_view_that_ends_does_not_cut_out():
    whole = noisy(phantoms.head())
    head = phantoms.head()
    half = Image(head.tensor[:, :24], head.grid.crop((0, 0, 0), (24, *head.grid.shape[1:])))
    assert extraction.surroundings(prepare(half), prepare(whole), STILL) < 0.1
    assert extraction.surroundings(prepare(whole), prepare(half), STILL) < 0.1


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
