"""What is written: all of it or nothing, in words that other programs read."""

import json
import re
from pathlib import Path

import pytest
import SimpleITK

import phantoms
import pullback as pb
from pullback.io import write_transform
from pullback.io.formats import Written
from pullback.pairwise import output
from pullback.transforms import Translation

ALWAYS = {"warped.nii.gz", "fixed_to_moving.h5", "moving_to_fixed.h5", "result.json", "report.html", "thumbnail.jpg"}
KEYS = {
    "pullback",
    "command",
    "seed",
    "threads",
    "device",
    "timings_seconds",
    "peak_memory_mb",
    "initialisation",
    "similarity",
    "jacobian",
    "inverse_consistency",
    "labels",
    "points",
    "verdict",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return phantoms.deformable().save(tmp_path_factory.mktemp("results") / "out")


def strictly(constant: str):
    raise AssertionError(f"{constant} is no JSON")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_files_are_there_and_no_other(folder: Path):
    assert names(folder) == ALWAYS | {"warped_labels.nii.gz"}


def test_result_json_is_strict_and_says_everything(folder: Path):
    summary = json.loads((folder / "result.json").read_text(encoding="utf-8"), parse_constant=strictly)
    assert summary.keys() >= KEYS
    assert summary["verdict"]["value"] == "good"
    assert summary["verdict"]["reasons"]
    assert summary["threads"] == 1
    assert summary["initialisation"].keys() >= {"chosen", "score"}
    assert summary["similarity"]["before"] < summary["similarity"]["after"]
    assert summary["jacobian"].keys() >= {"minimum", "maximum", "percent_nonpositive"}
    assert summary["inverse_consistency"].keys() >= {"mean_mm", "mean_voxels"}
    assert summary["timings_seconds"].keys() >= {"initialisation", "affine", "deformable", "write", "total"}
    assert summary["labels"]["mean_dice_before"] < summary["labels"]["mean_dice_after"]
    assert summary["points"]["mean_mm_after"] < summary["points"]["mean_mm_before"]
    assert summary["peak_memory_mb"] > 0
    assert summary["read_back_mm"] < 1e-3


def test_transforms_that_read_back_wrong_leave_nothing(monkeypatch, tmp_path: Path):
    def wrong(path, transform):
        write_transform(path, Translation.by((1.0, 0.0, 0.0)) @ transform)
        return Written(transform)

    monkeypatch.setattr(output, "write_transform", wrong)
    with pytest.raises(OSError, match="do not use it"):
        phantoms.quick().save(tmp_path / "out")
    assert names(tmp_path) == set()
    assert phantoms.quick().save(tmp_path / "out", verify=False).is_dir()


def test_the_report_stands_alone(folder: Path):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "good" in page
    assert "data:image/png;base64," in page
    assert 'src="http' not in page


def test_the_report_can_be_written_alone(tmp_path: Path):
    path = phantoms.quick().report(tmp_path / "page.html")
    assert "good" in path.read_text(encoding="utf-8")
    assert names(tmp_path) == {"page.html"}


def test_warped_lies_on_the_fixed_grid(folder: Path):
    warped = pb.read_image(folder / "warped.nii.gz")
    assert warped.grid.same_as(phantoms.head().grid)
    assert (warped.tensor - phantoms.deformable().warp().tensor).abs().max() < 1e-4


def test_results_are_not_replaced_unasked(folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="holds results already"):
        phantoms.quick().save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_replacing_leaves_nothing_of_the_old_results(tmp_path: Path):
    phantoms.deformable().save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    phantoms.quick().save(tmp_path, overwrite=True)
    assert names(tmp_path) == ALWAYS | {"notes.txt"}
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["model"] == "affine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("broken")])
@pytest.mark.parametrize("stage", ["write_report", "write_transform", "write_image"])
@pytest.mark.parametrize("exists", ["no", "empty", "results"])
def test_if_anything_fails_the_directory_is_as_before(monkeypatch, tmp_path: Path, error, stage: str, exists: str):
    out = tmp_path / "out"
    if exists != "no":
        out.mkdir()
    if exists == "results":
        (out / "result.json").write_text("old")
        (out / "mine.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else None

    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(output, stage, fail)
    with pytest.raises(type(error)):
        phantoms.quick().save(out, overwrite=True)
    after = {path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else None
    assert after == before
    assert names(tmp_path) == ({"out"} if exists != "no" else set())


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FileExistsError, match="is a file"):
        phantoms.quick().save(tmp_path / "out", overwrite=True)


def test_the_folder_around_the_directory_must_exist(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        phantoms.quick().save(tmp_path / "a" / "b")


def test_a_folder_that_takes_no_files_is_said_before_the_work(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is a link to a folder that does not exist"):
        output.check_directory(tmp_path / "link", overwrite=False)
    with pytest.raises(OSError, match="Nothing can be written into"):
        output.check_directory("/proc/out", overwrite=False)
    output.check_directory(tmp_path / "out", overwrite=False)
    assert {path.name for path in tmp_path.iterdir()} == {"link"}


def test_the_headers_codes_are_kept(tmp_path: Path):
    nibabel = pytest.importorskip("nibabel")
    head = phantoms.head()
    file = nibabel.Nifti1Image(head.tensor[0].numpy(), head.grid.voxel_to_world.numpy())
    file.set_sform(file.affine, code=4)
    file.set_qform(file.affine, code=2)
    file.to_filename(tmp_path / "fixed.nii.gz")
    found = phantoms.register(
        tmp_path / "fixed.nii.gz", phantoms.plain_scan()[0], model="affine", initial="header", preset="fast"
    )
    header = nibabel.load(found.save(tmp_path / "out") / "warped.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 2)


def test_transforms_are_itk_composites(folder: Path):
    for name in ("fixed_to_moving", "moving_to_fixed"):
        assert SimpleITK.ReadTransform(str(folder / f"{name}.h5")).GetName() == "CompositeTransform"


def test_cards_of_the_report_agree_with_result_json(folder: Path):
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    text = (folder / "report.html").read_text(encoding="utf-8")
    worst = [float(found) for found in re.findall(r"([0-9.]+) mm apart", text)]
    assert worst[0] == pytest.approx(result["points"]["max_mm_after"], rel=5e-3)
    for word, key in (("Smallest", "minimum"), ("Largest", "maximum")):
        shown = re.search(rf"<h3>.*?{word} Jacobian.*?</h3><p>.*?([0-9.]+),", text)
        assert float(shown[1]) == pytest.approx(result["jacobian"][key], rel=1e-2)
