"""Scores of pairs whose numbers are known, and what is said when nothing can be scored."""

import math

import pytest
import torch

import pullback as pb
from pullback.data import Image, LabelMap
from pullback.evaluation import Case, Request, read_pairs, score
from pullback.evaluation.field_of_view import voxels_seen
from pullback.evaluation.measures import COLUMNS, measure_of
from pullback.evaluation.protocols import PROTOCOLS, warp_labels
from pullback.space import Grid
from pullback.transforms import Translation, warp
from studies import GRID, SHIFT, image, labels, shift_by, write_study


@pytest.fixture
def table(tmp_path):
    return write_study(tmp_path, {"a": [0.0, 1.0]})["a"]


def test_a_perfect_pair(table):
    found = score(read_pairs(table)[0], Request(protocols=PROTOCOLS))
    for protocol in PROTOCOLS:
        assert found.values[f"dice_{protocol}"] == found.values[f"iou_{protocol}"] == 1.0
        assert found.values[f"hd95_mm_{protocol}"] == found.values[f"surface_rms_mm_{protocol}"] == 0.0
        assert found.values[f"volume_similarity_{protocol}"] == 0.0
    for name in (
        "tre_mean_mm",
        "tre_max_mm",
        "folds_central",
        "folds_one_sided",
        "ndv_mm3",
        "error_p99.7_mm",
        "sdlogj",
    ):
        assert found.values[name] == pytest.approx(0.0, abs=1e-6)
    assert found.values["ncc"] == pytest.approx(1.0, abs=1e-5)
    assert (found.values["num_labels"], found.values["labels_lost"], found.values["seconds"]) == (2.0, 0.0, 1.0)
    assert found.values["tre_before_mm"] == pytest.approx(SHIFT)
    assert found.values["displacement_mean_mm"] == pytest.approx(SHIFT)
    assert set(found.values) <= set(COLUMNS)


def test_a_pair_wrong_by_one_voxel(table):
    found = score(read_pairs(table)[1])
    dice = (4 / 5 + 3 / 4) / 2
    assert found.values["dice_nearest"] == pytest.approx(dice)
    assert found.values["hausdorff_mm_nearest"] == pytest.approx(1.0)
    assert found.values["tre_mean_mm"] == found.values["tre_snapped_mean_mm"] == pytest.approx(1.0)
    assert found.values["error_p50_mm"] == pytest.approx(1.0)
    assert found.values["tre_share_improved"] == 1.0
    by_label = {row["label"]: row for row in found.labels}
    assert by_label[1]["dice"] == pytest.approx(0.8)
    assert by_label[1]["protocol"] == "nearest"


def test_only_what_was_asked_for(table):
    found = score(read_pairs(table)[1], Request(groups=["overlap"], labels=[2], protocols=["label"]))
    assert found.values["dice_label"] == pytest.approx(0.75)
    assert found.values["num_labels"] == 1
    assert not {"hd95_mm_label", "tre_mean_mm", "sdlogj", "ncc"} & set(found.values)
    with pytest.raises(ValueError, match="Did you mean 'overlap'"):
        Request(groups=["overlaps"])
    with pytest.raises(ValueError, match="protocol"):
        Request(protocols=["bilinear"])


def test_a_protocol_that_is_asked_for_twice_counts_once(table):
    found = score(read_pairs(table)[0], Request(groups=("overlap",), protocols=("nearest", "nearest")))
    assert [row["label"] for row in found.labels] == [1, 2]


def test_labels_that_somebody_warped(tmp_path, table):
    pb.write_image(tmp_path / "warped.nii.gz", labels(1))
    found = score(Case("p", fixed_labels=tmp_path / "fixed_labels.nii.gz", warped_labels=tmp_path / "warped.nii.gz"))
    assert found.values["dice_given"] == pytest.approx((4 / 5 + 3 / 4) / 2)
    elsewhere = LabelMap(labels().tensor, Grid.from_spacing(GRID.shape))
    pb.write_image(tmp_path / "elsewhere.nii.gz", elsewhere)
    with pytest.raises(ValueError, match="not on the grid of the fixed labels"):
        score(Case("p", fixed_labels=tmp_path / "fixed_labels.nii.gz", warped_labels=tmp_path / "elsewhere.nii.gz"))


def test_a_lost_label_is_counted_and_left_out_of_distances(tmp_path, table):
    pb.write_transform(tmp_path / "far.tfm", Translation.by([0, 100.0, 0]))
    case = Case(
        "p",
        fixed_labels=tmp_path / "fixed_labels.nii.gz",
        moving_labels=tmp_path / "moving_labels.nii.gz",
        transform=(tmp_path / "far.tfm",),
    )
    found = score(case, Request(groups=["overlap", "surface"]))
    assert (found.values["dice_nearest"], found.values["labels_lost"]) == (0.0, 2.0)
    assert math.isnan(found.values["hd95_mm_nearest"])
    assert math.isinf(found.labels[0]["hd95_mm"])


def test_transforms_act_in_the_order_given_and_identity_is_a_word(tmp_path, table):
    pb.write_transform(tmp_path / "one.tfm", shift_by(1))
    pb.write_transform(tmp_path / "two.tfm", shift_by(SHIFT - 1))
    files = {"fixed_labels": tmp_path / "fixed_labels.nii.gz", "moving_labels": tmp_path / "moving_labels.nii.gz"}
    both = score(Case("p", **files, transform=(tmp_path / "one.tfm", tmp_path / "two.tfm")), Request(["overlap"]))
    assert both.values["dice_nearest"] == 1.0
    start = score(Case("p", **files, transform=("identity",)), Request(["overlap"]))
    assert start.values["dice_nearest"] == pytest.approx((2 / 5 + 1 / 4) / 2)


def test_points_need_no_image(tmp_path, table):
    points = {"fixed_points": tmp_path / "fixed.csv", "moving_points": tmp_path / "moving.csv"}
    found = score(Case("p", **points, transform=(tmp_path / "a1.tfm",)))
    assert found.values["tre_max_mm"] == pytest.approx(1.0)
    assert not {"sdlogj", "tre_snapped_mean_mm"} & set(found.values)
    assert score(Case("p", **points, transform=("identity",))).values["tre_mean_mm"] == pytest.approx(SHIFT)


def test_points_belong_together_by_name(tmp_path, table):
    (tmp_path / "a.csv").write_text("x,y,z,name\n1,2,3,a\n4,5,6,b\n7,8,9,c\n")
    (tmp_path / "b.csv").write_text("x,y,z,name\n7,8,9,c\n1,2,3,a\n")
    case = Case("p", fixed_points=tmp_path / "a.csv", moving_points=tmp_path / "b.csv", transform=("identity",))
    assert score(case).values["tre_max_mm"] == 0.0


def test_a_mask_says_where_it_counts(tmp_path, table):
    mask = torch.zeros(1, *GRID.shape, dtype=torch.int32)
    mask[0, 4:6, 4:6, 4:6] = 1
    pb.write_image(tmp_path / "mask.nii.gz", LabelMap(mask, GRID))
    pb.write_image(tmp_path / "warped.nii.gz", image())
    found = score(
        Case("p", fixed=tmp_path / "fixed.nii.gz", warped=tmp_path / "warped.nii.gz", mask=tmp_path / "mask.nii.gz")
    )
    assert found.values["mse"] == 0.0
    pb.write_image(tmp_path / "mask.nii.gz", LabelMap(torch.zeros_like(mask), GRID))
    with pytest.raises(ValueError, match="mask of pair 'p' is empty"):
        score(
            Case("p", fixed=tmp_path / "fixed.nii.gz", warped=tmp_path / "warped.nii.gz", mask=tmp_path / "mask.nii.gz")
        )


def test_inverse_consistency(tmp_path, table):
    pb.write_transform(tmp_path / "back.tfm", shift_by(-SHIFT + 0.5))
    files = {
        "fixed": tmp_path / "fixed.nii.gz",
        "transform": (tmp_path / "a0.tfm",),
        "inverse": (tmp_path / "back.tfm",),
    }
    found = score(Case("p", **files), Request(["deformation"]))
    assert found.values["inverse_mean_mm"] == found.values["inverse_max_mm"] == pytest.approx(0.5)


def test_one_hot_labels_follow_the_largest_share():
    half = warp_labels(labels(), shift_by(0.4), GRID, "linear")
    assert torch.equal(half.tensor, labels().tensor)  # 0.6 of each voxel is its own label
    most = warp_labels(labels(SHIFT), shift_by(SHIFT - 0.6), GRID, "linear")
    assert torch.equal(most.tensor, labels(1).tensor)
    outside = warp_labels(
        LabelMap(torch.ones(1, *GRID.shape).int(), GRID), Translation.by([1000.0, 0, 0]), GRID, "linear"
    )
    assert not outside.tensor.any()


def test_one_hot_is_the_arg_max_of_interpolated_indicators():
    values = torch.randint(0, 5, (1, *GRID.shape), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    move = Translation.by([0.3, -0.4, 0.7])
    shares = torch.stack([warp(Image((values == k).float(), GRID), move, onto=GRID).tensor[0] for k in range(5)])
    shares[0] += 1 - shares.sum(dim=0)
    clear = shares.sort(dim=0).values.diff(dim=0)[-1] > 1e-3
    found = warp_labels(LabelMap(values, GRID), move, GRID, "linear").tensor[0]
    assert torch.equal(found[clear], shares.argmax(dim=0)[clear].int())


def test_intensities_outside_the_field_of_view_or_invalid_take_no_part(tmp_path, table):
    holes = Image(image().tensor.clone(), GRID)
    holes.tensor[0, 3:6, 3:6, 3:6] = torch.nan
    pb.write_image(tmp_path / "holes.nii.gz", holes)
    measures = Request(["intensity"])
    for fixed, warped in (("fixed", "holes"), ("holes", "fixed"), ("holes", "holes")):
        case = Case("p", fixed=tmp_path / f"{fixed}.nii.gz", warped=tmp_path / f"{warped}.nii.gz")
        assert score(case, measures).values["mse"] == 0.0
    pb.write_transform(tmp_path / "half.tfm", shift_by(0.5))
    moving = Image(torch.full_like(image().tensor, 7.0), GRID)
    moving.tensor[0, 3:6, 3:6, 3:6] = torch.nan
    pb.write_image(tmp_path / "moving.nii.gz", moving)
    pb.write_image(tmp_path / "flat.nii.gz", Image(torch.full_like(image().tensor, 7.0), GRID))
    files = {"fixed": tmp_path / "flat.nii.gz", "moving": tmp_path / "moving.nii.gz"}
    for name in ("half", "a0"):
        assert score(Case("p", **files, transform=(tmp_path / f"{name}.tfm",)), measures).values["mse"] == 0.0
    pb.write_transform(tmp_path / "far.tfm", Translation.by([0, 100.0, 0]))
    assert math.isnan(score(Case("p", **files, transform=(tmp_path / "far.tfm",)), measures).values["mse"])


def test_voxels_without_numbers_are_seen_through_no_map():
    holes = Image(image().tensor.clone(), GRID)
    holes.tensor[0, 3, 3, 3] = torch.nan
    seen = voxels_seen(holes, shift_by(1), GRID)
    assert not seen[2, 3, 3]
    assert not seen[-1].any()
    assert seen[:-1].sum() == seen[:-1].numel() - 1


def test_nothing_to_measure_is_said(tmp_path, table):
    with pytest.raises(ValueError, match="Pair 'p' has fixed, with which nothing"):
        score(Case("p", fixed=tmp_path / "fixed.nii.gz"))
    with pytest.raises(ValueError, match="Pair 'p' has nothing"):
        score(Case("p"))
    with pytest.raises(FileNotFoundError):
        score(Case("p", fixed=tmp_path / "none.nii.gz", warped=tmp_path / "fixed.nii.gz"))
    with pytest.raises(ValueError, match="give one of them"):
        Case("p", transform=("identity",), displacement=tmp_path / "x.nii.gz")


def test_every_column_has_a_measure():
    assert measure_of("hd95_mm_linear").better == "lower"
    assert all(measure_of(column).title for column in COLUMNS)
    with pytest.raises(ValueError, match="no measure"):
        measure_of("dice_best")
