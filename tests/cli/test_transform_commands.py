"""``convert``, ``compose`` and ``invert``, and the formats that the other commands understand."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

import phantoms
import pullback as pb
from pullback.cli.main import run
from pullback.io import itk_format
from pullback.transforms import Affine, BSpline, DisplacementField, chain

AFFINE = Affine.from_parts(rotation=(0.1, 0.2, -0.1), translation_mm=(5.0, -3.0, 2.0), scaling=(1.1, 0.9, 1.0))
COMMANDS = ("convert", "compose", "invert")
SHARED = "--fixed --moving --from --to --kind --bids --no-verify --overwrite"


def warp_field() -> DisplacementField:
    grid = phantoms.head().grid
    points = grid.centres().movedim(-1, 0)
    bump = torch.exp(-(points**2).sum(dim=0) / 1500)
    return DisplacementField(torch.stack([8 * bump, -5 * bump, 6 * bump]).float(), grid)


def spline() -> BSpline:
    lattice = phantoms.head().grid.resize((9, 9, 9))
    generator = torch.Generator().manual_seed(1)
    return BSpline(torch.rand((3, 9, 9, 9), generator=generator).double() * 4 - 2, lattice)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    pb.write_image(folder / "fixed.nii.gz", phantoms.head())
    pb.write_image(folder / "moving.nii.gz", phantoms.plain_scan()[0])
    pb.write_points(folder / "points.csv", pb.Points(points()))
    pb.write_transform(folder / "affine.mat", AFFINE)
    pb.write_transform(folder / "warp.nii.gz", warp_field())
    pb.write_transform(folder / "spline.tfm", spline())
    np.savetxt(folder / "bare.mat", np.eye(4))
    vectors = nibabel.Nifti1Image(np.ones((4, 5, 6, 1, 3), dtype=np.float32), np.eye(4))
    nibabel.save(vectors, folder / "bare.nii.gz")
    return folder


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(inputs)
    return tmp_path


def points() -> torch.Tensor:
    return phantoms.points_in(phantoms.head())[::499]


def gap(path: Path, expected: pb.transforms.AbstractTransform) -> float:
    return float((pb.read_transform(path)(points()) - expected(points())).abs().max())


def complaint(capsys) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("name", ["a.h5", "a.tfm", "a.txt", "a.x5"])
def test_convert_says_how_exactly_it_reads_back(here: Path, name: str, capsys):
    assert run(["convert", "affine.mat", str(here / name)]) == 0
    said = capsys.readouterr().out
    assert f"written: {here / name}" in said
    assert "read back: largest difference" in said
    assert gap(here / name, AFFINE) < 1e-9


def test_convert_does_not_read_back_if_told(here: Path, capsys):
    assert run(["convert", "affine.mat", str(here / "a.h5"), "--no-verify"]) == 0
    assert "read back" not in capsys.readouterr().out


def test_convert_fails_if_the_file_is_wrong(here: Path, capsys, monkeypatch):
    monkeypatch.setattr(itk_format, "affine_record", lambda matrix: right(matrix @ AFFINE.matrix))
    assert run(["convert", "affine.mat", str(here / "a.tfm")]) == 1
    assert "do not use it" in complaint(capsys)


right = itk_format.affine_record


def test_convert_evaluates_only_on_a_grid_and_says_so(here: Path, capsys):
    assert run(["convert", "spline.tfm", str(here / "a.nii.gz")]) == 2
    assert "--fixed" in complaint(capsys)
    assert run(["convert", "spline.tfm", str(here / "a.nii.gz"), "--fixed", "fixed.nii.gz"]) == 0
    said = capsys.readouterr().out
    assert "B-spline was evaluated at the" in said
    assert "Between the voxels it differs from the original by up to" in said
    centres = phantoms.head().grid.to_world([[20.0, 20, 20], [10, 12, 18]])
    stored = pb.read_transform(here / "a.nii.gz")
    assert float((stored(centres) - spline()(centres)).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("warp.nii.gz", "a.mat", "a deformation would be lost"),
        ("spline.tfm", "a.mat", "a deformation would be lost"),
        ("affine.mat", "a.nii.gz", "give the fixed image"),
        ("affine.mat", "a.json", "no format writes"),
        ("bare.nii.gz", "a.h5", "could be"),
    ],
)
def test_convert_refuses_with_the_reason(here: Path, source: str, name: str, reason: str, capsys):
    assert run(["convert", source, str(here / name)]) == 2
    assert reason in complaint(capsys)
    assert not (here / name).exists()


def test_what_does_not_say_its_tool_is_asked_about(here: Path, capsys):
    assert run(["convert", "bare.nii.gz", str(here / "a.h5")]) == 2
    assert "--from" in complaint(capsys)
    assert run(["convert", "bare.nii.gz", str(here / "a.h5"), "--from", "itk"]) == 0
    moved = pb.read_transform(here / "a.h5")([[1.0, 2.0, 3.0]])
    assert moved.tolist() == [[0.0, 1.0, 4.0]]
    assert run(["convert", "affine.mat", str(here / "b.h5"), "--from", "itkk"]) == 2
    assert "Did you mean 'itk'" in complaint(capsys)


def test_to_needs_a_suffix_of_that_format(here: Path, capsys):
    assert run(["convert", "affine.mat", str(here / "a.h5"), "--to", "x5"]) == 2
    assert "x5 is written to .x5" in complaint(capsys)
    assert run(["convert", "affine.mat", str(here / "a.txt"), "--to", "elastix", "--fixed", "fixed.nii.gz"]) == 0
    assert "(Transform " in (here / "a.txt").read_text()


def test_convert_does_not_replace(here: Path, capsys):
    words = ["convert", "affine.mat", str(here / "a.h5")]
    assert [run(words), run(words), run([*words, "--overwrite"])] == [0, 2, 0]


def test_compose_applies_the_last_first(here: Path):
    assert run(["compose", "affine.mat", "warp.nii.gz", "--out", str(here / "a.h5")]) == 0
    assert gap(here / "a.h5", chain(AFFINE, warp_field())) < 1e-4
    assert gap(here / "a.h5", chain(warp_field(), AFFINE)) > 0.1
    assert SimpleITK.ReadTransform(str(here / "a.h5")).GetDimension() == 3


def test_compose_and_apply_list_in_opposite_orders(here: Path):
    assert run(["compose", "affine.mat", "warp.nii.gz", "--out", str(here / "a.h5")]) == 0
    for number, words in enumerate((["warp.nii.gz", "affine.mat"], [str(here / "a.h5")])):
        assert run(["apply", *words, "--points", "points.csv", "--out", str(here / f"{number}.csv")]) == 0
    first, second = (pb.read_points(here / f"{number}.csv").coordinates for number in (0, 1))
    assert float((first - second).abs().max()) < 1e-4


def test_compose_multiplies_matrices_and_evaluates_on_a_grid(here: Path, capsys):
    assert run(["compose", "affine.mat", "affine.mat", "--out", str(here / "a.mat")]) == 0
    assert gap(here / "a.mat", chain(AFFINE, AFFINE)) < 1e-9
    words = ["compose", "affine.mat", "spline.tfm", "--out", str(here / "a.nii.gz")]
    assert run(words) == 2
    assert run([*words, "--fixed", "fixed.nii.gz"]) == 0
    assert "was evaluated" in capsys.readouterr().out


def test_invert(here: Path, capsys):
    assert run(["invert", "affine.mat", "--out", str(here / "a.mat")]) == 0
    assert gap(here / "a.mat", ~AFFINE) < 1e-9
    assert run(["invert", "warp.nii.gz", "--out", str(here / "a.h5")]) == 0
    assert "comes back from where it was sent to within" in capsys.readouterr().out
    there_and_back = chain(pb.read_transform(here / "a.h5"), warp_field())(points())
    assert float((there_and_back - points()).abs().max()) < 0.2


def test_invert_a_spline_needs_a_grid(here: Path, capsys):
    assert run(["invert", "spline.tfm", "--out", str(here / "a.h5")]) == 2
    assert "inverse B-spline" in complaint(capsys)
    assert run(["invert", "spline.tfm", "--out", str(here / "a.h5"), "--onto", "moving.nii.gz"]) == 0
    assert "inverse was evaluated at the" in capsys.readouterr().out
    stored = pb.read_transform(here / "a.h5")
    assert stored.grid.same_as(phantoms.plain_scan()[0].grid)


def test_bids(here: Path, capsys):
    words = ["--bids", "sub-01_from-T1w_to-MNI", "--fixed", "fixed.nii.gz"]
    assert run(["convert", "affine.mat", str(here), *words]) == 0
    name = here / "sub-01_from-T1w_to-MNI_mode-image_xfm.h5"
    assert gap(name, AFFINE) < 1e-9
    sidecar = json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))
    assert (sidecar["FromSpace"], sidecar["ToSpace"]) == ("T1w", "MNI")
    assert sidecar["SpatialReference"] == "fixed.nii.gz"
    assert sidecar["GeneratedBy"][0]["Name"] == "pullback"
    assert run(["invert", "affine.mat", "--out", str(here), "--bids", "sub-01_from-MNI_to-T1w", "--to", "x5"]) == 0
    assert (here / "sub-01_from-MNI_to-T1w_mode-image_xfm.x5").is_file()
    assert run(["compose", "affine.mat", "--out", str(here), "--bids", "sub_1"]) == 2
    assert "sub-LABEL" in complaint(capsys)
    assert run(["compose", "affine.mat", "--out", str(name), "--bids", "sub-01_from-a_to-b"]) == 2
    complaint(capsys)
    for words in (["convert", "affine.mat", str(here)], ["register", "fixed.nii.gz", "none.nii", "--out", str(here)]):
        assert run([*words, "--bids", "sub-02_from-A_to-A"]) == 2
        assert "different names" in complaint(capsys)
    assert not list(here.glob("sub-02*"))


def test_bids_of_a_format_that_its_file_does_not_tell(here: Path):
    words = ["--bids", "sub-01_from-A_to-B", "--to", "fsl", "--fixed", "fixed.nii.gz", "--moving", "moving.nii.gz"]
    assert run(["convert", "affine.mat", str(here), *words]) == 0
    name = here / "sub-01_from-A_to-B_mode-image_xfm.mat"
    assert name.is_file()
    assert "FSL" in json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))["Format"]


def test_bids_does_not_replace_a_sidecar_unasked(here: Path, capsys):
    sidecar = here / "sub-01_from-A_to-B_mode-image_xfm.json"
    sidecar.write_text("mine")
    words = ["convert", "affine.mat", str(here), "--bids", "sub-01_from-A_to-B"]
    assert run(words) == 2
    assert "--overwrite" in complaint(capsys)
    assert [path.name for path in here.iterdir()] == [sidecar.name]
    assert run([*words, "--overwrite"]) == 0


def test_a_tilde_after_an_equals_sign_is_the_home_folder(here: Path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(here))
    (here / "keep.h5").write_text("precious")
    assert run(["compose", "affine.mat", "--out=~/keep.h5"]) == 2
    assert "exists already" in complaint(capsys)
    assert (here / "keep.h5").read_text() == "precious"
    assert run(["compose", "affine.mat", "--out=~/new.h5"]) == 0
    assert gap(here / "new.h5", AFFINE) < 1e-9


@pytest.mark.parametrize("file", ["affine.mat", "warp.nii.gz", "spline.tfm"])
def test_info_names_the_format(here: Path, file: str, capsys):
    assert run(["info", file]) == 0
    assert capsys.readouterr().out.startswith("format: itk\n")


def test_info_of_a_spline_and_of_what_it_cannot_tell(here: Path, capsys):
    assert run(["info", "spline.tfm"]) == 0
    said = capsys.readouterr().out
    assert "B-spline of order 3" in said
    assert "control points: grid: 9 x 9 x 9" in said
    assert run(["info", "bare.nii.gz"]) == 0
    assert "could also be a transform of itk" in capsys.readouterr().out
    assert run(["info", "bare.nii.gz", "--from", "itk"]) == 0
    assert "displacement field" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["h5", "tfm", "x5"])
def test_apply_takes_every_format(here: Path, form: str):
    pb.write_transform(here / f"a.{form}", AFFINE)
    out = here / "out.csv"
    assert run(["apply", str(here / f"a.{form}"), "--points", "points.csv", "--out", str(out)]) == 0
    assert float((pb.read_points(out).coordinates - AFFINE(points())).abs().max()) < 1e-4


@pytest.mark.parametrize("command", COMMANDS)
def test_helps_name_the_options(command: str, capsys):
    assert run([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert all(option in said for option in SHARED.split())
    if command == "compose":
        assert "A(B(x))" in said


def test_dimensions_that_differ_are_refused_before_writing(here: Path, capsys):
    pb.write_image(here / "flat.nii.gz", phantoms.slice_of_head())
    pb.write_transform(here / "flat.tfm", pb.transforms.identity(2))
    out, flat = str(here / "out.h5"), str(here / "flat.nii.gz")
    for words in (
        ["convert", "affine.mat", out, "--fixed", flat],
        ["compose", "affine.mat", "--out", out, "--fixed", flat],
        ["invert", "affine.mat", "--out", out, "--moving", flat],
        ["compose", "affine.mat", str(here / "flat.tfm"), "--out", out],
        ["apply", str(here / "flat.tfm"), "affine.mat", "--points", "points.csv", "--out", str(here / "out.csv")],
    ):
        assert run(words) == 2
        assert "3" in (said := complaint(capsys))
        assert "2" in said
        assert "agree" in said
        assert not list(here.glob("out*"))


def test_a_folder_is_no_file_to_write(here: Path, capsys):
    for words in ([], ["--overwrite"]):
        assert run(["apply", "affine.mat", "--points", "points.csv", "--out", str(here), *words]) == 2
        assert "is a folder" in complaint(capsys)


def test_a_start_that_does_not_say_its_tool_is_to_be_converted_first(here: Path, capsys):
    assert run(["register", "fixed.nii.gz", "moving.nii.gz", "--initial", "bare.mat", "--out", str(here / "out")]) == 2
    assert "convert it first: pullback convert IN OUT.h5 --from NAME" in complaint(capsys)
