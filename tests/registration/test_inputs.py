"""Masks, channels, missing voxels and inputs that cannot be registered."""

import pytest
import torch

import phantoms
import pullback as pb
from pullback.data import Image, LabelMap
from pullback.registration.volume import prepare
from pullback.space import Grid

VOXEL_MM = phantoms.SPACING_MM


def box_mask(image: Image) -> LabelMap:
    mask = torch.zeros(1, *image.grid.shape, dtype=torch.uint8)
    mask[(slice(None), *(slice(n // 6, n - n // 6) for n in image.grid.shape))] = 1
    return LabelMap(mask, image.grid)


def garbage_outside(image: Image, mask: LabelMap) -> Image:
    """The part outside of the mask replaced by noise of the image's own range, keeping its extremes."""
    generator = torch.Generator().manual_seed(3)
    noise = 200 * torch.rand(image.tensor.shape, generator=generator)
    return phantoms.with_values(image, torch.where(mask.tensor > 0, image.tensor, noise))


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_what_lies_outside_of_a_mask_hardly_matters(side: str):
    moving, truth = phantoms.plain_scan()
    images = {"fixed": phantoms.head(), "moving": moving}
    mask = box_mask(images[side])
    images[side] = garbage_outside(images[side], mask)
    found = phantoms.register(
        images["fixed"], images["moving"], model="affine", initial="header", **{f"{side}_mask": mask}
    )
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head()).mean() < VOXEL_MM / 2


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("model", ["affine", "deformable"])
def test_what_lies_outside_of_a_mask_changes_no_bit(side: str, model: str):
    images = {"fixed": phantoms.head(), "moving": phantoms.plain_scan()[0]}
    mask = box_mask(images[side])
    options = {"model": model, "initial": "header", "preset": "fast", f"{side}_mask": mask}
    found = []
    for painted in (images[side], garbage_outside(images[side], mask)):
        found.append(phantoms.register(*{**images, side: painted}.values(), **options).fixed_to_moving)
    assert torch.equal(*(t(phantoms.points_in(phantoms.head())) for t in found))


def two_channels(image: Image, second: torch.Tensor) -> Image:
    return phantoms.with_values(image, torch.cat([image.tensor, second]))


def test_channels_are_registered_together_and_weight_0_silences_one():
    fixed, (moving, truth) = phantoms.head(), phantoms.plain_scan()
    options = {"initial": "header", "preset": "fast", "similarity": "mse"}
    noise = [torch.rand(i.tensor.shape, generator=torch.Generator().manual_seed(5)) for i in (fixed, moving)]
    pairs = [
        (two_channels(fixed, fixed.tensor), two_channels(moving, moving.tensor)),
        (two_channels(fixed, fixed.tensor), two_channels(moving, noise[1])),
    ]
    found = [phantoms.register(*pair, channel_weights=[1, 0], **options).fixed_to_moving for pair in pairs]
    assert torch.equal(*(t(phantoms.points_in(fixed)) for t in found))
    both = phantoms.register(*pairs[0], **options).fixed_to_moving
    assert phantoms.gaps_mm(both, truth, fixed).mean() < VOXEL_MM / 2


def test_voxels_that_are_not_numbers_are_left_out(tmp_path):
    fixed, (moving, truth) = phantoms.head(), phantoms.plain_scan()
    broken = moving.tensor.clone()
    broken[0, 20:26, 20:26, 20:26] = torch.nan
    pb.write_image(tmp_path / "moving.nii.gz", phantoms.with_values(moving, broken))
    found = phantoms.register(fixed, tmp_path / "moving.nii.gz", model="affine", initial="header")
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).mean() < VOXEL_MM / 2
    assert "216 voxels hold NaN" in " ".join(found.pair.moving.header["notes"])


def test_voxels_that_are_not_numbers_are_left_out_of_an_image_made_by_hand():
    fixed, (moving, truth) = phantoms.head(), phantoms.plain_scan()
    broken = moving.tensor.clone()
    broken[0, 20:26, 20:26, 20:26] = torch.inf
    found = phantoms.register(fixed, Image(broken, moving.grid), model="affine", initial="header")
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).mean() < VOXEL_MM / 2


def test_a_box_of_one_value_is_registered():
    box = torch.zeros(1, 24, 24, 24)
    box[:, 6:14, 8:20, 5:12] = 3
    moving, grid = box.roll(2, dims=3), Grid.from_spacing((24, 24, 24))
    found = phantoms.register(Image(box, grid), Image(moving, grid), model="rigid", initial="header")
    assert torch.allclose(
        found.fixed_to_moving([[10.0, 14.0, 8.0]]), torch.tensor([[10.0, 14.0, 10.0]]).double(), atol=0.2
    )


def test_a_small_range_far_from_zero_is_registered():
    fixed, (moving, truth) = phantoms.head(), phantoms.plain_scan()
    far = [phantoms.with_values(image, image.tensor + 1e7) for image in (fixed, moving)]
    found = phantoms.register(*far, model="affine", initial="header")
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).mean() < VOXEL_MM


def test_a_mask_of_one_voxel_or_of_none_that_is_a_number_says_so():
    fixed, moving = phantoms.head(), phantoms.plain_scan()[0]
    mask = torch.zeros(1, *fixed.grid.shape, dtype=torch.uint8)
    mask[0, 5, 5, 5] = 1
    with pytest.raises(ValueError, match="within its mask, is constant"):
        phantoms.register(fixed, moving, fixed_mask=LabelMap(mask, fixed.grid))
    broken = fixed.tensor.clone()
    broken[0, 5, 5, 5] = torch.nan
    with pytest.raises(ValueError, match="within its mask, holds no finite number"):
        phantoms.register(Image(broken, fixed.grid), moving, fixed_mask=LabelMap(mask, fixed.grid))


def test_the_mask_of_a_sheared_image_is_brought_onto_right_angles_with_it():
    head = phantoms.head()
    matrix = head.grid.voxel_to_world.clone()
    matrix[0, 1] = 0.3 * matrix[0, 0]
    sheared = Image(head.tensor, Grid(head.grid.shape, matrix))
    mask = box_mask(sheared)
    volume = prepare(sheared, mask)
    voxels = sheared.grid.to_voxel(volume.grid.centres()).round().long()
    last = torch.tensor(sheared.grid.shape) - 1
    inside = ((voxels >= 0) & (voxels <= last)).all(dim=-1)
    wanted = mask.tensor[0][voxels.clamp(min=0).minimum(last).unbind(dim=-1)] * inside
    assert torch.equal(volume.weights[0, 0], wanted.float())


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_image_is_refused(side: int, value: float):
    images = [phantoms.head(), phantoms.plain_scan()[0]]
    images[side] = phantoms.with_values(images[side], torch.full_like(images[side].tensor, value))
    with pytest.raises(ValueError, match="is constant"):
        phantoms.register(*images)


def test_fields_of_view_that_do_not_meet_are_no_success():
    fixed = phantoms.head()
    far = Grid(fixed.grid.shape, fixed.grid.voxel_to_world + torch.tensor([[0, 0, 0, 5000.0]] + [[0.0] * 4] * 3))
    apart = phantoms.register(fixed, Image(fixed.tensor, far), model="affine", initial="none")
    assert apart.verdict.value == "failed"
    assert "hardly overlap" in apart.verdict.reasons[0]
    together = phantoms.register(fixed, Image(fixed.tensor, far), model="rigid")
    assert together.verdict.value == "good"
