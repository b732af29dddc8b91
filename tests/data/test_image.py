"""Images and label maps: what they hold, and that reordering moves no voxel."""

import pytest
import torch

from examples import GRIDS, noise
from pullback.data import Image, LabelMap
from pullback.functional import sample
from pullback.space import Grid, Reorientation, axis_codes

every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


@every_grid
def test_reorient_moves_no_voxel_in_the_world(grid):
    image = Image(noise(2, *grid.shape), grid)
    turned = image.reorient()
    assert axis_codes(turned.grid) == "RAS"[: grid.num_dims]
    there = sample(image.tensor, grid.to_voxel(turned.grid.centres()), interpolation="nearest", fill=99.0)
    assert torch.equal(turned.tensor, there)


def test_reorient_takes_any_order_and_keeps_the_header():
    image = Image(noise(1, *GRIDS["RAS"].shape), GRIDS["RAS"], {"name": "head"})
    turned = image.reorient(Reorientation((2, 0, 1), (True, False, False)))
    assert turned.name == "head"
    assert axis_codes(turned.grid) == "IRA"
    assert turned.tensor[0, 0, 3, 4] == image.tensor[0, 3, 4, -1]


def test_invalid_voxels_turn_with_the_others_and_are_forgotten_with_their_grid():
    tensor = noise(1, *GRIDS["RAS"].shape)
    tensor[0, 1, 2, 3] = torch.nan
    image = Image(tensor, GRIDS["RAS"]).with_numbers_only()
    assert torch.equal(image.header["invalid"], tensor[0].isnan())
    assert "1 voxels hold NaN" in image.header["notes"][0]
    assert image.with_numbers_only() is image
    turned = image.reorient(Reorientation((2, 0, 1), (True, False, False)))
    assert turned.header["invalid"].nonzero().tolist() == (turned.tensor[0] == 0).nonzero().tolist()
    assert "invalid" not in image.with_tensor(tensor[:, 1:], image.grid.crop((1, 0, 0), image.grid.shape)).header


def test_integers_become_intensities():
    image = Image(torch.ones(1, 2, 3, dtype=torch.int16), Grid.from_spacing((2, 3)))
    assert image.tensor.dtype == torch.float32
    assert Image(image.tensor.double(), image.grid).tensor.dtype == torch.float64


def test_an_image_is_shown_in_a_line_without_its_voxels():
    shown = repr(Image(noise(1, 30, 20, 10), Grid.from_spacing((30, 20, 10), 1.0)))
    assert "30 x 20 x 10 voxels" in shown
    assert "\n" not in shown
    assert "tensor" not in shown


def test_a_batch_has_one_image():
    image = Image(noise(3, 4, 5), Grid.from_spacing((4, 5)))
    assert image.num_channels == 3
    assert torch.equal(image.batch()[0], image.tensor)
    assert image.name == "image"


@pytest.mark.parametrize("shape", [(4, 5), (1, 5, 4), (1, 4, 5, 1)])
def test_a_tensor_that_does_not_fit_the_grid_is_refused(shape):
    with pytest.raises(ValueError, match="add a channel axis"):
        Image(torch.zeros(shape), Grid.from_spacing((4, 5)))


def test_whole_floats_become_labels_and_fractions_do_not():
    grid = Grid.from_spacing((1, 4))
    labels = LabelMap(torch.tensor([[[0.0, 7.0, 3.0, 7.0]]]), grid)
    assert labels.tensor.dtype == torch.int32
    assert labels.labels == [3, 7]
    for wrong in (0.5, float("nan")):
        with pytest.raises(ValueError, match="fractions"):
            LabelMap(torch.tensor([[[0.0, 7.0, 3.0, wrong]]]), grid)


def test_labels_have_one_channel():
    with pytest.raises(ValueError, match="one channel"):
        LabelMap(torch.zeros(2, 4, 5, dtype=torch.int32), Grid.from_spacing((4, 5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_float_labels_are_kept(dtype):
    labels = LabelMap(torch.tensor([[[0.0, 3e9, -3e9, 7.0]]], dtype=dtype), Grid.from_spacing((1, 4)))
    assert labels.tensor.dtype == torch.int64
    assert labels.labels == [-3_000_000_000, 7, 3_000_000_000]


@pytest.mark.parametrize("wrong", [float("inf"), -float("inf"), 1e19])
def test_labels_that_no_integer_holds_are_refused(wrong):
    with pytest.raises(ValueError, match="below 2\\^63"):
        LabelMap(torch.tensor([[[0.0, wrong]]]), Grid.from_spacing((1, 2)))


@pytest.mark.parametrize("kind", [Image, LabelMap])
@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (torch.ones(1, 2, 3, dtype=torch.complex64), ValueError, "complex"),
        (torch.ones(0, 2, 3), ValueError, "empty"),
        (torch.ones(1, 2, 3).numpy(), TypeError, "torch tensor is needed"),
    ],
)
def test_what_holds_no_real_voxels_is_refused(kind, tensor, error, message):
    with pytest.raises(error, match=message):
        kind(tensor, Grid.from_spacing((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype):
    image = Image(torch.ones(1, 2, 3, dtype=dtype), Grid.from_spacing((2, 3)))
    assert image.tensor.dtype == torch.float32
    assert LabelMap(torch.ones(1, 2, 3, dtype=dtype), image.grid).labels == [1]


@pytest.mark.parametrize("kind", [Image, LabelMap])
def test_voxels_are_data_without_gradient(kind):
    tensor = torch.ones(1, 2, 3, requires_grad=True)
    assert not kind(tensor, Grid.from_spacing((2, 3))).tensor.requires_grad
    assert tensor.requires_grad
