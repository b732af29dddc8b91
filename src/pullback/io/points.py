"""Landmarks as CSV (a header with x, y[, z], one point a row, world mm), of 3D Slicer, and Learn2Reg's keypoints."""

import csv
from pathlib import Path

import torch

from pullback.data import Points, check_points
from pullback.io import slicer_points
from pullback.io.atomic import replacing, suffix_of
from pullback.io.itk import swap_lps
from pullback.space import Grid

NAME_COLUMNS = ("name", "label")
DELIMITERS = (",", ";", "\t")
WRITABLE = (".csv", ".txt")
"""Suffixes of points that we write."""


def read_points(path: str | Path, *, lps: bool = False, num_dims: int = 3) -> Points:
    r"""Read points.

    The header names the columns x, y[, z] in any case and order; a column ``name`` or ``label`` gives the points'
    names, any other column (an index, ANTs' t) is ignored. Comma, semicolon and tab separate. 3D Slicer's ``.fcsv`` and
    ``.mrk.json`` are read too; they say themselves what their numbers are.

    Args:
        path: The file.
        lps: Whether the numbers are LPS mm, as ITK and ANTs write them, or pixels of a photograph. A file of Slicer
            that says otherwise is refused.
        num_dims: 2 or 3. For 2, a column z may stand in the file if it is 0 everywhere, as ANTs writes it.

    Returns:
        The points in RAS+ mm.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: With the line, if a column is missing or stands twice, a row has more cells than the header, or a
            value is not a finite number; or if there is no point.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "points.csv"
        >>> _ = path.write_text("x,y,z\n1,2,3\n")
        >>> read_points(path, lps=True).coordinates
        tensor([[-1., -2.,  3.]], dtype=torch.float64)
    """
    path = Path(path).expanduser()
    if num_dims not in (2, 3):
        raise ValueError(f"`num_dims` is {num_dims}, but 2 or 3 is needed.")
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist.")
    if slicer_points.is_slicer_file(path):
        return _of_slicer(path, lps, num_dims)
    rows = _rows(path)
    if not rows:
        raise ValueError(
            f"'{path}' is empty, but a header with {_wanted(num_dims)} and a row for each point is needed."
        )
    columns = [cell.strip().lower() for cell in rows[0][1]]
    axes = _axis_columns(columns, num_dims, path)
    _check_widths(rows, path)
    coordinates = [[_number(row, axis, "xyz"[n], line, path) for n, axis in enumerate(axes)] for line, row in rows[1:]]
    if not coordinates:
        raise ValueError(f"'{path}' has a header but no point.")
    if num_dims == 2 and "z" in columns:
        _check_flat([(line, _number(row, columns.index("z"), "z", line, path)) for line, row in rows[1:]], path)
    named = next((columns.index(column) for column in NAME_COLUMNS if column in columns), None)
    names = None if named is None else tuple(row[named].strip() if named < len(row) else "" for _, row in rows[1:])
    tensor = torch.tensor(coordinates, dtype=torch.float64)
    return Points(swap_lps(tensor) if lps else tensor, names)


def read_keypoints(path: str | Path, grid: Grid) -> Points:
    """Read keypoints of Learn2Reg: no header, one point a row, voxel indices along the array's axes.

    Args:
        path: The csv file.
        grid: Of the image that the voxels belong to.

    Returns:
        The points in RAS+ mm.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: With the line, if a row does not hold one finite number per axis, or if there is no point.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist.")
    rows = []
    for line, row in _rows(path):
        if len(row) != grid.num_dims:
            raise ValueError(
                f"'{path}', line {line} has {len(row)} numbers, but {grid.num_dims} voxel indices are needed."
            )
        rows.append([_number(row, axis, "ijk"[axis], line, path) for axis in range(grid.num_dims)])
    if not rows:
        raise ValueError(f"'{path}' holds no point.")
    return Points(grid.to_world(torch.tensor(rows, dtype=torch.float64)))


def write_points(path: str | Path, points: Points, *, lps: bool = False) -> None:
    """Write points so that reading them gives the same numbers to the last bit.

    Args:
        path: The CSV file to write, whole or not at all: ``.csv`` or ``.txt``.
        points: RAS+ mm.
        lps: Write LPS mm, for ITK and ANTs.

    Raises:
        FileNotFoundError: If the folder does not exist.
        TypeError: If `points` are no `Points`.
        ValueError: If the suffix is that of another kind of file.
        OSError: If the place cannot be written to or the disk is full.
    """
    if suffix_of(Path(path)) not in WRITABLE:
        raise ValueError(f"'{path}' is no name for points: they are written as CSV, to {' or '.join(WRITABLE)}.")
    coordinates = check_points("points", points).coordinates
    rows = (swap_lps(coordinates) if lps else coordinates).tolist()
    header = ["x", "y", "z"][: coordinates.shape[1]]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header if points.names is None else [*header, "name"])
        for n, row in enumerate(rows):
            writer.writerow([*map(repr, row), *([] if points.names is None else [points.names[n]])])


def _of_slicer(path: Path, lps: bool, num_dims: int) -> Points:
    points, system = slicer_points.read(path)
    if lps and system != "LPS":
        raise ValueError(f"'{path}' says that it is in {system}, but LPS was asked for; leave `lps` out.")
    if num_dims == 2:
        _check_flat([(n, height) for n, height in enumerate(points.coordinates[:, 2].tolist(), start=1)], path)
        return Points(points.coordinates[:, :2], points.names)
    return points


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = next((mark for mark in DELIMITERS if mark in first), ",")
            reader = csv.reader(file, delimiter=delimiter)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{path}' is not a CSV text file: {error}.") from error


def _wanted(num_dims: int) -> str:
    return "the columns " + ",".join("xyz"[:num_dims])


def _axis_columns(columns: list[str], num_dims: int, path: Path) -> list[int]:
    missing = [axis for axis in "xyz"[:num_dims] if axis not in columns]
    if missing == ["z"]:
        raise ValueError(
            f"'{path}', line 1, has no column z, but 3-D points are needed; where images are 2-D, ask for 2-D points "
            "(`num_dims` in Python, --flat of 'pullback landmarks')."
        )
    if missing:
        raise ValueError(
            f"'{path}', line 1, has the columns {columns}, but {_wanted(num_dims)} are needed ({', '.join(missing)} "
            "missing); "
            "add a header line."
        )
    twice = [name for name in ("x", "y", "z", *NAME_COLUMNS) if columns.count(name) > 1]
    if twice:
        raise ValueError(f"'{path}', line 1, has the column {twice[0]} {columns.count(twice[0])} times; keep one.")
    return [columns.index(axis) for axis in "xyz"[:num_dims]]


def _check_widths(rows: list[tuple[int, list[str]]], path: Path) -> None:
    """Refuse cells beyond the header's, as decimal commas make them."""
    width = len(rows[0][1])
    for line, row in rows[1:]:
        if any(cell.strip() for cell in row[width:]):
            raise ValueError(
                f"'{path}', line {line} has {len(row)} cells, but the header {width}; with decimal commas, separate "
                "the cells by semicolons and write decimal points."
            )


def _number(row: list[str], column: int, axis: str, line: int, path: Path) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        number = float("nan") if "_" in text else float(text)  # Python would read 1_0 as 10
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"'{path}', line {line}: {axis} is '{text}', but a finite number is needed.")
    return number


def _check_flat(heights: list[tuple[int, float]], path: Path) -> None:
    for line, height in heights:
        if height != 0:
            raise ValueError(
                f"'{path}', line {line}: z is {height:g}, but 2-D points are needed, where z can only be 0."
            )
