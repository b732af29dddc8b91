"""Readable tables of the studies of networks: `results/<study>.md` from `results/<study>.json`.

python benchmarks/learning_tables.py
python benchmarks/learning_tables.py results/hippocampus.json
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common import REPOSITORY

ORDER = ("none", "unsupervised", "semi-supervised", "supervised")
COLUMNS = (
    "method",
    "seeds",
    "Dice",
    "DSC30",
    "HD95 mm",
    "folds %",
    "folds a pair",
    "SDlogJ",
    "NCC",
    "s per pair",
    "parameters",
    "G multiply-adds",
    "steps",
    "training s",
)
SEPARATOR = " | "


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="default: all of results/")
    for path in parser.parse_args().files or sorted((REPOSITORY / "results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        found["rows"] = [*found.get("rows", []), *found.get("ablation", [])]
        if not found["rows"] or not all("multiply_adds" in row for row in found["rows"]):
            print(f"left out: {path} is no table of networks")
            continue
        path.with_suffix(".md").write_text(table_of(found), encoding="utf-8")
        print(f"written: {path.with_suffix('.md')}")


def table_of(found: Mapping[str, Any]) -> str:
    """A study's rows, seeds of one network together, by supervision and then by Dice."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        groups.setdefault(json.dumps([row["supervision"], _name(row)]), []).append(row)
    ordered = sorted(groups.values(), key=lambda rows: (ORDER.index(rows[0]["supervision"]), -_mean(rows, "dice", 0)))
    lines = [f"# {found['study']}: test pairs\n"]
    for supervision in ORDER:
        chosen = [rows for rows in ordered if rows[0]["supervision"] == supervision]
        if chosen:
            lines += [f"## {'without training' if supervision == 'none' else supervision}\n", _line(COLUMNS)]
            lines += [_line(["---"] * len(COLUMNS)), *(_line(_cells(rows)) for rows in chosen), ""]
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {SEPARATOR.join(cells)} |"


def _cells(rows: list[Mapping[str, Any]]) -> list[str]:
    first = rows[0]
    training = [row["training"] for row in rows]
    return [
        _name(first),
        str(len(rows)) if first["seed"] is not None else "",
        _spread(rows, "dice", ".4f"),
        _spread(rows, "dice30", ".4f"),
        _spread(rows, "hd95", ".2f"),
        _spread(rows, "folds", ".4f"),
        _spread(rows, "num_folds", ".1f"),
        _spread(rows, "sd_log_jacobian", ".3f"),
        _spread(rows, "similarity", ".4f"),
        _spread(rows, "seconds_per_pair", ".3f"),
        f"{first['parameters']:,}" if first["parameters"] else "",
        f"{first['multiply_adds'] / 1e9:.2f}" if first["multiply_adds"] else "",
        _spread(training, "num_steps", ".0f"),
        _spread(training, "seconds", ".0f"),
    ]


def _name(row: Mapping[str, Any]) -> str:
    """What the table calls a row: its own name, or the method with what it was set to."""
    return row.get("name") or row["method"] + "".join(f", {key} {value}" for key, value in row["settings"].items())


def _spread(rows: list[Mapping[str, Any]], key: str, form: str) -> str:
    """The mean over seeds, and their standard deviation if there are several."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return ""
    return f"{fmean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")


def _mean(rows: list[Mapping[str, Any]], key: str, otherwise: float) -> float:
    values = [row[key] for row in rows if row.get(key) is not None]
    return fmean(values) if values else otherwise


if __name__ == "__main__":
    main()
