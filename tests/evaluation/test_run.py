"""Many pairs: tables in and out, what cannot be read is left out, and memory does not grow."""

import gc
import json
import weakref

import pytest
import torch

import pullback as pb
from pullback.data import Image, LabelMap
from pullback.evaluation import Case, Job, Request, check_folder, evaluate, jobs_of, read_pairs, score
from pullback.evaluation import run as run_module
from pullback.evaluation.output import RowFile
from pullback.metrics import Group
from studies import GRID, SHIFT, damage, image, labels, read_csv, write_study

QUICK = Request(groups=("overlap", "landmarks"))


@pytest.fixture
def folder(tmp_path):
    write_study(tmp_path, {"a": [0.0, 1.0, 2.0]})
    return tmp_path


def test_tables_of_results(folder):
    out = check_folder(folder / "out", overwrite=False)
    seen = []
    outcome = evaluate(
        jobs_of(read_pairs(folder / "a.tsv")),
        out,
        request=QUICK,
        method="mine",
        label_names={1: "long"},
        on_pair=lambda *words: seen.append(words),
    )
    assert outcome.is_complete
    assert seen == [(1, 3, "p0", ""), (2, 3, "p1", ""), (3, 3, "p2", "")]
    assert sorted(p.name for p in out.iterdir()) == ["labels.csv", "pairs.csv", "summary.json", "summary.txt"]
    pairs = read_csv(out / "pairs.csv")
    assert [float(row["dice_nearest"]) for row in pairs] == pytest.approx([1.0, 0.775, 0.55])
    assert [row["status"] for row in pairs] == ["ok"] * 3
    assert "sdlogj" not in pairs[0]
    labels = read_csv(out / "labels.csv")
    assert [(row["pair"], row["label"], row["name"]) for row in labels[:2]] == [("p0", "1", "long"), ("p0", "2", "")]
    summary = json.loads((out / "summary.json").read_text())
    dice = summary["measures"]["dice_nearest"]
    assert (dice["n"], dice["mean"], dice["median"]) == (3, pytest.approx(0.775), pytest.approx(0.775))
    assert dice["dsc30"] == pytest.approx(0.55 + 0.6 * 0.225)
    assert summary["method"] == "mine"
    assert summary["labels"][0]["dice"]["mean"] == pytest.approx((1 + 0.8 + 0.6) / 3)
    assert "Dice (nearest)" in outcome.text
    assert "1 long" in outcome.text


def test_pairs_without_a_common_label_are_counted_and_one_pair_has_no_spread(folder):
    pb.write_image(folder / "moving_labels.nii.gz", LabelMap(10 * labels(SHIFT).tensor, GRID))
    outcome = evaluate(jobs_of(read_pairs(folder / "a.tsv"))[:1], check_folder(folder / "out", overwrite=False))
    assert "pairs whose label maps share no label that counts: 1" in outcome.text
    assert outcome.summary["pairs_without_labels"] == 1
    assert outcome.summary["measures"]["mse"]["sd"] is None
    assert next(line for line in outcome.text.splitlines() if line.startswith("MSE")).split()[3] == "-"


def test_unreadable_pairs_are_left_out_and_said(folder):
    lines = (folder / "a.tsv").read_text().splitlines()
    lines[2] = lines[2].replace("moving_labels.nii.gz", "broken.nii.gz")
    lines[3] = lines[3].replace("a2.tfm", "none.tfm")
    (folder / "a.tsv").write_text("\n".join(lines))
    (folder / "broken.nii.gz").write_bytes((folder / "moving_labels.nii.gz").read_bytes())
    damage(folder / "broken.nii.gz")
    outcome = evaluate(
        jobs_of(read_pairs(folder / "a.tsv")), check_folder(folder / "out", overwrite=False), request=QUICK
    )
    assert not outcome.is_complete
    assert [entry["pair"] for entry in outcome.summary["skipped"]] == ["p1", "p2"]
    rows = read_csv(folder / "out" / "pairs.csv")
    assert [row["status"] for row in rows] == ["ok", "skipped", "skipped"]
    assert "broken.nii.gz" in rows[1]["message"]
    assert "none.tfm" in rows[2]["message"]
    assert outcome.summary["num_pairs"] == 1
    assert "skipped p1" in outcome.text


def test_a_case_that_cannot_be_built_is_left_out_too(folder):
    def trouble() -> Case:
        raise FileNotFoundError("no displacement")

    outcome = evaluate([Job("bad", trouble), *jobs_of(read_pairs(folder / "a.tsv")[:1])], folder, request=QUICK)
    assert outcome.summary["skipped"] == [{"pair": "bad", "reason": "no displacement"}]


def test_strictly_the_error_is_raised_and_nothing_stays(folder):
    out = check_folder(folder / "out", overwrite=False)
    with pytest.raises(FileNotFoundError):
        evaluate(jobs_of([Case("p", fixed=folder / "none.nii", warped=folder / "none.nii")]), out, is_strict=True)
    assert list(out.iterdir()) == []


def test_an_interrupted_run_leaves_rows_but_no_complete_table(folder):
    def stop(done, total, pair, reason):
        if done == 2:
            raise KeyboardInterrupt

    out = check_folder(folder / "out", overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        evaluate(jobs_of(read_pairs(folder / "a.tsv")), out, request=QUICK, on_pair=stop)
    assert sorted(p.name for p in out.iterdir()) == ["labels.csv.partial", "pairs.csv.partial"]
    assert len(read_csv(out / "pairs.csv.partial")) == 2


def test_a_thousand_pairs_hold_the_images_of_one(folder, monkeypatch):
    alive: list[weakref.ref] = []
    most = 0

    def watching(case, request):
        nonlocal most
        found = score(case, request)
        alive.append(weakref.ref(found.warped.tensor))
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
        return found

    monkeypatch.setattr(run_module, "score", watching)
    case = read_pairs(folder / "a.tsv")[0]
    jobs = [Job(str(n), lambda: case) for n in range(8)]
    outcome = evaluate(jobs, folder, request=Request(groups=("intensity",)), group=True)
    assert most == 1
    assert outcome.summary["group"]["num_subjects"] == 8


def test_the_group_is_the_groups_own_arithmetic(folder):
    for n in range(3):
        pb.write_image(folder / f"warped{n}.nii.gz", image(seed=n))
    cases = [Case(str(n), fixed=folder / "fixed.nii.gz", warped=folder / f"warped{n}.nii.gz") for n in range(3)]
    outcome = evaluate(jobs_of(cases), folder, group=True)
    group = Group(image().tensor[0])
    for n in range(3):
        group.add(image(seed=n).tensor[0])
    assert outcome.summary["group"] == pytest.approx(group.summary().as_dict())
    assert "over the group" in outcome.text
    other = Image(torch.zeros(1, 4, 4, 4), pb.Grid.from_spacing((4, 4, 4)))
    pb.write_image(folder / "small.nii.gz", other)
    odd = Case("odd", fixed=folder / "small.nii.gz", warped=folder / "small.nii.gz")
    left_out = evaluate(jobs_of([*cases, odd]), folder, request=Request(groups=("intensity",)), group=True)
    assert "not on the grid of the group" in left_out.summary["skipped"][0]["reason"]
    assert other.grid != GRID


def test_a_group_of_several_channels_is_refused(tmp_path):
    rgb = torch.rand(3, *GRID.shape, generator=torch.Generator().manual_seed(0))
    pb.write_image(tmp_path / "rgb.nii.gz", Image(rgb, GRID))
    (tmp_path / "t.csv").write_text("fixed,warped\nrgb.nii.gz,rgb.nii.gz\n")
    outcome = evaluate(jobs_of(read_pairs(tmp_path / "t.csv")), tmp_path, group=True)
    assert "have 3 channels, but a group is measured on images of one" in outcome.text


def test_folders_are_not_overwritten_unasked(tmp_path):
    folder = check_folder(tmp_path / "out", overwrite=False)
    (folder / "pairs.csv").write_text("pair\n")
    with pytest.raises(FileExistsError, match="--overwrite"):
        check_folder(folder, overwrite=False)
    check_folder(folder, overwrite=True)
    with pytest.raises(FileNotFoundError):
        check_folder(tmp_path / "a" / "b", overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        check_folder(tmp_path / "file", overwrite=False)


def test_a_growing_csv(tmp_path):
    with RowFile(tmp_path / "a.csv", ["x", "y", "z"]) as file:
        file.add({"x": 1.0, "z": float("nan")})
        assert not (tmp_path / "a.csv").exists()
        assert read_csv(file.partial) == [{"x": "1", "y": "", "z": ""}]
        file.add({"x": 2.5, "y": "a, b"})
    file.finish()
    assert read_csv(tmp_path / "a.csv") == [{"x": "1", "y": ""}, {"x": "2.5", "y": "a, b"}]
    assert not file.partial.exists()
    with pytest.raises(ValueError, match="dict contains fields"), RowFile(tmp_path / "b.csv", ["x"]) as file:
        file.add({"w": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "these are known"),
        ("pair,fixd\n", r"columns \['fixd'\]"),
        ("pair,fixed\n", "no pair"),
        ("pair,fixed\na,x\na,y\n", "line 3: the pair 'a' stands there a second time"),
        ("fixed,seconds\nx,fast\n", "line 2: seconds is 'fast'"),
        ("fixed,points_in\nx,mni\n", "line 2.*points_in"),
        ("fixed\nx,y\n", "line 2 has 2 cells"),
        ("fixed,transform\nx,identity;\n", "line 2: transform is 'identity;', but there must be a file"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "t.csv")


def test_only_ends_of_lines_end_rows(tmp_path):
    rows = ["pair\tfixed", "a\u2028b\x0cc\x85\td.nii", '"two\nlines"\te.nii']
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "t.tsv").write_bytes((end.join(rows) + end).encode("utf-8-sig"))
        assert [(case.pair, case.fixed.name) for case in read_pairs(tmp_path / "t.tsv")] == [
            ("a\u2028b\x0cc", "d.nii"),
            ("two\nlines", "e.nii"),
        ]


def test_cells_of_a_table(tmp_path):
    (tmp_path / "t.csv").write_text("fixed,transform,seconds\nsub/a.nii, warp.h5 ;identity,1.5\n\n/b.nii,,\n")
    first, second = read_pairs(tmp_path / "t.csv")
    assert (first.pair, second.pair) == ("1", "3")
    assert first.fixed == tmp_path / "sub/a.nii"
    assert first.transform == (tmp_path / "warp.h5", "identity")
    assert (first.seconds, second.seconds) == (1.5, None)
    assert str(second.fixed) == "/b.nii"
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "none.csv")
