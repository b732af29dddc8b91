"""Matching features and meeting half-way: all families of docs/matching.md under one small budget of CPU seconds.

Trains each case on one thread for as many steps as fit the budget of processor seconds (which other work on the machine
does not change), scores it on the test pairs, and adds its row to a json file; cases that the file holds already are
left out, so that a stopped run goes on. The similarity and the smoothness are the same for all but HSyN, whose terms
are its paper's. The HSyN cases, the paper's table 2, go to ``hsyn.json`` beside the file.

  python benchmarks/matching.py --cache DIR --out OUT --results results/hippocampus-slices.json [--minutes 9]
  python benchmarks/matching.py --cache DIR --out OUT --results results/hippocampus-slices.json --only hsyn --seconds 40

--cache is filled by ``pullback train --recipe recipes/hippocampus-slices.yaml --prepare-only``.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pullback import functional
from pullback.networks import AbstractNetwork
from pullback.training import loop
from pullback.training.cache import Cache, open_cache, whole
from pullback.training.cohort import Cohort
from pullback.training.parsing import merge
from pullback.training.recipe import PairPlan, Recipe, read_values, recipe_of
from pullback.training.results import cohort_for, evaluate_network
from pullback.training.weights import load_network

RECIPES = Path(__file__).parent.parent / "recipes"
STUDY = "hippocampus-slices"
PROBE_STEPS = 3
STAGES = ((0.0, 1), (0.2, 2), (0.4, 3))
"""From which share of the steps on how many levels take part, in families that begin with the coarse ones."""
COMMON: dict[str, Any] = {
    "optimisation": {
        "batch_size": 2,
        "learning_rate": 1.0e-3,
        "decay": "cosine",
        "warm_up_steps": 10,
        "clip_norm": 1.0,
    },
    "logging": {"every_steps": 10},
}


@dataclass(frozen=True)
class Case:
    """One network to train.

    Attributes:
        name: In the table.
        family: Of the zoo.
        settings: Of the family.
        smooth: The field whose smoothness is asked for.
        changes: Of the recipe.
        has_stages: Whether coarse levels come first.
        scaled_by: See :class:`pullback.training.terms.DiffusionTerm`.
    """

    name: str
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    smooth: str = "displacement"
    changes: Mapping[str, Any] = field(default_factory=dict)
    has_stages: bool = False
    scaled_by: str = ""

    @property
    def is_hsyn(self) -> bool:
        """Whether it has its paper's terms."""
        return self.family == "hsyn"


HSYN = (
    Case("HSyN", "hsyn", has_stages=True),
    Case("L_mc for L_smc", "hsyn", changes={"losses": {3: {"form": "moduli"}}}, has_stages=True),
    Case("without SN", "hsyn", {"is_symmetric": False}, changes={"losses": {3: {"weight": 0.0}}}, has_stages=True),
    Case("without MT", "hsyn", {"num_levels": 1}),
    Case("without both", "hsyn", {"num_levels": 1, "is_symmetric": False}, changes={"losses": {3: {"weight": 0.0}}}),
)
OTHERS = (
    Case("im2grid", "im2grid"),
    Case("im2grid-Lite", "im2grid-lite"),
    Case("VoxelMorph", "voxelmorph", {"parametrisation": "displacement"}),
    Case("VoxelMorph, velocity", "voxelmorph", smooth="velocity"),
    Case("SYMNet", "symnet", smooth="velocity"),
    Case("LapIRN", "lapirn", {"parametrisation": "displacement"}, has_stages=True),
    Case("LapIRN, velocity", "lapirn", smooth="velocity", has_stages=True),
    Case("TransMorph, tiny", "transmorph", {"size": "tiny", "window": [4, 4]}),
    Case("ModeT", "modet"),
    Case("ViT-V-Net", "vit-v-net", {"num_stages": 4, "depth": 4, "positions": [4, 3]}),
    Case("CycleMorph", "cyclemorph"),
    Case("Conditional LapIRN", "conditional-lapirn", has_stages=True, scaled_by="smoothness"),
)


def main() -> None:
    """Train and score what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0, help="Of the processor, per training.")
    parser.add_argument("--seeds", type=int, default=3, help="Of HSyN and its ablations; the others have one.")
    parser.add_argument("--only", choices=("hsyn", "others"), help="HSyN and its ablations, or all but these.")
    parser.add_argument("--minutes", type=float, default=1e9, help="After which no new training begins.")
    told = parser.parse_args()
    torch.set_num_threads(1)
    started, cache = time.monotonic(), open_cache(told.cache)
    jobs = [(case, 0) for case in (*HSYN, *OTHERS)]
    jobs += [(case, seed) for seed in range(1, told.seeds) for case in HSYN]
    jobs = [job for job in jobs if told.only in (None, "hsyn" if job[0].is_hsyn else "others")]
    if not is_there(told.results, "initial", 0):
        add(
            told.results,
            {"name": "initial"} | evaluate_network(None, cache, test_pairs(cache))[0].as_dict() | {"seed": 0},
        )
    for case, seed in jobs:
        path = told.results.with_name("hsyn.json") if case.is_hsyn else told.results
        if time.monotonic() - started > 60 * told.minutes or is_there(path, case.name, seed):
            continue
        row = run(case, seed, cache, told)
        print(json.dumps(row), flush=True)
        add(path, row)


def run(case: Case, seed: int, cache: Cache, told: argparse.Namespace) -> dict[str, Any]:
    """One training and its figures on the test pairs."""
    cost = {levels: seconds_per_step(case, seed, cache, levels) for _, levels in stages_of(case)}
    ends = [begin for begin, _ in stages_of(case)[1:]] + [1.0]
    shares = [(end - begin, cost[levels]) for (begin, levels), end in zip(stages_of(case), ends, strict=True)]
    num_steps = max(int(told.seconds / sum(share * seconds for share, seconds in shares)), 10)
    folder = told.out / f"{case.name.replace(' ', '-').replace(',', '')}-{seed}"
    began = time.process_time()
    with TemporaryDirectory() as scratch:  # of trainings that were stopped nothing is kept
        trained = loop.train(recipe_for(case, seed, num_steps), cache, Path(scratch), device="cpu")
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / loop.BEST
        weights.write_bytes((trained.folder / loop.BEST).read_bytes())
    seconds = time.process_time() - began
    row = {"name": case.name} | evaluate_network(weights, cache, test_pairs(cache), device="cpu")[0].as_dict()
    row |= {"steps": num_steps, "cpu_seconds": round(seconds, 1), "seed": seed}
    if case.is_hsyn:
        row["inverse_residual_voxel2"] = inverse_residual(weights, cache)
    return row


def test_pairs(cache: Cache) -> list[tuple[str, str]]:
    """Every fourth of all ordered pairs of test scans."""
    return cohort_for(cache, PairPlan(), "test", torch.device("cpu")).pairs(PairPlan(), "test")[::4]


def stages_of(case: Case) -> tuple[tuple[float, int], ...]:
    """From which share of the steps on how many levels take part."""
    return STAGES if case.has_stages else ((0.0, 0),)


def recipe_for(case: Case, seed: int, num_steps: int, only_levels: int | None = None) -> Recipe:
    """The recipe of a case; with `only_levels` that stage from the first step on."""
    values = merge(read_values(RECIPES / "hippocampus-slices.yaml"), COMMON)
    values["seed"] = seed
    values["optimisation"]["num_steps"] = num_steps
    values["validation"] |= {"every_steps": max(num_steps // 4, 1), "batch_size": 8}
    values["network"] = {"family": case.family, "settings": dict(case.settings)}
    if case.is_hsyn:
        values["losses"] = read_values(RECIPES / "hippocampus-hsyn.yaml")["losses"]
    else:
        values["losses"][1] |= {"field": case.smooth, "scaled_by": case.scaled_by}
        values["losses"][1]["weight"] = 10.0 if case.scaled_by else 1.0
    if case.has_stages:
        begins = STAGES if only_levels is None else ((0.0, only_levels),)
        values["stages"] = [
            {"from_step": int(share * num_steps), "conditions": {"num_levels": levels}} for share, levels in begins
        ]
    return recipe_of(merge(values, case.changes))


def seconds_per_step(case: Case, seed: int, cache: Cache, levels: int) -> float:
    """Processor seconds of a step of a stage, after one to warm up."""
    recipe = recipe_for(case, seed, 100, levels or None)
    with TemporaryDirectory() as folder:
        job = loop._Job(recipe, cache, Path(folder), loop.start_fabric(recipe, "cpu", 1), resume=False)
        job.make_step(0)
        began = time.process_time()
        for step in range(1, 1 + PROBE_STEPS):
            job.make_step(step)
        job.close()
    return (time.process_time() - began) / PROBE_STEPS


@torch.no_grad()
def inverse_residual(weights: Path, cache: Cache) -> float:
    """Mean square over voxels and components of what remains of a half-way field after its inverse, on test pairs."""
    network, _ = load_network(weights)
    cohort = cohort_for(cache, PairPlan(), "test", torch.device("cpu"))
    return _residual(network, cohort, test_pairs(cache)[::4])


def _residual(network: AbstractNetwork, cohort: Cohort, pairs: list[tuple[str, str]]) -> float:
    values = []
    for pair in pairs:
        batch = cohort.batch([pair])
        state = network(batch.fixed, batch.moving)
        values.append(functional.compose(state["half_displacement"], state["moving_to_half"]).square().mean())
    return float(torch.stack(values).mean())


def is_there(path: Path, name: str, seed: int) -> bool:
    """Whether the file has the row already."""
    return any((row["name"], row["seed"]) == (name, seed) for row in read(path)["rows"])


def read(path: Path) -> dict[str, Any]:
    """What a file holds, or would."""
    content = json.loads(path.read_text()) if path.is_file() else {"study": STUDY}
    return {**content, "rows": content.get("ablation", content.get("rows", []))}


def add(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a file: ``ablation`` in hsyn.json, ``rows`` elsewhere."""
    content = read(path)
    rows = [*content.pop("rows"), dict(row)]
    content["ablation" if path.name == "hsyn.json" else "rows"] = rows
    with whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
