r"""Rows beside the networks of a study: the pairs as they are, our own registration, greedy, ANTs SyN, and refinement.

On the prepared scans of a training: the same pairs, the same lattice and the same code give the numbers of every row of
`results/<study>.json`. So the classical methods see what the networks see, images that are brought together already.
Seconds are medians over all pairs of one registration with images in memory.

    python benchmarks/classical_rows.py --recipe recipes/hippocampus.yaml --cache CACHE \
        --results results/hippocampus.json
    python benchmarks/classical_rows.py --recipe recipes/brains-2mm.yaml --cache CACHE \
        --results results/brains-2mm.json --methods refined --weights best.safetensors --steps 20
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from common import sign
from jobs import Job
from pullback.data import Image, Pair
from pullback.io import write_image
from pullback.registration import Normalisation, Plan, predict, register
from pullback.space import Grid
from pullback.training.cache import check_fits, open_cache
from pullback.training.cohort import Batch, Cohort
from pullback.training.recipe import Recipe, read_recipe, recipe_of
from pullback.training.results import Row, cohort_for, row_of, training_of, write_rows
from pullback.training.validation import score_pairs
from pullback.training.weights import load_network
from pullback.transforms import AbstractTransform, to_voxel_vectors
from this_process import use_threads

METHODS = ("initial", "classical", "greedy", "syn", "refined")
SYN = "ants:SyN"
"""antspyx's default: affine, then SyN, both by mutual information; an optional row, only made when asked for."""
PROGRESS = 20
"""Pairs between two lines."""


@dataclass
class Registering:
    """A method that registers each pair of a batch, as a predictor of displacements.

    Attributes:
        find: From a pair on one grid to the map and the seconds it took.
        spacings: Of each scan's lattice, mm.
        seconds: Of every pair so far.
    """

    find: Callable[[Pair], tuple[AbstractTransform, float]]
    spacings: dict[str, Tensor]
    seconds: list[float] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Tensor:
        """Displacements ``(B, D, *S)`` in voxels."""
        pairs = zip(batch.fixed, batch.moving, batch.names, strict=True)
        return torch.stack([self._displacement(fixed, moving, names) for fixed, moving, names in pairs])

    def _displacement(self, fixed: Tensor, moving: Tensor, names: tuple[str, str]) -> Tensor:
        grid = Grid.from_spacing(tuple(fixed.shape[1:]), self.spacings[names[0]])
        transform, seconds = self.find(Pair(Image(fixed, grid), Image(moving, grid)))
        self.seconds.append(seconds)
        if len(self.seconds) % PROGRESS == 0:
            print(f"{len(self.seconds)} pairs, {median(self.seconds):.2f} s each", file=sys.stderr, flush=True)
        return to_voxel_vectors(transform.displacement_on(grid), grid)


def main() -> None:
    """Add the rows."""
    options = _options()
    use_threads(options.threads)
    recipe, cache = read_recipe(options.recipe), open_cache(options.cache)
    check_fits(cache, recipe.preprocessing)
    cohort = cohort_for(cache, recipe.pairs.test, "test", torch.device("cpu"))
    for method in _methods(options, len(cohort.shape)):
        row = _row(method, cohort, recipe, options)
        print(f"{row.method}: {row.num_pairs} pairs, Dice {row.dice}, HD95 {row.hd95} mm, {row.seconds_per_pair} s")
        command = " ".join(["python", "benchmarks/classical_rows.py", *sys.argv[1:]])
        write_rows(options.results, recipe.name, [row.as_dict() | {"command": command, "threads": options.threads}])
        sign(options.results, command)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True, help="names the pairs, the labels and the study")
    parser.add_argument("--cache", type=Path, required=True, help="what `pullback train --prepare-only` filled")
    parser.add_argument("--results", type=Path, required=True, help="json file of the study")
    parser.add_argument(
        "--methods", nargs="*", choices=METHODS, help="default: initial, classical, and greedy if it is installed"
    )
    parser.add_argument("--weights", type=Path, help="network that `refined` starts from")
    parser.add_argument("--steps", type=int, default=20, help="steps of the classical engine after it (default 20)")
    parser.add_argument("--pairs", type=int, help="only the first so many test pairs, for a quick look")
    parser.add_argument("--threads", type=int, default=2, help="threads of every tool (default 2)")
    options = parser.parse_args()
    if "refined" in (options.methods or ()) and options.weights is None:
        parser.error("--methods refined needs --weights")
    return options


def _methods(options: argparse.Namespace, num_dims: int) -> list[str]:
    if options.methods is not None:
        return options.methods
    if num_dims == 2:
        print("no row of greedy: its rows are for 3-D scans", file=sys.stderr)
        return ["initial", "classical"]
    there = find_spec("picsl_greedy") is not None
    if not there:
        print("no row of greedy: picsl-greedy is not installed (pip install -e '.[benchmark]')", file=sys.stderr)
    return ["initial", "classical", *(["greedy"] if there else [])]


def _row(method: str, cohort: Cohort, recipe: Recipe, options: argparse.Namespace) -> Row:
    """Score one method on the test pairs."""
    about: dict[str, Any] = {"method": method}
    predictor = None
    if method == "refined":
        find, about = _refinement(options.weights, options.steps)
        predictor = Registering(find, cohort.spacings_mm())
    elif method != "initial":
        find = _classical if method == "classical" else lambda pair: _peer(pair, method, options.threads)
        predictor = Registering(find, cohort.spacings_mm())
    pairs = cohort.pairs(recipe.pairs.test, "test")[: options.pairs]
    labels = recipe.labels or cohort.label_values()
    away = {"simulation": recipe.simulation}
    scores = score_pairs(predictor, cohort, pairs, labels, batch_size=1, with_surfaces=True, **away)
    return row_of(scores, **about, shape=cohort.shape, seconds=None if predictor is None else median(predictor.seconds))


def _classical(pair: Pair) -> tuple[AbstractTransform, float]:
    """Our default registration: start found by search, affine, deformable."""
    start = time.perf_counter()
    return register(pair, Plan()).fixed_to_moving, time.perf_counter() - start


def _peer(pair: Pair, method: str, threads: int) -> tuple[AbstractTransform, float]:
    """Another tool's affine and its deformable registration from there."""
    from peers import run_ants, run_greedy_both

    with TemporaryDirectory(prefix="pullback-peer-") as folder:
        files = {name: Path(folder) / f"{name}.nii" for name in ("fixed", "moving")}
        for name, path in files.items():
            write_image(path, getattr(pair, name))
        tool, run = ("greedy", run_greedy_both) if method == "greedy" else (SYN, run_ants)
        found = run(Job(method, tool=tool, **{name: str(path) for name, path in files.items()}, threads=threads))
    return found.transform, found.measure.seconds


def _refinement(weights: Path, steps: int) -> tuple[Callable[[Pair], tuple[AbstractTransform, float]], dict[str, Any]]:
    """A network's answer, refined; the scans are aligned and normalised already, so that its card asks for neither."""
    network, card = load_network(weights)
    recipe = recipe_of(card.recipe)
    card = replace(card, alignment="header", normalisation=Normalisation("none"))

    def find(pair: Pair) -> tuple[AbstractTransform, float]:
        start = time.perf_counter()
        return predict(network, card, pair, refine=steps).fixed_to_moving, time.perf_counter() - start

    return find, {
        "method": f"{card.family}, {steps} steps of refinement",
        "supervision": recipe.supervision,
        "seed": recipe.seed,
        "network": network,
        "settings": recipe.network.settings,
        "training": training_of(card, recipe),
    }


if __name__ == "__main__":
    main()
