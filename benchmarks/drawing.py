"""The curve of Dice against seconds, in colours that can be read on white and on black."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INK, OWN, PEER = "#7d7d7d", "#d9480f", "#3b82c4"
"""Middle tones: at least 3.5 to 1 against white and against GitHub's dark page."""
RIGHT = ((6, 4), (6, -11), (-6, 4), (-6, -11), (0, 8), (0, -16), (12, 14), (12, -22), (-12, 14), (-12, -22))
ABOVE = ((-6, 5), (0, 8), (-12, 14), (0, 18), *RIGHT)
"""Where a label may stand beside its point, in points of type, best first: peers', and ours, which lie on a line."""


@dataclass(frozen=True)
class Point:
    """A tool at one setting: means over pairs."""

    name: str
    seconds: float
    dice: float
    num_pairs: int


def draw_curve(path: Path, ours: Sequence[Point], whole: Sequence[Point], peers: Sequence[Point]) -> None:
    """Draw ours as lines and each peer as a point with its name.

    Args:
        path: SVG file to write.
        ours: Our settings by the seconds of the deformable stage.
        whole: The same by the seconds of the whole call.
        peers: Other tools.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "pullback", "font.size": 9}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        FigureCanvasAgg(figure)  # to measure labels with
        axes = figure.add_subplot()
        _line(axes, whole, "pullback, whole call with inverse and verdict", linestyle=":", marker=".", alpha=0.8)
        _line(axes, ours, "pullback, deformable stage", linestyle="-", marker="o")
        if peers:
            axes.plot(*_coordinates(peers), "s", color=PEER, markersize=5, label="other tools")
        figure.legend(frameon=False, labelcolor=INK, loc="outside upper center", ncols=3, fontsize=8)
        _dress(axes, max(point.num_pairs for point in (*ours, *peers)))
        figure.draw_without_rendering()
        _name(axes, ours, peers)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _coordinates(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.seconds for point in points], [point.dice for point in points]


def _line(axes: Any, points: Sequence[Point], label: str, **style: Any) -> None:
    if points:
        axes.plot(*_coordinates(points), color=OWN, label=label, **style)


def _dress(axes: Any, num_pairs: int) -> None:
    """Logarithmic seconds with plain numbers, grey ink, no box."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.set(
        xlabel="seconds for one pair (two threads, logarithmic)",
        ylabel=f"mean Dice, {num_pairs} pair{'s' * (num_pairs > 1)}",
    )
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=INK, which="both")
    for side, spine in axes.spines.items():
        spine.set(color=INK, visible=side in ("left", "bottom"))
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)


def _name(axes: Any, ours: Sequence[Point], peers: Sequence[Point]) -> None:
    """Write each point's name inside the axes where it covers no other point or name, if there is such a place."""
    from matplotlib.transforms import Bbox

    named = [(point, PEER, RIGHT) for point in peers] + [(point, OWN, ABOVE) for point in ours]
    spots = axes.transData.transform([(point.seconds, point.dice) for point, _, _ in named])
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    inside = axes.get_window_extent()
    for point, colour, places in named:
        label = None
        for place in places:
            if label is not None:
                label.remove()
            label = _label(axes, point, place, colour)
            box = label.get_window_extent(axes.figure.canvas.get_renderer())
            if inside.x0 < box.x0 and box.x1 < inside.x1 and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def _label(axes: Any, point: Point, place: tuple[int, int], colour: str) -> Any:
    side = "left" if place[0] > 0 else "right" if place[0] < 0 else "center"
    text = "default" if point.name == "pullback" else point.name.removeprefix("pullback ")
    where = (point.seconds, point.dice)
    return axes.annotate(text, where, xytext=place, textcoords="offset points", ha=side, color=colour, fontsize=8)
