"""Plots of studies: they are drawn, in every format, and say what is wrong otherwise."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pullback.reports import plots
from pullback.reports.plots import KINDS, draw_dice_against_time, draw_ranks, draw_structures

RANDOM = np.random.default_rng(0)
SAMPLES = {
    structure: {"ours": RANDOM.normal(0.8, 0.05, 20), "theirs": [*RANDOM.normal(0.7, 0.05, 19), np.nan]}
    for structure in ("all", "hippocampus", "thalamus")
}


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_many_methods_with_long_names_have_room(tmp_path: Path):
    methods = {f"a method with a long name, number {n}": RANDOM.normal(size=9) for n in range(9)}
    draw_structures(tmp_path / "a.png", {"all": methods}, ylabel="Dice")  # matplotlib warns where axes have none left


@pytest.mark.parametrize("kind", KINDS)
def test_structures(tmp_path, kind):
    draw_structures(tmp_path / "a.png", SAMPLES, ylabel="Dice", kind=kind)
    pixels = pixels_of(tmp_path / "a.png")
    assert min(pixels.shape[:2]) > 400
    if kind == "box":
        for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
            assert (pixels == colour).all(axis=-1).sum() > 500


def test_svg_says_what_it_shows_and_pdf_is_one(tmp_path):
    draw_structures(tmp_path / "a.svg", {"all": SAMPLES["all"]}, ylabel="Dice")
    text = (tmp_path / "a.svg").read_text()
    assert len(re.findall("<path", text)) > 10
    assert not re.search(r"dc:date", text)
    draw_ranks(tmp_path / "a.pdf", {"Dice": {"ours": 1.0, "theirs": 0.1}})
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_names_with_dollar_signs_are_no_mathematics(tmp_path):
    name = r"$x_{a$, \frac$"
    draw_structures(tmp_path / "a.png", {name: {name: [1.0, 2.0]}}, ylabel="Dice")
    draw_dice_against_time(tmp_path / "b.png", {name: [1.0, 2.0]}, {name: [0.8, 0.9]})
    draw_ranks(tmp_path / "c.png", {name: {name: 1.0}})


def test_long_names_are_turned(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    for names in (["a", "b", "c"], ["left hippocampus proper", "right hippocampus proper", "brainstem and cerebellum"]):
        draw_structures(tmp_path, {name: {"ours": [1.0, 2.0]} for name in names}, ylabel="Dice")
        draw_ranks(tmp_path, {"Dice": dict.fromkeys(names, 1.0)})
    turns = [figure.axes[0].get_xticklabels()[0].get_rotation() for figure in figures]
    assert turns == [0.0, 0.0, 60.0, 60.0]


def test_many_structures_take_several_rows(tmp_path):
    draw_structures(tmp_path / "a.png", {str(n): {"ours": RANDOM.normal(size=4)} for n in range(80)}, ylabel="Dice")
    draw_structures(tmp_path / "b.png", {"1": {"ours": [1.0, 2.0]}}, ylabel="Dice")
    assert pixels_of(tmp_path / "a.png").shape[0] > 2 * pixels_of(tmp_path / "b.png").shape[0]


def test_dice_against_time(tmp_path):
    draw_dice_against_time(
        tmp_path / "a.png", {"ours": [1.0, 2.0], "other": [9.0]}, {"ours": [0.8, 0.9], "other": [0.7]}
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="no method in common"):
        draw_dice_against_time(tmp_path / "b.png", {"a": [1.0]}, {"b": [1.0]})


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_structures(tmp_path / "a.png", {}, ylabel="Dice")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_ranks(tmp_path / "a.png", {})
    with pytest.raises(ValueError, match="kind"):
        draw_structures(tmp_path / "a.png", SAMPLES, ylabel="Dice", kind="bar")
    with pytest.raises(ValueError, match="suffix"):
        draw_structures(tmp_path / "a.bmp", SAMPLES, ylabel="Dice")
