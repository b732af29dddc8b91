"""What counts how much: the middle of an object in the linear stage, a pull in the deformable one."""

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch

from examples import oblique_axes
from phantoms import head, no_rivals, points_in, slice_of_head
from pullback.data import Image, Pair
from pullback.registration import Plan, alignment, deformable, register
from pullback.registration.choice import Choice
from pullback.registration.schedule import Level, Plateau
from pullback.registration.verdict import NOTICEABLE_LOSS
from pullback.registration.volume import Volume, prepare
from pullback.registration.work import Work
from pullback.regularity import AbstractRegularity, Diffusion
from pullback.similarity import LNCC, MIND
from pullback.space import Grid
from pullback.transforms import DisplacementField, warp


def head_with_another_neck() -> Image:
    """The head, of which one end of the long axis leans aside by up to 15 mm."""
    image = head()
    world = image.grid.centres()
    lean = (-world[..., 1] - 24).clamp(min=0) * 0.6
    field = torch.zeros(3, *image.grid.shape, dtype=torch.float64)
    field[2] = lean.clamp(max=15)
    return warp(image, DisplacementField(field, image.grid), onto=image.grid)


def test_weights_fall_off_with_the_distance_in_the_world() -> None:
    grid = Grid.from_spacing((9, 7, 8), (1.0, 2.0, 3.0), origin=[5, -3, 2], direction=oblique_axes())
    generator = torch.Generator().manual_seed(0)
    volume = replace(prepare(Image(torch.rand(1, 9, 7, 8, generator=generator), grid)), grid=grid)
    centre = np.array([8.0, 1.0, 4.0])
    away = (grid.centres() - torch.from_numpy(centre)).norm(dim=-1)
    expected = (1 + (away / 4.0) ** 2) ** -2
    found = volume.emphasise(centre, 4.0)
    torch.testing.assert_close(found.weights[0, 0].double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.emphasise(centre, 4.0).weights[0, 0].double(), expected**2, rtol=1e-5, atol=1e-7)
    gaussian = volume.emphasise(centre, 4.0, has_tail=False).weights[0, 0].double()
    torch.testing.assert_close(gaussian, torch.exp(-((away / 4.0) ** 2) / 2), rtol=1e-5, atol=1e-7)


def test_a_map_that_is_held_is_led_without_a_tail() -> None:
    emphasise = Volume.emphasise
    for restraint in (0.0, 0.2):
        tails: set[bool] = set()

        def noted(self: Volume, *args: Any, has_tail: bool = True, tails: set[bool] = tails) -> Volume:
            tails.add(has_tail)
            return emphasise(self, *args, has_tail=has_tail)

        volume = prepare(head())
        work = Work(Plan(deformable=None), volume, volume, lambda *_: None)
        with mock.patch.object(Volume, "emphasise", noted):
            alignment._run_linear_from(work, Choice("mind", MIND(), MIND(), "said", restraint), np.eye(4))
        assert tails == {not restraint}


def test_a_neck_that_leans_leaves_the_head_where_it_is() -> None:
    pair = Pair(head(), head_with_another_neck())
    middle = points_in(head())
    middle = middle[middle[:, 1].abs() < 20]

    def error() -> float:
        found = register(pair, Plan(deformable=None)).linear
        return float((found(middle) - middle).norm(dim=1).mean())

    with mock.patch.object(alignment, "EMPHASIS", math.inf):
        without = error()
    assert without > 1.0
    assert error() < 0.7 * without


def test_a_map_that_follows_the_head_is_not_doubted_for_the_neck() -> None:
    neck = head_with_another_neck()
    with mock.patch.object(alignment, "EMPHASIS", math.inf):
        compromise = register(Pair(head(), neck), Plan(deformable=None)).linear
    placed = Grid(neck.grid.shape, compromise.inverse().matrix @ neck.grid.voxel_to_world)
    moving = neck.with_tensor(neck.tensor, placed)
    with no_rivals():
        found = register(Pair(head(), moving), Plan(deformable=None))
    assert found.similarity.after < found.similarity.before - NOTICEABLE_LOSS
    assert found.evidence.gain > 0
    assert found.verdict.value == "good"


def test_every_voxel_of_a_slice_counts_the_same() -> None:
    scan = Image(slice_of_head().tensor.roll(2, dims=1), slice_of_head().grid)
    with mock.patch.object(Volume, "emphasise", side_effect=AssertionError):
        register(Pair(slice_of_head(), scan), Plan(deformable=None))


def test_a_pull_weighs_as_much_as_the_similarity_of_its_voxel() -> None:
    volume = prepare(head())
    stage = deformable._Stage.between(volume, volume, np.eye(4), Level(4, 1), "cpu")
    displacement = 0.3 * torch.randn(1, 3, *stage.grid.shape, generator=torch.Generator().manual_seed(0))
    images = stage._empty(1), stage._empty(1)

    def force(*regularities: AbstractRegularity) -> torch.Tensor:
        parts = deformable._Parts(LNCC(), regularities, deformable.SteepestAscent(), Plateau(), None)
        return stage._force(displacement, parts, stage._empty(3), stage._empty(3), images)[1].clone()

    pull = Diffusion().force(displacement) / stage.grid.num_voxels
    torch.testing.assert_close(force(Diffusion()) - force(), pull, rtol=1e-3, atol=1e-3 * float(pull.abs().max()))
