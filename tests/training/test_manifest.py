"""Sources of scans: tables, Learn2Reg's json, BIDS folders, patterns."""

import json
from pathlib import Path

import pytest

from pullback.training.manifest import Manifest, Scan, name_of, read_bids, read_globs, read_learn2reg, read_manifest


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_table_and_the_same_as_json(tmp_path: Path):
    rows = [
        {"name": "b", "image": "b.nii.gz", "labels": "b_seg.nii.gz", "subject": "anna", "split": "test"},
        {"name": "a", "image": "a.nii.gz", "labels": "", "subject": "", "split": "training"},
    ]
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    (tmp_path / "scans.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "scans.json").write_text(json.dumps(rows))
    manifest = read_manifest(tmp_path / "scans.tsv")
    assert manifest == read_manifest(tmp_path / "scans.json")
    assert [scan.name for scan in manifest.scans] == ["a", "b"]
    assert manifest.scans[0] == Scan("a", tmp_path / "a.nii.gz", None, "a", "training")
    assert manifest.scans[1].subject == "anna"


def test_an_unknown_column_and_a_missing_image_are_named(tmp_path: Path):
    (tmp_path / "scans.json").write_text(json.dumps([{"image": "a.nii", "label": "b.nii"}]))
    with pytest.raises(ValueError, match=r"'label'.*Did you mean 'labels'"):
        read_manifest(tmp_path / "scans.json")
    (tmp_path / "scans.json").write_text(json.dumps([{"name": "a"}]))
    with pytest.raises(ValueError, match=r"Row 1 .* names no image"):
        read_manifest(tmp_path / "scans.json")


def test_learn2reg_with_its_pairs(tmp_path: Path):
    described = {
        "training": [{"image": f"./imagesTr/x_{n}.nii.gz", "label": f"./labelsTr/x_{n}.nii.gz"} for n in range(4)],
        "test": [{"image": "./imagesTs/x_9.nii.gz"}],
        "registration_val": [{"fixed": "./imagesTr/x_2.nii.gz", "moving": "./imagesTr/x_3.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    manifest = read_learn2reg(tmp_path / "dataset.json")
    assert manifest.pairs == {"validation": (("x_2", "x_3"),)}
    assert [scan.split for scan in manifest.scans] == ["training", "training", "validation", "validation", "test"]
    assert manifest.find("x_1").labels == tmp_path / "labelsTr" / "x_1.nii.gz"
    assert manifest.find("x_9").labels is None


def test_learn2reg_keeps_scans_of_one_subject_together(tmp_path: Path):
    described = {
        "training": {m: [{"image": f"./imagesTr/L_000{n}_000{m}.nii.gz"} for n in (1, 2)] for m in ("0", "1")},
        "training_paired_images": [{"0": "./imagesTr/L_0001_0000.nii.gz", "1": "./imagesTr/L_0001_0001.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    manifest = read_learn2reg(tmp_path / "dataset.json")
    assert [scan.subject for scan in manifest.scans] == ["L_0001", "L_0001", "L_0002", "L_0002"]
    assert manifest.pairs == {"training": (("L_0001_0000", "L_0001_0001"),)}


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([1], "is no data set of Learn2Reg"),
        ({"training": [3]}, "lists 3, which names no image"),
        ({"training": "imagesTr"}, "otherwise than as a list"),
        ({"training": ["a.nii"], "registration_val": [{"fixed": "a.nii"}]}, "'fixed' and 'moving' are needed"),
    ],
)
def test_what_is_no_data_set_of_learn2reg(tmp_path: Path, described, message: str):
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message):
        read_learn2reg(tmp_path / "dataset.json")


def test_tables_of_other_kinds(tmp_path: Path):
    (tmp_path / "scans.csv").write_text("name,image,subject\na,a.nii.gz,1\n")
    (tmp_path / "scans.json").write_text(json.dumps([{"name": "a", "image": "a.nii.gz", "subject": 1}]))
    assert read_manifest(tmp_path / "scans.csv") == read_manifest(tmp_path / "scans.json")
    assert read_manifest(tmp_path / "scans.csv").scans[0].subject == "1"
    for text, message in [("[{", "is not JSON"), ("5", "a list of objects"), ('["a.nii"]', "a list of objects")]:
        (tmp_path / "scans.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_manifest(tmp_path / "scans.json")
    (tmp_path / "scans.tsv").write_text("name\timage\na\ta.nii\tmore\n")
    with pytest.raises(ValueError, match=r"Row 1 .* more values than there are columns"):
        read_manifest(tmp_path / "scans.tsv")


def test_bids_leaves_labels_of_another_space(tmp_path: Path):
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "derivatives/a/sub-01/anat/sub-01_space-MNI_dseg.nii.gz",
        "derivatives/b/sub-01/anat/sub-01_dseg.nii.gz",
    )
    assert read_bids(tmp_path).scans[0].labels.name == "sub-01_dseg.nii.gz"


def test_bids_with_sessions_and_derivatives(tmp_path: Path):
    touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-02/anat/sub-02_T2w.nii.gz",
        "derivatives/seg/sub-02/anat/sub-02_desc-aseg_dseg.nii.gz",
    )
    manifest = read_bids(tmp_path)
    assert [scan.name for scan in manifest.scans] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02"]
    assert [scan.subject for scan in manifest.scans] == ["sub-01", "sub-01", "sub-02"]
    assert manifest.find("sub-02").labels.name == "sub-02_desc-aseg_dseg.nii.gz"


def test_patterns_pair_by_what_the_star_stands_for(tmp_path: Path):
    touch(tmp_path, "p1_a_image.nii.gz", "p1_b_image.nii.gz", "p1_a_labels.nii.gz", "p1_b_labels.nii.gz")
    manifest = read_globs(tmp_path, "*_image.nii.gz", "*_labels.nii.gz", subject=r"^(p\d)")
    assert [(s.name, s.subject) for s in manifest.scans] == [("p1_a", "p1"), ("p1_b", "p1")]
    (tmp_path / "p1_b_labels.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"no labels: .*p1_b_labels"):
        read_globs(tmp_path, "*_image.nii.gz", "*_labels.nii.gz")
    with pytest.raises(ValueError, match="no regular expression"):
        read_globs(tmp_path, "*_image.nii.gz", subject="(")
    with pytest.raises(ValueError, match="has no group"):
        read_globs(tmp_path, "*_image.nii.gz", subject="p")
    with pytest.raises(ValueError, match="2 stars"):
        read_globs(tmp_path, "*/*_image.nii.gz")


def test_what_a_manifest_refuses(tmp_path: Path):
    with pytest.raises(ValueError, match="There is no scan"):
        Manifest(())
    with pytest.raises(ValueError, match="'a' stands for several"):
        Manifest((Scan("a", tmp_path), Scan("a", tmp_path)))
    with pytest.raises(ValueError, match="names 'b', which is no scan"):
        Manifest((Scan("a", tmp_path),), {"test": (("a", "b"),)})


def test_scans_of_one_person(tmp_path: Path):
    manifest = Manifest(tuple(Scan(name, tmp_path / name) for name in "abcd")).same_person([("b", "d")])
    assert [scan.subject for scan in manifest.scans] == ["a", "b", "c", "b"]
    with pytest.raises(ValueError, match="'e'"):
        manifest.same_person([("a", "e")])


@pytest.mark.parametrize(("file", "name"), [("a.b.nii.gz", "a.b"), ("x.NII", "x"), ("y.dat", "y"), ("plain", "plain")])
def test_names_of_files(file: str, name: str):
    assert name_of(Path(file)) == name


def test_groups_of_one_person_are_united_with_each_other_and_with_subjects(tmp_path: Path):
    scans = tuple(Scan(f"s{n}", tmp_path / f"s{n}.nii", None, f"p{n // 2}") for n in range(6))
    united = Manifest(scans).same_person([["s1", "s2"], ["s2", "s5"]])
    assert {scan.subject for scan in united.scans} == {"p0"}
    alone = Manifest(tuple(Scan(f"s{n}", tmp_path / f"s{n}.nii") for n in range(4))).same_person(
        [["s0", "s1"], ["s1", "s2"]]
    )
    assert [scan.subject for scan in alone.scans] == ["s0", "s0", "s0", "s3"]
    with pytest.raises(ValueError, match="two scans or more"):
        Manifest(scans).same_person([[]])


def test_columns_that_stand_twice_and_patterns_from_the_root_are_refused(tmp_path: Path):
    (tmp_path / "table.tsv").write_text("image\tlabels\tlabels\na.nii\tb.nii\tc.nii\n")
    with pytest.raises(ValueError, match="column 'labels' twice"):
        read_manifest(tmp_path / "table.tsv")
    (tmp_path / "wide.tsv").write_bytes("image\na.nii\n".encode("utf-16"))
    with pytest.raises(ValueError, match="not a text file"):
        read_manifest(tmp_path / "wide.tsv")
    with pytest.raises(ValueError, match="begins at the root"):
        read_globs(tmp_path, f"{tmp_path}/*.nii")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": [{"image": "a_0001_0000.nii.gz", "label": 5}]}, "label is no file name"),
        ({"training": ["a_0001_0000.nii.gz"], "registration_val": 5}, "a list of pairs is needed"),
    ],
)
def test_wrong_values_of_a_learn2reg_json_are_named(tmp_path: Path, content: dict, message: str):
    (tmp_path / "set.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_learn2reg(tmp_path / "set.json")
