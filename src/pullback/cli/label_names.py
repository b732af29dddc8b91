"""What labels are called: the table that ``--label-names`` takes."""

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

LabelNames = Annotated[
    Path | None, typer.Option(help="csv or tsv with the columns label and name; semicolons separate too.")
]


def read_label_names(path: Path) -> dict[int, str]:
    """Label to structure, from a csv or tsv with the columns label and name; semicolons separate too.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text, a column is missing, or a label is no whole number or stands there twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a text file: {error}.") from error
    delimiter = next((mark for mark in "\t;" if mark in text.partition("\n")[0]), ",")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        pairs = [(int(row["label"]), row["name"]) for row in rows]
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"'{path}' must have the columns label (whole numbers) and name; trouble: {error}.") from error
    names = dict(pairs)
    for label, name in pairs:
        if names[label] != name:
            raise ValueError(f"'{path}' calls label {label} both '{name}' and '{names[label]}'; leave one.")
    return names
