"""The places worth a look as a row of cards."""

from pullback.reports import overlays
from pullback.reports.drawings import Drawings
from pullback.reports.explorer import has_slices
from pullback.reports.markup import Markup, name_of, palette_png, tag
from pullback.reports.places import Place, picture_of
from pullback.reports.sections import picture, section

LEGENDS = {
    "label": "outline: fixed green, moving magenta, both white",
    "landmark": "ring: fixed; dot: moving, after",
    "volume": "blue: smaller in the moving image; orange: larger; yellow: folded",
    "difference": "fixed green, moving magenta, agreement grey",
}


def worst_places(drawings: Drawings, places: list[Place]) -> Markup | None:
    """Where to look first; nothing if nothing was found."""
    if not places:
        return None
    cards = [_card(drawings, place, number) for number, place in enumerate(places)]
    sentence = "Found by simple rules after registration. A place named here need not be wrong, but if something is, "
    note = tag("p", sentence, "it is likely here.", class_="quiet")
    return section("places", "Where to look first", body=[note, tag("div", cards, class_="cards")])


def _card(drawings: Drawings, place: Place, number: int) -> Markup:
    levels, lines = picture_of(drawings, place)
    shown = [picture(levels, f"{place.title}, {place.plane.title}", fine_colour=levels.ndim == 3)]
    if lines is not None:
        shown.append(tag("img", src=palette_png(lines, overlays.LINE_COLOURS), alt="", class_="ink"))
    if place.kind == "landmark":
        shown.append(_arrow(drawings, place))
    rows, columns = levels.shape[:2]
    frame = tag("div", shown, class_="frame", style=f"aspect-ratio:{columns}/{rows}")
    button = None
    if has_slices(drawings):
        button = tag(
            "button",
            "Show",
            type="button",
            data_place=number,
            aria_label=f"Show {place.title} in the slices",
            class_="explores-only",
        )
    words = [tag("h3", name_of(place.title)), tag("p", name_of(place.reason))]
    where = tag("p", f"{place.plane.title}; {LEGENDS[place.kind]}", class_="quiet")
    return tag("figure", frame, tag("figcaption", words, where, button), class_="card")


def _arrow(drawings: Drawings, place: Place) -> Markup:
    """The landmark and where its partner came to."""
    row, column, rows, columns = place.window
    sets = (drawings.view.fixed_points, drawings.view.warped_points)
    (x, y), (a, b) = (
        place.plane.project(points.coordinates[place.point : place.point + 1])[0] - (column, row) for points in sets
    )
    radius = 0.03 * max(rows, columns)
    shapes = [
        tag("path", d=f"M{x:.1f} {y:.1f}L{a:.1f} {b:.1f}"),
        tag("g", tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius:.1f}"), class_="rings"),
        tag("g", tag("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=f"{0.5 * radius:.1f}"), class_="dots"),
    ]
    return tag("svg", shapes, viewBox=f"0 0 {columns} {rows}", class_="marks", aria_hidden="true")
