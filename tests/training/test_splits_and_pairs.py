"""Splits keep persons together and never change; pair sources give what they say."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from pullback.training import pairs
from pullback.training.manifest import SPLITS, Manifest, Scan
from pullback.training.splits import Split, by_folds, by_fractions, checked, from_file, from_manifest

MANIFEST = Manifest(tuple(Scan(f"s{n}", Path(f"s{n}.nii"), subject=f"p{n // 2}") for n in range(20)))


def people(split: Split, part: str) -> set[str]:
    return {MANIFEST.find(name).subject for name in split.part(part)}


@pytest.mark.parametrize("split", [by_fractions(MANIFEST, (0.6, 0.2, 0.2)), by_folds(MANIFEST, 5, 2)])
def test_persons_stay_together_and_nobody_is_lost(split: Split):
    for a, b in combinations(SPLITS, 2):
        assert not people(split, a) & people(split, b)
    assert sorted(name for part in SPLITS for name in split.part(part)) == sorted(s.name for s in MANIFEST.scans)
    assert [len(people(split, part)) for part in SPLITS] == [6, 2, 2]


def test_a_split_is_the_same_every_time_whatever_the_order_of_the_scans():
    turned = Manifest(MANIFEST.scans[::-1])
    first = by_fractions(MANIFEST, (0.6, 0.2, 0.2), seed=3)
    assert first == by_fractions(turned, (0.6, 0.2, 0.2), seed=3)
    assert first != by_fractions(MANIFEST, (0.6, 0.2, 0.2), seed=4)
    # stored, so that another version of NumPy that draws otherwise is noticed
    assert by_folds(MANIFEST, 5, 0, seed=0).test == ("s10", "s11", "s8", "s9")


def test_folds_test_everybody_once():
    tested = [name for fold in range(5) for name in by_folds(MANIFEST, 5, fold).test]
    assert sorted(tested) == sorted(scan.name for scan in MANIFEST.scans)
    assert by_folds(MANIFEST, 2, 0).validation == ()
    with pytest.raises(ValueError, match="2 to 10 are possible with 10 persons"):
        by_folds(MANIFEST, 11, 0)
    with pytest.raises(ValueError, match="0 to 4"):
        by_folds(MANIFEST, 5, 5)


def test_splits_of_files_are_checked(tmp_path: Path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"training": ["s0", "s1"], "test": ["s2"]}))
    assert from_file(MANIFEST, path) == Split(("s0", "s1"), (), ("s2",))
    path.write_text(json.dumps({"training": ["s0"], "test": ["s1"]}))
    with pytest.raises(ValueError, match="'p0' stands in training and in test"):
        from_file(MANIFEST, path)
    with pytest.raises(ValueError, match="nobody to train on"):
        from_manifest(MANIFEST)
    with pytest.raises(ValueError, match="'s99'"):
        checked(MANIFEST, Split(("s99",)))


def test_fractions_are_checked():
    with pytest.raises(ValueError, match="three numbers that sum to 1"):
        by_fractions(MANIFEST, (0.5, 0.5, 0.5))


def test_pair_sources():
    names = ["a", "b", "c", "d"]
    everything = pairs.all_ordered(names)
    assert len(everything) == 12
    assert ("a", "a") not in everything
    drawn = pairs.random_pairs(names, 5, seed=1)
    assert drawn == pairs.random_pairs(names, 5, seed=1)
    assert len(set(drawn)) == 5
    assert pairs.random_pairs(names, 99) == everything
    assert pairs.atlas_to_subject(names, "b") == [("a", "b"), ("c", "b"), ("d", "b")]
    templates = pairs.to_templates(names, 2)
    assert len(templates) == 4
    assert not {fixed for fixed, _ in templates} & {moving for _, moving in templates}
    with pytest.raises(ValueError, match="1 to 3"):
        pairs.to_templates(names, 4)
    with pytest.raises(ValueError, match="no scan for the atlas"):
        pairs.atlas_to_subject(["a"], "a")


def test_pairs_left_out_are_left_out_both_ways_and_once():
    everything = pairs.all_ordered(["a", "b", "c", "d"])
    out = []
    for fold in range(3):
        kept, left = pairs.leave_pairs_out(everything, 3, fold)
        assert sorted(kept + left) == sorted(everything)
        assert {(b, a) for a, b in left} == set(left)
        out += left
    assert sorted(out) == sorted(everything)
    with pytest.raises(ValueError, match="Fold 3 of 3"):
        pairs.leave_pairs_out(everything, 3, 3)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (["a"], "is no split"),
        ({"train": ["a"]}, "is no split"),
        ({"training": ["a"], "val": ["b"]}, "'val'"),
        ({"training": "a"}, "a list of names is needed"),
    ],
)
def test_files_that_are_no_splits(tmp_path: Path, lists, message: str):
    (tmp_path / "split.json").write_text(json.dumps(lists))
    with pytest.raises(ValueError, match=message):
        from_file(Manifest((Scan("a", tmp_path), Scan("b", tmp_path))), tmp_path / "split.json")
