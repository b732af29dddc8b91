"""Do other tools and we understand each other's transforms, format by format?

Synthetic transforms in five geometries, 2-D and 3-D: files that we write are used by the tool that owns the format, and
files that the tool writes are read by us. Compared are points (mm) and a resampled image (% of its range of
intensities). The checks of each family of formats stand in ``formats_*.py`` beside this file, each a module with a
tuple ``CHECKS``. The table is also written to ``docs/interoperability.md``. Tools that are not installed are left out,
and the table says so. Each tool runs in a process of its own: with several builds of ITK in one, greedy's finds no
reader of images.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from common import HERE, REPOSITORY, Column, Row, Table, parser_of
from format_cases import GEOMETRIES, Check, Difference
from pullback.io.registry import FORMATS
from this_process import use_threads

DOCUMENT = REPOSITORY / "docs" / "interoperability.md"
COLUMNS = (
    Column("format", "format"),
    Column("content", "content"),
    Column("way", "way"),
    Column("tool", "against"),
    Column("cases", "geometries"),
    Column("largest_mm", "points, largest difference, mm", 6),
    Column("largest_percent", "image, largest difference, % of range", 4),
    Column("worst", "where"),
)
PROGRAMS = {"NiftyReg": "reg_transform"}
"""Tools that no package brings, and the program to ask for the version."""

LARGEST_MM = 1e-3
LARGEST_PERCENT = 0.1
INTRODUCTION = """# Transforms of other tools

Each row is one kind of file: *written* by us and used by the tool that owns the format, or made by the tool and *read*
by us. Points are random points of the fixed image; images are resampled linearly and compared where both images have
values. The geometries are RAS, LAS, LPS, oblique and anisotropic grids, in 2-D and 3-D unless the format is for 3-D
only; fixed and moving image differ. The figure is the worst of them.

How each format is read and written: `pullback convert --help`, and the docstrings of `pullback.io`. What a format
cannot hold is refused; what a file does not say is asked for.
"""


def main() -> None:
    """Run the benchmark."""
    options = _options()
    checks = [check for check in all_checks() if not options.only or check.format in options.only]
    installed = [check for check in checks if version_of(check.package)]
    table = Table(
        "formats",
        "Transforms of other tools",
        COLUMNS,
        folder=options.results,
        settings={"geometries": ", ".join(GEOMETRIES), "points": "random, within the outer voxel centres"},
        expected=len(installed),
        spread=False,
    )
    for row in rows_of(installed, options.threads):
        table.add(row)
    for package in sorted({check.package for check in checks} - {check.package for check in installed}):
        table.remark(f"{package} is not installed: its checks were left out.")
    too_far = [row for row in table.rows if not is_close(row)]
    table.remark(
        f"{len(too_far)} of {len(table.rows)} rows beyond {LARGEST_MM} mm or {LARGEST_PERCENT} % of the range."
    )
    if not options.only:
        options.document.write_text(INTRODUCTION + (options.results / "formats.md").read_text().split("\n", 1)[1])
    sys.exit(1 if too_far else 0)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", help="only these formats; leaves the document alone")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the table goes (default: docs)")
    return parser.parse_args()


def all_checks() -> list[Check]:
    """The checks of all modules ``formats_*.py`` beside this one, format by format."""
    names = sorted(path.stem for path in HERE.glob("formats_*.py"))
    checks = [check for name in names for check in importlib.import_module(name).CHECKS]
    order = [form.name for form in FORMATS]
    return sorted(checks, key=lambda check: order.index(check.format))


def rows_of(checks: list[Check], threads: int) -> Iterator[Row]:
    """The rows of checks, those of one tool in one fresh process."""
    for _, same in groupby(checks, key=lambda check: check.package):
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, get_context("spawn"), _start, (threads, folder)) as process,
        ):
            yield from process.map(row_of, same)


def _start(threads: int, folder: str) -> None:
    """Begin a process where tools may leave files that nobody asked for, as transformix does."""
    use_threads(threads)
    os.chdir(folder)


def row_of(check: Check) -> Row:
    """The worst of all geometries."""
    found: dict[str, Difference] = {}
    for name, geometry in GEOMETRIES.items():
        if geometry.num_dims not in check.num_dims:
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tools' own
            found[name] = check.run(geometry, Path(folder))
    worst = max(found, key=lambda name: found[name].mm)
    percents = [difference.percent for difference in found.values() if difference.percent is not None]
    return {
        "format": check.format,
        "content": check.content,
        "way": check.way,
        "tool": f"{check.package} {version_of(check.package)}",
        "cases": len(found),
        "largest_mm": found[worst].mm,
        "largest_percent": max(percents) if percents else None,
        "worst": worst,
        "each_mm": [difference.mm for difference in found.values()],
    }


def is_close(row: Row) -> bool:
    """Whether a row is within the tolerances (NaN is not)."""
    return row["largest_mm"] <= LARGEST_MM and row.get("largest_percent", 0.0) <= LARGEST_PERCENT


def version_of(package: str) -> str | None:
    """The version of an installed package, or of a tool that is a program."""
    try:
        return version(package)
    except PackageNotFoundError:
        program = shutil.which(PROGRAMS.get(package, package))
        return None if program is None else subprocess.check_output([program, "--version"], text=True).strip()


if __name__ == "__main__":
    main()
