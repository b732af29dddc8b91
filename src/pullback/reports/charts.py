"""Curves and bars as inline SVG and HTML, in the colours of the page."""

from collections.abc import Iterable, Mapping
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from pullback.reports.formats import MISSING, TIMES, finite, lookup, number, sequence
from pullback.reports.markup import Markup, tag

WIDTH, HEIGHT, MARGIN = 1000, 220, 10
JACOBIAN_RANGE, NUM_BINS = (0.25, 4.0), 80
JACOBIAN_TICKS = ("1/4", "1/2", "1", "2", "4")
MOST_POINTS = 300
"""Points drawn per level; longer histories are thinned."""


def history_charts(history: Iterable[Any], similarity: str) -> list[Markup]:
    """One chart of similarity by step per stage, its levels side by side."""
    levels = [level for level in history if isinstance(level, Mapping) and _values(level)]
    stages = [(stage, list(group)) for stage, group in groupby(levels, key=lambda level: str(level.get("stage", "")))]
    return [_stage_chart(stage, group, similarity) for stage, group in stages]


def bar(share: float, mark: float | None = None) -> Markup:
    """A horizontal bar from 0 to 1, with a mark at another value."""
    width, place = (None if one is None else 100.0 * min(max(one, 0.0), 1.0) for one in (share, mark))
    tick = None if place is None else tag("b", style=f"left:{place:.2f}%")
    return tag("span", tag("i", style=f"width:{width:.2f}%"), tick, class_="meter", aria_hidden="true")


def jacobian_histogram(values: np.ndarray) -> Markup:
    """How often which Jacobian occurs, on a logarithmic axis; what is folded is counted beside it.

    Args:
        values: ``(N,)`` determinants, NaN counted as folded.
    """
    folded = int(np.count_nonzero(~(values > 0)))
    logarithm = np.log2(np.clip(values[values > 0].astype(np.float64), *JACOBIAN_RANGE))
    counts, _ = np.histogram(logarithm, NUM_BINS, np.log2(JACOBIAN_RANGE))
    highest, width = max(int(counts.max()), 1), WIDTH / NUM_BINS
    bars = [
        tag("rect", x=f"{width * at:.1f}", y=f"{HEIGHT * (1 - count / highest):.1f}", width=f"{width:.1f}",
            height=f"{HEIGHT * count / highest:.1f}")
        for at, count in enumerate(counts.tolist()) if count
    ]  # fmt: skip
    middle = tag("path", d=f"M{WIDTH / 2} 0V{HEIGHT}", class_="one")
    median = number(2.0 ** float(np.median(logarithm))) if logarithm.size else MISSING
    percent = 100.0 * folded / max(values.size, 1)
    note = f"Median {median}; {folded} of {values.size} voxels at or below 0 ({number(percent, 2)} %)."
    plot = tag(
        "svg",
        tag("g", bars, class_="bars"),
        middle,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"Histogram of the Jacobian. {note}",
    )
    ticks = tag("div", [tag("span", word) for word in JACOBIAN_TICKS], class_="ticks")
    return tag(
        "figure",
        tag("figcaption", "Histogram of the Jacobian over the fixed object, logarithmic"),
        tag("div", plot, ticks, class_="plot"),
        tag("p", note + " The outer bins hold what lies beyond them.", class_="quiet"),
        class_="history histogram",
    )


def _values(level: Mapping[str, Any]) -> list[float]:
    return [known for value in sequence(level, "values") if (known := finite(value)) is not None]


def _stage_chart(stage: str, levels: list[Mapping[str, Any]], similarity: str) -> Markup:
    curves = [_values(level) for level in levels]
    low, high = min(min(curve) for curve in curves), max(max(curve) for curve in curves)
    total = sum(len(curve) for curve in curves)
    title = f"{stage.capitalize()}: {similarity} by step" if stage else f"{similarity} by step"
    plot = tag(
        "svg",
        _bands([len(curve) for curve in curves]),
        tag("path", d=_polylines(curves, low, high, total), class_="curve"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{title}, from {number(curves[0][0])} to {number(curves[-1][-1])}",
    )
    scale = tag("div", tag("span", number(high)), tag("span", number(low)), class_="scale")
    heads = [_level_head(level, len(curve)) for level, curve in zip(levels, curves, strict=True)]
    chart = tag("div", scale, tag("div", tag("div", heads, class_="levels"), plot, class_="plot"), class_="chart")
    return tag("figure", tag("figcaption", title), chart, _level_table(levels, curves), class_="history")


def _level_head(level: Mapping[str, Any], num_steps: int) -> Markup:
    return tag("span", _resolution(level), style=f"flex:{num_steps} 1 0")


def _resolution(level: Mapping[str, Any]) -> str:
    """The level's share of full resolution or, in linear stages, its voxels."""
    factor = finite(level.get("factor"))
    text = str(level.get("level") or MISSING) if factor is None else f"1/{number(factor)}"
    return "full" if text == "1/1" else text.replace("x", f" {TIMES} ")


def _bands(counts: list[int]) -> list[Markup]:
    """A faint ground under every second level."""
    edges = np.concatenate([[0], np.cumsum(counts)]) / sum(counts) * WIDTH
    return [
        tag("rect", x=f"{start:.1f}", y=0, width=f"{stop - start:.1f}", height=HEIGHT, class_="band")
        for start, stop in list(pairwise(edges))[1::2]
    ]


def _polylines(curves: list[list[float]], low: float, high: float, total: int) -> str:
    """One line per level: values at different resolutions do not continue one another."""
    span, first, parts = (high - low) or 1.0, 0, []
    for curve in curves:
        kept = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), MOST_POINTS)).astype(int))
        points = [
            f"{(first + at + 0.5) / total * WIDTH:.1f} "
            f"{HEIGHT - MARGIN - (curve[at] - low) / span * (HEIGHT - 2 * MARGIN):.1f}"
            for at in kept
        ]
        points = points if len(points) > 1 else points * 2  # round caps make a dot of it
        parts.append("M" + "L".join(points))
        first += len(curve)
    return "".join(parts)


def _level_table(levels: list[Mapping[str, Any]], curves: list[list[float]]) -> Markup:
    head = [tag("th", word, scope="col") for word in ("Resolution", "Steps", "First", "Last")]
    rows = [
        tag(
            "tr",
            tag("td", _resolution(level)),
            tag("td", number(lookup(level, "steps") or len(curve), 6)),
            tag("td", number(curve[0], 4)),
            tag("td", number(curve[-1], 4)),
            tag("td", level.get("reason"), class_="text"),
        )
        for level, curve in zip(levels, curves, strict=True)
    ]
    return tag(
        "div",
        tag(
            "table", tag("thead", tag("tr", head, tag("th", "Stopped", scope="col", class_="text"))), tag("tbody", rows)
        ),
        class_="scroll",
    )
