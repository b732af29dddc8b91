"""The report of one pair: a single HTML file that needs nothing else, on screen and on paper."""

import json
from pathlib import Path

from pullback.io.json_text import plain
from pullback.reports import sections, tables
from pullback.reports.cards import worst_places
from pullback.reports.deformation import deformation
from pullback.reports.document import document, template, write_document
from pullback.reports.drawings import Drawings
from pullback.reports.explorer import explorer
from pullback.reports.explorer import volumes as explorer_volumes
from pullback.reports.formats import lookup, words
from pullback.reports.markup import Markup, escape, json_script, name_of, tag
from pullback.reports.places import Place, find_places
from pullback.reports.view import RegistrationView

LINKS = (
    ("places", "Look first"),
    ("compare", "Compare"),
    ("overlay", "Overlay"),
    ("checkerboard", "Checkerboard"),
    ("contours", "Outlines"),
    ("difference", "Difference"),
    ("landmarks", "Landmarks"),
    ("deformation", "Deformation"),
    ("inputs", "Details"),
)
SLICES = (("0", "1"), ("1", "2"), ("2", "3"), ("all", "All"))


def write_report(path: str | Path, view: RegistrationView) -> None:
    """Write the report of one registered pair as one HTML file, whole or not at all.

    Pictures are embedded; the page loads nothing and sends nothing. Without JavaScript, and on paper, all pictures are
    there side by side.

    Args:
        path: The file to write, usually ``report.html``.
        view: What to show.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the place cannot be written to or the disk is full.
    """
    write_document(path, render(view))


def render(view: RegistrationView) -> str:
    """The text of the page."""
    fixed, moving = view.fixed.name, view.moving.name
    drawings = Drawings(view)
    places = find_places(drawings)
    volumes = explorer_volumes(drawings, places)
    data = [json_script("result", json.dumps(plain(view.summary)))]
    data += [] if volumes is None else [json_script("volumes", volumes)]
    return document(
        f"{fixed} \N{LEFTWARDS ARROW} {moving}",
        escape([_body(view, drawings, places), data]),
        style="",
        script=template("page.js") + (template("explorer.js") if volumes is not None else ""),
        kind="pair",
    )


def _body(view: RegistrationView, drawings: Drawings, places: list[Place]) -> Markup:
    summary = view.summary
    pictures = [
        worst_places(drawings, places),
        sections.compare(drawings, explorer(drawings)),
        sections.overlay(drawings),
        sections.checkerboard(drawings),
        sections.contours(drawings),
        sections.difference(drawings),
        sections.landmarks(drawings),
        deformation(drawings),
    ]
    details = [
        tables.inputs(view),
        tables.initialisation(summary),
        tables.history(summary),
        tables.dice_table(view),
        tables.timings(summary),
        tables.settings(summary),
        _raw(view),
    ]
    top = [_masthead(view), tables.verdict_banner(summary), tables.key_numbers(summary)]
    top += [tables.meaning_of_before(summary), tables.input_notes(view)]
    main = tag("main", pictures, tag("div", details, class_="details"), class_="flat" if drawings.is_2d else None)
    return escape([tag("header", top), _toolbar(drawings, pictures), main])


def _masthead(view: RegistrationView) -> Markup:
    summary = view.summary
    parts = [f"pullback {summary.get('pullback') or ''}".strip(), "registration report", summary.get("model")]
    kicker = tag("p", " · ".join(words(part) for part in parts if part), class_="kicker")
    arrow = tag("span", " \N{LEFTWARDS ARROW} ", class_="arrow", title="is the space that this image was brought to:")
    heading = tag("h1", name_of(view.fixed.name), arrow, name_of(view.moving.name))
    paths = [lookup(summary, side, "path") for side in ("fixed", "moving")]
    roles = [
        tag("div", tag("dt", side), tag("dd", name_of(words(path))))
        for side, path in zip(("Fixed", "Moving"), paths, strict=True)
        if path
    ]
    return tag("div", kicker, heading, tag("dl", roles, class_="roles") if roles else None, class_="masthead")


def _toolbar(drawings: Drawings, pictures: list[Markup | None]) -> Markup:
    absent = {name for name, one in (("places", pictures[0]), ("landmarks", pictures[6])) if one is None}
    links = [tag("a", word, href=f"#{name}") for name, word in LINKS if name not in absent]
    choice = None
    if len(drawings.numbers) > 1:
        shown = [one for one in SLICES if one[0] == "all" or int(one[0]) in drawings.numbers]
        choice = tag("div", sections.radios("slice", "Slice", shown, "1"), class_="js-only")
    return tag("nav", tag("div", links, class_="links"), choice, class_="toolbar", aria_label="Sections and slices")


def _raw(view: RegistrationView) -> Markup:
    text = json.dumps(plain(view.summary), indent=2, ensure_ascii=False)
    return tag("details", tag("summary", "result.json"), tag("pre", text, tabindex=0), class_="raw")
