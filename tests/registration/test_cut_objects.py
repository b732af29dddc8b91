"""An object in background that its field of view cuts, such as a slab of slices: beyond it nothing is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.registration.deformable import domain_of
from pullback.registration.evidence import look_through
from pullback.registration.volume import Volume, prepare
from pullback.transforms import AbstractTransform, identity


def part_of(image: Image, axis: int, first: float = 0.3, last: float = 0.7) -> Image:
    """What lies between two shares of the field of view."""
    start, stop = [0] * len(image.grid.shape), list(image.grid.shape)
    start[axis], stop[axis] = (int(share * stop[axis]) for share in (first, last))
    inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Image(image.tensor[(slice(None), *inside)].contiguous(), image.grid.crop(start, stop))


def errors_mm(found: AbstractTransform, truth: AbstractTransform, points: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(found(points) - truth(points), dim=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("first", "last"), [(0.3, 0.7), (0.0, 0.6), (0.5, 1.0)])
def test_a_cut_object_is_known_as_one(axis: int, first: float, last: float):
    volume = prepare(part_of(phantoms.head(), axis, first, last))
    assert volume.has_background
    assert volume.is_cut
    assert not volume.is_empty_beyond


def test_an_object_cropped_to_its_outline_is_not_cut():
    for image in (phantoms.head(), phantoms.other_scan()[0], phantoms.slice_of_head()):
        volume = prepare(image)
        assert volume.has_background
        assert not volume.is_cut
        inside = torch.nonzero(volume.foreground)
        low, high = inside.min(dim=0).values.tolist(), (inside.max(dim=0).values + 1).tolist()
        tight = volume.crop(low, high)
        values = tight.tensor[0, :, 0] if volume.is_flat else tight.tensor[0]
        assert not prepare(Image(values, tight.image_grid)).is_cut


@pytest.mark.parametrize("axis", [0, 1])
def test_a_cut_slice_is_known_as_one(axis: int):
    assert prepare(part_of(phantoms.slice_of_head(), axis, 0.45, 1.0)).is_cut


def test_beyond_a_cut_nothing_is_known():
    whole, part = prepare(phantoms.head()), prepare(part_of(phantoms.head(), 2))
    for fixed, moving, is_all in ((whole, whole, True), (whole, part, False)):
        view = look_through(fixed, moving, identity(3))
        assert bool(view.inside.all()) is is_all
        assert bool((view.weights > 0.99).all()) is is_all
    wider = part.crop([-4] * 3, [n + 4 for n in part.grid.shape])
    assert wider.weights[0, 0, :4].max() == wider.weights[0, 0, :, :, -4:].max() == 0
    middle = tuple(n // 2 for n in wider.grid.shape)
    assert wider.tensor[0, 0, middle[0], middle[1], 0] == wider.tensor[0, 0, middle[0], middle[1], 4] > 0
    assert part.coarsen((4, 4, 4)).grid.shape == tuple(-(-n // 4) for n in part.grid.shape)  # no room of background


def test_a_deformation_of_a_cut_object_lives_in_all_of_its_view():
    part = prepare(part_of(phantoms.head(), 2))
    empty: Volume = replace(part, is_cut=False)
    assert domain_of(part, part, np.eye(4)).grid.num_voxels > domain_of(empty, empty, np.eye(4)).grid.num_voxels


@pytest.mark.parametrize("axis", [0, 2])
def test_a_part_finds_its_place_in_the_whole(axis: int):
    moving, truth = phantoms.other_scan()
    part = part_of(moving, axis)
    points = phantoms.points_in(phantoms.head())
    voxels = part.grid.to_voxel(truth(points))
    points = points[((voxels >= 0) & (voxels <= torch.tensor(part.grid.shape) - 1)).all(dim=1)]
    found = phantoms.register(phantoms.head(), part, judged=True)
    assert found.verdict.value == "good"
    assert found.result.evidence.shown > 0.95
    errors = errors_mm(found.fixed_to_moving, truth, points)
    assert errors.mean() < 0.95  # 1.12 along the first axis where what lies beyond is taken for background
    assert errors.max() < 4.5


@pytest.mark.parametrize("axis", [0, 2])
def test_the_whole_finds_its_place_on_a_part(axis: int):
    moving, truth = phantoms.other_scan()
    part = part_of(moving, axis)
    found = phantoms.register(part, phantoms.head(), judged=True)
    assert found.verdict.value == "good"
    errors = errors_mm(found.fixed_to_moving, truth.inverse(), phantoms.points_in(part))
    assert errors.mean() < 0.6  # 0.9 and 1.3 where what lies beyond is taken for background
    assert errors.max() < 4.0  # 12 and 23
