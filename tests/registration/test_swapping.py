"""A small part and the whole it belongs to: found from the part's side, whichever of the two is fixed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import phantoms
from examples import oblique_axes
from pullback.data import Image, Pair
from pullback.registration import Candidate, Plan, build, register
from pullback.registration.alignment import build_again, find_linear_map
from pullback.registration.choice import mutual_information
from pullback.registration.conclusion import _as_it_was_led
from pullback.registration.evidence import is_small_part
from pullback.registration.swapping import invert, swap, take_over
from pullback.registration.volume import prepare
from pullback.registration.work import Work
from pullback.space import Grid
from pullback.transforms import Affine, identity, warp

SIZE, CENTRE = 20, (-4.0, 6.0, 2.0)


def piece() -> tuple[Image, Affine]:
    """A turned piece of the head, 2 mm, stored somewhere else; and its true map into the head."""
    turn, middle = torch.from_numpy(oblique_axes()), torch.full((3,), SIZE - 1.0, dtype=torch.float64)
    cut, stored = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    cut[:3, :3], cut[:3, 3] = 2 * turn, torch.tensor(CENTRE, dtype=torch.float64) - turn @ middle
    stored[:3, :3], stored[:3, 3] = 2 * torch.eye(3), torch.tensor([30.0, -50.0, 20.0])
    image = warp(phantoms.head(), identity(3), onto=Grid((SIZE,) * 3, cut))
    return Image(image.tensor, Grid(image.grid.shape, stored)), Affine(cut @ torch.linalg.inv(stored))


@pytest.mark.parametrize("leads", [True, False], ids=["fixed", "moving"])
def test_a_small_piece_finds_its_place(leads: bool):
    part, truth = piece()
    pair = Pair(part, phantoms.head()) if leads else Pair(phantoms.head(), part)
    found = register(pair, Plan(deformable=None))
    there = found.fixed_to_moving if leads else found.moving_to_fixed
    assert phantoms.gaps_mm(there, truth, part).max() < 1.0
    assert found.evidence.is_small_part is not leads
    assert found.verdict.value == "good"
    assert found.evidence.gain > 0.1
    assert found.initialisation.margin > 0.2
    gap = found.initialisation.chosen.matrix @ np.linalg.inv(found.linear.matrix.numpy()) - np.eye(4)
    assert np.abs(gap[:3, :3]).max() < 0.2


def test_a_piece_is_small_and_a_whole_or_a_slab_is_not():
    head, (part, _) = prepare(phantoms.head()), piece()
    slab = phantoms.head().grid.crop([0, 0, 8], [*phantoms.SHAPE_3D[:2], 14])
    assert is_small_part(prepare(part), head)
    assert not is_small_part(head, prepare(part))
    assert not is_small_part(head, head)
    assert not is_small_part(prepare(warp(phantoms.head(), identity(3), onto=slab)), head)


def test_work_the_other_way_round_has_the_same_starts():
    matrix = np.array([[0.9, 0.1, 0, 4], [0, 1.1, 0, -3], [0.2, 0, 1, 2], [0, 0, 0, 1.0]])
    broken = Candidate("broken", np.full((4, 4), np.nan))
    plan = Plan(given=(Candidate("given", matrix),), first=broken)
    work = Work(plan, prepare(phantoms.head()), prepare(piece()[0]), lambda *_: None, cut_out="moving")
    swapped = swap(work)
    assert (swapped.fixed, swapped.moving, swapped.cut_out) == (work.moving, work.fixed, "fixed")
    np.testing.assert_allclose(swapped.plan.given[0].matrix @ matrix, np.eye(4), atol=1e-12)
    assert swapped.plan.first is broken
    assert swapped.history is work.history
    np.testing.assert_allclose(swap(swapped).plan.given[0].matrix, matrix)
    swapped.fixed, swapped.margin, work.cut_out = swapped.fixed.without_background(), 0.4, ""
    take_over(work, swapped)
    assert (work.moving is swapped.fixed, work.margin, work.cut_out) == (True, 0.4, "moving")
    assert invert(None) is None


@pytest.mark.parametrize("similarity", ["mi", "ncc"])
def test_what_was_asked_for_is_what_leads_the_other_way_round(similarity: str):
    part, truth = piece()
    found = phantoms.register(phantoms.head(), part, model="affine", similarity=similarity)
    assert found.result.similarity.name == similarity
    assert phantoms.gaps_mm(found.moving_to_fixed, truth, part).max() < 2.0


def test_evidence_is_the_same_either_way():
    part, _ = piece()
    ways = [phantoms.register(*ends, model="affine", similarity="mi") for ends in both_ways(part, phantoms.head())]
    leads, follows = (way.result.evidence for way in ways)
    assert follows.gain == pytest.approx(leads.gain, abs=0.02)
    assert follows.dependence == pytest.approx(leads.dependence, abs=0.02)


def test_rivals_of_a_small_part_are_looked_for_from_it():
    part, truth = piece()
    known = Image(part.tensor, Grid(part.grid.shape, truth.matrix @ part.grid.voxel_to_world))
    ways = [
        phantoms.register(*ends, model="rigid", initial="header", judged=True)
        for ends in both_ways(known, phantoms.head())
    ]
    margins = [way.result.evidence.margin for way in ways]
    assert margins[0] > 0.1
    assert margins[1] == pytest.approx(margins[0], abs=0.05)


def test_a_similarity_is_made_anew_for_the_other_way():
    part, head = prepare(piece()[0]), prepare(phantoms.head())
    work = Work(Plan(methods=("header",), similarity=partial(build, "mi", why="asked")), head, part, lambda *_: None)
    led = replace(build("mi", part, head, "asked"), restraint=0.2, why="held")
    again = build_again(work, led)
    assert (again.name, again.why, again.restraint) == ("mi", "held", 0.2)
    ours, theirs = (vars(one.similarity) for one in (again, led))
    assert ours == vars(mutual_information(head, part))
    assert ours != theirs
    assert vars(find_linear_map(work)[1].similarity) == ours


def test_an_object_that_loses_its_background_on_the_way_did_not_lead():
    part, head = piece()[0], prepare(phantoms.head())
    away = np.linalg.norm(np.indices((SIZE,) * 3) - (SIZE - 1) / 2, axis=0)
    ball = np.where(away < 8, part.tensor[0].numpy(), 0)
    moving = prepare(Image(torch.from_numpy(ball)[None], part.grid))
    work = Work(Plan(methods=("none",)), head, moving, lambda *_: None)
    assert work.moving.has_background
    choice = find_linear_map(work)[1]
    work.moving = work.moving.without_background()
    assert is_small_part(work.moving, work.fixed)
    assert _as_it_was_led(work, choice, identity(3))[0] is work


def both_ways(part: Image, whole: Image) -> list[tuple[Image, Image]]:
    return [(part, whole), (whole, part)]
