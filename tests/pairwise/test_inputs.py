"""Whatever holds the images, the result is the same; words that are wrong are refused with a hint."""

import nibabel
import numpy as np
import pytest
import torch

import phantoms
import pullback as pb
from pullback.io.simpleitk import to_simpleitk
from pullback.transforms import Affine, DisplacementField

QUICK = {"model": "affine", "initial": "header"}


def as_nibabel(image: pb.Image) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(image.tensor[0].numpy(), image.grid.voxel_to_world.numpy())


def rounded(grid: pb.Grid) -> pb.Grid:
    return pb.Grid(grid.shape, grid.voxel_to_world.float().double())


def as_path(image: pb.Image, path) -> str:
    pb.write_image(path, image)
    return str(path)


@pytest.fixture
def forms(tmp_path):
    return {
        "nibabel": as_nibabel,
        "SimpleITK": lambda image: to_simpleitk(image.tensor.numpy(), image.grid, "the image"),
        "path": lambda image: as_path(image, tmp_path / f"{id(image)}.nii.gz"),
        "nrrd": lambda image: as_path(image, tmp_path / f"{id(image)}.nrrd"),
    }


@pytest.mark.parametrize("form", ["nibabel", "SimpleITK", "path", "nrrd"])
def test_every_form_of_image_gives_the_same_map(form: str, forms):
    """Of grids whose numbers a NIfTI header holds exactly; what its rounding does: test_blind_to_storage."""
    images = [pb.Image(i.tensor, rounded(i.grid)) for i in (phantoms.head(), phantoms.plain_scan()[0])]
    reference = phantoms.register(*images, **QUICK)
    found = phantoms.register(*(forms[form](image) for image in images), **QUICK)
    assert phantoms.gaps_mm(found.fixed_to_moving, reference.fixed_to_moving, phantoms.head()).max() < 1e-6


def test_arrays_are_registered_in_their_own_voxels():
    fixed = phantoms.slice_of_head().tensor[0].numpy()
    moving = np.roll(fixed, (3, -2), axis=(0, 1))
    found = phantoms.register(fixed, torch.from_numpy(moving), model="rigid", initial="header")
    np.testing.assert_allclose(found.fixed_to_moving.matrix[:2, 2], [3, -2], atol=0.1)


def test_warp_takes_labels_by_any_name():
    found, labels = phantoms.deformable(), phantoms.deformable().pair.moving_labels
    plain = found.warp(labels, interpolation="nearest")
    assert isinstance(plain, pb.LabelMap)
    assert plain.grid == found.pair.fixed.grid
    assert set(plain.labels) <= set(labels.labels)
    array = nibabel.Nifti1Image(labels.tensor[0].numpy(), labels.grid.voxel_to_world.numpy())
    assert torch.equal(found.warp(array, interpolation="nearest").tensor, plain.tensor)
    assert isinstance(found.warp(array, interpolation="label"), pb.LabelMap)
    assert isinstance(found.warp(), pb.Image)
    with pytest.raises(ValueError, match="average labels"):
        found.warp(labels, interpolation="linear")


@pytest.mark.parametrize("form", [lambda tensor: tensor.numpy(), lambda tensor: tensor])
def test_an_array_is_warped_where_the_moving_image_is(form):
    found = phantoms.deformable()
    moving, labels = found.pair.moving, found.pair.moving_labels
    assert torch.equal(found.warp(form(moving.tensor[0])).tensor, found.warp(moving).tensor)
    assert torch.equal(found.warp(form(labels.tensor[0]), "nearest").tensor, found.warp(labels, "nearest").tensor)
    with pytest.raises(ValueError, match=r"The array has shape .* but the moving image"):
        found.warp(form(moving.tensor[0, 1:]))


def test_the_inverse_is_the_other_map():
    found, points = phantoms.deformable(), phantoms.points_in(phantoms.head())
    assert torch.equal((~found.fixed_to_moving)(points), found.moving_to_fixed(points))
    back = found.moving_to_fixed(found.fixed_to_moving(points))
    assert torch.linalg.vector_norm(back - points, dim=1).mean() < 0.1 * phantoms.SPACING_MM


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"model": "afine"}, "Did you mean 'affine'"),
        ({"similarity": "nc"}, "Did you mean 'ncc'"),
        ({"preset": "brian"}, "Did you mean 'brain'"),
        ({"initial": "centr"}, "Did you mean 'centre'"),
        ({"initial": ["none", "header"]}, "stands alone"),
        ({"device": "gpu"}, "`device` is 'gpu'"),
        ({"smoothness": float("nan")}, "`smoothness` is nan"),
        ({"smoothness": -1.0}, "`smoothness` is -1"),
        ({"threads": 0}, "`threads` is 0"),
        ({"threads": 999}, "`threads` is 999"),
        ({"channel_weights": [1, 2]}, "channel"),
        ({"channel_weights": [float("nan")]}, "channel"),
        ({"channel_weights": [0]}, "channel"),
        ({"initial": Affine(np.eye(3))}, "has 2 dimensions"),
        ({"points_in_lps": True}, "there are none"),
        ({"initial": DisplacementField(torch.zeros(3, 4, 4, 4), pb.Grid.from_spacing((4, 4, 4)))}, "is not linear"),
    ],
)
def test_what_is_not_understood_is_refused(option: dict, message: str):
    with pytest.raises(ValueError, match=message):
        phantoms.register(phantoms.head(), phantoms.plain_scan()[0], **option)


def test_landmarks_belong_together_by_name():
    (scan, truth), places = phantoms.plain_scan(), phantoms.points_in(phantoms.head())[::3001][:4]
    fixed = pb.Points(places, ("a", "b", "c", "d"))
    moving = pb.Points(truth(places)[[2, 0, 3, 1]], ("c", "a", "d", "b"))
    words = {"initial": truth, "model": "affine", "fixed_points": fixed}
    found = phantoms.register(phantoms.head(), scan, moving_points=moving, **words).summary()["points"]
    assert found["max_mm_after"] < 1
    assert found["median_mm_after"] == pytest.approx(found["mean_mm_after"], abs=0.5)
    few = pb.Points(moving.coordinates[:3], moving.names[:3])
    assert phantoms.register(phantoms.head(), scan, moving_points=few, **words).summary()["points"]["number"] == 3


def test_the_median_of_two_landmarks_is_between_them():
    grid = phantoms.head().grid
    ends = grid.to_world(torch.tensor([[5.0, 5, 5], [9, 9, 9]]))
    moved = ends + torch.tensor([[0.0, 0, 0], [10, 0, 0]])
    words = {"initial": "none", "model": "deformable", "preset": "fast"}
    points = {"fixed_points": pb.Points(ends), "moving_points": pb.Points(moved)}
    found = phantoms.register(phantoms.head(), phantoms.head(), **words, **points).summary()["points"]
    assert found["median_mm_before"] == pytest.approx(5)


def test_two_dimensions_do_not_go_with_three():
    with pytest.raises(ValueError, match="both must be 2-D or both 3-D"):
        phantoms.register(phantoms.head(), phantoms.slice_of_head())


def test_sizes_that_do_not_go_together_are_named():
    head = phantoms.head()
    matrix = head.grid.voxel_to_world.clone()
    matrix[:3] *= 1e-3
    with pytest.raises(ValueError, match="should be in mm"):
        phantoms.register(head, pb.Image(head.tensor, pb.Grid(head.grid.shape, matrix)), model="rigid")


@pytest.mark.parametrize(("initial", "kind"), [([], ValueError), (np.eye(4), TypeError), ([3], TypeError)])
def test_starts_that_are_none(initial, kind: type):
    with pytest.raises(kind, match="`initial`"):
        phantoms.register(phantoms.head(), phantoms.head(), initial=initial)
