"""What is said about all pairs together: means and spreads, as data and as text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pullback.evaluation.measures import COLUMNS, LABEL_MEASURES, measure_of
from pullback.metrics import dice30

DEFINITIONS = "docs/metrics.md"


@dataclass
class Summary:
    """Collects the numbers (not the images) of pairs, to be summarised at the end."""

    values: dict[str, list[float]] = field(default_factory=dict)
    labels: dict[tuple[int, str], dict[str, list[float]]] = field(default_factory=dict)
    num_pairs: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)

    def add(self, values: Mapping[str, float], label_rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in one pair."""
        self.num_pairs += 1
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)
        for row in label_rows:
            numbers = self.labels.setdefault((row["label"], row["protocol"]), {})
            for measure in LABEL_MEASURES:
                if measure.key in row:
                    numbers.setdefault(measure.key, []).append(row[measure.key])

    def skip(self, pair: str, reason: str) -> None:
        """Note a pair that could not be scored."""
        self.skipped.append({"pair": pair, "reason": reason})

    def as_dict(self, label_names: Mapping[int, str] | None = None) -> dict[str, Any]:
        """Statistics of every column and of every label."""
        names = label_names or {}
        return {
            "num_pairs": self.num_pairs,
            "skipped": self.skipped,
            "pairs_without_labels": self.values.get("num_labels", []).count(0.0),
            "definitions": DEFINITIONS,
            "measures": {
                name: {**spread(self.values[name]), **_robust(name, self.values[name])}
                for name in COLUMNS
                if name in self.values
            },
            "labels": [
                {"label": label, "name": names.get(label), "protocol": protocol}
                | {key: spread(numbers) for key, numbers in found.items()}
                for (label, protocol), found in sorted(self.labels.items())
            ],
        }


def spread(numbers: Sequence[float]) -> dict[str, float | int | None]:
    """Count, mean, standard deviation (sample; of one number None), median and extremes of the finite numbers."""
    values = np.asarray(numbers, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"n": 0, "not_finite": len(values)}
    return {
        "n": len(finite),
        "not_finite": len(values) - len(finite),
        "mean": float(finite.mean()),
        "sd": float(finite.std(ddof=1)) if len(finite) > 1 else None,
        "median": float(np.median(finite)),
        "min": float(finite.min()),
        "max": float(finite.max()),
    }


def _robust(name: str, numbers: Sequence[float]) -> dict[str, float]:
    return {"dsc30": dice30(numbers)} if name.startswith("dice_") and numbers else {}


def text_of_summary(data: Mapping[str, Any]) -> str:
    """The summary as a plain table to read."""
    lines = [f"pairs scored: {data['num_pairs']}, skipped: {len(data['skipped'])}"]
    lines += [f"  skipped {entry['pair']}: {entry['reason']}" for entry in data["skipped"]]
    if data["pairs_without_labels"]:
        lines.append(f"pairs whose label maps share no label that counts: {data['pairs_without_labels']}")
    rows = [["measure", "n", "mean", "sd", "median", "min", "max", "DSC30"]]
    for name, found in data["measures"].items():
        keys = ("mean", "sd", "median", "min", "max", "dsc30")
        rows.append([measure_of(name).title, str(found["n"]), *(figure(found.get(key)) for key in keys)])
    lines += ["", *aligned(rows)]
    if data["labels"]:
        keys = [m.key for m in LABEL_MEASURES if any(m.key in entry for entry in data["labels"])]
        rows = [["label", "protocol", "n", *(measure_of(key).title for key in keys)]]
        for entry in data["labels"]:
            name = str(entry["label"]) if entry["name"] is None else f"{entry['label']} {entry['name']}"
            cells = [
                f"{figure(entry[k].get('mean'))} ± {figure(entry[k].get('sd'))}" if k in entry else "" for k in keys
            ]
            rows.append([name, entry["protocol"], str(max(entry[k]["n"] for k in keys if k in entry)), *cells])
        lines += ["", "mean ± sd per label (distances: of the pairs where the label was not lost)", *aligned(rows)]
    for title, key in (("over the group", "group"), ("Learn2Reg's own aggregates", "learn2reg")):
        if key in data:
            lines += ["", f"{title}:", *_nested(data[key])]
    return "\n".join([*lines, "", f"definitions: {data['definitions']}", ""])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines of text, columns padded; the first column to the left, the rest to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def figure(value: float | None) -> str:
    """A number with four digits that count, for people."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}"


def _nested(data: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in data.items():
        inner = ", ".join(f"{k} {figure(v)}" for k, v in value.items()) if isinstance(value, Mapping) else figure(value)
        lines.append(f"  {name}: {inner}")
    return lines
