r"""Train the networks of a study one after another, all for the same processor seconds or steps; score on test pairs.

For seconds a step's cost is measured first, and the number of steps is what fits them; the learning rate falls to
nothing by the last. A training that was stopped goes on where it was, and one that is done is not repeated: the whole
may be stopped at any time and called again. Rows go to `results/<study>.json`.

    python benchmarks/learning.py hippocampus --cache CACHE --out OUT --seconds 600 --seeds 0
    python benchmarks/learning.py hippocampus --cache CACHE --out OUT --seconds 600 --only fourier-net unet-control
    python benchmarks/learning.py slices-labelled --cache CACHE --out OUT --steps 2000 --supervision unsupervised
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from common import REPOSITORY, sign
from pullback.training.cache import open_cache
from pullback.training.checkpoint import BEST, LAST, STATE
from pullback.training.loop import train
from pullback.training.recipe import Recipe, read_recipe

PULLBACK = ("-m", "pullback")
FIRST_COUNTED, LAST_COUNTED = 3, 9
"""Steps between which the cost of one is measured."""
SMALLEST_RUN = 50
DICE_WEIGHT = "2"
"""Beside a similarity of weight 1."""
ROWS = "rows"
"""The list that `pullback train` writes to."""
LEVELS = ((0.0, 1), (0.2, 2), (0.4, 3))
"""From which share of the steps on how many levels take part, in networks that begin with the coarse ones."""
SUPERVISIONS = ("unsupervised", "semi-supervised")


@dataclass(frozen=True)
class Entry:
    """A network of a study.

    Attributes:
        recipe: Its file's stem.
        changes: To the recipe, as after ``--set``.
        has_levels: Whether coarse levels come first, as `LEVELS` says.
    """

    recipe: str
    changes: Mapping[str, str] = field(default_factory=dict)
    has_levels: bool = False


@dataclass(frozen=True)
class Study:
    """Networks on the same scans.

    Attributes:
        budget: File in `recipes/budgets` that is laid over each recipe.
        entries: By name.
        list_name: Of the file's list of rows, which have the entries' names where it is not ``rows``.
    """

    budget: str
    entries: Mapping[str, Entry]
    list_name: str = ROWS


SMALL = {"network.settings.start_channels": "8"}
STAGES = "network.settings.num_stages"
HALF = {"network.settings.is_half_resolution": "true"}
BY_DISPLACEMENT = {"network.settings.parametrisation": "displacement", "losses.1.field": "displacement"}
BY_VELOCITY = {"losses.1.field": "velocity"}
BY_SHOWN = {"losses.1.field": "displacement"}

LIKE_OTHERS = {"losses.0.radius_voxels": "2", "losses.1.weight": "2.0"}
"""Terms that networks of other papers share with Fourier-Net's."""
IM2GRID = {"losses.0.measure": "lncc", "losses.0.noise": "1.0e-4", "losses.1.field": "displacement", **LIKE_OTHERS}
SOME_PAIRS = {"pairs.test.of": "random", "pairs.test.num_pairs": "95"}
"""A quarter of them, for networks that take seconds for each."""
HALF_WAY = {"losses.0.radius_voxels": "2", **{f"losses.{term}.weight": "2.0" for term in (1, 2)}, **SOME_PAIRS}
MODULI = {"losses.3.form": "moduli"}
ONE_WAY = {"network.settings.is_symmetric": "false", "losses.3.weight": "0"}
ONE_LEVEL = {"network.settings.num_levels": "1", "stages": "[]"}

STUDIES = {
    "hippocampus": Study(
        "hippocampus-cpu",
        {
            "fourier-net": Entry("hippocampus-fourier-net", SMALL),
            "fourier-net-diff": Entry("hippocampus-fourier-net-diff", SMALL),
            "fourier-net-plus": Entry("hippocampus-fourier-net-plus"),
            "fourier-net-plus-2": Entry("hippocampus-fourier-net-plus", {STAGES: "2"}),
            "fourier-net-plus-diff": Entry("hippocampus-fourier-net-plus-diff"),
            "unet-control": Entry("hippocampus-unet-control", SMALL),
            "voxelmorph": Entry("hippocampus", HALF),
            "voxelmorph-displacement": Entry("hippocampus", BY_DISPLACEMENT),
            "voxelmorph-probabilistic": Entry("hippocampus-voxelmorph-probabilistic"),
            "symnet": Entry("hippocampus-symnet"),
            "im2grid": Entry("hippocampus-im2grid", IM2GRID),
            "im2grid-lite": Entry("hippocampus-im2grid", {"network.family": "im2grid-lite", **IM2GRID}),
            "hsyn": Entry("hippocampus-hsyn", HALF_WAY, has_levels=True),
            "lapirn": Entry("hippocampus-lapirn", LIKE_OTHERS, has_levels=True),
            "lapirn-displacement": Entry("hippocampus-lapirn", {**BY_DISPLACEMENT, **LIKE_OTHERS}, has_levels=True),
            "modet": Entry("hippocampus-modet", LIKE_OTHERS),
            "transmorph": Entry("hippocampus-transmorph", LIKE_OTHERS),
            "transmorph-bayes": Entry("hippocampus-transmorph", {"network.family": "transmorph-bayes", **LIKE_OTHERS}),
            "transmorph-bspline": Entry(
                "hippocampus-transmorph", {"network.family": "transmorph-bspline", **BY_VELOCITY, **LIKE_OTHERS}
            ),
            "transmorph-diff": Entry("hippocampus-transmorph-diff"),
            "vit-v-net": Entry("hippocampus-vit-v-net", LIKE_OTHERS),
            "cyclemorph": Entry("hippocampus-cyclemorph", LIKE_OTHERS),
        },
    ),
    "hsyn-volumes": Study(
        "hippocampus-cpu",
        {
            "HSyN": Entry("hippocampus-hsyn", HALF_WAY, has_levels=True),
            "L_mc for L_smc": Entry("hippocampus-hsyn", {**HALF_WAY, **MODULI}, has_levels=True),
            "without SN": Entry("hippocampus-hsyn", {**HALF_WAY, **ONE_WAY}, has_levels=True),
            "without MT": Entry("hippocampus-hsyn", {**HALF_WAY, **ONE_LEVEL}),
            "without both": Entry("hippocampus-hsyn", {**HALF_WAY, **ONE_WAY, **ONE_LEVEL}),
        },
        "ablation",
    ),
    "brains-2mm": Study(
        "brains-2mm-cpu",
        {
            "fourier-net": Entry("brains-2mm", {"network.family": "fourier-net", **SMALL, **BY_SHOWN}),
            "fourier-net-plus": Entry("brains-2mm", {"network.family": "fourier-net-plus", **BY_SHOWN}),
            "voxelmorph": Entry("brains-2mm", HALF),
            "symnet": Entry("brains-2mm", {"network.family": "symnet"}),
            "im2grid-lite": Entry("brains-2mm", {"network.family": "im2grid-lite", **BY_SHOWN}),
            "modet": Entry("brains-2mm", {"network.family": "modet", **BY_SHOWN}),
            "hsyn": Entry("brains-2mm-hsyn", has_levels=True),
        },
    ),
    "slices": Study(
        "cpu",
        {
            "fourier-net": Entry("slices"),
            "fourier-net-diff": Entry("slices", {"network.family": "fourier-net-diff", **BY_VELOCITY}),
            "fourier-net-plus": Entry("slices", {"network.family": "fourier-net-plus"}),
            "fourier-net-plus-2": Entry("slices", {"network.family": "fourier-net-plus", STAGES: "2"}),
            "fourier-net-plus-4": Entry("slices", {"network.family": "fourier-net-plus", STAGES: "4"}),
            "unet-control": Entry("slices", {"network.family": "unet-control"}),
            "voxelmorph": Entry("slices", {"network.family": "voxelmorph", **BY_VELOCITY}),
            "symnet": Entry("slices", {"network.family": "symnet", **BY_VELOCITY}),
        },
    ),
}
STUDIES["slices-labelled"] = Study(
    "cpu", {name: Entry("slices-labelled", entry.changes) for name, entry in STUDIES["slices"].entries.items()}
)


def main() -> None:
    """Train and score what is not there yet."""
    options = _options()
    torch.set_num_threads(options.threads)
    options.cache, options.out, options.results = (p.resolve() for p in (options.cache, options.out, options.results))
    os.chdir(REPOSITORY)  # commands name recipes as a reader would
    study = STUDIES[options.study]
    for seed in options.seeds:
        for supervision in options.supervision:
            for name in options.only or study.entries:
                _run(study, name, supervision, seed, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--cache", type=Path, required=True, help="what `pullback train --prepare-only` filled")
    parser.add_argument("--out", type=Path, required=True, help="folder for all trainings")
    parser.add_argument("--results", type=Path, help="json file of the study (default: results/<study>.json)")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds", type=float, help="of the processor, for the steps of each training")
    budget.add_argument("--steps", type=int, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--supervision", nargs="*", choices=SUPERVISIONS, default=["unsupervised"])
    parser.add_argument("--only", nargs="*", help="names of networks (default: all of the study)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a training (default 1)")
    options = parser.parse_args()
    for name in options.only or ():
        if name not in STUDIES[options.study].entries:
            parser.error(f"--only: '{name}' is none of {', '.join(STUDIES[options.study].entries)}")
    options.results = options.results or REPOSITORY / "results" / f"{options.study}.json"
    return options


def _run(study: Study, name: str, supervision: str, seed: int, options: argparse.Namespace) -> None:
    """One training and its row, unless they are there."""
    folder = options.out / f"{name.replace(' ', '-')}-{supervision}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    plan, done = folder / "plan.json", folder / "done"
    if done.exists():
        return
    recipe = Path("recipes", f"{study.entries[name].recipe}.yaml")
    over = Path("recipes", "budgets", f"{study.budget}.yaml")
    if plan.exists():
        changes = json.loads(plan.read_text())["changes"]
    else:
        changes = _changes(study, name, supervision, read_recipe(recipe))
        has_levels = study.entries[name].has_levels
        num_steps, told = options.steps, {}
        if num_steps is None:
            cost = mean_cost(recipe, changes, over, options.cache, has_levels=has_levels)
            num_steps, told = max(SMALLEST_RUN, round(options.seconds / cost)), {"seconds_per_step": round(cost, 4)}
        changes += [_stages_of(num_steps)] if has_levels else []
        changes.append(f"optimisation.num_steps={num_steps}")
        plan.write_text(json.dumps({"changes": changes} | told))
    words = ["train", "--recipe", recipe, "--with", over, *(word for one in changes for word in ("--set", one))]
    words += ["--seed", seed, "--cache", options.cache, "--out", folder]
    words += ["--device", "cpu", *(["--resume"] if (folder / STATE).exists() else [])]
    print(f"{folder.name}: {changes[-1]}", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "NUMBA_NUM_THREADS": str(options.threads)}
    _call([sys.executable, *PULLBACK, *map(str, words)], environment)
    weights = folder / BEST if (folder / BEST).is_file() else folder / LAST  # without validation pairs none is the best
    scoring = ["evaluate", "--model", weights, "--cache", options.cache, "--results", options.results]
    scoring += ["--out", folder / "test", "--overwrite"]
    _call([sys.executable, *PULLBACK, *map(str, scoring)], environment)
    command = f"pullback {' '.join(map(str, words))}; pullback {' '.join(map(str, scoring))}"
    sign(options.results, f"--model {weights} ", command=command)
    if study.list_name != ROWS:
        _move_row(options.results, study.list_name, name)
    done.touch()


def _move_row(path: Path, list_name: str, name: str) -> None:
    """The row that was written last gets a name and goes to another list."""
    found = json.loads(path.read_text())
    row = {"name": name, **found.pop(ROWS)[-1]}
    others = [one for one in found.get(list_name, []) if (one["name"], one["seed"]) != (name, row["seed"])]
    path.write_text(json.dumps(found | {list_name: [*others, row]}, indent=1) + "\n")


def _call(words: list[str], environment: Mapping[str, str]) -> None:
    """Run a command to its end; what asks this process to stop asks the command, which saves where it is."""
    child = subprocess.Popen(words, env=environment)
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        raise SystemExit(status)


def _changes(study: Study, name: str, supervision: str, recipe: Recipe) -> list[str]:
    """What makes the entry of its recipe; labels steer by one more term at the end."""
    changes = dict(study.entries[name].changes)
    if supervision == "semi-supervised":
        last = f"losses.{len(recipe.losses)}"
        changes |= {f"{last}.kind": "dice", f"{last}.weight": DICE_WEIGHT}
    return [f"{key}={value}" for key, value in changes.items()]


def mean_cost(recipe: Path, changes: list[str], over: Path, cache: Path, *, has_levels: bool) -> float:
    """Processor seconds of a step, a mean over the stages."""
    if not has_levels:
        return seconds_per_step(read_recipe(recipe, changes, [over]), cache)
    ends = [begin for begin, _ in LEVELS[1:]] + [1.0]
    return sum(
        (end - begin) * seconds_per_step(read_recipe(recipe, [*changes, _stages_of(0, (levels,))], [over]), cache)
        for (begin, levels), end in zip(LEVELS, ends, strict=True)
    )


def _stages_of(num_steps: int, only: tuple[int, ...] | None = None) -> str:
    """The stages of coarse levels first; `only` some number of levels from the first step on."""
    begins = [(int(share * num_steps), levels) for share, levels in LEVELS] if only is None else [(0, *only)]
    stages = (f"{{from_step: {step}, conditions: {{num_levels: {levels}}}}}" for step, levels in begins)
    return f"stages=[{', '.join(stages)}]"


def seconds_per_step(recipe: Recipe, cache: Path) -> float:
    """Processor seconds of one step, a mean over a few; what else runs on the machine hardly counts."""
    clock: dict[int, float] = {}

    def tell(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
        clock[step] = time.process_time()
        if step == LAST_COUNTED:
            os.kill(os.getpid(), signal.SIGTERM)  # the loop's way to stop

    with TemporaryDirectory(prefix="pullback-learning-") as folder:
        train(recipe, open_cache(cache), Path(folder), device="cpu", on_step=tell)
    return (clock[LAST_COUNTED] - clock[FIRST_COUNTED]) / (LAST_COUNTED - FIRST_COUNTED)


if __name__ == "__main__":
    main()
