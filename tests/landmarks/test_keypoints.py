"""Keypoints, patches and matches: found where blobs are, whatever contrast and storage; scored by known numbers."""

import pytest
import torch

import phantoms
from examples import oblique_axes
from pullback.data import Image
from pullback.landmarks import (
    Keypoints,
    Matches,
    find_keypoints,
    fit_keypoints,
    match,
    patches_at,
    precision_and_recall,
)
from pullback.space import Grid, Reorientation
from pullback.transforms import Translation, identity

CENTRES = ((-12.3, 4.1, 6.6), (10.0, -9.2, -3.3))


def blobs(sign: float = 1.0, spacing: float = 2.0) -> Image:
    """Two balls of Gaussian profile, 5 and 4 mm wide, off the voxels, on an oblique grid."""
    shape, axes = (26, 24, 22), oblique_axes()
    middle = torch.from_numpy(axes) @ ((torch.tensor(shape).double() - 1) / 2 * spacing)
    grid = Grid.from_spacing(shape, spacing, origin=(-middle).tolist(), direction=axes)
    values = torch.zeros(shape, dtype=torch.float64)
    for centre, width, height in zip(CENTRES, (5.0, 4.0), (100.0, -60.0), strict=True):
        away = (grid.centres() - torch.tensor(centre).double()).square().sum(-1)
        values += height * torch.exp(-away / (2 * width**2))
    return Image((sign * values)[None].float(), grid)


def few(points: torch.Tensor) -> Keypoints:
    return Keypoints(points.double(), torch.ones(len(points)), torch.ones(len(points)))


@pytest.mark.parametrize("sign", [1.0, -3.0])
def test_finds_the_middles_of_blobs_in_mm_whatever_the_contrast(sign: float):
    found = find_keypoints(blobs(sign), smallest_mm=2.0, num_octaves=2, least_strength=0.2)
    assert len(found) == 2
    assert (found.points - torch.tensor(CENTRES).double()).abs().max() < 0.3
    assert found.strengths[0] > found.strengths[1]
    assert torch.allclose(found.scales_mm, torch.tensor([5.0, 4.0]).double(), rtol=0.3)


def test_the_storage_of_the_image_changes_nothing():
    image = phantoms.head()
    stored = image.reorient(Reorientation((2, 0, 1), (True, False, True)))
    a, b = (find_keypoints(one, count=20, smallest_mm=4.0) for one in (image, stored))
    assert len(a) == len(b) == 20
    assert torch.cdist(a.points, b.points).amin(1).max() < 1e-3


def test_two_dimensions_and_constant_images():
    assert len(find_keypoints(phantoms.slice_of_head(), smallest_mm=3.0)) > 5
    flat = phantoms.with_values(phantoms.slice_of_head(), torch.ones(1, *phantoms.SHAPE_2D))
    assert len(find_keypoints(flat)) == 0


def test_patches_look_along_the_world_and_forget_brightness():
    image = blobs()
    points = torch.tensor(CENTRES).double()
    plain = patches_at(image, points, size=8, spacing_mm=2.0)
    brighter = patches_at(image.with_tensor(3 * image.tensor + 7), points, size=8, spacing_mm=2.0)
    assert plain.shape == (2, 1, 8, 8, 8)
    torch.testing.assert_close(plain, brighter, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(plain.flatten(1).mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    shifted = Image(image.tensor, Grid(image.grid.shape, Translation.by((9, 0, 0)).matrix @ image.grid.voxel_to_world))
    moved = patches_at(shifted, points + torch.tensor([9.0, 0, 0]), size=8, spacing_mm=2.0)
    torch.testing.assert_close(plain, moved, atol=1e-4, rtol=1e-4)


def test_only_mutual_neighbours_match():
    fixed, moving = few(torch.eye(3)[:2] * 10), few(torch.eye(3) * 10)
    descriptors = torch.tensor([[0.0, 1.0], [0.1, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.9, 0.1]])
    found = match(fixed, moving, *descriptors)
    assert len(found) == 1
    assert found.fixed.tolist() == found.moving.tolist() == [[10.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="2 keypoints came with 3 descriptors"):
        match(fixed, moving, descriptors[1], descriptors[1])


def test_precision_and_recall_of_known_matches():
    fixed = few(torch.arange(12.0).reshape(4, 3) * 10)
    moving = few(fixed.points[:3])
    matches = Matches(fixed.points[[0, 3, 1]], moving.points[[0, 1, 1]], torch.tensor([0.1, 0.2, 0.3]))
    precision, recall = precision_and_recall(matches, fixed, moving, identity(3), tolerance_mm=1.0)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])


def test_keypoints_of_two_scans_give_the_map_between_them():
    head, truth = phantoms.head(), Translation.by((6.0, -4.0, 3.0))
    scan = phantoms.seen_by(head, truth)
    keypoints = tuple(find_keypoints(image, count=150, smallest_mm=4.0) for image in (head, scan))

    def describe(image: Image, points: torch.Tensor) -> torch.Tensor:
        return patches_at(image, points, size=8, spacing_mm=4.0).flatten(1)

    fit = fit_keypoints((head, scan), keypoints, describe, "rigid", tolerance_mm=3.0)
    assert float(phantoms.gaps_mm(fit.transform, truth, head).mean()) < 1.5
