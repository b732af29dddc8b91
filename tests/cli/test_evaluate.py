"""``evaluate``, ``compare`` and ``submission``: files, words, exit statuses."""

import json
from pathlib import Path

import pytest

import pullback as pb
from pullback.cli.compare import structures_of
from pullback.cli.main import run
from pullback.evaluation import compare, read_method
from studies import SHIFT, damage, read_csv, shift_by, write_dataset, write_study

ERRORS = {"good": [0.0, 1.0, 0.0, 0.0, 1.0, 0.0], "poor": [2.0, 3.0, 1.0, 2.0, 2.0, 2.0]}
QUICK = ["--measure", "overlap", "--measure", "landmarks"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, ERRORS)
    for method in ERRORS:
        words = [str(folder / f"{method}.tsv"), "--out", str(folder / method), "--method", method, "--quiet"]
        assert run(["evaluate", *words, *QUICK]) == 0
    return folder


def pair_words(folder: Path, *more: str) -> list[str]:
    words = ["evaluate", "--out", str(folder / "one"), "--overwrite"]
    for option, file in [
        ("--fixed", "fixed.nii.gz"),
        ("--moving", "moving.nii.gz"),
        ("--fixed-labels", "fixed_labels.nii.gz"),
        ("--moving-labels", "moving_labels.nii.gz"),
        ("--fixed-points", "fixed.csv"),
        ("--moving-points", "moving.csv"),
    ]:
        words += [option, str(folder / file)]
    return [*words, *more]


def test_one_pair(study, capsys):
    assert (
        run(pair_words(study, "--transform", str(study / "good1.tfm"), "--protocol", "nearest", "--protocol", "linear"))
        == 0
    )
    text = capsys.readouterr().out
    assert "Dice (nearest)" in text
    assert "Dice (linear)" in text
    assert "written:" in text
    row = read_csv(study / "one" / "pairs.csv")[0]
    assert float(row["dice_nearest"]) == pytest.approx(0.775)
    assert float(row["tre_mean_mm"]) == pytest.approx(1.0)
    assert float(row["ndv_percent"]) == 0.0


def test_one_pair_that_cannot_be_read_is_an_error(study, tmp_path, capsys):
    words = [
        "evaluate",
        "--fixed",
        str(tmp_path / "a.nii"),
        "--warped",
        str(tmp_path / "b.nii"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert run(words) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not list((tmp_path / "o").glob("*"))


def test_a_table_with_broken_pairs_ends_with_4(study, tmp_path, capsys):
    write_study(tmp_path, {"a": [0.0, 0.0]})
    lines = (tmp_path / "a.tsv").read_text().splitlines()
    lines[1] = lines[1].replace("fixed_labels", "broken")
    (tmp_path / "a.tsv").write_text("\n".join(lines))
    (tmp_path / "broken.nii.gz").write_bytes((tmp_path / "fixed_labels.nii.gz").read_bytes())
    damage(tmp_path / "broken.nii.gz")
    assert run(["evaluate", str(tmp_path / "a.tsv"), "--out", str(tmp_path / "out"), *QUICK]) == 4
    captured = capsys.readouterr()
    assert "skipped p0" in captured.err
    assert "skipped: 1" in captured.out
    assert [row["status"] for row in read_csv(tmp_path / "out" / "pairs.csv")] == ["skipped", "ok"]


def test_compare_finds_the_better_method_and_draws(study, capsys):
    words = ["compare", str(study / "good"), str(study / "poor"), "--out", str(study / "comparison")]
    assert run([*words, "--published", "im2grid-ixi"]) == 0
    text = capsys.readouterr().out
    assert "best: good" in text
    assert "im2grid-Lite" in text
    names = {path.name for path in (study / "comparison").iterdir()}
    assert {"comparison.json", "comparison.txt", "statistics.csv"} < names
    assert {"box.png", "violin.png", "time.png", "ranks.png"} < names
    assert json.loads((study / "comparison" / "comparison.json").read_text())["best"] == "good"
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words, "--overwrite", "--quiet", "--plot", "tre_mean_mm", "--plot-format", "svg"]) == 0
    assert (study / "comparison" / "box.svg").exists()


def test_compare_where_no_time_was_taken_draws_all_but_the_times(tmp_path):
    for method in ("a", "b"):
        (tmp_path / method).mkdir()
        (tmp_path / method / "pairs.csv").write_text("pair,status,ncc,seconds\np0,ok,0.5,0\np1,ok,0.6,0\n")
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out"), "--quiet"]
    assert run(words) == 0
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {"box", "violin", "ranks"}
    (tmp_path / "out" / "time.png").write_text("of an earlier comparison")
    assert run([*words, "--overwrite", "--plot-format", "svg"]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.[ps]??")} == {"box.svg", "violin.svg", "ranks.svg"}


def test_structures_of_one_name_are_all_drawn(tmp_path):
    (tmp_path / "pairs.csv").write_text("pair,status,dice_nearest\np0,ok,0.5\n")
    rows = ["p0,1,left,nearest,0.1", "p0,2,left,nearest,0.2", "p0,3,all,nearest,0.3", "p0,4,,nearest,0.4"]
    (tmp_path / "labels.csv").write_text("\n".join(["pair,label,name,protocol,dice", *rows, ""]))
    comparison = compare([read_method(tmp_path, name) for name in "ab"])
    drawn = {name: values["b"].tolist() for name, values in structures_of(comparison, "dice_nearest").items()}
    assert drawn == {"all": [0.5], "left (1)": [0.1], "left (2)": [0.2], "all (3)": [0.3], "4": [0.4]}


def test_label_names_reach_the_tables(study, tmp_path):
    (tmp_path / "names.csv").write_text("label,name\n1,long box\n")
    words = ["evaluate", str(study / "good.tsv"), "--out", str(tmp_path / "out"), "--quiet", "--measure", "overlap"]
    assert run([*words, "--label-names", str(tmp_path / "names.csv")]) == 0
    assert read_csv(tmp_path / "out" / "labels.csv")[0]["name"] == "long box"
    (tmp_path / "names.csv").write_text("id,name\n1,long box\n")
    assert run([*words, "--overwrite", "--label-names", str(tmp_path / "names.csv")]) == 2


def test_a_learn2reg_submission_from_transforms_to_scores(tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data")
    for subject in (2, 3):
        pb.write_transform(tmp_path / f"to{subject:04d}.tfm", shift_by(SHIFT))
    pattern = str(tmp_path / "to{moving_subject}.tfm")
    assert run(["submission", str(dataset), "--transforms", pattern, "--out", str(tmp_path / "disp")]) == 0
    assert "2 displacements" in capsys.readouterr().out
    words = ["evaluate", str(dataset), "--submission", str(tmp_path / "disp"), "--out", str(tmp_path / "out")]
    assert run(words) == 0
    text = capsys.readouterr().out
    assert "Learn2Reg's own aggregates" in text
    assert "1 long" in text
    row = read_csv(tmp_path / "out" / "pairs.csv")[0]
    assert (float(row["l2r_dice"]), float(row["dice_nearest"])) == (1.0, 1.0)
    (tmp_path / "disp" / "disp_0001_0000_0002_0000.nii.gz").rename(tmp_path / "disp" / "disp_0001_0002.nii.gz")
    (tmp_path / "disp" / "disp_0001_0000_0003_0000.nii.gz").unlink()
    assert run([*words, "--overwrite"]) == 4
    err = capsys.readouterr().err
    assert "short names such as disp_0001_0002" in err
    assert "skipped 0001_0000<--0003_0000" in err
    assert run(["submission", str(dataset), "--transforms", pattern, "--out", str(tmp_path / "disp")]) == 2


def test_a_submission_is_whole_or_not_there(tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data")
    pb.write_transform(tmp_path / "to0002.tfm", shift_by(SHIFT))  # and none for the second pair
    words = ["submission", str(dataset), "--transforms", str(tmp_path / "to{moving_subject}.tfm"), "--out"]
    assert run([*words, str(tmp_path / "disp")]) == 2
    assert "to0003.tfm" in capsys.readouterr().err
    assert not (tmp_path / "disp").exists()
    assert run(["submission", str(dataset), "--transforms", "{fixed.stem}.h5", "--out", str(tmp_path / "disp")]) == 2
    assert "all that can stand" in " ".join(capsys.readouterr().err.split())


def test_an_evaluation_that_fails_leaves_no_folder(tmp_path, capsys):
    words = ["evaluate", "--fixed-labels", "a.nii", "--moving-labels", "b.nii", "--out", str(tmp_path / "out")]
    assert run([*words, "--transform", "identity"]) == 2
    assert not (tmp_path / "out").exists()


def test_labels_that_a_configuration_names_count_for_both_figures(tmp_path):
    pairs = json.loads(write_dataset(tmp_path).read_text())["registration_val"][:1]
    methods = [{"name": "DSC", "metric": "dice", "labels": [2]}]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"task_name": "Boxes", "eval_pairs": pairs, "evaluation_methods": methods}))
    words = ["evaluate", str(config), "--quiet", *QUICK, "--overwrite", "--out"]
    for more, expected in ([], 1 / 4), (["--label", "1"], 2 / 5):
        assert run([*words, str(tmp_path / "out"), *more]) == 0
        row = read_csv(tmp_path / "out" / "pairs.csv")[0]
        assert (float(row["dice_nearest"]), int(row["num_labels"])) == (pytest.approx(expected), 1)


def test_a_label_that_no_map_holds_is_named(tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data", 1)
    words = [
        "evaluate",
        str(dataset),
        "--quiet",
        *QUICK,
        "--label",
        "1",
        "--label",
        "99",
        "--out",
        str(tmp_path / "out"),
    ]
    assert run(words) == 0
    told = capsys.readouterr().err
    assert "label 99" in told
    assert "label 1:" not in told


def test_the_start_of_a_data_set_is_scored_without_a_submission(tmp_path):
    dataset = write_dataset(tmp_path / "data", 1)
    assert run(["evaluate", str(dataset), "--out", str(tmp_path / "out"), "--quiet", *QUICK]) == 0
    row = read_csv(tmp_path / "out" / "pairs.csv")[0]
    assert float(row["dice_nearest"]) == pytest.approx((2 / 5 + 1 / 4) / 2)


def test_published_tables_are_listed(capsys):
    assert run(["evaluate", "--published", "list"]) == 0
    assert "transmorph-ixi" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate"], "--out is missing"),
        (["evaluate", "--out", "o"], "nothing, with which nothing"),
        (["evaluate", "t.csv", "--out", "o", "--fixed", "a.nii"], "give one of them"),
        (["evaluate", "t.csv", "--out", "o", "--submission", "d"], "go with the json"),
        (["evaluate", "t.csv", "--out", "o", "--protocol", "linaer"], "Did you mean 'linear'"),
        (["evaluate", "t.csv", "--out", "o"], "does not exist"),
        (["evaluate", "--published", "nothing"], "published"),
        (["evaluate", "--cache", "c"], "--cache came without --model"),
        (["evaluate", "t.csv", "--model", "w"], "the table came with --model"),
        (["evaluate", "--model", "w", "--cache", "c", "--fixed", "a", "--group"], "--fixed, --group came with --model"),
        (["evaluate", "--model", "w"], "--model needs scans"),
        (["evaluate", "--model", "w", "--cache", "c"], "no weights 'w'"),
        (["evaluate", "--model", "w", "--cache", "c", "--split", "tset"], "Did you mean 'test'"),
        (["compare", "a", "b", "--out", "o", "--plot-format", "gif"], "png, svg, pdf"),
        (["compare", "a", "b", "--out", "o", "--name", "x"], "1 names came with 2"),
        (["compare", "a", "b", "--out", "o"], "does not exist"),
        (["submission", "d.json", "--transforms", "{fixed}.h5", "--out", "o"], "does not exist"),
    ],
)
def test_errors(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
