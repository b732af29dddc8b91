"""Summaries of landmark errors."""

import pytest
import torch

from examples import GRIDS, inner_points
from pullback.data import Points
from pullback.metrics import share_improved, snapped_to_voxels, summarise_errors
from pullback.space import Grid


def test_the_summary_of_known_errors():
    found = summarise_errors(torch.tensor([4.0, 0, 1, 3, 2]))
    assert found.as_dict() == pytest.approx(
        {"mean": 2.0, "median": 2.0, "percentile75": 3.0, "maximum": 4.0, "sd": 2**0.5}
    )
    with pytest.raises(ValueError, match="no landmark"):
        summarise_errors(torch.zeros(0))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_snapping_goes_to_the_nearest_centre(grid: Grid):
    points = inner_points(grid, margin=0.0)
    snapped = snapped_to_voxels(Points(points), grid).coordinates
    voxels = grid.to_voxel(snapped)
    assert torch.allclose(voxels, voxels.round(), atol=1e-6)
    assert (grid.to_voxel(points) - voxels).abs().max() <= 0.5 + 1e-6


def test_the_share_that_improved():
    assert share_improved(torch.tensor([3.0, 3, 3, 3]), torch.tensor([1.0, 3, 2, 4])) == 0.5
    with pytest.raises(ValueError, match="one of each"):
        share_improved(torch.zeros(2), torch.zeros(3))
