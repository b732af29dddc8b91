"""``pullback landmarks``: from files of landmarks to a transform."""

import json
from pathlib import Path

import pytest
import torch

import phantoms
import pullback as pb
from pullback.cli.main import run
from pullback.io import read_transform, write_image, write_points

TRUTH = phantoms.truth_of("affine")


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fixed = phantoms.points_in(phantoms.head())[::997]
    names = tuple(f"p{n}" for n in range(len(fixed)))
    write_points("fixed.csv", pb.Points(fixed, names))
    write_points("moving.csv", pb.Points(TRUTH(fixed).flip(0), names[::-1]))
    write_image("head.nii.gz", phantoms.head())
    return tmp_path


def gap(path: str) -> float:
    points = phantoms.points_in(phantoms.head())[::499]
    return float((read_transform(path)(points) - TRUTH(points)).abs().max())


def test_an_affine_by_names(here, capsys):
    assert run(["landmarks", "fixed.csv", "moving.csv", "--out", "t.h5"]) == 0
    said = capsys.readouterr().out
    assert "held out: mean error" in said
    assert "read back" in said
    assert gap("t.h5") < 1e-9


def test_a_spline_becomes_a_field_of_the_fixed_image(here, capsys):
    assert run(["landmarks", "fixed.csv", "moving.csv", "--model", "tps", "--out", "t.nii.gz"]) == 2
    assert "cannot hold a thin-plate spline" in capsys.readouterr().err
    words = ["--model", "tps", "--fixed", "head.nii.gz", "--out", "t.nii.gz"]
    assert run(["landmarks", "fixed.csv", "moving.csv", *words]) == 0
    assert "evaluated at the 40 x 48 x 36 voxels" in capsys.readouterr().out
    assert gap("t.nii.gz") < 1e-3


def test_landmarks_come_from_no_tool(here, capsys):
    assert run(["landmarks", "fixed.csv", "moving.csv", "--from", "fsl", "--out", "t.h5"]) == 2
    assert "--from is 'fsl'" in capsys.readouterr().err
    assert run(["landmarks", "fixed.csv", "moving.csv", "--flat", "--fixed", "head.nii.gz", "--out", "t.h5"]) == 2
    assert "has 3 dimensions" in capsys.readouterr().err


def test_outliers_are_named(here, capsys):
    points = pb.read_points("moving.csv")
    points.coordinates[0] += 50
    write_points("moving.csv", points)
    assert run(["landmarks", "fixed.csv", "moving.csv", "--robust", "--out", "t.h5"]) == 0
    assert f"({points.names[0]})" in capsys.readouterr().out
    assert gap("t.h5") < 1e-9


def test_files_of_slicer_and_of_itk_mean_the_same(here):
    fixed, moving = pb.read_points("fixed.csv"), pb.read_points("moving.csv")
    lps = torch.tensor([-1.0, -1.0, 1.0])
    for name, points in (("fixed", fixed), ("moving", moving)):
        control = [
            {"label": label, "position": row}
            for label, row in zip(points.names, (points.coordinates * lps).tolist(), strict=True)
        ]
        text = json.dumps({"markups": [{"coordinateSystem": "LPS", "controlPoints": control}]})
        Path(f"{name}.mrk.json").write_text(text)
        write_points(f"{name}-lps.csv", points, lps=True)
    assert run(["landmarks", "fixed.mrk.json", "moving.mrk.json", "--out", "a.h5"]) == 0
    assert run(["landmarks", "fixed-lps.csv", "moving-lps.csv", "--lps", "--out", "b.h5"]) == 0
    assert max(gap("a.h5"), gap("b.h5")) < 1e-9


def test_keypoints_of_learn2reg_are_voxels_of_their_images(here, capsys):
    head, (scan, _) = phantoms.head(), phantoms.plain_scan()
    write_image("scan.nii.gz", scan)
    fixed = pb.read_points("fixed.csv").coordinates
    for name, image, points in (("fixed", head, fixed), ("moving", scan, TRUTH(fixed))):
        rows = image.grid.to_voxel(points).tolist()
        Path(f"{name}-voxels.csv").write_text("\n".join(",".join(map(repr, row)) for row in rows))
    words = ["landmarks", "fixed-voxels.csv", "moving-voxels.csv", "--voxels", "--fixed", "head.nii.gz"]
    assert run([*words, "--out", "t.h5"]) == 2
    assert "give --moving" in capsys.readouterr().err
    assert run([*words, "--moving", "scan.nii.gz", "--out", "t.h5"]) == 0
    assert gap("t.h5") < 1e-3


def test_two_dimensions(here):
    Path("a.csv").write_text("x,y\n0,0\n9,0\n0,9\n")
    Path("b.csv").write_text("x,y\n1,2\n1,11\n-8,2\n")
    assert run(["landmarks", "a.csv", "b.csv", "--flat", "--model", "rigid", "--out", "t.tfm"]) == 0
    turned = read_transform("t.tfm")(torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(turned, torch.tensor([[1.0, 3.0]]).double())
