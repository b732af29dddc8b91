"""The sections of the page that hold pictures, each with what to look for."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pullback.data import Points
from pullback.reports import fields, overlays
from pullback.reports.colours import DIVERGING, SEQUENTIAL, css_gradient
from pullback.reports.drawings import Drawings
from pullback.reports.formats import lookup, number
from pullback.reports.markup import Markup, jpeg, name_of, palette_png, tag, to_bytes
from pullback.reports.slices import MIDDLE, Plane

STATES = (("before", "Before"), ("warped", "After"))
DIFFERENT_CONTRAST = ("mi", "nmi", "mutual_information", "mutualinformation", "mind")
COLOURS = (
    (overlays.FIXED_COLOUR, "fixed"),
    (overlays.MOVING_COLOUR, "moving"),
    (overlays.AGREEMENT_COLOUR, "agree"),
)
DIMMED = 0.45
NUM_WORST = 5


def compare(drawings: Drawings) -> Markup:
    """Fixed, before and after in the same place: a slider, a flicker, or side by side."""

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
        body=[_compare_controls(), gallery(drawings, layers, "stack")],
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
        legend=_swatches(*COLOURS),
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
            return [picture(drawings.levels("fixed", plane) * 0.8, alt), _drawn(lines, overlays.LINE_COLOURS)]

        return one

    return section(
        "contours",
        "Label outlines" if what == "labels" else "Edges",
        legend=_swatches(*COLOURS[:2], (overlays.AGREEMENT_COLOUR, "both"))
        if what == "labels"
        else _swatches(COLOURS[1]),
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
    name = str(lookup(drawings.view.summary, "similarity", "name") or "")
    if name.lower() in DIFFERENT_CONTRAST:
        sentence = (
            f"The similarity was {name}, which compares images of different contrast: their difference in brightness "
            "says nothing about the alignment. Judge by the overlay, the checkerboard and the outlines."
        )
        return section("difference", "Difference", body=tag("p", sentence, class_="quiet"))
    pairs = {
        side: [(drawings.levels("fixed", plane), drawings.levels(side, plane)) for plane in drawings.planes]
        for side, _ in STATES
    }
    limit = overlays.difference_limit([*pairs["before"], *pairs["warped"]])

    def draw(side: str) -> Callable[[Plane], Markup]:
        return lambda plane: picture(
            overlays.signed_difference(drawings.levels("fixed", plane), drawings.levels(side, plane), limit),
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
        legend=_swatches(*COLOURS[:2]),
        right="After, every magenta dot sits in its green ring." + projected,
        wrong="Lines between ring and dot stay long, or point the same way in one region.",
        body=[before_and_after(drawings, draw, sides, only_middle=True), _worst_landmarks(drawings)],
    )


def deformation(drawings: Drawings) -> Markup:
    """The deformed grid, the change of volume, and the length of the displacement."""
    if drawings.is_linear:
        sentence = "The result is linear: there is no deformation, and volume changes by the same factor everywhere."
        return section("deformation", "Deformation", body=tag("p", sentence, class_="quiet"))
    return section(
        "deformation",
        "Deformation",
        right="Lines bend smoothly, colours change gradually and follow the anatomy.",
        wrong="Lines cross or bunch up, yellow spots show folding, or the background bends as much as the object.",
        body=tag("div", _grids(drawings), _jacobians(drawings), _magnitudes(drawings), class_="states"),
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
        tag("div", tag("h3", word), gallery(drawings, draw(side), only_middle=only_middle), class_="state")
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


def _drawn(lines: np.ndarray, colours: Sequence[Sequence[float]], kind: str = "ink") -> Markup:
    """Lines laid over the picture before them; that one has the text for those who do not see it."""
    return tag("img", src=palette_png(lines, colours), alt="", class_=kind)


def _anatomy(drawings: Drawings, plane: Plane) -> Markup:
    """Faint edges of the fixed image, to find one's way on a map."""
    return _drawn(drawings.edges("fixed", plane), [(0.8, 0.8, 0.8)], "ink faint")


def _advice(word: str, text: str, kind: str) -> Markup:
    return tag("div", tag("dt", word), tag("dd", text), class_=kind)


def _word(side: str) -> str:
    return "before" if side == "before" else "after"


def _compare_controls() -> Markup:
    modes = (("slider", "Slider"), ("flicker", "Flicker"), ("side", "Side by side"))
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
        tag("label", tag("input", type="radio", name=name, value=value, checked=value == chosen), tag("span", word))
        for value, word in options
    ]
    return tag("fieldset", tag("legend", legend), tag("div", buttons, class_="segments"), class_=name)


def _swatches(*entries: tuple[Sequence[float], str]) -> Markup:
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


def _worst_landmarks(drawings: Drawings) -> Markup | None:
    view = drawings.view
    if view.warped_points is None or len(view.fixed_points) == 0:
        return None
    errors = (view.warped_points.coordinates - view.fixed_points.coordinates).norm(dim=1)
    worst = errors.argsort(descending=True)[:NUM_WORST].tolist()
    names = view.fixed_points.names or [str(one + 1) for one in range(len(errors))]
    entries = [
        [name_of(names[one]), f" ({number(errors[one])} mm)", ", " if one != worst[-1] else "."] for one in worst
    ]
    return tag("p", "Farthest apart after: landmarks ", entries, class_="quiet")


def _grids(drawings: Drawings) -> Markup:
    spacing = fields.line_spacing_mm(drawings.planes)

    def draw(plane: Plane) -> list[Markup]:
        rows, columns = plane.shape_pixels
        path = tag("path", d=fields.grid_path(drawings.view.displacement, plane, spacing))
        box = f"0 0 {columns * fields.TENTHS} {rows * fields.TENTHS}"
        under = picture(drawings.levels("fixed", plane) * DIMMED, f"Deformed grid over the fixed image, {plane.title}")
        return [under, tag("svg", path, viewBox=box, class_="lines", aria_hidden="true")]

    out_of_plane = "" if drawings.is_2d else " Movement across the slice is not drawn."
    text = f"Lines of the fixed image {number(spacing)} mm apart, where the deformation takes them.{out_of_plane}"
    return tag("div", tag("h3", "Grid"), tag("p", text, class_="quiet"), gallery(drawings, draw), class_="state")


def _jacobians(drawings: Drawings) -> Markup:
    jacobian: Tensor = drawings.view.jacobian
    logarithms = {plane: fields.log_jacobian(jacobian, plane) for plane in drawings.planes}
    limit = fields.jacobian_limit(list(logarithms.values()))

    def draw(plane: Plane) -> list[Markup]:
        bad = fields.nonpositive(jacobian, plane)
        colours = fields.jacobian_map(logarithms[plane], bad, limit)
        return [picture(colours, f"Jacobian, {plane.title}"), _anatomy(drawings, plane)]

    legend = [
        gradient(DIVERGING, (f"1/{number(limit)}", "1", number(limit)), "Jacobian, logarithmic"),
        _swatches((fields.hex_to_rgb(fields.ALARM), "0 or below: folded")),
    ]
    text = (
        "How volume changes from the fixed to the moving image. Blue: the matching region of the moving image is "
        f"smaller, so it was stretched. Orange: it is larger, so it was squeezed. {_folding(jacobian)}"
    )
    head = tag("div", tag("h3", "Change of volume"), tag("div", legend, class_="legends"), class_="head")
    return tag("div", head, tag("p", text, class_="quiet"), gallery(drawings, draw), class_="state")


def _folding(jacobian: Tensor) -> str:
    """How many voxels are folded, shown or not."""
    count = int((~(jacobian > 0)).sum())
    if count == 0:
        return "No voxel is folded."
    return f"Of the whole image {count} voxel{' is' if count == 1 else 's are'} folded, on these slices or elsewhere."


def _magnitudes(drawings: Drawings) -> Markup:
    lengths = {plane: fields.magnitude(drawings.view.displacement, plane) for plane in drawings.planes}
    limit = max(float(np.percentile(one, 99.8)) for one in lengths.values()) or 1.0

    def draw(plane: Plane) -> list[Markup]:
        colours = fields.magnitude_map(lengths[plane], limit)
        return [picture(colours, f"Length of the displacement, {plane.title}"), _anatomy(drawings, plane)]

    legend = gradient(SEQUENTIAL, ("0", number(limit / 2, 2), f"{number(limit, 2)} mm"), "length of the displacement")
    head = tag("div", tag("h3", "Displacement"), legend, class_="head")
    return tag("div", head, gallery(drawings, draw), class_="state")
