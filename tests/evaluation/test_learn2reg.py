"""Learn2Reg: layout, submissions, and the script's arithmetic with its quirks."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

import pullback as pb
from examples import GRIDS, inner_points, smooth_noise
from pullback.evaluation import evaluate, read_dataset, score, write_submission
from pullback.evaluation import learn2reg_script as script
from pullback.evaluation.case import to_voxel_displacement
from pullback.evaluation.learn2reg import find_displacement, script_aggregates, script_scores
from pullback.evaluation.run import Job
from pullback.evaluation.submission import transforms_by_pattern
from pullback.io.frames import field_from_voxels
from pullback.space import Grid
from pullback.transforms import Affine
from studies import SHIFT, SPACING, damage, shift_by, write_dataset, write_displacements


def correlated(u: np.ndarray) -> np.ndarray:
    """det(1 + du/dx) as the script makes it: SciPy correlation, zeros outside, two voxels cut."""
    jacobian = np.empty((*u.shape[1:], 3, 3))
    for c in range(3):
        for a in range(3):
            weights = np.array([-0.5, 0, 0.5]).reshape([3 if b == a else 1 for b in range(3)])
            jacobian[..., a, c] = ndimage.correlate(u[c], weights, mode="constant") + (a == c)
    return np.linalg.det(jacobian)[2:-2, 2:-2, 2:-2]


def test_sdlogj_adds_three():
    u = smooth_noise(3, 12, 11, 10, largest=3.0, sigma=1.5, dtype=torch.float64)
    det = correlated(u.numpy())
    assert script.sd_log_jacobian(u) == pytest.approx(np.log((det + 3).clip(1e-9, 1e9)).std(), rel=1e-6)
    mask = torch.rand(12, 11, 10) > 0.5
    inside = det[mask.numpy()[2:-2, 2:-2, 2:-2]]
    edge = torch.zeros_like(mask)
    edge[:2] = True
    assert math.isnan(script.sd_log_jacobian(u, edge))
    assert script.sd_log_jacobian(u, mask) == pytest.approx(np.log(inside + 3).std(), rel=1e-6)
    with pytest.raises(ValueError, match="more than four"):
        script.sd_log_jacobian(torch.zeros(3, 4, 9, 9))


def test_folds_hide_in_the_scripts_number():
    u = torch.zeros(3, 9, 9, 9)
    u[0, 4] = 3.0
    assert correlated(u.numpy()).min() < 0
    assert math.isfinite(script.sd_log_jacobian(u))


def test_labels_that_either_map_lacks_have_no_number():
    fixed, moving = torch.zeros(2, 6, 6, 6, dtype=torch.int32)
    fixed[1:3], moving[2:4] = 1, 1
    fixed[5, 5, 5] = 2
    still = script.warp_labels(moving, torch.zeros(3, 6, 6, 6))
    assert torch.equal(still, moving)
    assert script.dice(fixed, moving, still, [1, 2, 3]) == pytest.approx(0.5)
    assert script.hausdorff95_voxels(fixed, moving, still, [1, 2, 3]) == pytest.approx(1.0)
    assert math.isnan(script.dice(fixed, moving, still, [3]))
    gone = torch.zeros_like(fixed)
    assert script.dice(fixed, moving, gone, [1]) == 0.0
    assert math.isinf(script.hausdorff95_voxels(fixed, moving, gone, [1]))


def test_aggregates_take_the_70_percent_quantile_of_two_measures_only():
    cases = [
        {"l2r_dice": 0.1 * n, "l2r_hd95": float(n), "l2r_sdlogj": float(n), "l2r_tre": float(n)} for n in range(11)
    ]
    found = script_aggregates(cases)
    assert found["l2r_dice"]["30"] == pytest.approx(0.3)
    assert found["l2r_hd95"]["30"] == pytest.approx(3.0)
    assert found["l2r_sdlogj"]["30"] == found["l2r_tre"]["30"] == pytest.approx(7.0)
    assert found["l2r_hd95"]["std"] == pytest.approx(np.std(range(11)))


@pytest.mark.parametrize(
    ("fixed", "moving"), [("RAS", "RAS"), ("oblique", "LPS"), ("LAS", "AIR"), ("sheared", "oblique")]
)
def test_voxel_steps_and_world_maps(fixed: str, moving: str):
    a, b = GRIDS[fixed], GRIDS[moving]
    steps = smooth_noise(3, *a.shape, largest=0.8)
    transform = field_from_voxels(steps, a, b)
    index = torch.tensor([[2.0, 3.0, 4.0]], dtype=torch.float64)
    landed = b.to_voxel(transform(a.to_world(index)))
    assert torch.allclose(landed, index + steps[:, 2, 3, 4].double(), atol=1e-4)
    assert torch.allclose(to_voxel_displacement(transform, a, b), steps, atol=1e-4)


def test_steps_of_an_affine_are_exact():
    grid = GRIDS["oblique"]
    affine = Affine.from_parts(rotation=(0.1, -0.2, 0.05), translation_mm=(3, -2, 5))
    back = field_from_voxels(to_voxel_displacement(affine, grid, grid), grid, grid)
    points = inner_points(grid)
    assert (back(points) - affine(points)).abs().max() < 1e-3
    with pytest.raises(ValueError, match="one shape"):
        to_voxel_displacement(affine, grid, Grid.from_spacing((3, 3, 3)))


def test_the_data_set_finds_its_files(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path))
    assert (dataset.name, dataset.labels, dataset.label_names[2]) == ("Boxes", (1, 2), "short")
    first = dataset.pairs("val")[0]
    assert (first.name, first.long_name, first.short_name) == (
        "0001_0000<--0002_0000",
        "disp_0001_0000_0002_0000",
        "disp_0001_0002",
    )
    assert not first.is_short_name_allowed
    case = dataset.case(first, None)
    assert case.fixed_points == tmp_path / "keypointsTr" / "Boxes_0001_0000.csv"
    assert score(case).values["tre_mean_mm"] == pytest.approx(SHIFT * SPACING[0])
    with pytest.raises(ValueError, match="split"):
        dataset.pairs("test")
    described = json.loads((tmp_path / "Boxes_dataset.json").read_text())
    described |= {"labels": {"0": {"0": "nothing"}}, "registration_val": 2 * described["registration_val"]}
    (tmp_path / "twice.json").write_text(json.dumps(described))
    assert read_dataset(tmp_path / "twice.json").labels is None
    with pytest.raises(ValueError, match="lists the pair '0001_0000<--0002_0000' 2 times"):
        read_dataset(tmp_path / "twice.json").pairs("val")


@pytest.mark.parametrize("uses_long_names", [True, False])
def test_a_right_submission_scores_full_marks(tmp_path, uses_long_names):
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    names = [pair.long_name if uses_long_names else pair.short_name for pair in dataset.pairs("val")]
    write_displacements(tmp_path / "disp", names, SHIFT)
    case = dataset.case(dataset.pairs("val")[0], tmp_path / "disp")
    ours, theirs = score(case).values, script_scores(case, dataset)
    assert ours["dice_nearest"] == theirs["l2r_dice"] == 1.0
    assert ours["hd95_mm_nearest"] == theirs["l2r_hd95"] == 0.0
    assert theirs["l2r_tre"] == pytest.approx(0.0, abs=1e-5)
    assert ours["tre_mean_mm"] == pytest.approx(0.0, abs=1e-5)


def test_the_scripts_hd95_is_in_voxels_and_ours_in_mm(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    pair = dataset.pairs("val")[0]
    write_displacements(tmp_path / "disp", [pair.long_name], SHIFT)
    displacement = torch.zeros(3, *dataset_shape(dataset))
    displacement[0], displacement[2] = SHIFT, 1.0
    pb.io.write_voxel_displacement(tmp_path / "disp" / f"{pair.long_name}.nii.gz", displacement)
    case = dataset.case(pair, tmp_path / "disp")
    assert script_scores(case, dataset)["l2r_hd95"] == pytest.approx(1.0)
    assert score(case).values["hd95_mm_nearest"] == pytest.approx(SPACING[2])
    assert script_scores(case, dataset)["l2r_tre"] == pytest.approx(SPACING[2])


def dataset_shape(dataset) -> tuple[int, ...]:
    return pb.read_image(dataset.folder / dataset.pairs("val")[0].fixed).grid.shape


def test_a_submission_is_written_and_scores(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    for pair in dataset.pairs("val"):
        pb.write_transform(tmp_path / f"{pair.fixed.name[:-7]}_{pair.long_name.split('_')[3]}.tfm", shift_by(SHIFT))
    transform_of = transforms_by_pattern(str(tmp_path / "{fixed}_{moving_subject}.tfm"))
    written = write_submission(dataset, "val", transform_of, tmp_path / "disp")
    assert [path.name for path in written] == ["disp_0001_0000_0002_0000.nii.gz", "disp_0001_0000_0003_0000.nii.gz"]
    jobs = [Job(p.name, lambda p=p: dataset.case(p, tmp_path / "disp")) for p in dataset.pairs("val")]
    outcome = evaluate(jobs, tmp_path, extra=lambda case: script_scores(case, dataset), aggregates=script_aggregates)
    assert outcome.summary["measures"]["l2r_dice"]["mean"] == 1.0
    assert outcome.summary["learn2reg"]["l2r_dice"]["mean"] == 1.0
    for pattern, message in [("a.tfm", "must name the pair"), ("{subject}.tfm", "all that can stand")]:
        with pytest.raises(ValueError, match=message):
            transforms_by_pattern(pattern)


def test_a_configuration_of_the_challenge(tmp_path):
    write_dataset(tmp_path)
    pairs = json.loads((tmp_path / "Boxes_dataset.json").read_text())["registration_val"]
    methods = [
        {"name": "DSC", "metric": "dice", "labels": [2]},
        {"name": "TRE", "metric": "tre", "dest": "keypointsTr"},
    ]
    config = {"task_name": "Boxes", "eval_pairs": pairs, "evaluation_methods": methods, "masked_evaluation": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    dataset = read_dataset(tmp_path / "config.json")
    assert (dataset.labels, dataset.is_masked, dataset.landmarks) == ((2,), True, ("keypoints",))
    write_displacements(tmp_path / "disp", [dataset.pairs("pairs")[0].long_name], SHIFT)
    assert script_scores(dataset.case(dataset.pairs("pairs")[0], tmp_path / "disp"), dataset)["l2r_dice"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not JSON"),
        ("{}", "no data set"),
        ('{"registration_val": []}', "lists no pair"),
        ('{"registration_val": [{"fixed": "a"}]}', "without 'fixed' and 'moving'"),
        ('{"registration_val": [{"fixed": "a.nii.gz", "moving": "b.nii.gz"}]}', "not named like"),
        ('{"eval_pairs": [{"fixed": "../T_0001_0000.nii.gz", "moving": "T_0001_0000.nii.gz"}]}', "outside"),
        ('{"eval_pairs": [], "evaluation_methods": ["dice"]}', "other than a list of objects"),
        ('{"eval_pairs": [], "evaluation_methods": [{"metric": "dice", "labels": ["all"]}]}', "with numbers as labels"),
        ('{"eval_pairs": [], "evaluation_methods": [{"metric": "tre", "dest": 3}]}', "a folder as dest"),
    ],
)
def test_broken_data_sets(tmp_path, text, message):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path / "d.json")


def test_missing_and_damaged_displacements(tmp_path):
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    pair = dataset.pairs("val")[0]
    (tmp_path / "disp").mkdir()
    with pytest.raises(FileNotFoundError, match="disp_0001_0000_0002_0000"):
        find_displacement(tmp_path / "disp", pair)
    write_displacements(tmp_path / "disp", [pair.long_name], SHIFT)
    damage(tmp_path / "disp" / f"{pair.long_name}.nii.gz")
    with pytest.raises(ValueError, match="corrupt"):
        score(dataset.case(pair, tmp_path / "disp"))
