"""The pure parts of the benchmarks that make the README: blocks, tables, means, which rows stand, the drawing."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
CODE = {"hash": "a", "source": "b", "dirty": False}


@pytest.fixture(scope="module")
def benchmark() -> Iterator[dict[str, ModuleType]]:
    """The scripts, which import each other by name, taken away again after the tests."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: import_module(name) for name in ("curve", "drawing", "figures")}
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def row(tool: str, pair: str, dice: float, seconds: float = 10.0, **more: object) -> dict[str, object]:
    """A row as ``curve.py`` keeps it."""
    numbers = {"dice_before": 0.4, "dice_after": dice, "seconds": seconds, "deformable_seconds": seconds / 2}
    shape = {"folded_voxels": 0, "sd_log_jacobian": 0.4, "peak_memory_mb": 1024.0, "inverse_mean_voxels": 0.05}
    return {"tool": tool, "pair": pair, "settings": "s", **numbers, **shape, **more}


def test_a_block_is_replaced_and_the_words_around_it_stay(benchmark: dict[str, ModuleType]) -> None:
    replace = benchmark["figures"].replace_block
    text = "before\n<!-- benchmark: a -->\nold\n<!-- end of benchmark: a -->\nafter\n"
    once = replace(text, "a", "new\n")
    assert once == "before\n<!-- benchmark: a -->\nnew\n<!-- end of benchmark: a -->\nafter\n"
    assert replace(once, "a", "new") == once


@pytest.mark.parametrize("text", ["nothing", "<!-- end of benchmark: a -->\n<!-- benchmark: a -->"])
def test_a_block_without_its_marks_is_refused(benchmark: dict[str, ModuleType], text: str) -> None:
    with pytest.raises(ValueError, match="no one block 'a'"):
        benchmark["figures"].replace_block(text, "a", "new")


def test_the_readme_has_every_block(benchmark: dict[str, ModuleType]) -> None:
    figures, text = benchmark["figures"], (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for name in figures.BLOCKS:
        assert figures.replace_block(text, name, "new") != text


def test_a_table_is_markdown(benchmark: dict[str, ModuleType]) -> None:
    assert benchmark["figures"].table_of(["", "a"], [["x", ""]]) == "| | a |\n|---|---|\n| x | |"


def test_brains_say_how_many_pairs_we_are_ahead_on(benchmark: dict[str, ModuleType]) -> None:
    ours = [row("pullback", "1", 0.65), row("pullback", "2", 0.61)]
    made = benchmark["figures"].brains({"brains": [*ours, row("greedy", "1", 0.62), row("greedy", "2", 0.62)]})
    assert "| before | 0.400 |" in made
    assert "| **pullback** | **0.630** | **5.0** deformable stage, 10.0 the whole call" in made
    assert made.endswith("pullback is ahead on 1 of 2 pairs, by -0.010 to 0.030.")
    assert benchmark["figures"].brains({"brains": ours}) is None


def test_the_curve_compares_on_the_pairs_that_all_have(benchmark: dict[str, ModuleType]) -> None:
    rows = [row("pullback", "1", 0.60), row("pullback", "2", 0.70), row("ANTs", "1", 0.62, 600.0)]
    [ours], [ants] = benchmark["figures"].ours_of(rows), benchmark["figures"].peers_of(rows)
    assert (ours.dice, ours.seconds, ours.num_pairs) == (0.60, 5.0, 1)
    assert (ants.dice, ants.seconds, ants.num_pairs) == (0.62, 600.0, 1)
    text = benchmark["figures"].curve({"peers": rows})
    assert "| ANTs | `s` | 1 | 0.620 | 0.600 | 600.0 |" in text
    assert "| **pullback** | `s` | 2 | 0.650 | | 5.0 |" in text


def test_verdicts_are_counted(benchmark: dict[str, ModuleType]) -> None:
    verdicts = benchmark["figures"].verdicts
    assert verdicts([{"verdict": "good"}] * 3) == "all good"
    assert verdicts([{"verdict": "good"}, {"verdict": "failed"}, {"verdict": "failed"}]) == "1 good, 2 failed"


def test_what_has_no_results_is_left_out(benchmark: dict[str, ModuleType]) -> None:
    assert [make({}) for make in benchmark["figures"].BLOCKS.values()] == [None, None, None]


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ({}, True),
        ({"settings": "other"}, False),
        ({"source": "other"}, False),
        ({"dirty": True}, False),
        ({"error": "no"}, False),
        ({"tool": "ANTs", "source": "other"}, True),
        ({"tool": "ANTs", "error": "no"}, False),
    ],
)
def test_a_row_stands_while_what_made_it_does(
    benchmark: dict[str, ModuleType], changes: dict[str, object], stands: bool
) -> None:
    made = {"tool": "pullback", "settings": "s", "source": "b", "dirty": False, **changes}
    assert benchmark["curve"].is_current(made, "s", CODE) is stands


def test_every_setting_says_what_it_is(benchmark: dict[str, ModuleType]) -> None:
    curve = benchmark["curve"]
    assert curve.settings_of("pullback") == "default"
    assert all(curve.settings_of(tool) for tool in (*curve.OURS, *curve.PEERS))
    assert not set(curve.OURS) & set(curve.PEERS)


def test_the_drawing_is_the_same_each_time_and_names_are_in_it(
    benchmark: dict[str, ModuleType], tmp_path: Path
) -> None:
    drawing = benchmark["drawing"]
    ours = [drawing.Point("pullback", 6.0, 0.64, 6), drawing.Point("pullback long", 12.0, 0.65, 6)]
    for name in ("a.svg", "b.svg"):
        drawing.draw_curve(tmp_path / name, ours, ours, [drawing.Point("greedy", 20.0, 0.62, 6)])
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "<!-- greedy -->" in text
    assert "<!-- long -->" in text
