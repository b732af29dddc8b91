"""Resampling: images and points move together, storage does not matter, labels stay labels."""

import numpy as np
import pytest
import torch

from examples import GRIDS, inner_points, noise, oblique_axes, smooth_noise
from pullback.data import Image, LabelMap, Points
from pullback.space import Grid, Reorientation
from pullback.transforms import (
    AbstractTransform,
    Affine,
    DisplacementField,
    Rigid,
    StationaryVelocity,
    Translation,
    identity,
    warp,
    warp_points,
)

every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
FIXED = Grid.from_spacing((30, 28, 26), (1.0, 1.1, 1.2), origin=(-15, -14, -13))
MOVING = Grid.from_spacing((26, 30, 22), (1.3, 1.0, 1.5), origin=(-30, 5, -12), direction=oblique_axes())
SWIRL = smooth_noise(3, *FIXED.shape, largest=2.5, sigma=5.0)

MAPS: dict[str, AbstractTransform] = {
    "translation": Translation.by([3.0, -2.0, 4.0]),
    "rigid": Rigid.from_parts(rotation=[0.2, -0.3, 0.4], translation_mm=[2, -1, 3]),
    "affine": Affine.from_parts(rotation=[0.1, 0.2, -0.1], scaling=[1.2, 0.9, 1.1], shear=[0.1, 0.2, -0.1]),
    "field": DisplacementField.from_voxels(SWIRL, FIXED),
    "velocity": StationaryVelocity(SWIRL, FIXED),
    "chain": Rigid.from_parts(rotation=[0.2, 0, 0.1]) @ DisplacementField.from_voxels(SWIRL, FIXED),
}


def blob(grid: Grid, centre: torch.Tensor, sigma_mm: float = 2.5) -> Image:
    """A Gaussian about a point of the world."""
    distance = torch.linalg.vector_norm(grid.centres() - centre, dim=-1)
    return Image(torch.exp(-0.5 * (distance / sigma_mm) ** 2)[None].float(), grid)


def centre_of_mass(image: Image) -> torch.Tensor:
    mass = image.tensor[0].double()
    return (mass[..., None] * image.grid.centres()).sum(dim=(0, 1, 2)) / mass.sum()


@pytest.mark.parametrize("fixed_to_moving", MAPS.values(), ids=MAPS.keys())
def test_a_blob_and_its_landmark_move_together(fixed_to_moving):
    landmark = torch.tensor([[1.5, -2.0, 2.5]], dtype=torch.float64)
    in_moving = warp_points(Points(landmark), fixed_to_moving).coordinates[0]
    axes = oblique_axes().T
    moving_grid = Grid.from_spacing((36, 36, 36), origin=in_moving.numpy() - axes @ np.full(3, 17.3), direction=axes)
    warped = warp(blob(moving_grid, in_moving), fixed_to_moving, onto=FIXED)
    torch.testing.assert_close(fixed_to_moving(centre_of_mass(warped)), in_moving, rtol=0, atol=0.25)


def test_the_warped_image_shows_at_x_what_the_moving_image_has_at_the_mapped_x():
    slopes = torch.tensor([2.0, -3.0, 5.0], dtype=torch.float64)
    moving = Image((MOVING.centres() @ slopes)[None], MOVING)
    transform = Affine.from_parts(rotation=[0.1, 0.2, -0.1], scaling=[1.2, 0.9, 1.1], centre_mm=MOVING.centre)
    onto = Grid.from_spacing((5, 6, 7), 1.0, origin=(MOVING.centre - 3).tolist(), direction=oblique_axes().T)
    expected = transform(onto.centres()) @ slopes
    torch.testing.assert_close(warp(moving, transform, onto=onto).tensor[0], expected)


@every_grid
def test_an_unmoved_image_is_the_same_to_the_last_bit(grid):
    image = Image(noise(2, *grid.shape), grid)
    labels = LabelMap((noise(1, *grid.shape) * 5).to(torch.int16), grid)
    for transform in (identity(grid.num_dims), DisplacementField(torch.zeros(grid.num_dims, *grid.shape), grid)):
        assert torch.equal(warp(image, transform, onto=grid).tensor, image.tensor)
        assert torch.equal(warp(image, transform, onto=grid, interpolation="nearest").tensor, image.tensor)
        assert torch.equal(warp(labels, transform, onto=grid).tensor, labels.tensor)


@every_grid
def test_a_translation_by_a_voxel_shows_the_next_voxel(grid):
    image = Image(noise(1, *grid.shape), grid)
    one = grid.vectors_to_world([[1.0] + [0.0] * (grid.num_dims - 1)])[0]
    warped = warp(image, Translation.by(one), onto=grid, fill=-5.0).tensor
    torch.testing.assert_close(warped[:, :-1], image.tensor[:, 1:])
    assert (warped[:, -1] == -5).all()


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic"])
def test_the_order_of_the_axes_in_memory_does_not_matter(interpolation):
    moving = Image(noise(1, *MOVING.shape), MOVING)
    turned = moving.reorient(Reorientation((2, 0, 1), (True, False, True)))
    onto = Grid.from_spacing((9, 8, 7), 1.3, origin=(MOVING.centre - 5).tolist())
    results = [warp(m, MAPS["affine"], onto=onto, interpolation=interpolation).tensor for m in (moving, turned)]
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


def test_cropping_away_what_is_not_looked_at_does_not_matter():
    moving = Image(noise(1, *MOVING.shape), MOVING)
    start, stop = (4, 3, 2), (20, 25, 19)
    part = Image(moving.tensor[:, 4:20, 3:25, 2:19], MOVING.crop(start, stop))
    onto = Grid.from_spacing((5, 5, 5), 1.0, origin=(part.grid.centre - 2).tolist())
    results = [warp(m, identity(), onto=onto).tensor for m in (moving, part)]
    assert (results[0] != 0).all()
    torch.testing.assert_close(*results)


def test_labels_stay_labels():
    values = torch.tensor([0, 7, 1000])[(noise(1, *MOVING.shape).abs() * 1.5).long().clamp(max=2)].to(torch.int16)
    labels = LabelMap(values, MOVING, {"name": "atlas"})
    onto = MOVING.resize((20, 20, 20))
    for interpolation in (None, "label", "nearest"):
        warped = warp(labels, identity(), onto=onto, interpolation=interpolation)
        assert isinstance(warped, LabelMap)
        assert warped.tensor.dtype == torch.int16
        assert set(warped.labels) <= {7, 1000}
        assert warped.name == "atlas"


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_labels_are_never_averaged(interpolation):
    labels = LabelMap(torch.ones(1, *MOVING.shape, dtype=torch.int32), MOVING)
    with pytest.raises(ValueError, match="average labels"):
        warp(labels, identity(), onto=MOVING, interpolation=interpolation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "label"])
def test_channels_type_and_fill_are_kept(interpolation, dtype):
    image = Image(1 + noise(3, 6, 7, dtype=dtype).abs(), Grid.from_spacing((6, 7)))
    onto = Grid.from_spacing((9, 7), origin=(-2.0, 0.0))
    warped = warp(image, identity(2), onto=onto, interpolation=interpolation, fill=-3.0)
    assert warped.tensor.dtype == dtype
    assert warped.tensor.shape == (3, 9, 7)
    assert warped.grid == onto
    assert (warped.tensor[:, :2] == -3).all()
    torch.testing.assert_close(warped.tensor[:, 2:8], image.tensor)


def test_a_batch_of_slabs_gives_the_same_as_one(monkeypatch):
    moving = Image(noise(1, *MOVING.shape), MOVING)
    whole, displacement = warp(moving, MAPS["rigid"], onto=FIXED).tensor, MAPS["field"].displacement_on(FIXED)
    monkeypatch.setattr("pullback.transforms.abstract.POINTS_AT_A_TIME", 1500)
    assert torch.equal(warp(moving, MAPS["rigid"], onto=FIXED).tensor, whole)
    assert torch.equal(MAPS["field"].displacement_on(FIXED), displacement)


def test_dimensions_must_agree():
    with pytest.raises(ValueError, match="must agree"):
        warp(Image(noise(1, 4, 5), Grid.from_spacing((4, 5))), identity(3), onto=FIXED)


def test_points_keep_their_names_and_go_from_fixed_to_moving():
    points = Points(inner_points(FIXED, num=3), ["a", "b", "c"])
    moved = warp_points(points, MAPS["translation"])
    assert moved.names == ["a", "b", "c"]
    np.testing.assert_allclose(moved.coordinates - points.coordinates, np.tile([3.0, -2.0, 4.0], (3, 1)))


@pytest.mark.parametrize("name", MAPS)
def test_no_points_go_through_every_transform(name: str):
    for transform in (MAPS[name], ~MAPS[name]):
        assert transform(np.zeros((0, 3))).shape == (0, 3)
