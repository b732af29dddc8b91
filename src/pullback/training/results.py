"""The figures of a study: rows in one json file, each with the command that made it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from pullback.networks import AbstractNetwork, num_parameters
from pullback.registration.card import Card
from pullback.training.cache import Cache, whole
from pullback.training.cohort import LEAVING_OUT, Cohort
from pullback.training.pairs import NamePair
from pullback.training.recipe import PairPlan, Recipe, recipe_of
from pullback.training.validation import PairScore, mean_scores, predictions, score_pairs, warp_nearest
from pullback.training.weights import load_network

TIMED_PAIRS = 5
"""Pairs of which the seconds are measured, one at a time, on the CPU."""


@dataclass(frozen=True)
class Row:
    """One method on one set of pairs.

    Attributes:
        method: The family, or what else was done.
        supervision: ``none``, ``unsupervised``, ``semi-supervised`` or ``supervised``.
        seed: Of the training; None without one.
        dice: Mean over labels and pairs, nearest neighbour.
        dice_sd: Standard deviation over pairs.
        hd95: 95th percentile of surface distances in mm, mean over labels and pairs.
        folds: Percent of voxels with a determinant at or below 0.
        similarity: Correlation of fixed and warped, mean over pairs.
        seconds_per_pair: One pair at a time on the CPU; None where nothing is computed.
        parameters: Numbers that were learned.
        num_pairs: How many pairs.
        settings: The family's, where they differ from its defaults.
    """

    method: str
    supervision: str
    seed: int | None
    dice: float | None
    dice_sd: float | None
    hd95: float | None
    folds: float
    similarity: float
    seconds_per_pair: float | None
    parameters: int
    num_pairs: int
    settings: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def evaluate_network(
    weights: str | Path | None,
    cache: Cache,
    pairs: Sequence[NamePair] | None = None,
    *,
    part: str = "test",
    device: str = "auto",
    batch_size: int = 8,
    pair_plan: PairPlan | None = None,
    labels: Sequence[int] = (),
) -> list[Row]:
    """Score a network, or nothing at all, on pairs of prepared scans.

    Args:
        weights: File of the network; None scores the pairs as they are.
        cache: The prepared scans.
        pairs: Fixed and moving names (default: what the network's recipe, or `pair_plan`, says for `part`).
        part: Of the split.
        device: ``cpu``, ``cuda`` or ``auto``; seconds are always those of the CPU.
        batch_size: Pairs at a time.
        pair_plan: Which pairs, without a network.
        labels: Which labels count, without a network (default: all).

    Returns:
        One row.
    """
    place = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
    network, card, recipe = _loaded(weights)
    plan = pair_plan or (getattr(recipe.pairs, part) if recipe is not None else PairPlan())
    parts = ("training", part) if plan.of in LEAVING_OUT else (part,)
    cohort = Cohort(cache, parts, place, shared=plan.shared)
    pairs = cohort.pairs(plan, part) if pairs is None else pairs
    wanted = (recipe.labels if recipe is not None else tuple(labels)) or cohort.label_values()
    moved = None if network is None else network.to(place)
    scores = score_pairs(moved, cohort, pairs, wanted, batch_size=batch_size)
    distances = surface_distances(moved, cohort, pairs, wanted, batch_size=batch_size)
    seconds = None if network is None else seconds_per_pair(network, cohort, pairs)
    return [_row(network, card, recipe, scores, distances, seconds)]


def _loaded(weights: str | Path | None) -> tuple[AbstractNetwork | None, Card | None, Recipe | None]:
    if weights is None:
        return None, None, None
    network, card = load_network(weights)
    return network, card, recipe_of(card.recipe) if card.recipe else None


def _row(
    network: AbstractNetwork | None,
    card: Card | None,
    recipe: Recipe | None,
    scores: Sequence[PairScore],
    distances: Sequence[float],
    seconds: float | None,
) -> Row:
    means = mean_scores(scores)
    dice = [score.mean_dice for score in scores if score.dice]
    return Row(
        method=card.family if card is not None else "initial",
        supervision=recipe.supervision if recipe is not None else "none",
        seed=recipe.seed if recipe is not None else None,
        dice=round(float(np.mean(dice)), 4) if dice else None,
        dice_sd=round(float(np.std(dice)), 4) if dice else None,
        hd95=round(float(np.mean(distances)), 3) if distances else None,
        folds=round(means["percent_folds"], 5),
        similarity=round(means["similarity"], 4),
        seconds_per_pair=None if seconds is None else round(seconds, 4),
        parameters=num_parameters(network) if network is not None else 0,
        num_pairs=len(scores),
        settings=dict(recipe.network.settings) if recipe is not None else {},
    )


def seconds_per_pair(network: AbstractNetwork, cohort: Cohort, pairs: Sequence[NamePair]) -> float:
    """Median seconds of the network alone for one pair on the CPU, after one pair that is not counted."""
    network.cpu().eval()
    taken = []
    for pair in pairs[: TIMED_PAIRS + 1]:
        batch = cohort.batch([pair])
        fixed, moving = batch.fixed.cpu(), batch.moving.cpu()
        start = time.perf_counter()
        with torch.no_grad():
            network(fixed, moving)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:] or taken))


def surface_distances(
    network: AbstractNetwork | None,
    cohort: Cohort,
    pairs: Sequence[NamePair],
    labels: Sequence[int],
    *,
    batch_size: int = 8,
) -> list[float]:
    """95th percentile of surface distances of each pair in mm, mean over the labels that both images hold."""
    spacing = {entry.name: _spacing(entry.record["voxel_to_world"], cohort) for entry in cohort.entries}
    found = []
    for batch, displacement in predictions(network, cohort, pairs, batch_size=batch_size):
        if batch.fixed_labels is None or batch.moving_labels is None:
            continue
        warped = warp_nearest(batch.moving_labels, displacement).cpu().numpy()
        for names, a, b in zip(batch.names, batch.fixed_labels.cpu().numpy(), warped, strict=True):
            each = [distance95(a == value, b == value, spacing[names[0]]) for value in labels]
            each = [value for value in each if value is not None]
            found += [float(np.mean(each))] if each else []
    return found


def distance95(a: np.ndarray, b: np.ndarray, spacing_mm: Sequence[float]) -> float | None:
    """95th percentile of the distances from each mask's surface voxels to the other's, both ways; None if one is empty.

    Args:
        a, b: Masks of one shape.
        spacing_mm: Of the voxels.
    """
    if not a.any() or not b.any():
        return None
    seen = np.argwhere(a | b)
    box = tuple(slice(max(low - 1, 0), high + 2) for low, high in zip(seen.min(0), seen.max(0), strict=True))
    edges = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (a, b)]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return float(np.percentile(np.concatenate([away[1][edges[0]], away[0][edges[1]]]), 95))


def _spacing(voxel_to_world: Sequence, cohort: Cohort) -> list[float]:
    """Spacing of the lattice; of a slice's, the axes that stay."""
    spacing = np.linalg.norm(np.array(voxel_to_world)[:-1, :-1], axis=0)
    if len(spacing) == len(cohort.shape):
        return spacing.tolist()
    cut = cohort.cache.preprocessing["slices"]["axis"]
    return [float(s) for axis, s in enumerate(spacing) if axis != cut]


def write_rows(path: Path, study: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a study's file; one of the same method, supervision, seed and settings is replaced.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder '{path.parent}' of '{path.name}' does not exist; create it first.")
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"study": study, "rows": []}
    new = {_identity(row) for row in rows}
    kept = [row for row in old["rows"] if _identity(row) not in new]
    ordered = sorted([*kept, *rows], key=_identity)
    with whole(path) as temporary:
        temporary.write_text(json.dumps({**old, "rows": ordered}, indent=1) + "\n", encoding="utf-8")


def _identity(row: Mapping[str, Any]) -> str:
    return json.dumps([row.get(key) for key in ("supervision", "method", "settings", "seed")], sort_keys=True)
