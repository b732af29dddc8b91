"""Numbers that papers and challenges have published, to stand beside one's own; each table names its source.

They were made by other people's code on other data splits, and most do not say how labels were warped: a difference of
a point of Dice can be the protocol's. Every table carries what is known about that, and known contradictions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from pullback.checks import check_choice
from pullback.evaluation.summary import aligned


@dataclass(frozen=True)
class Cell:
    """One published number.

    Attributes:
        value: The number, or the bound.
        sd: Standard deviation, where one was given.
        is_bound: Whether the number itself is only known to be below `value`.
    """

    value: float
    sd: float | None = None
    is_bound: bool = False

    def __str__(self) -> str:
        """As it was printed."""
        text = f"{'<' if self.is_bound else ''}{self.value:.10g}"
        return text if self.sd is None else f"{text} ± {self.sd:.10g}"


@dataclass(frozen=True)
class PublishedTable:
    """One table.

    Attributes:
        identifier: Short name.
        title: Data and task.
        source: The document, and where in it.
        protocol: What is known about how the numbers were made.
        caveats: Known contradictions and doubts.
        columns: Key to title.
        rows: Method to column key to number; columns without a number are left out.
    """

    identifier: str
    title: str
    source: str
    protocol: str
    caveats: tuple[str, ...]
    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, Cell]]

    def as_text(self) -> str:
        """The table to read, with its source."""
        lines = [["method", *self.columns.values()]]
        for method, cells in self.rows.items():
            lines.append([method, *(str(cells[key]) if key in cells else "-" for key in self.columns)])
        notes = [f"! {caveat}" for caveat in self.caveats]
        head = [f"{self.identifier}: {self.title}", f"source: {self.source}", f"protocol: {self.protocol}"]
        return "\n".join([*head, *notes, *aligned(lines)]) + "\n"


@cache
def published_tables() -> Mapping[str, PublishedTable]:
    """All tables by their short names."""
    found = {}
    for file in sorted(resources.files("pullback.evaluation").joinpath("published").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".json"):
            data = json.loads(file.read_text(encoding="utf-8"))
            found |= {entry["id"]: _table(entry, data["source"]) for entry in data["tables"]}
    return found


def published_table(name: str) -> PublishedTable:
    """One table by its short name.

    Raises:
        ValueError: If there is none, listing all.

    Example:
        >>> str(published_table("im2grid-oasis3").rows["SyN"]["dice"])
        '0.866 ± 0.029'
    """
    tables = published_tables()
    return tables[check_choice("published", name, tuple(tables))]


def _table(entry: Mapping[str, Any], source: str) -> PublishedTable:
    columns = {column["key"]: column["title"] for column in entry["columns"]}
    rows = {
        row[0]: {key: _cell(cell) for key, cell in zip(columns, row[1:], strict=True) if cell is not None}
        for row in entry["rows"]
    }
    where = f"{source}; {entry['where']}"
    return PublishedTable(entry["id"], entry["title"], where, entry["protocol"], tuple(entry["caveats"]), columns, rows)


def _cell(cell: Any) -> Cell:
    if isinstance(cell, str):
        return Cell(float(cell.removeprefix("<")), is_bound=True)
    if isinstance(cell, list):
        return Cell(*(float(number) for number in cell))
    return Cell(float(cell))
