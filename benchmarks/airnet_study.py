"""Source 002 again: can a small network replace the affine registration of a brain to a template?

Commands, in this order: ``prepare`` (register, enlarge), ``train EXPERIMENT...`` (three folds each), ``train-hard`` (a
start for images turned by any angle), ``times``, ``stress`` and ``score``.
The last three write their rows to ``results/airnet.json``; ``score`` also draws the bars of Figs. 15 and 16 and, into
the work folder, since they show brains, the overlays of Fig. 17.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

import learned_affine_data
import learned_affine_figures
import learned_affine_scores
import learned_affine_times
import learned_affine_tools
from common import REPOSITORY, commit, machine
from learned_affine_training import EXPERIMENTS, HARD, NO_FOLD, train, weights_path
from this_process import use_threads

RESULTS = REPOSITORY / "results" / "airnet.json"


def main() -> None:
    """Run one of the commands."""
    options = _options()
    use_threads(options.threads)
    if options.command == "prepare":
        learned_affine_data.prepare(options.work, truth=options.truth)
        return
    data = learned_affine_data.load(options.work)
    if options.command == "train":
        _train(options, data)
    elif options.command == "train-hard":
        _train_hard(options, data)
    elif options.command == "times":
        _keep("times", learned_affine_times.measure(data, options.threads), f"{options.threads} threads")
    elif options.command == "stress":
        _stress(options, data)
    else:
        _score(options, data)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared images and weights")
    parser.add_argument("--threads", type=int, default=1)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    tools = ", ".join(learned_affine_tools.TOOLS)
    preparing.add_argument("--truth", default="ours", help=f"who registers: {tools} or flirt:FOLDER of SCAN.mat")
    commands.add_parser("times")
    hard = commands.add_parser("stress")
    hard.add_argument("--weights", type=Path, help="of the learned start (default: a network that has learned nothing)")
    hard.add_argument("--count", type=int, default=200)
    hard.add_argument("--again", action="store_true", help="forget the starts that have rows")
    scoring = commands.add_parser("score")
    scoring.add_argument("--experiments", nargs="*", choices=tuple(EXPERIMENTS), default=list(EXPERIMENTS))
    scoring.add_argument("--folds", nargs="*", type=int, default=[0, 1, 2], help="others keep the rows they have")
    scoring.add_argument("--overlay", default="4", choices=tuple(EXPERIMENTS), help="whose answers to draw")
    harder = commands.add_parser("train-hard")
    harder.add_argument("--count", type=int, default=1200, help="hard starts to learn from, of all but the test people")
    harder.add_argument("--epochs", type=int, default=24)
    harder.add_argument("--minutes", type=float, default=9.0, help="after which it stops, to go on later")
    training = commands.add_parser("train")
    training.add_argument("experiments", nargs="+", choices=tuple(EXPERIMENTS))
    training.add_argument("--folds", nargs="*", type=int, default=[0, 1, 2])
    training.add_argument("--epochs", type=int, default=30)
    training.add_argument("--minutes", type=float, default=9.0, help="after which it stops, to go on later")
    return parser.parse_args()


def _train(options: argparse.Namespace, data: learned_affine_data.Data) -> None:
    """Train what was asked for together, fold by fold, as long as there is time."""
    started = time.monotonic()
    for fold in options.folds:
        if all(weights_path(options.work, name, fold).exists() for name in options.experiments):
            continue
        left = options.minutes - (time.monotonic() - started) / 60
        words = {"num_epochs": options.epochs, "minutes": left}
        if left <= 0 or not train(options.experiments, data, fold, options.work, **words):
            print("there is more to do: call this again")
            return


def _train_hard(options: argparse.Namespace, data: learned_affine_data.Data) -> None:
    """Train the network for hard starts, on hard starts of all people but the test's."""
    import learned_affine_stress

    if not (options.work / learned_affine_stress.HARD_FILE).exists():
        learned_affine_stress.prepare_hard(data, options.work, options.count)
    hard = learned_affine_stress.load_hard(data, options.work)
    words = {"num_epochs": options.epochs, "minutes": options.minutes}
    if not train([HARD], hard, NO_FOLD, options.work, **words):
        print("there is more to do: call this again")


def _score(options: argparse.Namespace, data: learned_affine_data.Data) -> None:
    """Score the trainings of some folds, beside what was scored before, and draw."""
    bench, rows = learned_affine_scores.bench_of(data), []
    for row in learned_affine_scores.rows_of(bench, options.experiments, options.folds, options.work):
        rows.append(row)
        print(row, flush=True)
    earlier = _results().get("rows", [])
    rows = learned_affine_scores.merged(earlier, rows, list(EXPERIMENTS))
    _keep("rows", rows, "test images of four people that no fold holds")
    learned_affine_figures.draw_bars(RESULTS.parent / "airnet-bars.png", rows)
    learned_affine_figures.draw_overlays(options.work, bench, options.overlay)


def _stress(options: argparse.Namespace, data: learned_affine_data.Data) -> None:
    """Go on with the starts that have no row yet; what is there is kept now and then."""
    import learned_affine_stress  # what disturbs the images comes with the stress test

    network, card, name = learned_affine_stress.load(options.weights)
    rows = [] if options.again else _results().get(f"stress {name}", [])
    seeds = sorted(set(range(options.count)) - {row["seed"] for row in rows})
    for number, row in enumerate(learned_affine_stress.stress(data, network, card, seeds=seeds), 1):
        rows.append(row)
        print(row, flush=True)
        if number % 20 == 0 or number == len(seeds):
            _keep(
                f"stress {name}", rows, "error in mm over the template's brain of each start; below 4 it is recovered"
            )
    print(learned_affine_stress.summary(rows))


def _results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"study": "airnet"}


def _keep(name: str, rows: list[dict[str, Any]], about: str) -> None:
    """Write rows beside those that are there."""
    RESULTS.parent.mkdir(exist_ok=True)
    there = _results()
    how = {"about": about, "command": " ".join(["python", *sys.argv]), "commit": commit(), "machine": machine()}
    there |= {name: rows, f"{name}_made_by": how | {"torch_threads": torch.get_num_threads()}}
    RESULTS.write_text(json.dumps(there, indent=1) + "\n")


if __name__ == "__main__":
    main()
