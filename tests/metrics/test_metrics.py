"""Numbers for papers, against closed forms."""

import math

import pytest
import torch

from examples import GRIDS
from pullback.data import LabelMap, Points
from pullback.metrics import (
    dice_per_label,
    inverse_consistency,
    mean_dice,
    overlap_per_label,
    point_errors_mm,
    summarise_jacobian,
)
from pullback.space import Grid
from pullback.transforms import Affine, DisplacementField, Translation, identity

GRID = Grid.from_spacing((10, 12, 8), (1.0, 2.0, 3.0))


def boxes(*spans: tuple[int, int, int], grid: Grid = GRID) -> LabelMap:
    """Label, start and stop along the first axis."""
    tensor = torch.zeros(1, *grid.shape, dtype=torch.int32)
    for label, start, stop in spans:
        tensor[0, start:stop] = label
    return LabelMap(tensor, grid)


def test_dice_of_boxes():
    found = dice_per_label(boxes((1, 0, 4), (2, 6, 8)), boxes((1, 2, 6), (2, 6, 8)))
    assert found == {1: pytest.approx(2 * 2 / (4 + 4)), 2: 1.0}
    assert mean_dice(found) == pytest.approx(0.75)


def test_a_label_of_one_side_only_scores_0_unless_the_moving_image_never_had_it():
    fixed, warped = boxes((1, 0, 4), (7, 8, 9)), boxes((1, 0, 4), (9, 6, 7))
    assert dice_per_label(fixed, warped) == {1: 1.0, 7: 0.0, 9: 0.0}
    assert dice_per_label(fixed, warped, among=boxes((1, 0, 4))) == {1: 1.0}
    assert dice_per_label(fixed, boxes((1, 0, 4)), among=boxes((7, 0, 1))) == {7: 0.0}


def test_all_overlaps_of_boxes():
    found = overlap_per_label(boxes((1, 0, 4), (5, 8, 9)), boxes((1, 1, 7), (6, 9, 10)))
    volume = 12 * 8 * GRID.voxel_volume
    assert found[1].as_dict() == pytest.approx(
        {
            "dice": 6 / 10,
            "iou": 3 / 7,
            "target_overlap": 3 / 4,
            "volume_similarity": 2 * (6 - 4) / 10,
            "fixed_mm3": 4 * volume,
            "warped_mm3": 6 * volume,
        }
    )
    assert found[1].iou == pytest.approx(found[1].dice / (2 - found[1].dice))
    assert (found[5].target_overlap, found[5].volume_similarity) == (0.0, -2.0)
    assert math.isnan(found[6].target_overlap)


def test_dice_of_nothing_is_no_number():
    assert dice_per_label(boxes(), boxes()) == {}
    assert math.isnan(mean_dice({}))


def test_dice_needs_one_grid():
    with pytest.raises(ValueError, match="different grids"):
        dice_per_label(boxes(), boxes(grid=Grid.from_spacing(GRID.shape)))


def test_errors_of_points():
    a, b = Points(torch.tensor([[0.0, 0, 0], [1, 2, 3]])), Points(torch.tensor([[3.0, 4, 0], [1, 2, 3]]))
    assert point_errors_mm(a, b).tolist() == [5.0, 0.0]
    with pytest.raises(ValueError, match="2 points were mapped, but 1"):
        point_errors_mm(a, Points(torch.zeros(1, 3)))


def test_the_jacobian_of_a_scaling():
    summary = summarise_jacobian(Affine.from_parts(scaling=(2.0, 1.5, 0.5)).jacobian_determinant(GRID))
    assert (summary.minimum, summary.maximum) == (pytest.approx(1.5), pytest.approx(1.5))
    assert summary.num_nonpositive == 0
    assert summary.sd_log == pytest.approx(0.0, abs=1e-6)


def test_a_planted_fold_is_counted():
    displacement = torch.zeros(3, *GRID.shape)
    displacement[0, 4] = 3.0  # voxel 4 jumps past its neighbours, 1 mm apart
    determinant = DisplacementField(displacement, GRID).jacobian_determinant(GRID)
    assert determinant[5].max() == pytest.approx(1 - 3.0 / 2)
    summary = summarise_jacobian(determinant)
    assert summary.minimum == pytest.approx(-0.5)
    assert summary.maximum == pytest.approx(2.5)
    assert summary.num_nonpositive == 12 * 8
    assert summary.percent_nonpositive == pytest.approx(10.0)
    region = torch.zeros(GRID.shape, dtype=torch.bool)
    region[:5] = True
    assert summarise_jacobian(determinant, region).num_nonpositive == 0


def test_zero_counts_as_folded():
    assert summarise_jacobian(torch.tensor([0.0, 1.0])).num_nonpositive == 1


def test_the_spread_of_the_logarithm():
    assert summarise_jacobian(torch.tensor([math.e, 1 / math.e])).sd_log == pytest.approx(1.0)
    assert summarise_jacobian(torch.tensor([-5.0, 1e-3])).sd_log == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_true_inverse_is_consistent(grid: Grid):
    affine = Affine.from_parts(translation_mm=[3.0] * grid.num_dims, num_dims=grid.num_dims)
    assert inverse_consistency(affine, ~affine, grid).max_mm < 1e-9


def test_a_wrong_inverse_misses_by_what_it_is_wrong():
    found = inverse_consistency(Translation.by([3.0, 4.0, 0.0]), identity(3), GRID)
    assert (found.mean_mm, found.max_mm) == (pytest.approx(5.0), pytest.approx(5.0))
    assert found.mean_voxels == pytest.approx(math.hypot(3, 2))
    half = torch.zeros(GRID.shape, dtype=torch.bool)
    half[3] = True
    assert inverse_consistency(identity(3), Translation.by([0, 0, 3.0]), GRID, half).max_voxels == pytest.approx(1.0)
