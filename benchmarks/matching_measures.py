"""The other columns of source 001's tables, for the networks that ``matching.py`` trained, and its test of labels.

Adds to the rows of its json file: ``dsc30`` (mean Dice of the worst 30 % of pairs), ``sdlogj`` (standard deviation of
the logarithm of the determinant), ``sdlogj_l2r`` (the same as Learn2Reg's script computes it) and ``num_folds``
(determinants at or below 0, mean number per pair); and ``wilcoxon``: for im2grid and im2grid-Lite against every other
network, label by label, how much higher Dice is, and whether a signed-rank test says so at 0.001.

  python benchmarks/matching_measures.py --cache DIR --out OUT --results results/hippocampus-slices.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import wilcoxon

from matching import HSYN, OTHERS, Case, test_pairs
from pullback import functional
from pullback.networks import AbstractNetwork
from pullback.training.cache import open_cache, whole
from pullback.training.cohort import Cohort
from pullback.training.loop import BEST
from pullback.training.recipe import PairPlan
from pullback.training.results import cohort_for
from pullback.training.validation import predictions, score_pairs
from pullback.training.weights import load_network

WORST, LEVEL = 0.3, 1e-3
SMALLEST, LARGEST, SHIFT, BORDER = 1e-9, 1e9, 3, 2
"""Of Learn2Reg's script."""
TESTED = ("im2grid", "im2grid-Lite")
Pairs = list[tuple[str, str]]


def main() -> None:
    """Score the kept weights again, and write the new columns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    told = parser.parse_args()
    torch.set_num_threads(1)
    cache = open_cache(told.cache)
    cohort, pairs = cohort_for(cache, PairPlan(), "test", torch.device("cpu")), test_pairs(cache)
    content = json.loads(told.results.read_text())
    dice: dict[str, np.ndarray] = {}
    for case in (*OTHERS, *HSYN):
        path = told.out / folder_of(case) / BEST
        if path.is_file():
            network, _ = load_network(path)
            dice[case.name] = by_label(network, cohort, pairs)
            new = worst(dice[case.name]) | regularity(network, cohort, pairs)
            for row in content["rows"]:
                if (row["name"], row["seed"]) == (case.name, 0):
                    row.update(new)
    content["wilcoxon"] = {
        f"{name} against {other}": compare(dice[name], dice[other])
        for name in TESTED
        for other in dice
        if other != name and name in dice
    }
    with whole(told.results) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def folder_of(case: Case) -> str:
    """Where ``matching.py`` keeps the weights of the first seed."""
    return f"{case.name.replace(' ', '-').replace(',', '')}-0"


def by_label(network: AbstractNetwork, cohort: Cohort, pairs: Pairs) -> np.ndarray:
    """Dice ``(pairs, labels)``, NaN where a label is in one map only."""
    labels = cohort.label_values()
    scores = score_pairs(network, cohort, pairs, labels)
    return np.array([[score.dice.get(label, np.nan) for label in labels] for score in scores])


def worst(dice: np.ndarray) -> dict[str, float]:
    """Mean Dice of the worst pairs."""
    ordered = np.sort(np.nanmean(dice, axis=1))
    return {"dsc30": round(float(ordered[: max(round(WORST * len(ordered)), 1)].mean()), 4)}


def regularity(network: AbstractNetwork, cohort: Cohort, pairs: Pairs) -> dict[str, float]:
    """Spread of the logarithm of the determinant, and folds."""
    values: dict[str, list[float]] = {"sdlogj": [], "sdlogj_l2r": [], "num_folds": []}
    for _, displacement in predictions(network, cohort, pairs):
        determinant = functional.jacobian_determinant(displacement).double()
        inner = determinant[(slice(None), *[slice(BORDER, -BORDER)] * (determinant.ndim - 1))]
        values["sdlogj"] += _spread(determinant)
        values["sdlogj_l2r"] += _spread(inner + SHIFT)
        values["num_folds"] += (determinant <= 0).flatten(1).sum(1).tolist()
    return {name: round(float(np.mean(each)), 4) for name, each in values.items()}


def _spread(determinant: torch.Tensor) -> list[float]:
    return determinant.clamp(SMALLEST, LARGEST).log().flatten(1).std(1).tolist()


def compare(first: np.ndarray, second: np.ndarray) -> list[dict[str, float | bool]]:
    """Label by label: the mean difference of Dice, the test's p, and whether it is below the level."""
    found: list[dict[str, float | bool]] = []
    for a, b in zip(first.T, second.T, strict=True):
        there = ~np.isnan(a + b)
        p = float(wilcoxon(a[there], b[there]).pvalue)
        gain = round(float((a[there] - b[there]).mean()), 4)
        found.append({"gain": gain, "p": float(f"{p:.1e}"), "is_significant": p < LEVEL})
    return found


if __name__ == "__main__":
    main()
