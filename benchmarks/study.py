"""A made-up study, one command: 50 pairs of hippocampi, two methods, and which of them is better.

Every pair is registered once; its affine part is one method, the whole map the other. Then the public commands do the
rest: `pullback evaluate` for each method, `pullback compare` for both. Registrations that are there already
(``--work``) are not made again.
"""

import argparse
import csv
import json
import os
import sys
from datetime import datetime
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import pullback as pb
from common import HERE, commit, data_folder, machine
from pullback.cli.main import run

NUM_PAIRS = 50
METHODS = ("affine", "deformable")
COLUMNS = ("pair", "fixed", "moving", "fixed_labels", "moving_labels", "transform", "inverse", "seconds")
LATER_STAGES = ("deformable", "inverse", "evidence")
LABEL_NAMES = "label,name\n1,anterior\n2,posterior\n"


def main() -> int:
    """Register, evaluate, compare."""
    options = _options()
    folder = data_folder("hippocampus")
    names = json.loads((folder / "split.json").read_text())["test"]
    every = list(permutations(names, 2))
    pairs = every[:: len(every) // options.pairs][: options.pairs]
    options.results.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="pullback-study-") as temporary:
        work = Path(temporary) if options.work is None else options.work
        work.mkdir(parents=True, exist_ok=True)
        for number, (fixed, moving) in enumerate(pairs, start=1):
            _register(folder, fixed, moving, work, options.threads)
            print(f"{number} of {len(pairs)}: {fixed} <- {moving}", flush=True)
        (work / "labels.csv").write_text(LABEL_NAMES)
        statuses = [_evaluate(folder, pairs, method, work) for method in METHODS]
        found = [str(work / method) for method in METHODS]
        statuses.append(run(["compare", *found, "--out", str(options.results / "study"), "--overwrite"]))
    (options.results / "study" / "about.json").write_text(json.dumps(_about(options, len(pairs)), indent=1) + "\n")
    return max(statuses)


def _about(options: argparse.Namespace, num_pairs: int) -> dict[str, object]:
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": "python benchmarks/study.py",
        "pairs": f"{num_pairs} ordered pairs of the hippocampus test split, evenly spread over all 380",
        "registration": "pb.register(initial=['header', 'centre']); affine: its linear part",
        "threads": options.threads,
        "seconds": "of the registration, read to evidence; affine: without deformable, inverse and evidence",
        "commit": commit(),
        "machine": machine(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS, help=f"how many pairs (default {NUM_PAIRS})")
    parser.add_argument("--threads", type=int, default=2, help="threads of every registration (default 2)")
    parser.add_argument("--work", type=Path, help="folder for transforms and tables, kept (default: a temporary one)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the comparison goes")
    return parser.parse_args()


def _register(folder: Path, fixed: str, moving: str, work: Path, threads: int) -> None:
    """One registration, kept as the transforms and the seconds of both methods."""
    done = work / f"{fixed}-{moving}.json"
    if done.exists():
        return
    images = [folder / "images" / f"{name}.nii.gz" for name in (fixed, moving)]
    result = pb.register(*images, initial=["header", "centre"], threads=threads).result
    maps = {"affine": (result.linear, ~result.linear), "deformable": (result.fixed_to_moving, result.moving_to_fixed)}
    for method, (there, back) in maps.items():
        pb.write_transform(work / f"{fixed}-{moving}-{method}.h5", there)
        pb.write_transform(work / f"{fixed}-{moving}-{method}-back.h5", back)
    whole = sum(result.seconds.values())
    linear = whole - sum(result.seconds.get(stage, 0.0) for stage in LATER_STAGES)
    done.write_text(json.dumps({"affine": round(linear, 3), "deformable": round(whole, 3)}))


def _evaluate(folder: Path, pairs: list[tuple[str, str]], method: str, work: Path) -> int:
    """The table of a method, and its evaluation."""
    table = work / f"{method}.tsv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(COLUMNS)
        for fixed, moving in pairs:
            images = [folder.resolve() / "images" / f"{name}.nii.gz" for name in (fixed, moving)]
            labels = [folder.resolve() / "labels" / f"{name}.nii.gz" for name in (fixed, moving)]
            name = f"{fixed}-{moving}"
            seconds = json.loads((work / f"{name}.json").read_text())[method]
            maps = [f"{name}-{method}.h5", f"{name}-{method}-back.h5"]
            writer.writerow([name, *images, *labels, *maps, seconds])
    words = ["evaluate", str(table), "--out", str(work / method), "--method", method, "--overwrite"]
    return run([*words, "--protocol", "nearest", "--protocol", "linear", "--label-names", str(work / "labels.csv")])


if __name__ == "__main__":
    sys.exit(main())
