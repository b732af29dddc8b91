"""The figures of a study: rows in one json file, each with the command that made it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pullback.checks import check_device
from pullback.metrics.overlap import dice30
from pullback.networks import AbstractNetwork, Mirrored, measure_cost, run_padded
from pullback.registration.card import Card
from pullback.training.cache import Cache, check_fits, whole
from pullback.training.cohort import LEAVING_OUT, Cohort
from pullback.training.pairs import NamePair
from pullback.training.recipe import PairPlan, Recipe, recipe_of
from pullback.training.validation import PairScore, mean_scores, score_pairs
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
        dice30: DSC30, the 30 % quantile over pairs.
        hd95: 95th percentile of surface distances in mm, mean over labels and pairs (docs/metrics.md).
        folds: Percent of voxels with a determinant at or below 0.
        num_folds: How many these are, mean over pairs.
        sd_log_jacobian: SDlogJ, mean over pairs.
        similarity: Correlation of fixed and warped, mean over pairs.
        seconds_per_pair: One pair at a time on the CPU; None where nothing is computed.
        parameters: Numbers that were learned.
        multiply_adds: Of one pair on this lattice, as :func:`pullback.networks.measure_cost` counts them.
        num_pairs: How many pairs.
        settings: The family's, where they differ from its defaults.
        training: Steps and seconds until these weights, and the step of the best ones; empty without a training.
        scores: Of each pair; not in the file.
    """

    method: str
    supervision: str
    seed: int | None
    dice: float | None
    dice_sd: float | None
    dice30: float | None
    hd95: float | None
    folds: float
    num_folds: float
    sd_log_jacobian: float
    similarity: float
    seconds_per_pair: float | None
    parameters: int
    multiply_adds: int
    num_pairs: int
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    scores: tuple[PairScore, ...] = field(default=(), repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "scores"}


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
    mirrored: bool = False,
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
        labels: Which labels count (default: those of the network's recipe; all if it names none).
        mirrored: As in :func:`pullback.training.weights.load_network`.

    Returns:
        One row.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If the weights are damaged, or the scans were prepared in another way than the network's.
    """
    place = torch.device(check_device(device))
    network, card, recipe = _loaded(weights, mirrored)
    plan = pair_plan or (getattr(recipe.pairs, part) if recipe is not None else PairPlan())
    cohort = cohort_for(cache, plan, part, place)
    if card is not None:
        _check_lattice(card, recipe, cohort)
    pairs = cohort.pairs(plan, part) if pairs is None else pairs
    if missing := sorted(set(labels) - set(cohort.label_values())):
        raise ValueError(f"`labels` has {missing}, which no scan of '{cache.folder}' has; leave them out.")
    wanted = tuple(labels) or (recipe.labels if recipe is not None else ()) or cohort.label_values()
    moved = None if network is None else network.to(place)
    simulation = None if recipe is None else recipe.simulation
    scores = score_pairs(moved, cohort, pairs, wanted, batch_size=batch_size, with_surfaces=True, simulation=simulation)
    return [
        row_of(
            scores,
            method=card.family if card is not None else "initial",
            supervision=recipe.supervision if recipe is not None else "none",
            seed=recipe.seed if recipe is not None else None,
            seconds=None if network is None else seconds_per_pair(network, cohort, pairs),
            network=network,
            shape=cohort.shape,
            settings=_settings(card, recipe, network),
            training=training_of(card, recipe),
        )
    ]


def cohort_for(cache: Cache, plan: PairPlan, part: str, device: torch.device) -> Cohort:
    """The scans that the pairs of a part of the split are made of."""
    return Cohort(cache, ("training", part) if plan.of in LEAVING_OUT else (part,), device, shared=plan.shared)


def row_of(
    scores: Sequence[PairScore],
    *,
    method: str,
    supervision: str = "none",
    seed: int | None = None,
    seconds: float | None = None,
    network: AbstractNetwork | None = None,
    shape: tuple[int, ...] = (),
    settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Row:
    """The row of a method, from the scores of its pairs (with surfaces); of a network, its costs on `shape` too."""
    cost = None if network is None else measure_cost(network, shape)
    means = mean_scores(scores)
    dice = [score.mean_dice for score in scores if score.dice]
    distances = [score.hd95 for score in scores if score.hd95 is not None]
    return Row(
        method=method,
        supervision=supervision,
        seed=seed,
        dice=round(float(np.mean(dice)), 4) if dice else None,
        dice_sd=round(float(np.std(dice)), 4) if dice else None,
        dice30=round(dice30(dice), 4) if dice else None,
        hd95=round(float(np.mean(distances)), 3) if distances else None,
        folds=round(means["percent_folds"], 5),
        num_folds=round(float(np.mean([score.num_folds for score in scores])), 2),
        sd_log_jacobian=round(float(np.mean([score.sd_log_jacobian for score in scores])), 4),
        similarity=round(means["similarity"], 4),
        seconds_per_pair=None if seconds is None else round(seconds, 4),
        parameters=0 if cost is None else cost.parameters,
        multiply_adds=0 if cost is None else cost.multiply_adds,
        num_pairs=len(scores),
        settings=dict(settings or {}),
        training=dict(training or {}),
        scores=tuple(scores),
    )


def _loaded(weights: str | Path | None, mirrored: bool) -> tuple[AbstractNetwork | None, Card | None, Recipe | None]:
    if weights is None:
        return None, None, None
    network, card = load_network(weights, mirrored=mirrored)
    return network, card, recipe_of(card.recipe) if card.recipe else None


def _settings(card: Card | None, recipe: Recipe | None, network: AbstractNetwork | None) -> Mapping[str, Any]:
    """What distinguishes networks of one family: the recipe's settings; of imported weights, all there are."""
    own = recipe.network.settings if recipe is not None else {} if card is None else card.settings
    return {**own, "mirrored": list(network.axes)} if isinstance(network, Mirrored) else own


def training_of(card: Card | None, recipe: Recipe | None) -> Mapping[str, Any]:
    """How long it took; nothing is known of imported weights."""
    if card is None or recipe is None:
        return {}
    plan = recipe.optimisation
    kept = {name: card.figures[name] for name in ("step", "seconds") if name in card.figures}
    return {"num_steps": plan.num_steps, "batch_size": plan.batch_size, "precision": plan.precision, **kept}


def _check_lattice(card: Card, recipe: Recipe | None, cohort: Cohort) -> None:
    """Raise ValueError if the scans are not what the network was made for."""
    if recipe is not None:
        check_fits(cohort.cache, recipe.preprocessing)
    if card.orientation not in (None, "RAS"[: card.num_dims]):
        raise ValueError(
            f"These weights see images along {card.orientation}, but prepared scans lie along RAS; use them with "
            "`pullback register --model-file`, which turns the images."
        )
    if (cohort.num_channels, cohort.shape) != (card.num_channels, tuple(card.shape)):
        raise ValueError(
            f"'{cohort.cache.folder}' holds scans of {cohort.num_channels} channels and {list(cohort.shape)} voxels, "
            f"but these weights are for {card.num_channels} and {list(card.shape)}; prepare them as the card says."
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
            run_padded(network, fixed, moving)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:] or taken))


def write_rows(path: Path, study: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a study's file; one of the same method, supervision, seed and settings is replaced.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    check_place(path)
    old = _study(path) if path.is_file() else {"study": study, "rows": []}
    new = {_identity(row) for row in rows}
    kept = [row for row in old.get("rows", []) if _identity(row) not in new]
    ordered = sorted([*kept, *rows], key=_identity)
    with whole(path) as temporary:
        temporary.write_text(json.dumps({**old, "rows": ordered}, indent=1) + "\n", encoding="utf-8")


def check_place(path: Path) -> None:
    """Check a study's file: better before a training than after.

    Raises:
        FileNotFoundError: If its folder does not exist.
        IsADirectoryError: If it is a folder itself.
        ValueError: If it exists and is no study.
    """
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder '{path.parent}' of '{path.name}' does not exist; create it first.")
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder, but a study's json file is needed.")
    if path.is_file():
        _study(path)


def _study(path: Path) -> dict[str, Any]:
    """What a study's file holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is no json file ({error}), so that no rows can be added to it.") from error
    rows = found.get("rows", []) if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"'{path}' is no study: an object with a list 'rows' is needed.")
    return found


def _identity(row: Mapping[str, Any]) -> str:
    return json.dumps([row.get(key) for key in ("supervision", "method", "settings", "seed")], sort_keys=True)
