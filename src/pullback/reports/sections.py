"""The sections of the page that hold pictures, each with what to look for."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pullback.data import Points
from pullback.reports import overlays
from pullback.reports.colours import DIVERGING, css_gradient
from pullback.reports.drawings import Drawings
from pullback.reports.formats import lookup, number, start_of
from pullback.reports.markup import Markup, jpeg, palette_png, tag, to_bytes
from pullback.reports.slices import MIDDLE, Plane

STATES = (("before", "Before"), ("warped", "After"))
COLOURS = (
    (overlays.FIXED_COLOUR, "fixed"),
    (overlays.MOVING_COLOUR, "moving"),
    (overlays.AGREEMENT_COLOUR, "agree"),
)
DIMMED = 0.45

EXPLORER_MODES = ("overlay", "difference")
"""Views that the movable slices have and the pictures of the page have not."""


def compare(drawings: Drawings, slices: Markup | None = None) -> Markup:
    """Fixed, before and after in the same place: a slider, a flicker, or side by side; in 3-D in `slices` that move."""

    def layers(plane: Plane) -> list[Markup]:
        pictures = [
            (side, word, picture(drawings.picture(side, plane), f"{word}: {plane.title}"))
            for side, word in (("fixed", "Fixed"), *STATES)
        ]
        return [
            *(
                tag("span", one, tag("b", word), _letters(plane), class_=f"layer {side}")
                for side, word, one in pictures
            ),
            tag("span", class_="cut", aria_hidden="true"),
        ]

    return section(
        "compare",
        "Compare",
        right="Crossing the line, or flickering, the anatomy stays where it is; only brightness changes.",
        wrong="Edges break at the line, or structures jump, swell or vanish.",
        body=[_compare_controls(drawings, slices), slices, gallery(drawings, layers, "stack")],
    )


def overlay(drawings: Drawings) -> Markup:
    """Fixed in green and moving in magenta, before and after."""

    def draw(side: str) -> Callable[[Plane], Markup]:
        return lambda plane: picture(
            overlays.colour_overlay(drawings.levels("fixed", plane), drawings.levels(side, plane)),
            f"Fixed in green and {_word(side)} in magenta, {plane.title}",
            fine_colour=True,
        )

    return section(
        "overlay",
        "Overlay",
        legend=swatches(*COLOURS),
        right="After, the picture is grey; a tint where the two images differ in brightness is no fault.",
        wrong="Green or magenta rims run along edges: there the images do not meet.",
        body=before_and_after(drawings, draw),
    )


def checkerboard(drawings: Drawings) -> Markup:
    """Squares of the fixed image and of the warped one in turn."""

    def draw(plane: Plane) -> Markup:
        board = overlays.checkerboard(drawings.picture("fixed", plane), drawings.picture("warped", plane))
        return picture(board, f"Checkerboard of the fixed and the warped image, {plane.title}")

    return section(
        "checkerboard",
        "Checkerboard",
        right="Outlines run on across the borders of the squares.",
        wrong="Outlines are offset at the borders, like a cracked tile.",
        body=gallery(drawings, draw),
    )


def contours(drawings: Drawings) -> Markup:
    """Outlines of labels, or else of image edges, over the fixed image."""
    what = "labels" if drawings.has_labels else "edges"
    has = [what == "edges" or getattr(drawings.view, f"{side}_labels") is not None for side, _ in STATES]
    sides = [state for state, present in zip(STATES, has, strict=True) if present]

    def draw(side: str) -> Callable[[Plane], list[Markup]]:
        def one(plane: Plane) -> list[Markup]:
            fixed = drawings.outlines("fixed", plane) if what == "labels" else None
            lines = overlays.classify_lines(fixed, drawings.outlines(side, plane))
            alt = f"Outlines of {what}, fixed and {_word(side)}, over the fixed image, {plane.title}"
            return [picture(drawings.levels("fixed", plane) * 0.8, alt), drawn(lines, overlays.LINE_COLOURS)]

        return one

    return section(
        "contours",
        "Label outlines" if what == "labels" else "Edges",
        legend=swatches(*COLOURS[:2], (overlays.AGREEMENT_COLOUR, "both"))
        if what == "labels"
        else swatches(COLOURS[1]),
        right="After, most lines are white: the outlines coincide."
        if what == "labels"
        else "After, the lines of the moving image lie on the edges of the fixed image beneath.",
        wrong="Green and magenta lines run beside each other."
        if what == "labels"
        else "Lines cross tissue of even brightness or run beside an edge.",
        body=before_and_after(drawings, draw, sides),
    )


def difference(drawings: Drawings) -> Markup:
    """Moving minus fixed, before and after, on one scale; a sentence where contrasts differ."""
    if not drawings.same_contrast:
        name = lookup(drawings.view.summary, "similarity", "name")
        sentence = (
            f"The similarity was {name}, which compares images of different contrast: their difference in brightness "
            "says nothing about the alignment. Judge by the overlay, the checkerboard and the outlines."
        )
        return section("difference", "Difference", body=tag("p", sentence, class_="quiet"))
    pairs = [drawings.compared(side, plane) for side, _ in STATES for plane in drawings.planes]
    limit = overlays.difference_limit(pairs)

    def draw(side: str) -> Callable[[Plane], Markup]:
        return lambda plane: picture(
            overlays.signed_difference(drawings.levels("fixed", plane), drawings.comparable(side, plane), limit),
            f"Difference of {_word(side)} and fixed image, {plane.title}",
        )

    ends = (f"{number(-100 * limit, 2)} %", "0", f"+{number(100 * limit, 2)} %")
    return section(
        "difference",
        "Difference",
        legend=gradient(DIVERGING, ends, "moving minus fixed, % of the brightness window"),
        right="After, it is dark; what is left is noise and true differences of the two subjects.",
        wrong="Blue and orange bands lie side by side along edges.",
        body=before_and_after(drawings, draw),
    )


def landmarks(drawings: Drawings) -> Markup | None:
    """Where corresponding landmarks lie, before and after."""
    view = drawings.view
    sides = [(side, word) for side, word in STATES if getattr(view, f"{side}_points") is not None]
    if view.fixed_points is None or not sides:
        return None

    def draw(side: str) -> Callable[[Plane], list[Markup]]:
        return lambda plane: [
            picture(drawings.levels("fixed", plane) * DIMMED, f"Landmarks, fixed and {_word(side)}, {plane.title}"),
            _marks(view.fixed_points, getattr(view, f"{side}_points"), plane),
        ]

    projected = "" if drawings.is_2d else " All landmarks are projected onto the middle slices."
    return section(
        "landmarks",
        "Landmarks",
        legend=swatches(*COLOURS[:2]),
        right="After, every magenta dot sits in its green ring." + projected,
        wrong="Lines between ring and dot stay long, or point the same way in one region.",
        body=before_and_after(drawings, draw, sides, only_middle=True),
    )


def section(identity: str, title: str, *, body: Any, right: str = "", wrong: str = "", legend: Any = None) -> Markup:
    """A heading, a legend, what one should see, and the body."""
    advice = tag("dl", _advice("Good sign", right, "right"), _advice("Bad sign", wrong, "wrong"), class_="advice")
    head = tag("div", tag("h2", title, id=f"{identity}-title"), legend, class_="head")
    return tag("section", head, advice if right else None, body, id=identity, aria_labelledby=f"{identity}-title")


def gallery(drawings: Drawings, draw: Callable[[Plane], Any], kind: str = "", *, only_middle: bool = False) -> Markup:
    """Rows of pictures, one row per number of slice, all to the same scale in mm."""
    rows = []
    for number_ in (MIDDLE,) if only_middle else drawings.numbers:
        planes = drawings.planes_of(number_)
        widest = max(plane.size_mm[0] for plane in planes)
        figures = [_figure(plane, draw(plane), kind) for plane in planes]
        shown = None if only_middle else number_
        rows.append(tag("div", figures, class_="row", data_slice=shown, style=f"--widest:{widest:.4g}"))
    return tag("div", rows, class_="gallery")


def before_and_after(
    drawings: Drawings,
    draw: Callable[[str], Callable[[Plane], Any]],
    sides: Sequence[tuple[str, str]] = STATES,
    *,
    only_middle: bool = False,
) -> Markup:
    """One gallery per side, under its word."""
    blocks = [
        tag(
            "div",
            tag("h3", _state(drawings, side, word)),
            gallery(drawings, draw(side), only_middle=only_middle),
            class_="state",
        )
        for side, word in sides
    ]
    return tag("div", blocks, class_="states")


def picture(levels: np.ndarray, alt: str, *, fine_colour: bool = False) -> Markup:
    """An image element of levels in [0, 1]."""
    rows, columns = levels.shape[:2]
    return tag(
        "img",
        src=jpeg(to_bytes(levels), fine_colour=fine_colour),
        alt=alt,
        width=columns,
        height=rows,
    )


def gradient(table: tuple[str, ...], ticks: Sequence[str], title: str) -> Markup:
    """A colour bar with its ticks spread evenly."""
    bar = tag("span", class_="bar", style=f"background:{css_gradient(table)}")
    return tag(
        "div",
        tag("span", title, class_="what"),
        bar,
        tag("span", [tag("span", tick) for tick in ticks], class_="ticks"),
        class_="legend ramp",
    )


def _figure(plane: Plane, content: Any, kind: str) -> Markup:
    rows, columns = plane.shape_pixels
    letters = _letters(plane) if kind != "stack" else None
    frame = tag("div", content, letters, class_=f"frame {kind}".strip(), style=f"--ratio:{columns / rows:.4f}")
    caption = None if plane.name == "image" else tag("figcaption", plane.title[0].upper() + plane.title[1:])
    return tag("figure", frame, caption, class_="picture", style=f"--mm:{plane.size_mm[0]:.4g};--columns:{columns}px")


def _letters(plane: Plane) -> list[Markup]:
    """Where the edges of the picture lie in the patient."""
    places = ("left", "right", "top", "bottom")
    pairs = zip(plane.edges, places, strict=True) if plane.edges else ()
    return [tag("span", letter, class_=f"letter {place}", aria_hidden="true") for letter, place in pairs]


def drawn(lines: np.ndarray, colours: Sequence[Sequence[float]], kind: str = "ink") -> Markup:
    """Lines laid over the picture before them; that one has the text for those who do not see it."""
    return tag("img", src=palette_png(lines, colours), alt="", class_=kind)


def _advice(word: str, text: str, kind: str) -> Markup:
    return tag("div", tag("dt", word), tag("dd", text), class_=kind)


def _state(drawings: Drawings, side: str, word: str) -> str:
    """The word over the pictures of one side, with what "before" means where it is not the headers' alignment."""
    start = start_of(drawings.view.summary)
    return f"{word}: {start}" if side == "before" and start else word


def _word(side: str) -> str:
    return "before" if side == "before" else "after"


def _compare_controls(drawings: Drawings, slices: Markup | None) -> Markup:
    modes = [("slider", "Slider"), ("flicker", "Flicker"), ("side", "Side by side")]
    if slices is not None:
        modes[2:2] = [("overlay", "Overlay"), *([("difference", "Difference")] if drawings.same_contrast else [])]
    partners = (("before", "Before"), ("warped", "After"))
    cut = tag("label", "Position", tag("input", type="range", id="cut", min=0, max=100, value=50), class_="slider-only")
    return tag(
        "div",
        radios("mode", "View", modes, "slider"),
        radios("partner", "Fixed and", partners, "warped"),
        cut,
        class_="controls js-only",
    )


def radios(name: str, legend: str, options: Sequence[tuple[str, str]], chosen: str) -> Markup:
    """A group of radio buttons that reads as one control."""
    buttons = [
        tag(
            "label",
            tag("input", type="radio", name=name, value=value, checked=value == chosen),
            tag("span", word),
            class_="explores-only" if value in EXPLORER_MODES else None,
        )
        for value, word in options
    ]
    return tag("fieldset", tag("legend", legend), tag("div", buttons, class_="segments"), class_=name)


def swatches(*entries: tuple[Sequence[float], str]) -> Markup:
    """A legend of flat colours in [0, 1]."""
    return tag(
        "div",
        [
            tag("span", tag("i", style=f"background:rgb({','.join(str(round(255 * one)) for one in colour)})"), word)
            for colour, word in entries
        ],
        class_="legend swatches",
    )


def _marks(fixed: Points, moving: Points, plane: Plane) -> Markup:
    rows, columns = plane.shape_pixels
    radius = 0.011 * max(rows, columns)
    lines, rings, dots = [], [], []
    for (x, y), (a, b) in zip(plane.project(fixed.coordinates), plane.project(moving.coordinates), strict=True):
        lines.append(f"M{x:.1f} {y:.1f}L{a:.1f} {b:.1f}")
        rings.append(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius:.1f}"))
        dots.append(tag("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=f"{0.5 * radius:.1f}"))
    shapes = [tag("path", d="".join(lines)), tag("g", rings, class_="rings"), tag("g", dots, class_="dots")]
    return tag("svg", shapes, viewBox=f"0 0 {columns} {rows}", class_="marks", aria_hidden="true")
