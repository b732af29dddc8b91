"""``pullback register``: files, exit status, one line for every error, nothing left behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import phantoms
import pullback as pb
from pullback.cli.main import run
from pullback.pairwise import output
from pullback.registration import conclusion
from pullback.registration.verdict import Verdict
from pullback.reports import read_result
from pullback.transforms import Affine, DisplacementField, identity

FILES = {"warped.nii.gz", "fixed_to_moving.h5", "moving_to_fixed.h5", "result.json", "report.html", "thumbnail.jpg"}
QUICK = ["--model", "rigid", "--initial", "header", "--threads", "1"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("inputs")
    fixed, (moving, truth) = phantoms.head(), phantoms.plain_scan()
    matrix = fixed.grid.voxel_to_world.numpy()
    pb.write_image(folder / "fixed.nii.gz", fixed)
    pb.write_image(folder / "moving.nii.gz", moving)
    pb.write_image(folder / "flat.nii.gz", phantoms.slice_of_head())
    whole = (folder / "fixed.nii.gz").read_bytes()
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_text("not an image")
    for name, values in {
        "nan": np.full(fixed.grid.shape, np.nan, np.float32),
        "constant": np.full(fixed.grid.shape, 5, np.float32),
        "series": np.zeros((*fixed.grid.shape, 3), np.float32),
    }.items():
        nibabel.Nifti1Image(values, matrix).to_filename(folder / f"{name}.nii.gz")
    pb.write_image(folder / "labels.nii.gz", phantoms.labels_of(fixed))
    pb.write_image(folder / "moving_labels.nii.gz", phantoms.labels_of(moving))
    pb.write_image(folder / "empty_mask.nii.gz", pb.LabelMap(torch.zeros(1, *fixed.grid.shape).int(), fixed.grid))
    points = phantoms.points_in(fixed)[::997]
    pb.write_points(folder / "points.csv", pb.Points(points))
    pb.write_points(folder / "moving_points.csv", pb.Points(truth(points)))
    pb.write_points(folder / "few_points.csv", pb.Points(points[:2]))
    pb.write_points(folder / "points_lps.csv", pb.Points(points), lps=True)
    pb.write_points(folder / "moving_points_lps.csv", pb.Points(truth(points)), lps=True)
    (folder / "names.csv").write_text("label,name\n1,core\n")
    (folder / "no_header.csv").write_text("1,2,3\n4,5,6\n")
    pb.write_transform(folder / "truth.tfm", truth)
    field = DisplacementField(torch.ones(3, 4, 4, 4), pb.Grid.from_spacing((4, 4, 4), 30.0))
    pb.write_transform(folder / "field.h5", field)
    pb.write_transform(folder / "flat.tfm", identity(2))
    (folder / "broken.h5").write_text("not a transform")
    return folder


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """An empty folder of results, with the inputs as the working directory."""
    monkeypatch.chdir(inputs)
    with phantoms.no_rivals():
        yield tmp_path


def register(out: Path, *words: str, fixed: str = "fixed.nii.gz", moving: str = "moving.nii.gz") -> int:
    return run(["register", fixed, moving, "--out", str(out), *words])


def one_line(capsys) -> str:
    """What was said on standard error: exactly one line."""
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("pullback: ")
    assert "Traceback" not in captured.err
    return captured.err


def summary(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def test_the_files_of_the_contract(here: Path, capsys):
    assert register(here / "out", *QUICK) == 0
    assert {p.name for p in (here / "out").iterdir()} == FILES
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].startswith("verdict: good")
    assert "report.html" in captured.out.splitlines()[1]
    assert captured.out.splitlines()[2].startswith("read back: both transforms, largest difference")
    lines = captured.err.splitlines()
    assert any(line.startswith("rigid: ") and line.endswith(" s") for line in lines)
    assert "\r" not in captured.err
    assert "\x1b" not in captured.err
    assert "Traceback" not in captured.err


def test_transforms_are_not_read_back_if_told(here: Path, capsys):
    assert register(here / "out", *QUICK, "--no-verify") == 0
    assert "read back" not in capsys.readouterr().out
    assert "read_back_mm" not in summary(here / "out")


def test_quiet_is_silent(here: Path, capfd):
    assert register(here / "out", *QUICK, "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_every_option_of_the_contract_is_honoured(here: Path):
    words = [
        *("--model", "affine", "--initial", "truth.tfm", "--similarity", "ncc", "--preset", "fast"),
        *("--fixed-mask", "labels.nii.gz", "--moving-mask", "moving_labels.nii.gz"),
        *("--fixed-labels", "labels.nii.gz", "--moving-labels", "moving_labels.nii.gz"),
        *("--fixed-points", "points.csv", "--moving-points", "moving_points.csv"),
        *("--threads", "1", "--device", "cpu", "--seed", "7", "--smoothness", "1.5", "--quiet"),
    ]
    assert register(here / "out", *words) == 0
    found = summary(here / "out")
    assert (found["model"], found["seed"], found["threads"], found["device"]) == ("affine", 7, 1, "cpu")
    assert found["initialisation"]["chosen"] == "truth.tfm"
    assert found["similarity"]["name"] == "ncc"
    assert found["labels"]["mean_dice_after"] > 0.8
    assert found["points"]["mean_mm_after"] < 1
    assert found["settings"]["smoothness"] == 1.5


def test_bids_names_for_the_transforms(here: Path):
    bids = ["--bids", "sub-01_from-T1w_to-MNI"]
    assert register(here / "out", *QUICK, *bids, "--quiet") == 0
    there, back = (f"sub-01_from-{way}_mode-image_xfm" for way in ("T1w_to-MNI", "MNI_to-T1w"))
    own = {f"{name}{suffix}" for name in (there, back) for suffix in (".h5", ".json")}
    assert {p.name for p in (here / "out").iterdir()} == (FILES | own) - {"fixed_to_moving.h5", "moving_to_fixed.h5"}
    sidecar = json.loads((here / "out" / f"{back}.json").read_text())
    assert (sidecar["FromSpace"], sidecar["ToSpace"]) == ("MNI", "T1w")
    assert (Path(sidecar["SpatialReference"]).name, Path(sidecar["MovingImage"]).name) == (
        "moving.nii.gz",
        "fixed.nii.gz",
    )
    saved = read_result(here / "out")
    points = phantoms.points_in(phantoms.head())[::997]
    assert torch.allclose(saved.moving_to_fixed()(saved.fixed_to_moving()(points)), points, atol=1e-6)
    assert register(here / "out", *QUICK, *bids) == 2
    assert register(here / "out", *QUICK, "--quiet", "--overwrite") == 0
    assert {p.name for p in (here / "out").iterdir()} == FILES


def test_labels_have_names_in_the_report(here: Path):
    (here / "names.csv").write_text("label,name\n1,grey core\n")
    labels = ["--fixed-labels", "labels.nii.gz", "--moving-labels", "moving_labels.nii.gz"]
    assert register(here / "out", *QUICK, *labels, "--label-names", str(here / "names.csv"), "--quiet") == 0
    assert summary(here / "out")["labels"]["per_label"]["1"]["name"] == "grey core"
    assert "1 grey core" in (here / "out" / "report.html").read_text()


def test_points_in_lps_score_the_same(here: Path):
    plain = ("--fixed-points", "points.csv", "--moving-points", "moving_points.csv")
    lps = ("--fixed-points", "points_lps.csv", "--moving-points", "moving_points_lps.csv", "--lps")
    for name, words in (("a", plain), ("b", lps)):
        assert register(here / name, *QUICK, "--quiet", *words) == 0
    assert summary(here / "a")["points"] == pytest.approx(summary(here / "b")["points"])


def test_initial_takes_several_words(here: Path):
    assert register(here / "out", "--model", "rigid", "--threads", "1", "--initial", "header", "centre", "--quiet") == 0
    assert summary(here / "out")["settings"]["initial"] == ["header", "centre"]


def test_a_file_competes_with_words(here: Path):
    words = ["--model", "affine", "--threads", "1", "--initial", "header", "truth.tfm", "--quiet"]
    assert register(here / "out", *words) == 0
    names = [c["name"] for c in summary(here / "out")["initialisation"]["candidates"]]
    assert "truth.tfm" in names


def test_none_starts_at_the_identity(here: Path):
    assert register(here / "out", "--model", "rigid", "--initial", "none", "--threads", "1", "--quiet") == 0
    assert "none" in summary(here / "out")["initialisation"]["chosen"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (("nothing.nii.gz", "moving.nii.gz"), "'nothing.nii.gz' does not exist"),
        (("fixed.nii.gz", "nothing.nii.gz"), "'nothing.nii.gz' does not exist"),
        (("truncated.nii.gz", "moving.nii.gz"), "truncated"),
        (("empty.nii.gz", "moving.nii.gz"), "no bytes"),
        (("text.nii.gz", "moving.nii.gz"), "text.nii.gz"),
        (("nan.nii.gz", "moving.nii.gz"), "no finite value"),
        (("constant.nii.gz", "moving.nii.gz"), "is constant"),
        (("fixed.nii.gz", "constant.nii.gz"), "is constant"),
        (("series.nii.gz", "moving.nii.gz"), "series.nii.gz"),
        (("flat.nii.gz", "moving.nii.gz"), "both must be 2-D or both 3-D"),
        (("points.csv", "moving.nii.gz"), "suffix '.csv'"),
    ],
)
def test_images_that_cannot_be_registered(here: Path, capsys, images: tuple[str, str], message: str):
    assert register(here / "out", "--quiet", "--threads", "1", fixed=images[0], moving=images[1]) == 2
    assert message in one_line(capsys)
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "afine"], "Did you mean 'affine'"),
        (["--similarity", "lnc"], "Did you mean 'lncc'"),
        (["--preset", "brian"], "Did you mean 'brain'"),
        (["--device", "cdua"], "Did you mean 'cuda'"),
        (["--initial", "momnets"], "Did you mean 'moments'"),
        (["--modle", "affine"], "--model"),
        (["--initial", "nothing.tfm"], "does not exist"),
        (["--initial", "field.h5"], "not linear"),
        (["--initial", "flat.tfm"], "has 2 dimensions"),
        (["--initial", "broken.h5"], "broken.h5"),
        (["--initial", "none", "header"], "'none' stands alone"),
        (["--threads", "99"], "`threads` is 99"),
        (["--threads", "0"], "`threads` is 0"),
        (["--threads", "two"], "'--threads'"),
        (["--smoothness", "nan"], "`smoothness` is nan"),
        (["--smoothness", "inf"], "`smoothness` is inf"),
        (["--smoothness", "-1"], "`smoothness` is -1"),
        (["--seed", "x"], "'--seed'"),
        (["--channel-weights", "a,b"], "numbers with commas"),
        (["--channel-weights", "1,2"], "channel"),
        (["--channel-weights", "nan"], "channel"),
        (["--fixed-mask", "moving_labels.nii.gz"], "different grids"),
        (["--moving-mask", "labels.nii.gz"], "different grids"),
        (["--fixed-mask", "empty_mask.nii.gz"], "is empty"),
        (["--fixed-mask", "nothing.nii.gz"], "does not exist"),
        (["--fixed-labels", "labels.nii.gz"], "without moving labels"),
        (["--label-names", "names.csv"], "`label_names` came without labels"),
        (["--bids", "sub_1"], "sub-LABEL"),
        (["--fixed-labels", "fixed.nii.gz", "--moving-labels", "moving_labels.nii.gz"], "whole numbers"),
        (["--fixed-points", "points.csv"], "without moving points"),
        (["--fixed-points", "points.csv", "--moving-points", "few_points.csv"], "must correspond"),
        (["--fixed-points", "no_header.csv", "--moving-points", "moving_points.csv"], "no_header.csv"),
        (["surplus.nii.gz"], "surplus.nii.gz"),
        (["--lps"], "there are none"),
        (["--initial", ""], "is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_that_are_not_understood(here: Path, capsys, words: list[str], message: str):
    assert register(here / "out", "--quiet", *words) == 2
    assert message in one_line(capsys)
    assert not (here / "out").exists()


def test_out_is_needed(here: Path, capsys):
    assert run(["register", "fixed.nii.gz", "moving.nii.gz"]) == 2
    assert "--out" in one_line(capsys)


def test_existing_results_stay_unless_asked(here: Path, capsys):
    (here / "out").mkdir()
    (here / "out" / "result.json").write_text("old")
    assert register(here / "out", *QUICK) == 2
    assert "--overwrite" in one_line(capsys)
    assert (here / "out" / "result.json").read_text() == "old"
    assert register(here / "out", *QUICK, "--quiet", "--overwrite") == 0
    assert summary(here / "out")["verdict"]["value"] == "good"


def test_a_missing_parent_folder_is_said_before_the_work(here: Path, capsys):
    assert register(here / "a" / "b", *QUICK) == 2
    assert "does not exist" in one_line(capsys)


@pytest.fixture
def done(monkeypatch):
    """Registering takes no time: the words are checked, the result is one made before."""

    def give(*_args, **_options):
        return phantoms.quick()

    monkeypatch.setattr("pullback.cli.register.register_pair", give)


def test_a_full_disk_is_the_machines_fault(here: Path, capsys, monkeypatch, done):
    def fail(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output, "write_image", fail)
    assert register(here / "out", "--quiet") == 1
    assert "No space left" in one_line(capsys)
    assert list(here.iterdir()) == []


def test_too_little_memory_is_the_machines_fault(here: Path, capsys, monkeypatch):
    def fail(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr("pullback.cli.register.register_pair", fail)
    assert register(here / "out", "--quiet") == 1
    assert "memory" in one_line(capsys)


@pytest.mark.parametrize("stage", ["pullback.pairwise.main_job.run", "pullback.pairwise.output.write_report"])
def test_an_interruption_leaves_nothing(here: Path, capsys, monkeypatch, stage: str):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, interrupt)
    assert register(here / "out", *QUICK, "--quiet") == 130
    assert "interrupted" in one_line(capsys)
    assert list(here.iterdir()) == []


def test_a_failed_registration_writes_its_files_and_leaves_with_3(here: Path, capsys, monkeypatch):
    monkeypatch.setattr(conclusion, "judge", lambda evidence: Verdict("failed", ("for the test",)))
    assert register(here / "out", *QUICK) == 3
    assert "verdict: failed (for the test)" in capsys.readouterr().out
    assert summary(here / "out")["verdict"] == {"value": "failed", "reasons": ["for the test"]}
    assert {p.name for p in (here / "out").iterdir()} == FILES


def test_fields_of_view_apart_fail_by_verdict(here: Path):
    image = pb.read_image("moving.nii.gz")
    matrix = image.grid.voxel_to_world.clone()
    matrix[0, 3] += 5000
    pb.write_image(here / "far.nii.gz", pb.Image(image.tensor, pb.Grid(image.grid.shape, matrix)))
    words = ("--initial", "none", "--model", "rigid", "--threads", "1", "--quiet")
    assert register(here / "out", *words, moving=str(here / "far.nii.gz")) == 3


def pullback(*words: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pullback", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_true_process_says_one_line(inputs: Path):
    process = pullback("register", "fixed.nii.gz", "nothing.nii.gz", "--out", "never", folder=inputs)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err == "pullback: 'nothing.nii.gz' does not exist.\n"


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_ctrl_c_and_sigterm_in_a_true_process(
    inputs: Path, tmp_path: Path, number: signal.Signals, status: int, word: str
):
    out = tmp_path / "out"
    # Tests that run in a shell's background ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = pullback("register", "fixed.nii.gz", "moving.nii.gz", "--out", str(out), "--threads", "1", folder=inputs)
    signal.signal(signal.SIGINT, before)
    for line in process.stderr:
        if "initialisation" in line or "read" in line:
            break
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"pullback: {word}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "form"), [("start.txt", "itk"), ("start.x5", "x5"), ("start.txt", "elastix")])
def test_affine_files_written_by_hand_start_it(here: Path, name: str, form: str):
    start = Affine(phantoms.plain_scan()[1].matrix)
    pb.write_transform(here / name, start, fixed=phantoms.head(), format=form)
    words = ("--initial", str(here / name), "--model", "rigid", "--threads", "1", "--quiet")
    assert register(here / "out", *words) == 0
