"""``pullback train`` from files to weights, and ``register --model-file`` with them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import phantoms
import small_cohort
from pullback.cli.main import run
from studies import read_csv

pytest.importorskip("lightning_fabric", reason="training needs Lightning Fabric: pip install 'pullback[train]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice about workers and precision

WITHOUT_READERS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nibabel", "SimpleITK"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import pullback.cli.train
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with data, a recipe, and a training by it."""
    folder = tmp_path_factory.mktemp("train")
    small_cohort.write_scans(folder / "data")
    values = small_cohort.VALUES | {"split": {"fractions": [0.34, 0.33, 0.33]}, "augmentation": {"flips": [0]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    words = ["train", "--recipe", str(folder / "recipe.yaml"), "--cache", str(folder / "cache"), "--quiet"]
    assert run([*words, "--data", str(folder / "data"), "--prepare-only"]) == 0
    words += ["--out", str(folder / "out"), "--set", "optimisation.num_steps=2", "--seed", "4", "--device", "cpu"]
    assert run([*words, "--results", str(folder / "study.json")]) == 0
    return folder


def test_files_and_figures(trained: Path):
    assert {p.name for p in (trained / "out").iterdir()} == {
        "best.safetensors",
        "last.safetensors",
        "last.state.safetensors",
        "log.csv",
    }
    (row,) = json.loads((trained / "study.json").read_text())["rows"]
    assert (row["method"], row["supervision"], row["seed"], row["num_pairs"]) == ("voxelmorph", "semi-supervised", 4, 2)
    assert 0 < row["dice"] < 1
    assert row["command"].startswith("pullback train")


def test_a_teacher_registers_when_scans_are_prepared(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    losses = [{"kind": "true-displacement", "in_view": True}, {"kind": "diffusion", "field": "velocity"}]
    values = yaml.safe_load((trained / "recipe.yaml").read_text()) | {"losses": losses}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    words = ["train", "--recipe", str(tmp_path / "recipe.yaml"), "--cache", str(tmp_path / "cache")]
    words += ["--set", f"teacher.weights={trained / 'out' / 'best.safetensors'}", "--set", "teacher.refine=2"]
    words += ["--set", "pairs.training={of: random, num_pairs: 1}"]
    assert run([*words, "--data", str(trained / "data"), "--prepare-only"]) == 2
    assert "learned from labels" in capsys.readouterr().err
    words += ["--set", "teacher.has_seen_labels=true"]
    assert run([*words, "--data", str(trained / "data"), "--prepare-only"]) == 0
    assert "registering 0 of 1: s" in capsys.readouterr().err
    words += ["--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    assert run([*words, "--set", "optimisation.num_steps=2"]) == 0
    rows = read_csv(tmp_path / "out" / "log.csv")
    assert all(float(row["true-displacement"]) > 0 for row in rows if row["loss"])
    assert run([*words, "--set", "teacher.refine=3", "--resume"]) == 2
    assert "give --data too" in capsys.readouterr().err


def test_registering_with_the_weights(trained: Path, tmp_path: Path):
    images = [str(trained / "data" / "images" / f"s{n}.nii") for n in (0, 1)]
    words = [
        "register",
        *images,
        "--model-file",
        str(trained / "out" / "best.safetensors"),
        "--threads",
        "1",
        "--quiet",
    ]
    with phantoms.no_rivals():
        assert run([*words, "--out", str(tmp_path / "a"), "--refine", "2"]) in (0, 3)
    found = json.loads((tmp_path / "a" / "result.json").read_text())
    assert found["settings"]["refine"] == 2
    assert "network" in found["timings_seconds"]
    assert (tmp_path / "a" / "fixed_to_moving.h5").is_file()
    with phantoms.no_rivals():
        assert run([*words, "--out", str(tmp_path / "b"), "--mirrored"]) in (0, 3)
    assert json.loads((tmp_path / "b" / "result.json").read_text())["settings"]["mirrored"]


def test_scoring_the_weights(trained: Path, tmp_path: Path, capsys):
    words = ["evaluate", "--model", str(trained / "out" / "best.safetensors"), "--device", "cpu"]
    assert run([*words, "--cache", str(trained / "cache"), "--out", str(tmp_path / "a"), "--split", "test"]) == 0
    assert "2 pairs for test" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "a" / "summary.json").read_text())["rows"]
    (trained_row,) = json.loads((trained / "study.json").read_text())["rows"]
    timed = {"command", "seconds_per_pair"}
    assert {k: v for k, v in row.items() if k not in timed} == {k: v for k, v in trained_row.items() if k not in timed}
    pairs = read_csv(tmp_path / "a" / "pairs.csv")
    assert sum(float(pair["dice_nearest"]) for pair in pairs) / 2 == pytest.approx(row["dice"], abs=1e-4)
    assert len(read_csv(tmp_path / "a" / "labels.csv")) == 4
    words += ["--data", str(trained / "data"), "--results", str(tmp_path / "study.json"), "--quiet"]
    assert run([*words, "--split", "validation"]) == 0
    (again,) = json.loads((tmp_path / "study.json").read_text())["rows"]
    assert again["method"] == "voxelmorph"
    assert again["command"].startswith("pullback")
    assert run([*words, "--split", "validation", "--mirrored"]) == 0
    mirrored, alone = json.loads((tmp_path / "study.json").read_text())["rows"]
    assert mirrored["settings"] == {**alone["settings"], "mirrored": [0]}
    assert mirrored["multiply_adds"] == 2 * alone["multiply_adds"]
    assert run([*words, "--label", "1", "--out", str(tmp_path / "b")]) == 0
    assert {row["label"] for row in read_csv(tmp_path / "b" / "labels.csv")} == {"1"}
    assert run([*words, "--label", "99"]) == 2
    assert "`labels` has [99], which no scan" in capsys.readouterr().err
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "affine"], "`model` is 'affine', but a network gives a deformable map"),
        (["--preset", "fast"], "a network has no levels"),
        (["--initial", "centre"], "brought together by 'view'"),
        (["--refine", "-1"], "`refine` is -1"),
        (["--smoothness", "2"], "`smoothness` is 2"),
    ],
)
def test_words_that_a_network_leaves_no_room_for(trained: Path, tmp_path: Path, capsys, words: list[str], message: str):
    image = str(trained / "data" / "images" / "s0.nii")
    weights = str(trained / "out" / "best.safetensors")
    assert run(["register", image, image, "--out", str(tmp_path / "a"), "--model-file", weights, *words]) == 2
    assert message in capsys.readouterr().err
    assert run(["register", image, image, "--out", str(tmp_path / "a"), "--refine", "3"]) == 2
    assert "give `model_file` too" in capsys.readouterr().err
    assert run(["register", image, image, "--out", str(tmp_path / "a"), "--mirrored"]) == 2
    assert "`mirrored` asks a network" in capsys.readouterr().err


def test_errors_are_one_line(trained: Path, tmp_path: Path, capsys):
    recipe = str(trained / "recipe.yaml")
    for words, message in [
        (["--recipe", recipe], "--out is needed"),
        (["--recipe", recipe, "--out", str(tmp_path), "--results", str(tmp_path / "no" / "a.json")], "create it first"),
        (["--recipe", "none.yaml", "--out", str(tmp_path)], "no recipe 'none.yaml'"),
        (["--recipe", recipe, "--out", str(tmp_path)], "--prepare-only"),
        (["--recipe", recipe, "--out", str(tmp_path), "--set", "optimisation.steps=3"], "did you mean num_steps"),
        (["--recipe", recipe, "--out", str(tmp_path), "--data", "nowhere"], "give the folder of the data with --data"),
        (["--recipe", recipe, "--out", str(trained / "out"), "--cache", str(trained / "cache")], "--resume"),
    ]:
        assert run(["train", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_it_needs_no_library_that_reads_images():
    done = subprocess.run([sys.executable, "-c", WITHOUT_READERS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("content", "message"), [("not json", "is no json file"), ("[]", "is no study")])
def test_a_study_that_is_none_is_refused_before_the_training(
    trained: Path, tmp_path: Path, capsys, content: str, message: str
):
    (tmp_path / "study.json").write_text(content)
    words = ["train", "--recipe", str(trained / "recipe.yaml"), "--cache", str(trained / "cache"), "--quiet"]
    assert run([*words, "--out", str(tmp_path / "out"), "--results", str(tmp_path / "study.json")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_split_needs_the_data(trained: Path, tmp_path: Path, capsys):
    words = ["train", "--recipe", str(trained / "recipe.yaml"), "--cache", str(trained / "cache"), "--quiet"]
    words += ["--out", str(tmp_path / "out"), "--set", "split.seed=5", "--set", "optimisation.num_steps=1"]
    assert run([*words, "--device", "cpu"]) == 2
    assert "split.seed" in capsys.readouterr().err
