"""``apply``, ``jacobian``, ``info``, ``demo``, ``--version`` and the helps."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
import pullback as pb
from pullback.cli.main import run
from pullback.cli.words import spread_initial
from pullback.transforms import Affine, DisplacementField, chain

AFFINE = Affine.from_parts(rotation=(0.1, 0.2, -0.1), translation_mm=(5.0, -3.0, 2.0), scaling=(1.1, 0.9, 1.0))
OPTIONS = {
    "register": (
        "--out --model --initial --similarity --preset --smoothness --fixed-mask --moving-mask --fixed-labels "
        "--moving-labels --fixed-points --moving-points --threads --device --seed --no-verify --quiet --overwrite "
        "--label-names --bids --model-file --mirrored --refine --lps"
    ),
    "apply": "--image --to --out --interpolation --inverse --points --lps --fixed --moving --from",
    "jacobian": "--to --out --log --moving --from",
    "info": "FILE --fixed --moving --from",
    "evaluate": (
        "--out --fixed --moving --warped --fixed-labels --moving-labels --warped-labels --transform --displacement "
        "--inverse --reference --mask --fixed-points --moving-points --points-in --submission --split --protocol "
        "--measure --label --label-names --method --group --published --model --cache --data --device --mirrored "
        "--results --quiet --overwrite"
    ),
    "compare": "--out --name --measure --initial --plot --plot-format --published --quiet --overwrite",
    "submission": "--transforms --out --split --quiet --overwrite",
    "report": "--out --title --volume --overwrite",
    "figure": "differences methods grids fields overlay sequence",
    "demo": "--out",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    head = phantoms.head()
    pb.write_image(folder / "fixed.nii.gz", head)
    pb.write_image(folder / "moving.nii.gz", phantoms.plain_scan()[0])
    pb.write_image(folder / "labels.nii.gz", phantoms.labels_of(phantoms.plain_scan()[0]))
    pb.write_image(folder / "flat.nii.gz", phantoms.slice_of_head())
    pb.write_points(folder / "points.csv", pb.Points(phantoms.points_in(head)[::499]))
    pb.write_transform(folder / "affine.tfm", AFFINE)
    pb.write_transform(folder / "field.h5", warp_field())
    pb.write_transform(folder / "field.nii.gz", warp_field())
    return folder


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(inputs)
    return tmp_path


def warp_field() -> DisplacementField:
    grid = phantoms.head().grid
    points = grid.centres().movedim(-1, 0)
    bump = torch.exp(-(points**2).sum(dim=0) / 1500)
    return DisplacementField(torch.stack([8 * bump, -5 * bump, 6 * bump]).float(), grid)


def complaint(capsys) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_apply_resamples_an_image(here: Path):
    out = here / "out.nii.gz"
    assert run(["apply", "affine.tfm", "--image", "moving.nii.gz", "--to", "fixed.nii.gz", "--out", str(out)]) == 0
    expected = pb.warp(phantoms.plain_scan()[0], AFFINE, onto=phantoms.head().grid)
    assert (pb.read_image(out).tensor - expected.tensor).abs().max() < 1e-3


@pytest.mark.parametrize(
    "words", [["affine.tfm"], ["field.h5"], ["field.h5", "affine.tfm"], ["affine.tfm", "field.h5"]]
)
@pytest.mark.parametrize("inverse", [False, True])
def test_apply_moves_points_through_the_list_in_order(here: Path, words: list[str], inverse: bool):
    out = here / "out.csv"
    more = ["--inverse"] if inverse else []
    assert run(["apply", *words, "--points", "points.csv", "--out", str(out), *more]) == 0
    parts = {"affine.tfm": AFFINE, "field.h5": warp_field()}
    whole = chain(*(parts[word] for word in reversed(words)))
    points = pb.read_points("points.csv").coordinates
    expected = (~whole if inverse else whole)(points)
    assert (pb.read_points(out).coordinates - expected).abs().max() < 1e-4


def test_apply_takes_a_list_as_its_composition(here: Path):
    images = []
    for number, words in enumerate((["field.h5", "affine.tfm"], ["both.h5"])):
        if words == ["both.h5"]:
            pb.write_transform(here / "both.h5", AFFINE @ warp_field())
            words = [str(here / "both.h5")]
        out = here / f"{number}.nii.gz"
        assert run(["apply", *words, "--image", "moving.nii.gz", "--to", "fixed.nii.gz", "--out", str(out)]) == 0
        images.append(pb.read_image(out).tensor)
    torch.testing.assert_close(*images, rtol=0, atol=1e-2)


def test_apply_and_its_inverse_bring_points_back(here: Path):
    there, back = here / "there.csv", here / "back.csv"
    assert run(["apply", "field.h5", "affine.tfm", "--points", "points.csv", "--out", str(there)]) == 0
    words = ["apply", "field.h5", "affine.tfm", "--inverse", "--points", str(there), "--out", str(back)]
    assert run(words) == 0
    gap = pb.read_points(back).coordinates - pb.read_points("points.csv").coordinates
    assert gap.abs().max() < 0.1 * phantoms.SPACING_MM


def test_apply_in_lps(here: Path):
    points = pb.read_points("points.csv")
    pb.write_points(here / "lps.csv", points, lps=True)
    out = here / "out.csv"
    assert run(["apply", "affine.tfm", "--points", str(here / "lps.csv"), "--out", str(out), "--lps"]) == 0
    assert (pb.read_points(out, lps=True).coordinates - AFFINE(points.coordinates)).abs().max() < 1e-4


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "label"])
def test_apply_interpolates_as_asked(here: Path, interpolation: str):
    image = "labels.nii.gz" if interpolation in ("nearest", "label") else "moving.nii.gz"
    out = here / "out.nii.gz"
    words = ["--image", image, "--to", "fixed.nii.gz", "--out", str(out), "--interpolation", interpolation]
    assert run(["apply", "affine.tfm", *words]) == 0
    if image == "labels.nii.gz":
        assert set(pb.read_labels(out).labels) <= {1, 2, 3}
    else:
        expected = pb.warp(phantoms.plain_scan()[0], AFFINE, onto=phantoms.head().grid, interpolation=interpolation)
        assert (pb.read_image(out).tensor - expected.tensor).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--image"),
        (["--image", "moving.nii.gz"], "--to"),
        (["--image", "moving.nii.gz", "--to", "fixed.nii.gz", "--points", "points.csv"], "either --image"),
        (["--image", "moving.nii.gz", "--to", "fixed.nii.gz", "--interpolation", "linaer"], "Did you mean 'linear'"),
        (["--image", "moving.nii.gz", "--to", "fixed.nii.gz", "--interpolation", "label"], "whole numbers"),
        (["--image", "flat.nii.gz", "--to", "flat.nii.gz"], "dimensions"),
        (["--image", "moving.nii.gz", "--to", "fixed.nii.gz", "--lps"], "--lps is for --points"),
        (["--points", "points.csv", "--interpolation", "linear"], "--interpolation is for --image"),
        (["--image", "nothing.nii.gz", "--to", "fixed.nii.gz"], "does not exist"),
    ],
)
def test_apply_refuses(here: Path, capsys, words: list[str], message: str):
    assert run(["apply", "affine.tfm", "--out", str(here / "out.nii.gz"), *words]) == 2
    assert message in complaint(capsys)
    assert list(here.iterdir()) == []


def test_apply_does_not_replace_unasked(here: Path, capsys):
    out = here / "out.csv"
    out.write_text("old")
    words = ["apply", "affine.tfm", "--points", "points.csv", "--out", str(out)]
    assert run(words) == 2
    assert "--overwrite" in complaint(capsys)
    assert out.read_text() == "old"
    assert run([*words, "--overwrite"]) == 0
    assert out.read_text() != "old"


def test_apply_needs_a_transform(here: Path, capsys):
    words = ["--points", "points.csv", "--out", str(here / "out.csv")]
    assert run(["apply", "points.csv", *words]) == 2
    assert "suffix '.csv'" in complaint(capsys)
    assert run(["apply", "nothing.h5", *words]) == 2
    assert "does not exist" in complaint(capsys)
    assert run(["apply", *words]) == 2
    assert "ransforms" in complaint(capsys).lower()


@pytest.mark.parametrize("log", [False, True])
def test_jacobian(here: Path, capsys, log: bool):
    out = here / "out.nii.gz"
    words = [
        "jacobian",
        "field.h5",
        "affine.tfm",
        "--to",
        "fixed.nii.gz",
        "--out",
        str(out),
        *(["--log"] if log else []),
    ]
    assert run(words) == 0
    expected = chain(AFFINE, warp_field()).jacobian_determinant(phantoms.head().grid)
    expected = expected.clamp(min=1e-3).log() if log else expected
    assert (pb.read_image(out).tensor[0] - expected).abs().max() < 1e-3
    assert "0 voxels (0 %)" in capsys.readouterr().out


def test_jacobian_refuses(here: Path, capsys):
    out = here / "out.nii.gz"
    assert run(["jacobian", "affine.tfm", "--to", "flat.nii.gz", "--out", str(out)]) == 2
    assert "dimension" in complaint(capsys) or not out.exists()
    out.write_text("old")
    assert run(["jacobian", "affine.tfm", "--to", "fixed.nii.gz", "--out", str(out)]) == 2
    assert out.read_text() == "old"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("fixed.nii.gz", ["image: 3-D", "40 x 48 x 36 voxels of 3 x 3 x 3 mm", "axes RAS", "intensities: 0 to"]),
        ("flat.nii.gz", ["image: 2-D", "72 x 84 voxels"]),
        ("affine.tfm", ["linear, 3-D", "translation", "scales [1.1, 0.9, 1.0]"]),
        ("field.h5", ["displacement field, 3-D", "largest", "40 x 48 x 36 voxels"]),
        ("field.nii.gz", ["displacement field, 3-D", "as an image it is 3-D with 3 channels"]),
    ],
)
def test_info(here: Path, capsys, file: str, words: list[str]):
    assert run(["info", file]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words), out


def test_info_on_a_composite(here: Path, capsys):
    pb.write_transform(here / "both.h5", AFFINE @ warp_field())
    assert run(["info", str(here / "both.h5")]) == 0
    out = capsys.readouterr().out
    assert "a chain of 2" in out
    assert "part 1: linear" in out


@pytest.mark.parametrize(("file", "message"), [("nothing.nii", "does not exist"), ("points.csv", "suffix")])
def test_info_refuses(here: Path, capsys, file: str, message: str):
    assert run(["info", file]) == 2
    assert message in complaint(capsys)


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"pullback {pb.__version__}\n"


def test_help_names_the_commands(capsys):
    assert run(["--help"]) == 0
    first = capsys.readouterr().out
    assert all(command in first for command in OPTIONS)
    assert run([]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("command", OPTIONS)
def test_help_of_each_command_names_its_options(command: str, capsys):
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert [word for word in OPTIONS[command].split() if word.lower() not in out.lower()] == []


@pytest.mark.parametrize("words", [["regster"], ["--nothing"], ["info"]])
def test_commands_that_are_not_understood(words: list[str], capsys):
    assert run(words) == 2
    complaint(capsys)


def test_spreading_of_initial():
    words = ["register", "f.nii", "m.nii", "--initial", "header", "centre", "a.tfm", "--out", "x"]
    spread = spread_initial(words)
    assert spread == [
        *("register", "f.nii", "m.nii", "--initial", "header", "--initial", "centre", "--initial", "a.tfm"),
        *("--out", "x"),
    ]
    assert spread_initial(["--initial"]) == ["--initial"]
    assert spread_initial(["--initial", "header", "fixed.nii"]) == ["--initial", "header", "fixed.nii"]


def test_a_true_process_prints_its_version():
    found = subprocess.run([sys.executable, "-m", "pullback", "--version"], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout, found.stderr) == (0, f"pullback {pb.__version__}\n", "")


@pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None or os.environ.get("PULLBACK_SLOW") != "1",
    reason="slow, and needs nilearn; PULLBACK_SLOW=1 runs it",
)
def test_demo(tmp_path: Path, capsys):
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 0
    errors = json.loads((tmp_path / "demo" / "demo.json").read_text())["true_error_mm"]
    assert errors["after"]["mean"] < 1.0 < errors["before"]["mean"]
    assert "error against the true map" in capsys.readouterr().out
    assert np.isfinite(errors["after"]["maximum"])
