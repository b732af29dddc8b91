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


def test_integers_become_intensities():
    image = Image(torch.ones(1, 2, 3, dtype=torch.int16), Grid.from_spacing((2, 3)))
    assert image.tensor.dtype == torch.float32
    assert Image(image.tensor.double(), image.grid).tensor.dtype == torch.float64


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
