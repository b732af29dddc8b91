r"""Rows of a study in the scans' own spaces: what ``pullback register`` makes of files, each pair's own affine first.

The other rows of `results/<study>.json` are of prepared scans, which were brought together by way of one reference and
resampled, labels too. These are of the test pairs as a user has them: start found by search, affine of the pair, then
the network (or, without weights, the classical engine), labels warped once, onto the fixed scan's own grid.

    python benchmarks/native_rows.py --recipe recipes/hippocampus.yaml --data DATA --cache CACHE \
        --results results/hippocampus.json --weights best.safetensors
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import pullback
from common import sign
from pullback import functional
from pullback.io import read_labels
from pullback.metrics.deformation import summarise_jacobian
from pullback.metrics.overlap import dice_per_label
from pullback.networks import Mirrored
from pullback.similarity import NCC
from pullback.training.cache import open_cache
from pullback.training.manifest import Scan
from pullback.training.recipe import read_recipe, recipe_of
from pullback.training.results import cohort_for, row_of, training_of, write_rows
from pullback.training.sources import manifest_of
from pullback.training.validation import PairScore, mean_hd95
from pullback.training.weights import load_network
from pullback.transforms import to_voxel_vectors
from this_process import use_threads

WHERE = "native space"


def main() -> None:
    """Register, score, add the row."""
    options = _options()
    use_threads(options.threads)
    recipe = read_recipe(options.recipe)
    plan = getattr(recipe.pairs, options.part)
    scans = {scan.name: scan for scan in manifest_of(recipe.source, options.data).scans}
    cohort = cohort_for(open_cache(options.cache), plan, options.part, torch.device("cpu"))
    pairs = cohort.pairs(plan, options.part)[:: options.every]
    labels = recipe.labels or cohort.label_values()
    scores, seconds, verdicts = [], [], []
    for fixed, moving in pairs:
        score, taken, verdict = _score(scans[fixed], scans[moving], labels, options)
        scores.append(score)
        seconds.append(taken)
        verdicts.append(verdict)
        print(f"{len(scores)} of {len(pairs)}: {fixed} <- {moving} {score.mean_dice:.4f}, {verdict}", flush=True)
    row = row_of(scores, **_about(options), shape=cohort.shape, seconds=median(seconds))
    counts = {word: verdicts.count(word) for word in sorted(set(verdicts))}
    print(
        f"{row.method}: {row.num_pairs} pairs, Dice {row.dice}, HD95 {row.hd95} mm, {row.seconds_per_pair} s, {counts}"
    )
    command = " ".join(["python", "benchmarks/native_rows.py", *sys.argv[1:]])
    told = {"command": command, "threads": options.threads, "verdicts": counts}
    write_rows(options.results, recipe.name, [row.as_dict() | told])
    sign(options.results, command)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipe", type=Path, required=True, help="names the scans, the pairs, the labels and the study"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the scans")
    parser.add_argument("--cache", type=Path, required=True, help="what `pullback train --prepare-only` filled")
    parser.add_argument("--results", type=Path, required=True, help="json file of the study")
    parser.add_argument("--weights", type=Path, help="of a network (default: the classical engine)")
    parser.add_argument("--mirrored", action="store_true", help="the network's mean answer to mirrored pairs, too")
    parser.add_argument("--refine", type=int, default=0, help="steps of the classical engine after the network")
    parser.add_argument("--part", choices=("validation", "test"), default="test", help="of the split")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th pair, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.weights is None and (options.mirrored or options.refine):
        parser.error("--mirrored and --refine go with --weights")
    return options


def _score(
    fixed: Scan, moving: Scan, labels: tuple[int, ...], options: argparse.Namespace
) -> tuple[PairScore, float, str]:
    """A pair's numbers, its seconds, files to map and verdict, and its verdict."""
    words: dict[str, Any] = {"threads": options.threads}
    if options.weights is not None:
        words |= {"model_file": options.weights, "mirrored": options.mirrored, "refine": options.refine}
    start = time.perf_counter()
    made = pullback.register(fixed.image, moving.image, **words)
    seconds = time.perf_counter() - start
    ours, theirs = read_labels(fixed.labels), read_labels(moving.labels)
    grid, warped = ours.grid, made.warp(theirs)
    dice = {label: value for label, value in dice_per_label(ours, warped, theirs).items() if label in labels}
    field = to_voxel_vectors(made.fixed_to_moving.displacement_on(grid), grid)[None]
    found = summarise_jacobian(functional.jacobian_determinant(field.float())[0])
    images = made.pair.fixed.tensor[None], made.warp().tensor[None]
    score = PairScore(
        fixed.name,
        moving.name,
        dice,
        found.percent_nonpositive,
        found.num_nonpositive,
        found.sd_log,
        float(NCC().value_and_gradient(*(image.float() for image in images))[0]),
        mean_hd95(ours.tensor[0], warped.tensor[0], labels, grid.spacing_mm),
    )
    return score, seconds, made.verdict.value


def _about(options: argparse.Namespace) -> dict[str, Any]:
    """What the row says of the method."""
    if options.weights is None:
        return {"method": f"classical, {WHERE}"}
    network, card = load_network(options.weights, mirrored=options.mirrored)
    recipe = recipe_of(card.recipe)
    mirrored = {"mirrored": list(network.axes)} if isinstance(network, Mirrored) else {}
    steps = f", {options.refine} steps of refinement" if options.refine else ""
    return {
        "method": f"{card.family}{steps}, {WHERE}",
        "supervision": recipe.supervision,
        "seed": recipe.seed,
        "network": network,
        "settings": {**recipe.network.settings, **mirrored},
        "training": training_of(card, recipe),
    }


if __name__ == "__main__":
    main()
