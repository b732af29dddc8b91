"""What every benchmark needs: where the data are, what machine this is, and a table that writes itself.

Results are small text: ``results/<name>.json`` (rows and how they came about) and ``results/<name>.md`` (to read).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PACKAGES = (
    *("pullback", "torch", "numba", "numpy", "scipy", "SimpleITK", "nibabel"),
    *("picsl_greedy", "antspyx", "itk-elastix", "dipy", "fireants"),
)
SIGNIFICANT_DIGITS = 6
WATCHED = ("OMP_", "GOMP_", "NUMBA_", "MKL_", "ITK_", "PULLBACK_")
"""Environment variables that can change results or times; those that were set are kept with them."""

Row = dict[str, Any]


class DataAbsentError(SystemExit):
    """The development data are not here: a reason to leave, but no failure."""


def data_folder(*parts: str) -> Path:
    """A folder of the development data: in ``../shared/data`` beside the repository, or where ``PULLBACK_DATA`` points.

    Raises:
        DataAbsentError: If it is not there, after saying so; uncaught it ends the process with 0.
    """
    root = Path(os.environ.get("PULLBACK_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root.joinpath(*parts)
    if not folder.is_dir():
        print(
            f"skipped: '{folder}' is not here; put the development data there, or set PULLBACK_DATA to where they are."
        )
        raise DataAbsentError(0)
    return folder


def image_and_labels(folder: Path, subject: str) -> dict[str, Path]:
    """The files of one brain: ``image`` and ``labels``."""
    return {kind: folder / f"{subject}_{kind}.nii.gz" for kind in ("image", "labels")}


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; the description is the module's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every tool (default 2)")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", help="where the tables go (default: benchmarks/results)"
    )
    return parser


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, Python and package versions."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "")
    return f"{name}, {'AVX-512' if 'avx512f' in flags else 'AVX2' if 'avx2' in flags else platform.machine()}"


def version_of(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> dict[str, Any]:
    """The commit, its tree of the package's source, and whether code (not results) differs from it."""
    changed = _git("status", "--porcelain", "--", "src", "pyproject.toml", "benchmarks/*.py")
    source = _git("rev-parse", "HEAD:src/pullback") or "unknown"
    return {"hash": _git("rev-parse", "HEAD") or "unknown", "source": source, "dirty": bool(changed)}


def sign(path: Path, *words: str, command: str | None = None) -> None:
    """Add machine and commit to those rows of a study of networks whose command holds all of some words.

    `command` takes the place of theirs, where evaluating was not all.
    """
    study = json.loads(path.read_text(encoding="utf-8"))
    for row in study["rows"]:
        if all(word in row.get("command", "") for word in words):
            row |= {"machine": machine(), "commit": commit()} | ({} if command is None else {"command": command})
    path.write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@dataclass(frozen=True)
class Column:
    """A column of the readable table.

    Attributes:
        key: Of the row.
        title: Heading, with the unit.
        digits: Decimals of numbers; None leaves values as they are.
    """

    key: str
    title: str
    digits: int | None = None

    def text(self, value: Any) -> str:
        """A value as the table shows it."""
        if value is None or value == "":
            return ""
        if self.digits is None or isinstance(value, (str, bool)):
            return str(value)
        small = value != 0 and abs(value) < 0.5 * 10**-self.digits
        return f"{value:.1e}" if small else f"{value:.{self.digits}f}"


class Table:
    """Rows that are written to disk as they come, so that an interrupted run leaves what it has.

    Args:
        name: Of the files.
        title: Of the readable table.
        columns: What the readable table shows; rows may hold more, which the JSON keeps.
        folder: Where to write.
        settings: How the numbers were made.
        group: Key of the rows by which mean and spread are taken; None takes all rows together.
        expected: Rows that the whole run would have.
        spread: Whether mean and spread mean anything for these rows.
        rows: Those of an earlier run that stay.
        order: Place of each group in the files; rows of one group stay as they came.
    """

    def __init__(
        self,
        name: str,
        title: str,
        columns: Sequence[Column],
        *,
        folder: Path,
        settings: dict[str, Any],
        group: str | None = None,
        expected: int | None = None,
        spread: bool = True,
        rows: Sequence[Row] = (),
        order: Sequence[str] = (),
    ) -> None:
        self.name, self.title, self.columns, self.folder = name, title, tuple(columns), folder
        self.settings, self.group, self.expected, self.spread = settings, group, expected, spread
        self.rows, self.order = list(rows), tuple(order)
        self.remarks: list[str] = []
        self.meta = {
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": " ".join(["python", *sys.argv]),
            "commit": commit(),
            "machine": machine(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith(WATCHED)},
            "load_at_start": [round(load, 2) for load in os.getloadavg()],
        }

    def add(self, row: Row) -> None:
        """Keep a row, print it, and write the files anew."""
        self.rows.append({key: _rounded(value) for key, value in row.items() if value is not None})
        print(" | ".join(f"{c.title} {c.text(row.get(c.key))}" for c in self.columns if row.get(c.key) is not None))
        sys.stdout.flush()
        self.write()

    def remark(self, text: str) -> None:
        """Say something about the whole, below the table."""
        self.remarks.append(text)
        print(text)
        self.write()

    def write(self) -> None:
        """Write both files, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.group and self.order:
            self.rows.sort(key=lambda row: self.order.index(row[self.group]))
        whole = self.expected is None or len(self.rows) >= self.expected
        meta = {**self.meta, "settings": self.settings, "complete": whole, "remarks": self.remarks}
        lines = ",\n  ".join(json.dumps(row) for row in self.rows)
        text = f'{{"meta": {json.dumps(meta, indent=1)},\n "rows": [\n  {lines}\n ]}}\n'
        _replace(self.folder / f"{self.name}.json", text)
        _replace(self.folder / f"{self.name}.md", self._markdown(whole))

    def _markdown(self, whole: bool) -> str:
        meta, host = self.meta, self.meta["machine"]
        head = [f"# {self.title}", ""]
        if not whole:
            head += [f"**Not complete: {len(self.rows)} of {self.expected} rows.**", ""]
        shown = [c for c in self.columns if any(c.text(row.get(c.key)) for row in self.rows)]
        body = [_line([c.title for c in shown]), _line(["---"] * len(shown))]
        body += [_line([c.text(row.get(c.key)) for c in shown]) for row in self.rows]
        tail = ["", *self._spread(), *(f"- {text}" for text in self.remarks), ""]
        packages = ", ".join(f"{name} {v}" for name, v in host["packages"].items() if v)
        state = meta["commit"]["hash"][:12] + (" with changes" if meta["commit"]["dirty"] else "")
        tail += [
            f"`{meta['command']}` on {meta['date']}, commit {state}.",
            f"Machine: {host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB, {host['system']}, Python "
            f"{host['python']}, {packages}; load at start {meta['load_at_start']}.",
            "Settings: " + "; ".join(f"{key}: {value}" for key, value in self.settings.items()) + ".",
        ]
        return "\n".join([*head, *body, *tail]) + "\n"

    def _spread(self) -> list[str]:
        """Mean, standard deviation and range of each number, by group."""
        if not self.spread:
            return []
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(str(row.get(self.group, "all")) if self.group else "all", []).append(row)
        shown = [c for c in self.columns if c.digits is not None and any(c.key in row for row in self.rows)]
        if not shown or max(len(rows) for rows in groups.values()) < 2:
            return []
        lines = [
            "Mean ± standard deviation (smallest to largest):",
            "",
            _line(["", "n", *(c.title for c in shown)]),
            _line(["---"] * (len(shown) + 2)),
        ]
        for name, rows in groups.items():
            lines.append(_line([name, str(len(rows)), *(_spread_of(c, rows) for c in shown)]))
        return [*lines, ""]


def described(thing: Any) -> str:
    """A part of a plan in words: its class and its values, without the places of objects in memory."""
    if isinstance(thing, (list, tuple)):
        return "(" + ", ".join(described(part) for part in thing) + ")"
    values = getattr(thing, "__dict__", None)
    if values is None or callable(thing):
        return repr(thing)
    return f"{type(thing).__name__}({', '.join(f'{key}={described(value)}' for key, value in values.items())})"


def mean_of(rows: Sequence[Row], key: str) -> float:
    """The mean of a key over the rows that have it; NaN if none has."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else float("nan")


def _spread_of(column: Column, rows: Sequence[Row]) -> str:
    values = [row[column.key] for row in rows if isinstance(row.get(column.key), (int, float))]
    if not values:
        return ""
    deviation = stdev(values) if len(values) > 1 else 0.0
    mean, low, high = (column.text(v) for v in (fmean(values), min(values), max(values)))
    return f"{mean} ± {column.text(deviation)} ({low} to {high})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return value


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
