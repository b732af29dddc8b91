"""``report`` and ``figure``."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

import phantoms
import pullback as pb
from pullback import networks
from pullback.cli.main import run
from pullback.io import image_from
from pullback.registration import Card, Normalisation
from pullback.reports import volume
from pullback.training.weights import save_network


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A folder with one result and the images that it came from."""
    folder = tmp_path_factory.mktemp("study")
    registration = phantoms.quick()
    registration.save(folder / "one")
    pb.write_image(folder / "fixed.nii.gz", registration.pair.fixed)
    pb.write_image(folder / "moving.nii.gz", registration.pair.moving)
    pb.write_image(folder / "slice.nii.gz", image_from(torch.rand(20, 30)))
    network = networks.build("im2grid", start_channels=2)
    card = Card("im2grid", network.settings, (16, 32, 32), (6.0, 6.0, 6.0), Normalisation("min-max"), "header")
    save_network(folder / "weights.safetensors", network, card)
    return folder


@pytest.fixture
def here(results: Path, tmp_path: Path, monkeypatch) -> Path:
    shutil.copytree(results, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def complaint(capsys) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_a_page_of_many(here: Path, capsys):
    shutil.copytree(here / "one", here / "two")
    assert run(["report", "one", "two", "--out", "cohort.html", "--title", "My <study>"]) == 0
    text = (here / "cohort.html").read_text(encoding="utf-8")
    assert "My &lt;study&gt;" in text
    assert 'href="two/report.html"' in text
    assert text.count("data:image/jpeg") == 2
    assert "2 registrations" in capsys.readouterr().out


def test_links_lead_from_the_page_to_the_reports(here: Path):
    (here / "pages").mkdir()
    assert run(["report", "one", "--out", "pages/cohort.html"]) == 0
    assert 'href="../one/report.html"' in (here / "pages" / "cohort.html").read_text(encoding="utf-8")


def test_unreadable_folders_are_listed_and_the_status_says_so(here: Path, capsys):
    (here / "empty").mkdir()
    assert run(["report", "one", "empty", "--out", "cohort.html"]) == 2
    assert "'empty' holds no result.json" in complaint(capsys)
    assert "Unreadable (1)" in (here / "cohort.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["one"], "--out cohort.html"),
        (["one", "--volume", "--title", "x"], "--title"),
        (["one", "--out", "nowhere/cohort.html"], "does not exist"),
        (["one", "--out", "one/result.json", "--overwrite"], "cohort.html"),
        (["one", "--out", "one/report.html", "--overwrite"], "a page of one of these"),
        (["nothing", "--volume"], "not a folder"),
        ([], "olders"),
    ],
)
def test_report_refuses(here: Path, capsys, words: list[str], message: str):
    before = sorted(here.rglob("*"))
    assert run(["report", *words]) == 2
    assert message in complaint(capsys)
    assert sorted(here.rglob("*")) == before


def test_report_does_not_replace_unasked(here: Path, capsys):
    (here / "cohort.html").write_text("old")
    assert run(["report", "one", "--out", "cohort.html"]) == 2
    assert "--overwrite" in complaint(capsys)
    assert run(["report", "one", "--out", "cohort.html", "--overwrite"]) == 0


def with_paths(folder: Path) -> None:
    """As if the images had been read from files."""
    summary = json.loads((folder / "one" / "result.json").read_text(encoding="utf-8"))
    for side in ("fixed", "moving"):
        summary[side]["path"] = str(folder / f"{side}.nii.gz")
    (folder / "one" / "result.json").write_text(json.dumps(summary))


def test_a_volume_page_holds_all_it_needs_and_its_licence(here: Path, monkeypatch):
    with_paths(here)
    monkeypatch.setattr(volume, "niivue_script", lambda: "var niivue = '</script>';")
    assert run(["report", "one", "--volume"]) == 0
    text = (here / "one" / "volume.html").read_text(encoding="utf-8")
    assert "BSD 2-Clause" in text
    assert "var niivue = '<\\/script>'" in text
    assert 'src="http' not in text


def test_a_volume_page_whose_images_are_gone_says_where_to_give_them(here: Path, capsys):
    assert run(["report", "one", "--volume"]) == 2
    assert "give it as fixed.path in 'one/result.json'" in complaint(capsys)


def test_without_niivue_it_says_what_to_install(here: Path, capsys, monkeypatch):
    with_paths(here)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(["report", "one", "--volume"]) == 2
    assert "pullback[volume]" in complaint(capsys)
    assert not (here / "one" / "volume.html").exists()


IMAGES = ["--fixed", "fixed.nii.gz", "--moving", "moving.nii.gz"]
FIGURES = {
    "differences": ["one", *IMAGES],
    "methods": ["one", "one", "--names", "A,B", "--fixed", "fixed.nii.gz"],
    "grids": ["one/fixed_to_moving.h5", "--to", "fixed.nii.gz", "--plane", "coronal", "--at", "3"],
    "fields": ["one/fixed_to_moving.h5", "--to", "fixed.nii.gz", "--inverse", "one/moving_to_fixed.h5"],
    "overlay": ["one", "--fixed", "fixed.nii.gz", "--strength", "0.7"],
    "sequence": ["one/fixed_to_moving.h5", *IMAGES],
    "levels": ["weights.safetensors", *IMAGES],
}


@pytest.mark.parametrize("kind", FIGURES)
def test_figures(here: Path, kind: str):
    assert run(["figure", kind, *FIGURES[kind], "--out", "figure.png", "--dpi", "40"]) == 0
    assert (here / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert run(["figure", kind, *FIGURES[kind], "--out", "figure.png"]) == 2  # not replaced unasked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["overlay", "one"], "give it with --fixed"),
        (["overlay", "one", "--fixed", "fixed.nii.gz", "--plane", "coronel"], "Did you mean 'coronal'"),
        (["methods", "one", "one", "--fixed", "fixed.nii.gz"], "--names"),
        (["methods", "one", "--names", "A,B", "--fixed", "fixed.nii.gz"], "1 different ones"),
        (["grids", "nothing.h5", "--to", "fixed.nii.gz"], "does not exist"),
        (["methods", "one", "--fixed", "slice.nii.gz", "--moving", "moving.nii.gz"], "warp it onto that first"),
        (["portrait", "one"], "portrait"),
    ],
)
def test_figure_refuses(here: Path, capsys, words: list[str], message: str):
    assert run(["figure", *words, "--out", "figure.png"]) == 2
    assert message in complaint(capsys)
    assert not (here / "figure.png").exists()


def test_an_overlay_needs_no_moving_image_but_the_one_that_is_named(here: Path, capsys):
    words = ["figure", "overlay", "one", "--fixed", "fixed.nii.gz", "--out", "figure.png", "--dpi", "40"]
    assert run([*words, "--moving", "nothing.nii.gz"]) == 2
    assert "does not exist" in complaint(capsys)
    assert run(words) == 0
    assert "drawn by its own brightness" in capsys.readouterr().out
