"""Hard starts: does the affine find its way back, and does the verdict know when it does not?

For each seed the moving image of a pair is turned by up to 180 degrees about any axis, moved by up to 100 mm, scaled
by 0.8 to 1.25, stored in another order, cropped to 60 to 100 % of each axis, shaded and made noisy (``starts.py``).
Its map is held against the map of the pair as it is, after which the same was done to the world. A start is recovered
if the two differ by less than 2 voxels of the fixed image on average over the fixed object.

Rows that are there already are not run again: a run can be interrupted, or made in pieces (``--start``, ``--count``).
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import Column, DataAbsentError, Row, Table, commit, data_folder, image_and_labels, mean_of, parser_of
from pullback.data import Image, Pair
from pullback.io import read_image
from pullback.metrics import dice_per_label, mean_dice
from pullback.registration import Plan, RegistrationResult, register
from pullback.transforms import warp
from scoring import read_label_file
from starts import perturb
from this_process import use_threads

RECOVERED_VOXELS = 2.0
NUM_PAIRS = 20
"""Pairs of a set among which the starts are dealt out."""
UNPERTURBED = -1
"""In place of a seed: the pair as it is."""
COLUMNS = (
    Column("set", "set"),
    Column("seed", "seed"),
    Column("pair", "fixed <- moving"),
    Column("degrees", "turned by", 0),
    Column("shift_mm", "moved by mm", 0),
    Column("scale", "scaled by", 2),
    Column("kept", "object kept", 2),
    Column("bias", "bias", 2),
    Column("noise", "noise", 3),
    Column("noise_kind", "kind of noise"),
    Column("error_voxels", "error voxels", 2),
    Column("dice", "label Dice", 3),
    Column("verdict", "verdict"),
    Column("reasons", "reasons"),
    Column("margin", "margin", 2),
    Column("similarity", "similarity"),
    Column("initialisation", "start"),
    Column("seconds", "call s", 1),
)


@dataclass(frozen=True)
class Subject:
    """The files of one image."""

    name: str
    image: Path
    labels: Path


def main() -> None:
    """Run the starts that are asked for and not there yet."""
    options = _options()
    use_threads(options.threads)
    table = Table(
        options.name, "Hard starts", COLUMNS, folder=options.results, settings=_settings(), group="set", spread=False
    )
    table.rows = [] if options.fresh else _rows_there(options.results / f"{options.name}.json")
    deadline = time.monotonic() + 60 * options.minutes
    for name in options.sets:
        try:
            pairs = _pairs(SETS[name]())
        except DataAbsentError:
            continue
        for row in _starts(name, pairs, table.rows, options):
            table.add(row)
            if time.monotonic() > deadline:
                break
    table.rows.sort(key=lambda row: (list(SETS).index(row["set"]), row["seed"]))
    for text in _about(table.rows):
        table.remark(text)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="*", choices=tuple(SETS), default=tuple(SETS))
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=200, help="number of seeds for each set (default 200)")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after the start that ends after so long")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that are there")
    parser.add_argument("--name", default="stress", help="of the table")
    return parser.parse_args()


def _settings() -> dict[str, Any]:
    return {
        "plan": "Plan(deformable=None)",
        "error": "mean over the fixed object between this map and that of the pair as it is, both seen in voxels of "
        "the fixed image",
        "label Dice": "mean over the labels that both have, of the pair as it is (seed -1)",
        "crop": "each axis keeps a random 60 to 100 % of the field of view, the centre of the object in it",
    }


def _rows_there(path: Path) -> list[Row]:
    return json.loads(path.read_text())["rows"] if path.exists() else []


def brains() -> list[Subject]:
    """Brains without skull in native space, 2 mm; the first scan of each person."""
    folder = data_folder("brains", "native-2mm")
    names = sorted(path.name.removesuffix("_image.nii.gz") for path in folder.glob("*_image.nii.gz"))
    return [Subject(name, *image_and_labels(folder, name).values()) for name in names if int(name) < 1020]


def heads() -> list[Subject]:
    """Two heads with skull, 2 mm."""
    folder = data_folder("brains", "heads-2mm")
    return [Subject(name, *image_and_labels(folder, name).values()) for name in ("1000", "1001")]


def mouse() -> list[Subject]:
    """Mouse brains, 0.15 mm."""
    folder = data_folder("mouse")
    files = sorted((folder / "images").iterdir())
    short = [path.name.removeprefix("tg4510_tp3_").removesuffix(".nii.gz") for path in files]
    return [Subject(n, path, folder / "labels" / path.name) for n, path in zip(short, files, strict=True)]


SETS = {"brains": brains, "heads": heads, "mouse": mouse}


def _pairs(subjects: list[Subject]) -> list[tuple[Subject, Subject]]:
    """At most `NUM_PAIRS` of all ordered pairs, drawn by a fixed seed."""
    pairs = list(permutations(subjects, 2))
    chosen = np.random.default_rng(0).permutation(len(pairs))[:NUM_PAIRS]
    return [pairs[int(n)] for n in chosen]


def _starts(
    name: str, pairs: list[tuple[Subject, Subject]], rows: list[Row], options: argparse.Namespace
) -> Iterator[Row]:
    """The rows of a set that are missing, each pair as it is before its first start."""
    there = {(row["seed"], row["pair"]): row for row in rows if row["set"] == name}
    for seed in range(options.start, options.start + options.count):
        fixed, moving = pairs[seed % len(pairs)]
        pair = f"{fixed.name} <- {moving.name}"
        if (seed, pair) in there:
            continue
        lead = {"set": name, "pair": pair, "commit": commit()["hash"][:12]}
        images = read_image(fixed.image), read_image(moving.image)
        if (UNPERTURBED, pair) not in there:
            row = there[UNPERTURBED, pair] = lead | {"seed": UNPERTURBED} | _as_it_is(images, fixed, moving)
            yield row
        expected = np.array(there[UNPERTURBED, pair]["matrix"])
        yield lead | {"seed": seed} | _perturbed(images, expected, list(SETS).index(name), seed)


def _register(fixed: Image, moving: Image) -> tuple[RegistrationResult, Row]:
    start = time.perf_counter()
    result = register(Pair(fixed, moving), Plan(deformable=None))
    return result, {
        "seconds": time.perf_counter() - start,
        "verdict": result.verdict.value,
        "reasons": "; ".join(result.verdict.reasons) if result.verdict.value != "good" else "",
        "margin": result.evidence.margin,
        "overlap": result.evidence.overlap,
        "view": result.evidence.view,
        "value": result.similarity.after_linear,
        "similarity": result.similarity.name,
        "initialisation": result.initialisation.chosen.name,
    }


def _as_it_is(images: tuple[Image, Image], fixed: Subject, moving: Subject) -> Row:
    result, row = _register(*images)
    labels = [read_label_file(subject.labels) for subject in (fixed, moving)]
    warped = warp(labels[1], result.linear, onto=labels[0].grid, interpolation="nearest")
    dice = mean_dice(dice_per_label(labels[0], warped, among=labels[1]))
    # Rows are rounded to six digits, which is 0.001 mm here: far below what is measured.
    return row | {"dice": dice, "matrix": result.linear.matrix.tolist()}


def _perturbed(images: tuple[Image, Image], expected: np.ndarray, number: int, seed: int) -> Row:
    start = perturb(images[1], np.random.default_rng([number, seed]))
    result, row = _register(images[0], start.image)
    error = difference_voxels(images[0], result.linear.matrix.numpy(), start.moved @ expected)
    scale = float(np.prod(start.facts["scales"]) ** (1 / 3))
    return start.facts | {"scale": scale, "error_voxels": error} | row


def difference_voxels(fixed: Image, found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance of two maps over the fixed object, seen in voxels of the fixed image."""
    voxels = torch.nonzero(fixed.tensor[0] > fixed.tensor[0].mean()).to(torch.float64)
    matrix = fixed.grid.world_to_voxel.numpy() @ np.linalg.inv(expected) @ found @ fixed.grid.voxel_to_world.numpy()
    gap = voxels @ torch.from_numpy(matrix[:3, :3]).T + torch.from_numpy(matrix[:3, 3]) - voxels
    return float(torch.linalg.vector_norm(gap, dim=1).mean())


def _about(rows: list[Row]) -> list[str]:
    texts = []
    for name in SETS:
        mine = [row for row in rows if row["set"] == name and row["seed"] != UNPERTURBED]
        if not mine:
            continue
        lost = [row for row in mine if row["error_voxels"] >= RECOVERED_VOXELS]
        right = [row for row in mine if row["error_voxels"] < RECOVERED_VOXELS]
        counts = {value: sum(row["verdict"] == value for row in lost) for value in ("good", "doubtful", "failed")}
        alarms = {value: sum(row["verdict"] == value for row in right) for value in ("doubtful", "failed")}
        texts.append(
            f"{name}: {len(right)} of {len(mine)} recovered ({100 * len(right) / len(mine):.1f} %; error "
            f"{mean_of(right, 'error_voxels'):.2f} voxels on average); of the other {len(lost)} the verdict calls "
            f"{counts['failed']} failed, {counts['doubtful']} doubtful and {counts['good']} good; of the recovered it "
            f"calls {alarms['doubtful']} doubtful and {alarms['failed']} failed; {mean_of(mine, 'seconds'):.1f} s each."
        )
    return texts


if __name__ == "__main__":
    main()
