"""Plots of many results: boxes and violins per structure, Dice against time, ranks.

matplotlib is imported when something is drawn, not before; the file's suffix decides the format (png, svg, pdf).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.checks import check_choice
from pullback.reports.formats import not_mathematics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, which people with any colour vision tell apart."""

MARKERS = "osD^vP*X"
KINDS = ("box", "violin")
SUFFIXES = (".png", ".svg", ".pdf")
STRUCTURES_IN_A_ROW = 36
DOTS_PER_INCH = 150
FAINT = 0.25
MOST_UPRIGHT = 8
LETTER_INCHES = 0.085
WIDEST = 40.0
"""Inches."""

Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Structure to method to one number per pair."""


def draw_structures(path: str | Path, samples: Samples, *, ylabel: str, kind: str = "box") -> None:
    """Boxes (quartiles, whiskers to 1.5 of their distance, outliers) or violins per structure, methods side by side.

    Args:
        path: The file to write.
        samples: What to draw, in this order; numbers that are not finite are left out.
        ylabel: What the numbers are.
        kind: ``box`` or ``violin``.

    Raises:
        ValueError: If there is nothing to draw, or the kind or the suffix is unknown.
    """
    check_choice("kind", kind, KINDS)
    structures = list(samples)
    methods = list(dict.fromkeys(name for found in samples.values() for name in found))
    if not methods:
        raise ValueError("`samples` is empty: there is nothing to draw.")
    num_rows = -(-len(structures) // STRUCTURES_IN_A_ROW)
    columns = -(-len(structures) // num_rows)
    width = max(5.0, 1.5 + 0.28 * columns * len(methods))
    entries = max(
        1, int(min(width, WIDEST) / (0.6 + LETTER_INCHES * max(map(len, methods))))
    )  # of the legend, side by side
    height = 3.6 * num_rows + 0.23 * (-(-len(methods) // entries))
    figure = _figure(width=width, height=height)
    for row in range(num_rows):
        axes = figure.add_subplot(num_rows, 1, row + 1)
        shown = structures[row * columns : (row + 1) * columns]
        for number, method in enumerate(methods):
            _draw_method(axes, [samples[s].get(method, ()) for s in shown], number, len(methods), kind)
        axes.set_xticks(range(len(shown)), _texts(shown), rotation=_turn(shown, figure), ha="center")
        axes.set_ylabel(ylabel)
        axes.set_xlim(-0.6, len(shown) - 0.4)
    _legend(figure, methods, min(entries, len(methods)))
    _save(figure, path)


def draw_dice_against_time(
    path: str | Path,
    times: Mapping[str, Sequence[float]],
    measured: Mapping[str, Sequence[float]],
    *,
    ylabel: str = "Dice",
) -> None:
    """Every pair as a faint dot, every method as its medians with quartiles; seconds on a logarithmic axis.

    Args:
        path: The file to write.
        times: Method to seconds per pair; pairs that took none have no place on the axis and are left out.
        measured: Method to numbers of the same pairs.
        ylabel: What the numbers are.

    Raises:
        ValueError: If no method has both.
    """
    methods = [name for name in times if name in measured and timed(times[name], measured[name]).any()]
    if not methods:
        raise ValueError("`times` and `measured` have no method in common: there is nothing to draw.")
    figure = _figure(width=5.5, height=4.0)
    axes = figure.add_subplot()
    for number, method in enumerate(methods):
        x, y = (np.asarray(numbers[method], dtype=float) for numbers in (times, measured))
        both = timed(x, y)
        x, y, style = x[both], y[both], {"color": PALETTE[number % len(PALETTE)]}
        marker = MARKERS[number % len(MARKERS)]
        axes.scatter(x, y, s=8, alpha=FAINT, marker=marker, linewidths=0, **style)
        (low_x, mid_x, high_x), (low_y, mid_y, high_y) = (np.percentile(values, (25, 50, 75)) for values in (x, y))
        spread = {"xerr": [[mid_x - low_x], [high_x - mid_x]], "yerr": [[mid_y - low_y], [high_y - mid_y]]}
        axes.errorbar(
            mid_x, mid_y, **spread, marker=marker, label=not_mathematics(method), capsize=3, markersize=7, **style
        )
    axes.set_xscale("log")
    axes.set(xlabel="seconds per pair", ylabel=ylabel)
    axes.grid(alpha=FAINT)
    axes.legend(frameon=False)
    _save(figure, path)


def timed(seconds: Sequence[float], measured: Sequence[float]) -> np.ndarray:
    """Which pairs have a number and a time that a logarithmic axis can show, ``(N,)`` bool."""
    x, y = (np.asarray(numbers, dtype=float) for numbers in (seconds, measured))
    return np.isfinite(x) & np.isfinite(y) & (x > 0)


def draw_ranks(path: str | Path, ranks: Mapping[str, Mapping[str, float]]) -> None:
    """A table of rank scores, measures down and methods across, dark for good.

    Args:
        path: The file to write.
        ranks: Title of a measure to method to score, 0.1 to 1.

    Raises:
        ValueError: If there is none.
    """
    if not ranks:
        raise ValueError("`ranks` is empty: there is nothing to draw.")
    methods = list(next(iter(ranks.values())))
    table = np.array([[scores[name] for name in methods] for scores in ranks.values()])
    figure = _figure(width=3.5 + 1.1 * len(methods), height=1.0 + 0.4 * len(ranks))
    axes = figure.add_subplot()
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1.2, aspect="auto")
    for (row, column), score in np.ndenumerate(table):
        axes.text(column, row, f"{score:.2f}", ha="center", va="center", color="white" if score > 0.7 else "black")
    axes.set_xticks(range(len(methods)), _texts(methods), rotation=_turn(methods, figure))
    axes.set_yticks(range(len(ranks)), _texts(ranks))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    _save(figure, path)


def _draw_method(axes: "Axes", columns: Sequence[Sequence[float]], number: int, count: int, kind: str) -> None:
    """One method's boxes or violins, beside those of the others."""
    data = [np.asarray(c, dtype=float)[np.isfinite(np.asarray(c, dtype=float))] for c in columns]
    there = [n for n, values in enumerate(data) if len(values)]
    width = 0.8 / count
    places = [n + (number - (count - 1) / 2) * width for n in there]
    colour = PALETTE[number % len(PALETTE)]
    chosen: list[Any] = [data[n] for n in there]
    if not chosen:
        return
    if kind == "violin":
        parts = axes.violinplot(chosen, positions=places, widths=0.9 * width, showmedians=True, showextrema=False)
        for body in parts["bodies"]:
            body.set(facecolor=colour, alpha=0.6)
        parts["cmedians"].set_color("black")
        return
    lines = {"color": "black", "linewidth": 0.8}
    axes.boxplot(
        chosen,
        positions=places,
        widths=0.8 * width,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "linewidth": 0.8},
        medianprops={"color": "white" if colour == "#000000" else "black", "linewidth": 1.2},
        whiskerprops=lines,
        capprops=lines,
        flierprops={"marker": ".", "markersize": 3, "markerfacecolor": colour, "markeredgecolor": colour},
    )


def _turn(names: Sequence[str], figure: "Figure") -> float:
    """Degrees by which the names under an axis are turned: some if they are many, or too long to stand side by side."""
    room = float(figure.get_figwidth()) / (len(names) + 1)
    return 60.0 if len(names) > MOST_UPRIGHT or max(map(len, names)) * LETTER_INCHES > room else 0.0


def _texts(names: Iterable[str]) -> list[str]:
    return [not_mathematics(name) for name in names]


def _legend(figure: "Figure", methods: Sequence[str], entries: int) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=PALETTE[n % len(PALETTE)], label=name) for n, name in enumerate(_texts(methods))]
    figure.legend(handles=patches, frameon=False, loc="outside upper left", ncols=entries)


def _figure(*, width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, WIDEST), height), layout="constrained")


def _save(figure: "Figure", path: str | Path) -> None:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"'{path}' has the suffix '{path.suffix}', but these can be drawn: {', '.join(SUFFIXES)}.")
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
