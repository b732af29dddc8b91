"""``pullback evaluate --model``: a trained network on prepared scans, by the numbers of a study."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pullback.checks import check_choice
from pullback.cli.scans import prepared_scans
from pullback.evaluation import check_folder
from pullback.evaluation.output import LABEL_COLUMNS, LABELS, PAIR_COLUMNS, PAIRS, SUMMARY, TEXT, RowFile
from pullback.io.atomic import replacing
from pullback.io.json_text import write_json
from pullback.registration.card import Card
from pullback.training.cache import Cache
from pullback.training.manifest import SPLITS
from pullback.training.recipe import recipe_of
from pullback.training.results import Row, check_place, evaluate_network, write_rows
from pullback.training.validation import PairScore
from pullback.training.weights import load_card
from pullback.version import __version__


def score_network(
    weights: Path,
    *,
    data: Path | None,
    cache: Path | None,
    part: str,
    device: str,
    mirrored: bool,
    labels: Sequence[int],
    results: Path | None,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Score weights on the pairs that their recipe names for a part of the split; write and say the figures.

    Args:
        weights: File of the network.
        data: Folder of the scans, prepared as the recipe in the weights' card says.
        cache: Folder of prepared scans, filled from `data` if that is given.
        part: ``training``, ``validation`` or ``test``.
        device: ``auto``, ``cpu`` or ``cuda``.
        mirrored: Whether it answers by the mean over mirrored pairs.
        labels: Which count (default: those of the recipe).
        results: A study's json file, to which the row is added.
        out: Folder for ``pairs.csv``, ``summary.json`` and ``summary.txt``.
        overwrite: Whether results in it may be replaced.
        quiet: Say nothing.
    """
    check_choice("split", part, SPLITS)
    if results is not None:
        check_place(results)
    if data is None and cache is None:
        raise ValueError(
            "--model needs scans: --cache with the folder that `pullback train --prepare-only` filled, or --data with "
            "the folder of the images."
        )
    card = load_card(weights)
    folder = None if out is None else check_folder(out, overwrite=overwrite)
    with _scans(weights, card, data, cache, quiet) as scans:
        (row,) = evaluate_network(weights, scans, part=part, device=device, labels=labels, mirrored=mirrored)
    text = text_of(row, part)
    told = row.as_dict() | {"command": " ".join(["pullback", *sys.argv[1:]])}
    if folder is not None:
        write_scores(folder, row, weights, part, told)
    if results is not None:
        write_rows(results, card.recipe.get("name", results.stem), [told])
    if not quiet:
        print(text, end="")
        for place in (results, None if folder is None else f"{folder}/"):
            if place is not None:
                print(f"written: {place}")


def text_of(row: Row, part: str) -> str:
    """A row for people."""
    seed = "" if row.seed is None else f", seed {row.seed}"
    lines = [f"{row.method} ({row.supervision}{seed}): {row.num_pairs} pairs for {part}"]
    if row.dice is not None:
        lines.append(f"Dice (nearest): {row.dice:.4f}, sd over pairs {row.dice_sd:.4f}")
    if row.dice30 is not None:
        lines.append(f"DSC30, of the worst pairs: {row.dice30:.4f}")
    if row.hd95 is not None:
        lines.append(f"HD95: {row.hd95:.3f} mm")
    lines += [
        f"folds, central differences: {row.folds:.4f} %, {row.num_folds:.1f} voxels a pair",
        f"SDlogJ: {row.sd_log_jacobian:.4f}",
        f"NCC: {row.similarity:.4f}",
        f"time on the CPU: {row.seconds_per_pair:.3f} s per pair, the network alone",
        f"parameters: {row.parameters:,}",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _scans(weights: Path, card: Card, data: Path | None, cache: Path | None, quiet: bool) -> Iterator[Cache]:
    """The prepared scans; those of `data` vanish again if they have no cache of their own."""
    recipe = recipe_of(card.recipe) if card.recipe else None
    if data is not None and recipe is None:
        raise ValueError(
            f"'{weights}' was not trained by a recipe, so that nothing says what is in '{data}'; prepare the scans "
            "with `pullback train --prepare-only` and give them with --cache."
        )
    with TemporaryDirectory(prefix="pullback-scans-") as temporary:
        yield prepared_scans(recipe, data, Path(temporary) if cache is None else cache, quiet=quiet)


def write_scores(folder: Path, row: Row, weights: Path, part: str, told: dict[str, Any]) -> None:
    """The files of `pullback evaluate`, which `pullback compare` reads; `told` is the row with its command."""
    with RowFile(folder / PAIRS, PAIR_COLUMNS) as pairs, RowFile(folder / LABELS, LABEL_COLUMNS) as labels:
        for score in row.scores:
            name = f"{score.fixed}<--{score.moving}"
            pairs.add({"pair": name, "status": "ok", **_columns(score)})
            for label, dice in score.dice.items():
                labels.add({"pair": name, "label": label, "protocol": "nearest", "dice": dice})
    pairs.finish()
    labels.finish_or_vanish()
    summary = {"pullback": __version__, "method": row.method, "model": str(weights), "part": part, "rows": [told]}
    write_json(folder / SUMMARY, summary)
    with replacing(folder / TEXT) as temporary:
        temporary.write_text(text_of(row, part), encoding="utf-8")


def _columns(score: PairScore) -> dict[str, float | None]:
    """A pair's numbers by the names that `pullback compare` knows."""
    return {
        "dice_nearest": score.mean_dice,
        "hd95_mm_nearest": score.hd95,
        "num_labels": float(len(score.dice)),
        "folds_central_percent": score.percent_folds,
        "sdlogj": score.sd_log_jacobian,
        "ncc": score.similarity,
    }
