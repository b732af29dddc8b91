"""Landmarks of 3D Slicer: ``.fcsv`` and markups ``.mrk.json``, which say themselves whether they are LPS or RAS."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from pullback.data import Points
from pullback.io.itk import swap_lps

FCSV = ".fcsv"
MARKUPS = (".mrk.json", ".json")
SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}
"""What the file may say; files before Slicer 4.11 use numbers."""

FCSV_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatednodeid")
"""The columns in a file that does not name them."""


def is_slicer_file(path: Path) -> bool:
    """Whether the suffix is one of Slicer's."""
    return path.name.lower().endswith((FCSV, *MARKUPS))


def read(path: Path) -> tuple[Points, str]:
    """Points in RAS+ mm, and the system that the file stores them in.

    Raises:
        ValueError: If the file is damaged, holds no point, or does not say its system.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a text file: {error}.") from error
    system, rows = _fcsv(text, path) if path.name.lower().endswith(FCSV) else _markups(text, path)
    if not rows:
        raise ValueError(f"'{path}' holds no point.")
    tensor = torch.tensor([row[:3] for row in rows], dtype=torch.float64)
    return Points(swap_lps(tensor) if system == "LPS" else tensor, tuple(row[3] for row in rows)), system


def _fcsv(text: str, path: Path) -> tuple[str, list[tuple[float, float, float, str]]]:
    head = [line.lstrip("# ").split("=", 1) for line in text.splitlines() if line.startswith("#") and "=" in line]
    said = {pair[0].strip().lower(): pair[1].strip() for pair in head}
    columns = tuple(c.strip().lower() for c in said.get("columns", ",".join(FCSV_COLUMNS)).split(","))
    places = [columns.index(axis) if axis in columns else -1 for axis in ("x", "y", "z")]
    if -1 in places:
        raise ValueError(f"'{path}' names the columns {list(columns)}, but x, y and z are needed.")
    label = columns.index("label") if "label" in columns else None
    rows = []
    for line, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row or row[0].startswith("#") or not any(cell.strip() for cell in row):
            continue
        numbers = [_number(row[p] if p < len(row) else "", path, f"line {line}") for p in places]
        rows.append((*numbers, row[label].strip() if label is not None and label < len(row) else ""))
    return _system(said.get("coordinatesystem"), path), rows


def _markups(text: str, path: Path) -> tuple[str, list[tuple[float, float, float, str]]]:
    """The control points of all lists of the file, in order."""
    try:
        lists = [(markups, list(markups["controlPoints"])) for markups in json.loads(text)["markups"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is not a markups file of 3D Slicer: it lacks {error}.") from error
    for markups, _ in lists:
        if markups.get("coordinateUnits", "mm") not in ("mm", ["mm", "UCUM", "millimeter"]):
            raise ValueError(f"'{path}' is in {markups['coordinateUnits']}, but mm are needed.")
    systems = {_system(markups.get("coordinateSystem"), path) for markups, _ in lists}
    if len(systems) > 1:
        raise ValueError(f"'{path}' has lists in {' and '.join(sorted(systems))}; save each list in a file of its own.")
    points = [point for _, points in lists for point in points]
    rows = [_control_point(point, path, number) for number, point in enumerate(points, start=1)]
    return "".join(systems), rows


def _control_point(point: Any, path: Path, number: int) -> tuple[float, float, float, str]:
    if not isinstance(point, dict):
        raise ValueError(f"'{path}', point {number} is {point!r}, but a control point of 3D Slicer is needed.")
    position = point.get("position")
    if point.get("positionStatus", "defined") != "defined" or not isinstance(position, list) or len(position) != 3:
        raise ValueError(f"'{path}', point {number} has no position; remove it, or place it in Slicer.")
    x, y, z = (_number(value, path, f"point {number}") for value in position)
    return x, y, z, str(point.get("label", ""))


def _system(said: str | None, path: Path) -> str:
    if said not in SYSTEMS:
        raise ValueError(f"'{path}' has the coordinate system '{said}', but RAS (0) or LPS (1) must stand there.")
    return SYSTEMS[said]


def _number(value: Any, path: Path, where: str) -> float:
    try:
        number = float("nan") if "_" in str(value) else float(value)  # Python would read 1_0 as 10
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"'{path}', {where}: '{value}' stands there, but a finite number is needed.")
    return number
