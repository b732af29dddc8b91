"""What labels are called: the table that ``--label-names`` takes."""

import csv
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
        ValueError: If it is no text, a column is missing or a label is no whole number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a text file: {error}.") from error
    delimiter = next((mark for mark in "\t;" if lines and mark in lines[0]), ",")
    rows = csv.DictReader(lines, delimiter=delimiter)
    try:
        return {int(row["label"]): row["name"] for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"'{path}' must have the columns label (whole numbers) and name; trouble: {error}.") from error
