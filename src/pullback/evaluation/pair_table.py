"""Tables of pairs: csv or tsv with a row per pair and a column per file."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pullback.evaluation.case import IDENTITY, Case

COLUMNS = tuple(f.name for f in fields(Case))
TRANSFORMS = ("transform", "inverse", "reference")
WORDS = ("pair", "points_in", "seconds")
SEPARATOR = ";"
"""Between several transforms in one cell."""


def read_pairs(path: str | Path) -> list[Case]:
    """Read a table of pairs.

    The header names columns as in :class:`Case`; ``pair`` may be left out (the row's number is its name then). Paths
    are relative to the table. Empty cells are files that are not there.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: With the line, if a column is unknown, a name comes twice, or a number is none.
    """
    path = Path(path)
    cases: dict[str, Case] = {}
    for line, row in _rows(path):
        case = _case(row, path, line)
        if case.pair in cases:
            raise ValueError(f"'{path}', line {line}: the pair '{case.pair}' stands there a second time.")
        cases[case.pair] = case
    if not cases:
        raise ValueError(f"'{path}' has no pair: a header and a row for each pair are needed.")
    return list(cases.values())


def case_from_words(words: Mapping[str, Any], folder: Path, name: str) -> Case:
    """A case from text: paths relative to a folder, several transforms with semicolons between them.

    Raises:
        ValueError: If the seconds are no number, or one of several transforms is empty.
    """
    values: dict[str, Any] = {"pair": name}
    for column, text in words.items():
        text = text.strip()
        if not text:
            continue
        if column in TRANSFORMS:
            parts = [part.strip() for part in text.split(SEPARATOR)]
            if not all(parts):
                raise ValueError(f"{column} is '{text}', but there must be a file on both sides of a '{SEPARATOR}'.")
            values[column] = tuple(_transform(part, folder) for part in parts)
        elif column == "seconds":
            values[column] = _seconds(text)
        else:
            values[column] = text if column in WORDS else folder / Path(text).expanduser()
    return Case(**values)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows by column, blank lines left out."""
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist or is a folder.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a text file: {error}.") from error
    first = text.splitlines()[:1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if first and "\t" in first[0] else ",")
    header = [cell.strip().lower() for cell in next(reader, [])]
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or not header:
        raise ValueError(f"'{path}', line 1 has the columns {unknown}, but these are known: {', '.join(COLUMNS)}.")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(f"'{path}', line 1 has the column '{twice[0]}' twice.")
    for row in reader:
        if any(cell.strip() for cell in row):
            if len(row) > len(header):
                raise ValueError(f"'{path}', line {reader.line_num} has {len(row)} cells, the header {len(header)}.")
            yield reader.line_num, dict(zip(header, row, strict=False))


def _case(row: dict[str, str], path: Path, line: int) -> Case:
    name = row.get("pair", "").strip() or str(line - 1)
    try:
        return case_from_words({k: v for k, v in row.items() if k != "pair"}, path.parent, name)
    except ValueError as error:
        raise ValueError(f"'{path}', line {line}: {error}") from None


def _transform(text: str, folder: Path) -> str | Path:
    return IDENTITY if text == IDENTITY else folder / Path(text).expanduser()


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise ValueError(f"seconds is '{text}', but a number of 0 or more is needed.")
    return number
