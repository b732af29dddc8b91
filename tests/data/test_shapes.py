"""The disc and the C: areas, openings, soft edges."""

import math

import pytest
import torch

from pullback.data import c_shape_pair


def test_areas_are_those_of_the_shapes():
    pair = c_shape_pair(100, spacing_mm=0.5)
    area = 100**2 * math.pi * 0.35**2
    assert float(pair.moving.tensor.sum()) == pytest.approx(area, rel=1e-3)
    stroke = 100**2 * math.pi * (0.35**2 - 0.19**2) * 300 / 360
    assert float(pair.fixed.tensor.sum()) == pytest.approx(stroke, rel=2e-3)
    assert int(pair.fixed_labels.tensor.sum()) == pytest.approx(stroke, rel=1e-2)
    assert pair.fixed.grid.spacing_mm.tolist() == [0.5, 0.5]


def test_the_c_opens_where_it_is_told_to():
    for turn, index in ((0, (51, 32)), (90, (32, 51)), (180, (12, 32))):
        fixed = c_shape_pair(64, turn_degrees=turn).fixed.tensor[0]
        opposite = tuple(63 - n for n in index)
        assert (float(fixed[index]), float(fixed[opposite])) == (0.0, 1.0)
    assert not c_shape_pair(64).fixed.tensor[0, 28:36, 28:36].any()


def test_edges_are_soft_and_the_disc_may_be_smaller():
    pair = c_shape_pair(64, disc_radius=0.2)
    values = pair.moving.tensor.unique()
    assert len(values) > 4
    assert float(pair.moving.tensor.sum()) == pytest.approx(64**2 * math.pi * 0.04, rel=5e-3)
    assert torch.equal(pair.moving_labels.tensor, (pair.moving.tensor >= 0.5).to(torch.int32))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_voxels": 4},
        {"radius": 0.6},
        {"disc_radius": 0.0},
        {"thickness": 0.4},
        {"gap_degrees": 0},
        {"gap_degrees": 360},
    ],
)
def test_what_gives_no_c_is_refused(settings: dict):
    with pytest.raises(ValueError, match=next(iter(settings))):
        c_shape_pair(**settings)
