"""One page of many registrations, outliers first: to check five hundred of them in ten minutes."""

import base64
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pullback.reports.document import document, template, write_document
from pullback.reports.formats import MISSING, finite, fixed_point, lookup, number, sequence
from pullback.reports.markup import Markup, escape, name_of, tag
from pullback.reports.outliers import OUTLIER_SCORE, RANKS, Score, rank, score
from pullback.reports.saved import REPORT, THUMBNAIL, SavedResult, read_result
from pullback.reports.tables import UNKNOWN_VERDICT, VERDICTS

LARGEST_THUMBNAIL_BYTES = 200_000
WORDS = {"unreadable": ("✕", "Unreadable"), "unknown": UNKNOWN_VERDICT[:2]} | {
    value: entry[:2] for value, entry in VERDICTS.items()
}
COLUMNS = (
    ("Similarity", ("similarity", "after"), 3),
    ("Dice", ("labels", "mean_dice_after"), 3),
    ("Landmarks, mm", ("points", "mean_mm_after"), 2),
    ("Overlap", ("evidence", "overlap"), 3),
    ("Folding, %", ("jacobian", "percent_nonpositive"), 3),
    ("SD log J", ("jacobian", "sd_log"), 3),
    ("Inverse, voxels", ("inverse_consistency", "mean_voxels"), 3),
    ("Time, s", ("timings_seconds", "total"), 0),
)
"""Columns of numbers: title, where in ``result.json``, decimals. A column without any number is left out."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        folder: As it was given.
        result: What was read, or None.
        problem: Why it could not be read, or None.
        score: How far it stands out.
    """

    folder: Path
    result: SavedResult | None
    problem: str | None
    score: Score

    @property
    def verdict(self) -> str:
        """``good``, ``doubtful``, ``failed``, ``unknown`` or ``unreadable``."""
        if self.result is None:
            return "unreadable"
        value = str(lookup(self.result.summary, "verdict", "value") or "").lower()
        return value if value in VERDICTS else "unknown"


def read_rows(folders: Sequence[str | Path]) -> list[Row]:
    """Read all results, outliers first; what cannot be read becomes a row that says why."""
    results: list[SavedResult | None] = []
    problems: list[str | None] = []
    for folder in folders:
        try:
            results.append(read_result(folder))
            problems.append(None)
        except (OSError, ValueError) as error:
            results.append(None)
            problems.append(str(error))
    scores = score([None if result is None else result.summary for result in results])
    given = zip(map(Path, folders), results, problems, scores, strict=True)
    return sorted((Row(*one) for one in given), key=lambda row: rank(row.verdict, row.score))


def write_cohort(path: str | Path, rows: Sequence[Row], *, title: str = "Registrations") -> None:
    """Write the page, whole or not at all. It loads nothing but what it holds; its links lead to the pairs' reports.

    Args:
        path: The file to write, such as ``cohort.html``.
        rows: See `read_rows`; the page keeps their order until the reader sorts.
        title: Heading of the page.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the place cannot be written to or the disk is full.
    """
    body = _body(rows, title, Path(path).absolute().parent)
    style, script = template("cohort.css"), template("cohort.js")
    write_document(path, document(title, body, style=style, script=script, kind="cohort"))


def _body(rows: Sequence[Row], title: str, folder: Path) -> Markup:
    counts = Counter(row.verdict for row in rows)
    columns = [column for column in COLUMNS if any(_value(row, column[1]) is not None for row in rows)]
    heading = tag("h1", title)
    numbers = ", ".join(f"{counts[verdict]} {verdict}" for verdict in RANKS if counts[verdict])
    summary = tag("p", f"{len(rows)} registrations: {numbers}." if rows else "No registrations.", class_="quiet")
    header = tag("header", heading, summary, class_="top")
    return escape([header, _toolbar(counts), tag("main", _table(rows, columns, folder), _legend())])


def _toolbar(counts: Counter[str]) -> Markup:
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", class_="verdict-box", value=verdict, checked=True),
            f"{WORDS[verdict][1]} ({counts[verdict]})",
        )
        for verdict in RANKS
        if counts[verdict]
    ]
    marks = tag("select", [tag("option", word, value=value) for value, word in MARKS], id="marks", aria_label="Marks")
    search = tag("input", type="search", id="search", placeholder="Search name, path, reason", aria_label="Search")
    size = tag("label", "Pictures", tag("input", type="range", id="size", min=90, max=420, value=300), class_="size")
    save = tag("button", "Save marks as CSV", type="button", id="save")
    shown = tag("span", id="shown", class_="quiet", role="status")
    fieldset = tag("fieldset", tag("legend", "Verdict", class_="hidden"), boxes, class_="boxes")
    return tag("div", fieldset, search, marks, size, save, shown, class_="tools js-only", role="search")


MARKS = (("all", "All marks"), ("none", "Not yet checked"), ("accept", "Accepted"), ("reject", "Rejected"))


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, tuple[str, ...], int]], folder: Path) -> Markup:
    titles = ["Pair", "Verdict", "Stands out", *(column[0] for column in columns)]
    heads = [_head(word, index) for index, word in enumerate(titles)]
    head = tag("tr", tag("th", "Overlay", scope="col"), heads)
    body = [_row(row, place, columns, folder) for place, row in enumerate(rows)]
    caption = tag("caption", "Registrations, most striking first", class_="hidden")
    return tag("div", tag("table", caption, tag("thead", head), tag("tbody", body), id="pairs"), class_="scroll")


def _head(word: str, index: int) -> Markup:
    button = tag("button", word, type="button", data_column=index)
    return tag("th", button, scope="col", class_="text" if index < 2 else None)


def _row(row: Row, place: int, columns: Sequence[tuple[str, tuple[str, ...], int]], folder: Path) -> Markup:
    name = row.folder.resolve().name or str(row.folder)
    sign, word = WORDS[row.verdict]
    reasons = [row.problem] if row.problem else sequence(row.result.summary, "verdict", "reasons")
    verdict = tag(
        "td",
        tag("span", tag("span", sign, aria_hidden="true"), f" {word}", class_=f"badge {row.verdict}"),
        tag("ul", [tag("li", name_of(reason)) for reason in reasons]) if row.verdict != "good" else None,
        data_value=RANKS.index(row.verdict),
        class_="text",
    )
    cells = [_number_cell(row, keys, decimals) for _, keys, decimals in columns]
    return tag(
        "tr",
        tag("td", _thumbnail(row, name), class_="picture-cell"),
        _pair_cell(row, name, folder),
        verdict,
        _score_cell(row.score),
        cells,
        id=f"row-{place}",
        tabindex=-1,
        data_verdict=row.verdict,
        data_folder=str(row.folder),
    )


def _pair_cell(row: Row, name: str, folder: Path) -> Markup:
    report = row.folder / REPORT
    title = name_of(name)
    if row.result is not None and report.is_file():
        relative = Path(os.path.relpath(report.absolute(), folder)).as_posix()
        address = quote(os.fsencode(relative))  # file names may hold stray bytes
        title = tag("a", title, href=address if ":" not in address.split("/")[0] else f"./{address}")
    images = [lookup(row.result.summary, side, "name") for side in ("fixed", "moving")] if row.result else []
    pair = (
        tag("div", name_of(images[0]), " \N{LEFTWARDS ARROW} ", name_of(images[1]), class_="quiet")
        if all(images) and images
        else None
    )
    return tag(
        "td",
        title,
        pair,
        tag("div", name_of(row.folder), class_="path"),
        _check(name),
        data_value=name,
        class_="text pair",
    )


def _score_cell(one: Score) -> Markup:
    if one.metric is None:
        return tag("td", MISSING, data_value=0)
    words = [tag("b", number(one.value, 2)), tag("div", one.metric, class_="quiet")]
    return tag("td", words, data_value=f"{one.value:.6g}", class_="striking" if one.value > OUTLIER_SCORE else None)


def _number_cell(row: Row, keys: tuple[str, ...], decimals: int) -> Markup:
    value = _value(row, keys)
    return tag("td", fixed_point(value, decimals), data_value="" if value is None else repr(value))


def _value(row: Row, keys: tuple[str, ...]) -> float | None:
    return None if row.result is None else finite(lookup(row.result.summary, *keys))


def _thumbnail(row: Row, name: str) -> Markup:
    """The picture beside the result, if it is one of ours."""
    data = _read_small(row.folder / THUMBNAIL)
    if data is None:
        return tag("span", "no picture", class_="quiet")
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
    return tag("img", src=source, alt=f"Overlay of {name}", loading="lazy", decoding="async")


def _read_small(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > LARGEST_THUMBNAIL_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return data if data.startswith(b"\xff\xd8\xff") else None


def _check(name: str) -> Markup:
    buttons = [
        tag(
            "button",
            sign,
            type="button",
            data_mark=value,
            aria_pressed="false",
            aria_label=f"{word} {name}",
            title=word,
        )
        for value, sign, word in (("accept", "✓", "Accept"), ("reject", "✕", "Reject"))
    ]
    return tag("div", buttons, class_="marks js-only")


def _legend() -> Markup:
    keys = (
        ("J K", "next, previous"),
        ("A R U", "accept, reject, undo (goes on to the next)"),
        ("Enter", "open the report"),
        ("/", "search"),
    )
    rows = [tag("div", tag("dt", key), tag("dd", what)) for key, what in keys]
    text = (
        "Sorted by verdict, then by how far a result stands out: the largest robust distance of one of its numbers "
        "from the median of all, on the bad side, in standard deviations (1.4826 times the median absolute "
        f"deviation). Above {OUTLIER_SCORE} it is marked. In the overlay the fixed image is green, the moving one "
        "magenta; where both agree it is grey. Marks stay in this browser; save them as CSV to keep them."
    )
    return tag(
        "section",
        tag("h2", "How to read this"),
        tag("p", text, class_="quiet"),
        tag("dl", rows, class_="keylist js-only"),
    )
