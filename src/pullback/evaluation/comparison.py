"""Methods side by side on the same pairs: paired tests, intervals, effect sizes, ranks."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pullback.evaluation.measures import COLUMNS, measure_of, protocol_of
from pullback.evaluation.output import LABELS, PAIRS, SUMMARY, read_rows
from pullback.evaluation.summary import aligned, figure
from pullback.io.atomic import replacing
from pullback.io.json_text import write_json
from pullback.metrics import combine_rank_scores, compare_paired, hardest_cases, holm, rank_methods

SIGNIFICANCE = 0.05
RANKED = ("dice", "hd95_mm", "tre_mean_mm", "sdlogj")
"""Measures that make the ranking, as far as all methods have them; labels count with the first protocol alone."""

ROBUST = ("dice", "tre_mean_mm")
"""Measures that count a second time, on the hardest 30 % of the pairs, as in Learn2Reg."""

HARDEST = "_hardest_30"

FILES = ("comparison.json", "comparison.txt", "statistics.csv")


@dataclass(frozen=True)
class MethodResult:
    """What `pullback evaluate` found for one method.

    Attributes:
        name: Of the method.
        folder: Where the results are.
        pairs: Pair to column to number; skipped pairs are not there.
        labels: ``(label, protocol)`` to measure to pair to number.
        label_names: Label to structure.
    """

    name: str
    folder: Path
    pairs: dict[str, dict[str, float]]
    labels: dict[tuple[int, str], dict[str, dict[str, float]]]
    label_names: dict[int, str]


@dataclass(frozen=True)
class Comparison:
    """Methods on the pairs that all of them have.

    Attributes:
        methods: The results.
        pairs: Names of the pairs that count.
        left_out: Pairs that some method lacks.
        measures: Columns that were compared.
        statistics: A row for each measure, pair of methods and (label or overall).
        ranks: Measure (with ``_hardest_30``: on the hardest 30 % of the pairs) to method to rank score; ``overall`` is
            their geometric mean.
    """

    methods: tuple[MethodResult, ...]
    pairs: tuple[str, ...]
    left_out: tuple[str, ...]
    measures: tuple[str, ...]
    statistics: list[dict[str, Any]]
    ranks: dict[str, dict[str, float]]

    def values(self, method: MethodResult, measure: str) -> np.ndarray:
        """One number per pair; NaN where the method has none."""
        return np.array([method.pairs.get(pair, {}).get(measure, math.nan) for pair in self.pairs])

    def best(self) -> str:
        """The method with the highest rank score, or several with a stroke between them."""
        scores = self.ranks["overall"]
        return " / ".join(name for name, value in scores.items() if value >= max(scores.values()) - 1e-12)


def read_method(folder: str | Path, name: str | None = None) -> MethodResult:
    """Read a folder that `pullback evaluate` wrote.

    Raises:
        FileNotFoundError: If it is none.
        ValueError: If its tables are damaged or hold no scored pair.
    """
    folder = Path(folder)
    rows = [row for row in read_rows(folder / PAIRS) if row.get("status") == "ok"]
    if not rows:
        raise ValueError(f"'{folder}' holds no pair that was scored.")
    words = ("pair", "status", "message")
    pairs: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["pair"] in pairs:
            raise ValueError(f"'{folder / PAIRS}' holds the pair '{row['pair']}' twice; leave one.")
        pairs[row["pair"]] = {k: v for k, v in row.items() if k not in words}
    labels: dict[tuple[int, str], dict[str, dict[str, float]]] = {}
    names: dict[int, str] = {}
    for row in read_rows(folder / LABELS) if (folder / LABELS).exists() else []:
        try:
            label, protocol = int(row["label"]), row["protocol"]
        except (KeyError, ValueError, OverflowError) as error:
            raise ValueError(
                f"'{folder / LABELS}' is damaged: each row needs a protocol and a label (a whole number): {error}."
            ) from error
        if row.get("name"):
            names[label] = row["name"]
        for key, value in row.items():
            if isinstance(value, float) and key != "label":
                labels.setdefault((label, protocol), {}).setdefault(key, {})[row["pair"]] = value
    return MethodResult(name or _name_in(folder), folder, pairs, labels, names)


def compare(
    methods: Sequence[MethodResult], measures: Sequence[str] | None = None, *, initial: MethodResult | None = None
) -> Comparison:
    """Compare methods on the pairs that all have.

    P-values are of two-sided Wilcoxon signed-rank tests and corrected by Holm's method: overall figures for all pairs
    of methods of one measure, figures per label for all labels and pairs of methods of one measure.

    Args:
        methods: Two or more, with different names.
        measures: Columns; None takes all that say which direction is better and that all methods have.
        initial: The start, which says which pairs are hardest; None takes the mean of the methods for that.

    Raises:
        ValueError: If there are fewer than two methods, names repeat, no pair or no measure is common.
    """
    _check_methods(methods)
    every = [set(method.pairs) for method in methods]
    common = [pair for pair in methods[0].pairs if all(pair in there for there in every)]
    if not common:
        raise ValueError("The methods have no pair in common; were they run on the same table of pairs?")
    chosen = _measures(methods, common, measures)
    statistics = [row for measure in chosen for row in _statistics(methods, common, measure)]
    left_out = sorted(set().union(*every) - set(common))
    found = Comparison(tuple(methods), tuple(common), tuple(left_out), chosen, statistics, {})
    return replace(found, ranks=_ranks(found, initial))


def write_comparison(comparison: Comparison, folder: Path, text: str) -> None:
    """Write ``comparison.json``, ``comparison.txt`` and ``statistics.csv``, each whole or not at all."""
    data = {
        "methods": {method.name: method.folder.name for method in comparison.methods},
        "num_pairs": len(comparison.pairs),
        "left_out": list(comparison.left_out),
        "measures": list(comparison.measures),
        "ranks": comparison.ranks,
        "best": comparison.best(),
        "statistics": comparison.statistics,
    }
    write_json(folder / "comparison.json", data)
    with replacing(folder / "comparison.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(folder / "statistics.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(comparison.statistics[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(comparison.statistics)


def text_of_comparison(comparison: Comparison) -> str:
    """The comparison as plain tables: means, tests, ranks."""
    names = [method.name for method in comparison.methods]
    lines = [f"{len(comparison.pairs)} pairs that all methods have; {len(comparison.left_out)} left out", ""]
    rows = [["mean ± sd over pairs", *names]]
    for measure in comparison.measures:
        rows.append([measure_of(measure).title, *(_mean_sd(comparison.values(m, measure)) for m in comparison.methods)])
    lines += [*aligned(rows), "", "overall, paired two-sided Wilcoxon signed-rank tests, Holm's correction:"]
    overall = [row for row in comparison.statistics if row["label"] == ""]
    lines += aligned(_statistics_table(overall))
    lines += ["", "per label (corrected over labels and pairs of methods; significant at 0.05):"]
    lines += _labels_in_words(comparison) or ["  no measures per label"]
    rows = [["rank score (0.1 to 1, Learn2Reg's manner)", *names]]
    for measure, scores in comparison.ranks.items():
        rows.append([title_of_rank(measure), *(figure(scores[name]) for name in names)])
    return "\n".join([*lines, "", *aligned(rows), "", f"best: {comparison.best()}", ""])


def _name_in(folder: Path) -> str:
    try:
        return str(json.loads((folder / SUMMARY).read_text(encoding="utf-8")).get("method") or folder.name)
    except (OSError, ValueError, AttributeError):
        return folder.name


def _check_methods(methods: Sequence[MethodResult]) -> None:
    names = [method.name for method in methods]
    if len(methods) < 2:
        raise ValueError(f"`methods` holds {len(methods)}, but two or more are needed for a comparison.")
    if len(set(names)) < len(names):
        raise ValueError(f"The methods are called {', '.join(names)}; give each a name of its own.")


def _measures(methods: Sequence[MethodResult], pairs: Iterable[str], asked: Sequence[str] | None) -> tuple[str, ...]:
    def is_common(column: str) -> bool:
        return all(any(np.isfinite(m.pairs[p].get(column, math.nan)) for p in pairs) for m in methods)

    if asked is None:
        found = tuple(c for c in COLUMNS if measure_of(c).better and is_common(c))
    else:
        found = tuple(dict.fromkeys(asked))
        missing = [c for c in found if not measure_of(c).better or not is_common(c)]
        if missing:
            there = ", ".join(c for c in COLUMNS if measure_of(c).better and is_common(c))
            raise ValueError(f"`measures` holds {', '.join(missing)}, but these can be compared: {there}.")
    if not found:
        raise ValueError("The methods have no measure in common; were labels warped by the same protocol?")
    return found


def _statistics(methods: Sequence[MethodResult], pairs: Sequence[str], measure: str) -> list[dict[str, Any]]:
    """Rows of one measure: overall, then per label; each family corrected by itself."""
    rows = [
        _row(measure, "", "", a, b, _column(a.pairs, pairs, measure), _column(b.pairs, pairs, measure))
        for a, b in combinations(methods, 2)
    ]
    _correct(rows)
    protocol = protocol_of(measure)
    if protocol is None:
        return rows
    key = measure.removesuffix(f"_{protocol}")
    per_label = []
    for label in sorted(
        {k for m in methods for (k, p), found in m.labels.items() if p == protocol and _has(found, key)}
    ):
        name = next((m.label_names[label] for m in methods if label in m.label_names), "")
        for a, b in combinations(methods, 2):
            numbers = [m.labels.get((label, protocol), {}).get(key, {}) for m in (a, b)]
            columns = [np.array([found.get(pair, math.nan) for pair in pairs]) for found in numbers]
            per_label.append(_row(measure, str(label), name, a, b, *columns))
    _correct(per_label)
    return rows + per_label


def _has(found: dict[str, dict[str, float]], key: str) -> bool:
    """Whether a label has numbers of a measure; networks are scored by label in Dice alone."""
    return any(math.isfinite(value) for value in found.get(key, {}).values())


def _column(pairs: dict[str, dict[str, float]], names: Sequence[str], measure: str) -> np.ndarray:
    return np.array([pairs[name].get(measure, math.nan) for name in names])


def _row(
    measure: str, label: str, name: str, a: MethodResult, b: MethodResult, x: np.ndarray, y: np.ndarray
) -> dict[str, Any]:
    better = measure_of(measure).better
    if better == "zero":
        x, y = np.abs(x), np.abs(y)
    found = compare_paired(x, y).as_dict()
    return {"measure": measure, "label": label, "name": name, "a": a.name, "b": b.name, **found, "p_holm": math.nan}


def _correct(rows: list[dict[str, Any]]) -> None:
    """Fill in the corrected p-values and say which method is better."""
    for row, p in zip(rows, holm([row["p_value"] for row in rows]).tolist(), strict=True):
        row["p_holm"] = p
        sign = 1 if measure_of(row["measure"]).better == "higher" else -1
        lead = sign * row["rank_biserial"]
        row["better"] = "" if not p < SIGNIFICANCE or lead == 0 else row["a"] if lead > 0 else row["b"]


def _ranks(comparison: Comparison, initial: MethodResult | None) -> dict[str, dict[str, float]]:
    """Rank scores of the measures that rank; of all that were compared, if none of those is among them."""
    first = [next((m for m in comparison.measures if _key(m) == key), None) for key in RANKED]
    ranked = [measure for measure in first if measure is not None]
    ranks = {}
    for measure in ranked or comparison.measures:
        better = measure_of(measure).better
        results = {method.name: comparison.values(method, measure) for method in comparison.methods}
        results = {name: np.abs(v) if better == "zero" else v for name, v in results.items()}
        upwards = better == "higher"
        ranks[measure] = rank_methods(results, larger_is_better=upwards)
        if measure in ranked and _key(measure) in ROBUST:
            start = comparison.values(initial, measure) if initial else np.mean(list(results.values()), axis=0)
            if initial is not None and not np.isfinite(start).any():
                raise ValueError(f"'{initial.folder}' has no {measure} of any pair that is compared.")
            hardest = hardest_cases(start, larger_is_better=upwards)
            few = {name: values[hardest] for name, values in results.items()}
            ranks[measure + HARDEST] = rank_methods(few, larger_is_better=upwards)
    return {**ranks, "overall": combine_rank_scores(list(ranks.values()))}


def _key(measure: str) -> str:
    return measure.removesuffix(f"_{protocol_of(measure)}")


def title_of_rank(name: str) -> str:
    """The title of a key of :attr:`Comparison.ranks`."""
    if name == "overall":
        return "overall (geometric mean)"
    title = _title_compared(name.removesuffix(HARDEST))
    return f"{title}, hardest 30 %" if name.endswith(HARDEST) else title


def _title_compared(measure: str) -> str:
    """The title of a measure in tests and ranks, between bars where its size is what they take."""
    found = measure_of(measure)
    return f"|{found.title}|" if found.better == "zero" else found.title


def _mean_sd(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{figure(float(finite.mean()))} ± {figure(float(finite.std(ddof=1)) if len(finite) > 1 else None)}"


def _statistics_table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    table = [["measure", "a", "b", "n", "a - b", "95 % interval", "p", "p (Holm)", "rank-biserial", "dz", "better"]]
    for row in rows:
        interval = f"{figure(row['interval_low'])} to {figure(row['interval_high'])}"
        numbers = [figure(row[k]) for k in ("p_value", "p_holm", "rank_biserial", "cohens_dz")]
        head = [_title_compared(row["measure"]), row["a"], row["b"], str(row["num_cases"])]
        table.append([*head, figure(row["mean_difference"]), interval, *numbers, row["better"] or "none"])
    return table


def _labels_in_words(comparison: Comparison) -> list[str]:
    lines = []
    for measure in comparison.measures:
        for a, b in combinations([m.name for m in comparison.methods], 2):
            rows = [
                r
                for r in comparison.statistics
                if r["measure"] == measure and r["label"] and (r["a"], r["b"]) == (a, b)
            ]
            if rows:
                wins = [sum(r["better"] == name for r in rows) for name in (a, b)]
                lines.append(
                    f"  {_title_compared(measure)}: {a} better in {wins[0]}, {b} better in {wins[1]} of {len(rows)}"
                )
    return lines
