"""The README's tables and the curve of Dice against seconds, made anew from ``results/*.json``: one command.

Each table stands between ``<!-- benchmark: NAME -->`` and ``<!-- end of benchmark: NAME -->``; what is between is
replaced, the words around it stay. A table whose results are not there is left as it is, and the command says so.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import HERE, REPOSITORY, Row, mean_of
from curve import NAME, OURS, PEERS
from drawing import Point, draw_curve
from native import RESCANS
from others import MOUSE_FAILURE

Results = dict[str, list[Row]]
CURVE = Path("docs") / "dice-against-seconds.svg"
GLAND_FOUND = 0.7
"""Gland Dice from which a map of the prostate counts as right."""


def main() -> None:
    """Draw the curve and rewrite the tables."""
    options = _options()
    results = read_results(options.results)
    whole = results.get(NAME, [])
    if whole:
        path = options.readme.parent / CURVE
        path.parent.mkdir(exist_ok=True)
        draw_curve(path, ours_of(whole), ours_of(whole, "seconds"), peers_of(whole))
        print(f"drawn: {path}")
    text = options.readme.read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        content = make(results)
        if content is None:
            print(f"left as it is: {name}, because its results are not in {options.results}")
            continue
        text = replace_block(text, name, content)
        print(f"written: {name}")
    options.readme.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the results are")
    parser.add_argument("--readme", type=Path, default=REPOSITORY / "README.md", help="the file with the tables")
    return parser.parse_args()


def read_results(folder: Path) -> Results:
    """The rows without errors of every result that is there, by name."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: [row for row in data["rows"] if "error" not in row] for name, data in found.items()}


def replace_block(text: str, name: str, content: str) -> str:
    """Put `content` between the two marks of `name`.

    Raises:
        ValueError: If each mark is not there exactly once, in this order.
    """
    start, end = f"<!-- benchmark: {name} -->", f"<!-- end of benchmark: {name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"The text has no one block '{name}': put '{start}' before and '{end}' after its table.")
    head, rest = text.split(start)
    return f"{head}{start}\n{content.strip()}\n{end}{rest.split(end)[1]}"


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [[f" {cell} " if cell else " " for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"|{'|'.join(line)}|" for line in lines)


# brains ---------------------------------------------------------------------------------------------------------------

SHADED = "brains-shaded-0.3"
"""The table of shaded brains."""


def brains(results: Results) -> str | None:
    """Ours and greedy's on the aligned brains, and how many pairs we are ahead on."""
    rows = results.get("brains", [])
    ours, greedy = (by_pair(rows, tool) for tool in ("pullback", "greedy"))
    pairs = [pair for pair in ours if pair in greedy]
    if not pairs:
        return None
    one, other = [ours[pair] for pair in pairs], [greedy[pair] for pair in pairs]
    head = ["", "Dice", "seconds", "spread of log Jacobian", "folded voxels", "inverse error, mean", "peak memory"]
    seconds = (
        f"**{mean_of(one, 'deformable_seconds'):.1f}** deformable stage, {mean_of(one, 'seconds'):.1f} the whole call "
        "with inverse and verdict"
    )
    inverse = f"{mean_of(one, 'inverse_mean_voxels'):.3f} voxel"
    lines = [
        ["before", f"{mean_of(one, 'dice_before'):.3f}", *[""] * 5],
        ["**pullback**", f"**{mean_of(one, 'dice_after'):.3f}**", seconds, *_shape(one), inverse, _memory(one)],
        [
            "greedy 1.4 (`-m NCC 2x2x2 -n 100x50x10`)",
            f"{mean_of(other, 'dice_after'):.3f}",
            f"{mean_of(other, 'seconds'):.1f}",
            *_shape(other),
            "none asked for",
            _memory(other),
        ],
    ]
    return f"{table_of(head, lines)}\n\n{_lead(one, other)}{_shaded(results)}"


def _shaded(results: Results) -> str:
    """The same pairs with shaded images, as far as that was run (``brains.py --shading 0.3``)."""
    rows = results.get(SHADED, [])
    ours, greedy = (by_pair(rows, tool) for tool in ("pullback", "greedy"))
    pairs = [pair for pair in ours if pair in greedy]
    if not pairs:
        return ""
    dice = [mean_of([tool[pair] for pair in pairs], "dice_after") for tool in (ours, greedy)]
    gains = [ours[pair]["dice_after"] - greedy[pair]["dice_after"] for pair in pairs]
    return (
        f" Each image times a smooth random field of its own, whose logarithm has a standard deviation of "
        f"{SHADED.rpartition('-')[2]} (`{SHADED}.md`): Dice {dice[0]:.3f}, greedy {dice[1]:.3f}, "
        f"by pair {min(gains):+.3f} to {max(gains):+.3f}."
    )


def by_pair(rows: Sequence[Row], tool: str) -> dict[str, Row]:
    """The rows of one tool by pair."""
    return {row["pair"]: row for row in rows if row["tool"] == tool}


def _shape(rows: Sequence[Row]) -> list[str]:
    """Spread of log Jacobian, and folded voxels in all."""
    return [f"{mean_of(rows, 'sd_log_jacobian'):.3f}", f"{sum(row['folded_voxels'] for row in rows)}"]


def _memory(rows: Sequence[Row]) -> str:
    return f"{max(row['peak_memory_mb'] for row in rows) / 1024:.1f} GB"


def _lead(ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    gains = [a["dice_after"] - b["dice_after"] for a, b in zip(ours, theirs, strict=True)]
    ahead, total = sum(gain > 0 for gain in gains), len(gains)
    share = f"each of the {total} pairs" if ahead == total else f"{ahead} of {total} pairs"
    return f"pullback is ahead on {share}, by {min(gains):.3f} to {max(gains):.3f}."


# curve ----------------------------------------------------------------------------------------------------------------


def curve(results: Results) -> str | None:
    """The picture, and every peer and setting in a table."""
    rows = results.get(NAME, [])
    if not rows:
        return None
    head = ["", "settings", "pairs", "Dice", "pullback's on these", "seconds"]
    head += ["spread of log Jacobian", "folded voxels", "peak memory"]
    default = by_pair(rows, "pullback")
    lines = [_curve_line(tool, by_pair(rows, tool), default) for tool in (*OURS, *PEERS) if by_pair(rows, tool)]
    return f"![Dice against seconds, ours and every peer]({CURVE.as_posix()})\n\n{table_of(head, lines)}"


def _curve_line(tool: str, found: dict[str, Row], default: dict[str, Row]) -> list[str]:
    """One tool; peers may have fewer pairs, so that our default's Dice on the same pairs stands beside theirs."""
    mine = list(found.values())
    same = [default[pair] for pair in found if pair in default] if tool in PEERS else []
    name, what = (f"**{tool}**", "deformable_seconds") if tool in OURS else (tool, "seconds")
    beside = f"{mean_of(same, 'dice_after'):.3f}" if len(same) == len(mine) else ""
    numbers = [f"{mean_of(mine, 'dice_after'):.3f}", beside, f"{mean_of(mine, what):.1f}"]
    return [name, f"`{mine[0]['settings']}`", str(len(mine)), *numbers, *_shape(mine), _memory(mine)]


def ours_of(rows: Sequence[Row], what: str = "deformable_seconds") -> list[Point]:
    """Our settings as points, quick to slow; `what` is the time to take."""
    points = points_of(rows, OURS, what)
    return sorted(points, key=lambda point: point.seconds)


def peers_of(rows: Sequence[Row]) -> list[Point]:
    """The peers as points."""
    return points_of(rows, PEERS, "seconds")


def points_of(rows: Sequence[Row], tools: Sequence[str] | dict[str, Any], what: str) -> list[Point]:
    """Mean Dice and mean seconds of each tool, over the pairs that all tools have; over its own, if none is shared."""
    pairs = [set(by_pair(rows, tool)) for tool in (*OURS, *PEERS) if by_pair(rows, tool)]
    shared = set.intersection(*pairs) if pairs else set()
    points = []
    for tool in tools:
        mine = [row for pair, row in by_pair(rows, tool).items() if pair in shared or not shared]
        if mine:
            points.append(Point(tool, mean_of(mine, what), mean_of(mine, "dice_after"), len(mine)))
    return points


# other data -----------------------------------------------------------------------------------------------------------


def data(results: Results) -> str | None:
    """One line for each other set that has results; None if one of them has none."""
    lines = [make(results) for make in SETS]
    if any(line is None for line in lines):
        return None
    return table_of(["data", "Dice before", "after affine", "after all", "verdicts"], [line for line in lines if line])


def verdicts(rows: Sequence[Row]) -> str:
    """``all good``, or how many of each."""
    counts = {word: sum(row["verdict"] == word for row in rows) for word in ("good", "doubtful", "failed")}
    if counts["good"] == len(rows):
        return "all good"
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _simple(results: Results, name: str, words: str) -> list[str] | None:
    rows = results.get(name)
    if not rows:
        return None
    dice = [f"{mean_of(rows, f'dice_{when}'):.3f}" for when in ("before", "linear", "after")]
    return [words.format(count=len(rows)), *dice, verdicts(rows)]


def _native(results: Results) -> list[str] | None:
    affine = by_what(results.get("native-affine", []), "affine")
    full, aligned = (by_what(results.get("native-full", []), what) for what in ("full", "aligned set"))
    if not affine or not full:
        return None
    others = [row["dice_after"] for row in affine if set(row["pair"].split(" <- ")) != RESCANS]
    mean = sum(others) / len(others)
    known = {row["pair"]: row["dice_after"] for row in aligned}
    gaps = [row["dice_after"] - known[row["pair"]] for row in full if row["pair"] in known]
    more = f", {min(gaps):+.4f} to {max(gaps):+.4f} against the aligned set's" if gaps else ""
    return [
        f"brains in native space, 1 mm, all {len(full)} ordered pairs",
        f"{mean_of(full, 'dice_before'):.3f}",
        f"{mean_of(affine, 'dice_after'):.3f} (other people: {mean:.3f}, lowest {min(others):.3f})",
        f"{mean_of(full, 'dice_after'):.3f}{more}",
        verdicts([*affine, *full]),
    ]


def by_what(rows: Sequence[Row], what: str) -> list[Row]:
    """The rows of one kind."""
    return [row for row in rows if row["what"] == what]


def _mouse(results: Results) -> list[str] | None:
    rows, line = results.get("mouse", []), _simple(results, "mouse", "mice, {count} ordered pairs")
    if line is None:
        return None
    wrong = sum(row["dice_linear"] < MOUSE_FAILURE for row in rows)
    line[2] += f" (lowest {min(row['dice_linear'] for row in rows):.3f})"
    line[4] += ", all right" if not wrong else f", {wrong} wrong"
    return line


def _histology(results: Results) -> list[str] | None:
    rows = by_what(results.get("histology", []), "auto")
    if not rows:
        return None
    before, affine, after, median = (
        f"{mean_of(rows, key):.{digits}f} px"
        for key, digits in (("error_before", 0), ("error_linear", 1), ("error_after", 1), ("median_error_after", 1))
    )
    words = "histology, two stains, 2-D, both ways: landmark error, mean"
    return [words, before, affine, f"{after} (median {median.removesuffix(' px')})", verdicts(rows)]


def _slabs(results: Results) -> list[str] | None:
    rows = results.get("slabs")
    if not rows:
        return None
    errors = [f"{mean_of(rows, f'error_{when}'):.{digits}f} mm" for when, digits in (("before", 0), ("linear", 2))]
    words = f"slabs of 24 to 60 mm onto the whole of one person and back, T1, T2- and FLAIR-like, {len(rows)} pairs"
    median = statistics.median(row["error_after"] for row in rows)
    return [
        f"{words}: error, mean",
        *errors,
        f"{mean_of(rows, 'error_after'):.2f} mm (median {median:.2f})",
        verdicts(rows),
    ]


def _prostate(results: Results) -> list[str] | None:
    kinds = {row["what"]: by_what(results["prostate"], row["what"]) for row in results.get("prostate", [])}
    if not kinds:
        return None
    what, rows = max(kinds.items(), key=lambda kind: mean_of(kind[1], "dice_after"))
    dice = [f"{mean_of(rows, f'dice_{when}'):.3f}" for when in ("before", "linear", "after")]
    words = {"mi": "by mutual information", "auto": "similarity as chosen"}.get(what, f"by {what}")
    right = sum(row["dice_after"] >= GLAND_FOUND and row["verdict"] == "good" for row in rows)
    said = f"{verdicts(rows)}; good and right (gland Dice from {GLAND_FOUND}): {right}"
    return [f"prostate, MR to ultrasound, {words}, gland, {len(rows)} pairs", *dice, said]


SETS: tuple[Callable[[Results], list[str] | None], ...] = (
    _native,
    lambda results: _simple(results, "heads", "heads with skull, 2 mm, {count} pairs"),
    lambda results: _simple(results, "extracted", "brains without a skull onto heads and back, 2 mm, {count} pairs"),
    lambda results: _simple(
        results,
        "contrasts",
        "two contrasts (T2-, FLAIR-, PET-like ones made from T1), brains and heads, 2 mm, {count} pairs",
    ),
    lambda results: _simple(results, "rescans", "one person scanned twice, native space, 2 mm, {count} pairs"),
    _mouse,
    lambda results: _simple(results, "hippocampus", "hippocampus, {count} test pairs"),
    lambda results: _simple(results, "slices", "axial slices, 2-D, {count} pairs, 69 labels"),
    _slabs,
    lambda results: _simple(
        results, "crops", "crops of a hippocampus onto the brain or head of others and back, {count} pairs"
    ),
    _histology,
    _prostate,
)
BLOCKS: dict[str, Callable[[Results], str | None]] = {"brains": brains, "curve": curve, "data": data}


if __name__ == "__main__":
    main()
