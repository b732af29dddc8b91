"""Comparisons of methods, and published numbers."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats

from pullback.evaluation import (
    Request,
    check_folder,
    compare,
    evaluate,
    jobs_of,
    published_table,
    published_tables,
    read_method,
    read_pairs,
    text_of_comparison,
    write_comparison,
)
from pullback.metrics import holm
from studies import write_study

ERRORS = {"good": [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0], "poor": [2.0, 3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0]}
QUICK = Request(groups=("overlap", "landmarks"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for method, table in write_study(folder, ERRORS).items():
        out = check_folder(folder / f"{method}-results", overwrite=False)
        evaluate(jobs_of(read_pairs(table)), out, request=QUICK, method=method)
    return folder


def methods_in(results):
    return [read_method(results / f"{method}-results") for method in ERRORS]


def test_the_better_method_is_found(results):
    found = compare(methods_in(results))
    assert found.best() == "good"
    assert found.ranks["dice_nearest"] == pytest.approx({"good": 1.0, "poor": 0.1})
    assert len(found.pairs) == 8
    overall = {row["measure"]: row for row in found.statistics if row["label"] == ""}
    assert overall["dice_nearest"]["better"] == overall["tre_mean_mm"]["better"] == "good"
    assert overall["dice_nearest"]["mean_difference"] > 0 > overall["tre_mean_mm"]["mean_difference"]
    theirs = stats.wilcoxon(ERRORS["good"], ERRORS["poor"])
    assert overall["tre_mean_mm"]["p_value"] == pytest.approx(theirs.pvalue)


def test_dice_and_landmarks_rank_twice_and_the_start_says_where(results):
    good, poor = methods_in(results)
    found = compare([good, poor], initial=good)
    assert list(found.ranks) == [
        "dice_nearest",
        "dice_nearest_hardest_30",
        "tre_mean_mm",
        "tre_mean_mm_hardest_30",
        "overall",
    ]
    assert found.ranks["dice_nearest_hardest_30"] == pytest.approx(
        {"good": 0.55, "poor": 0.55}
    )  # two pairs say nothing
    assert found.ranks["overall"]["good"] == pytest.approx((1 * 0.55 * 1 * 0.55) ** 0.25)


def test_labels_are_corrected_together(results):
    rows = [r for r in compare(methods_in(results), ["dice_nearest"]).statistics if r["label"]]
    assert [r["label"] for r in rows] == ["1", "2"]
    assert [r["p_holm"] for r in rows] == pytest.approx(holm([r["p_value"] for r in rows]).tolist())


def test_files_and_text(results, tmp_path):
    found = compare(methods_in(results))
    text = text_of_comparison(found)
    assert "best: good" in text
    assert "Dice (nearest): good better in 2, poor better in 0 of 2" in text
    write_comparison(found, tmp_path, text)
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert (data["best"], data["num_pairs"], data["left_out"]) == ("good", 8, [])
    with (tmp_path / "statistics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.statistics)
    assert rows[0]["better"] == "good"


def test_only_common_pairs_count(results, tmp_path):
    shutil.copytree(results / "poor-results", tmp_path / "fewer")
    lines = (tmp_path / "fewer" / "pairs.csv").read_text().splitlines()
    (tmp_path / "fewer" / "pairs.csv").write_text("\n".join(lines[:-2]) + "\n")
    found = compare([read_method(results / "good-results"), read_method(tmp_path / "fewer", "fewer")])
    assert (len(found.pairs), found.left_out) == (6, ("p6", "p7"))
    assert "2 left out" in text_of_comparison(found)


def test_smaller_is_better_in_size_where_zero_is_best(results):
    found = compare(methods_in(results), ["volume_similarity_nearest"])
    assert all(row["p_value"] == 1.0 for row in found.statistics)  # no box changed its size
    assert found.best() == "good / poor"
    text = text_of_comparison(found).splitlines()
    assert sum(line.lstrip().startswith("|volume similarity (nearest)|") for line in text) == 3
    assert sum(line.startswith("volume similarity (nearest)") for line in text) == 1  # the means, with their sign


def test_errors(results, tmp_path):
    good, poor = methods_in(results)
    with pytest.raises(ValueError, match="two or more"):
        compare([good])
    with pytest.raises(ValueError, match="name of its own"):
        compare([good, good])
    with pytest.raises(ValueError, match=r"these can be compared: dice_nearest"):
        compare([good, poor], ["dice_linear"])
    with pytest.raises(FileNotFoundError, match="pullback evaluate"):
        read_method(tmp_path)
    (tmp_path / "pairs.csv").write_text("pair,status,ncc\na,skipped,\n")
    with pytest.raises(ValueError, match="no pair that was scored"):
        read_method(tmp_path)
    (tmp_path / "pairs.csv").write_text("pair,status,ncc\na,ok,much\n")
    with pytest.raises(ValueError, match="line 2"):
        read_method(tmp_path)
    (tmp_path / "pairs.csv").write_text("pair,status,ncc\nelse,ok,1\n")
    with pytest.raises(ValueError, match="no pair in common"):
        compare([good, read_method(tmp_path)])
    (tmp_path / "pairs.csv").write_text("pair,status,ncc\na,ok,1\na,ok,2\n")
    with pytest.raises(ValueError, match="holds the pair 'a' twice"):
        read_method(tmp_path)
    (tmp_path / "pairs.csv").write_bytes(b"pair,status,ncc\n\xff,ok,1\n")
    with pytest.raises(ValueError, match=r"pairs\.csv' is not a text file"):
        read_method(tmp_path)
    (tmp_path / "pairs.csv").write_text("case,status,ncc\np0,ok,1\n")
    with pytest.raises(ValueError, match="no column 'pair'"):
        read_method(tmp_path)
    (tmp_path / "pairs.csv").write_text("pair,status,ncc\np0,ok,1\n", encoding="utf-8-sig")  # as spreadsheets save it
    with pytest.raises(ValueError, match="no measure in common"):
        compare([good, read_method(tmp_path)])


def test_published_tables_have_sources_and_numbers():
    tables = published_tables()
    assert {"im2grid-oasis3", "airnet-mni152", "hsyn-oasis", "transmorph-ixi", "lumir-validation"} <= set(tables)
    for table in tables.values():
        assert table.source
        assert table.protocol
        assert table.rows
        for cells in table.rows.values():
            assert set(cells) <= set(table.columns)
            assert all(math.isfinite(cell.value) and (cell.sd is None or cell.sd >= 0) for cell in cells.values())
        assert table.identifier in table.as_text()


def test_numbers_as_they_were_printed():
    table = published_table("im2grid-learn2reg-oasis")
    assert table.rows["ConvexAdam"]["dice"].value == 0.8464
    assert table.rows["TransMorph"]["sdlogj_l2r"].value == 0.0945
    assert str(published_table("hsyn-oasis").rows["HSyN"]["folds_percent"]) == "<0.003"
    assert "folds_percent" not in published_table("hsyn-oasis").rows["Affine Only"]
    percentiles = published_table("quicksilver-percentiles").rows["Affine (Baseline)"]
    assert np.array([c.value for c in percentiles.values()]).tolist() == sorted(c.value for c in percentiles.values())
    with pytest.raises(ValueError, match="published"):
        published_table("im2grid")


def test_a_table_of_labels_without_labels_is_named(tmp_path):
    (tmp_path / "pairs.csv").write_text("pair,status,message,seconds\na,ok,,1.0\n")
    for text in ("pair,protocol,dice\na,nearest,0.5\n", "pair,protocol,label,dice\na,nearest,inf,0.5\n"):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(ValueError, match=r"labels\.csv' is damaged: each row needs .* a label"):
            read_method(tmp_path)


def test_labels_without_a_number_of_a_measure_are_not_counted_as_tested(tmp_path):
    (tmp_path / "pairs.csv").write_text("pair,status,dice_nearest,hd95_mm_nearest\np0,ok,0.5,2\np1,ok,0.6,3\n")
    (tmp_path / "labels.csv").write_text("pair,label,protocol,dice\np0,1,nearest,0.5\np1,1,nearest,0.6\n")
    found = compare([read_method(tmp_path, name) for name in "ab"])
    assert [(row["measure"], row["label"]) for row in found.statistics] == [
        ("dice_nearest", ""),
        ("dice_nearest", "1"),
        ("hd95_mm_nearest", ""),
    ]
    assert "HD95 [mm] (nearest): a better" not in text_of_comparison(found)
