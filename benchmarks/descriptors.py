"""Learned descriptors of keypoints (CNNFR, TrCNNFR) beside MIND and plain patches, across contrasts.

Descriptors learn on brains and themselves in another contrast, and are tested on people never seen, on pairs of
different people, and on prostates in MR and ultrasound, which no descriptor has learned from. Every method takes the
same keypoints and the same consensus. Weights are kept in the work folder; ``--part validation`` is for choosing
settings.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import descriptors_data
from common import REPOSITORY, Column, Row, Table, parser_of
from pullback import functional
from pullback.data import Image, LabelMap
from pullback.landmarks import fit_keypoints, match, patches_at, precision_and_recall
from pullback.landmarks.keypoints import Keypoints
from pullback.landmarks.matching import Describe
from pullback.metrics import dice_per_label, mean_dice
from pullback.networks import PatchDescriptor
from pullback.similarity import MIND
from pullback.training.descriptor import KnownPair, train_descriptor
from pullback.transforms import AbstractTransform, identity, warp
from this_process import use_threads

PATCH_SIZE, PATCH_STEP_VOXELS = 16, 1.5
"""Of plain and learned patches: 45 mm across in the brains."""
MIND_SIZE, MIND_STEP_VOXELS = 4, 3.0
"""Self-similarities on a coarser lattice, as each looks 2 voxels around: the best of five on a validation brain."""
TOLERANCE_VOXELS, RIGHT_MM = 2.5, 5.0
MANY_STEPS, FEW_STEPS, LEARNING_RATE, BATCH = 1000, 60, 2e-3, 96
RECALLS = np.linspace(0.0, 1.0, 41)
COLUMNS = (
    Column("pairs", "pairs"),
    Column("method", "method"),
    Column("num_pairs", "n"),
    Column("area", "area", 3),
    Column("precision", "precision of all matches", 3),
    Column("precision_at_half", "precision at recall 0.5", 3),
    Column("right_matches", "right matches", 1),
    Column("could_be_right", "could be right", 1),
    Column("within_5mm", "affine within 5 mm", 2),
    Column("median_error_mm", "median error mm", 1),
    Column("dice_start", "gland Dice by headers", 3),
    Column("dice", "gland Dice", 3),
    Column("better", "share better than the start", 2),
    Column("seconds", "s per pair", 2),
)


def main() -> None:
    """Train what is not there yet, test, draw."""
    options = _options()
    use_threads(options.threads)
    methods = {"patches": partial(patches, size=PATCH_SIZE), "MIND": mind, **_learned(options.work)}
    if options.only != "prostate":
        _brains(options, methods)
    if options.only != "brains" and options.part == "test":
        _prostates(options, methods)


def _table(options: argparse.Namespace, name: str, title: str) -> Table:
    words = {"folder": options.results, "settings": _settings(options), "spread": False}
    return Table(name, title, COLUMNS, **words)


def _brains(options: argparse.Namespace, methods: dict[str, Describe]) -> None:
    """Rows of the brains, and the figure."""
    table = _table(options, "descriptors", "Descriptors of keypoints across contrasts, brains")
    for name, pairs in _tests(options.part):
        measured = {method: [] for method in methods}
        for pair in pairs:
            start = time.perf_counter()
            moving_keypoints = descriptors_data.keypoints_of(pair.moving)
            finding = 2 * (time.perf_counter() - start)
            for method, describe in methods.items():
                measured[method].append(score(pair, moving_keypoints, describe, finding))
        for method, scores in measured.items():
            table.add({"pairs": name, "method": method, **summary(scores)})
    draw(options.results / "descriptors.png", table.rows)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.set_defaults(threads=1, results=REPOSITORY / "results")
    parser.add_argument("--work", type=Path, required=True, help="folder for weights")
    parser.add_argument("--part", choices=("validation", "test"), default="test", help="whose people to test on")
    parser.add_argument("--only", choices=("brains", "prostate"), help="of the tests (default: both)")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "threads": options.threads,
        "keypoints": f"{descriptors_data.NUM_KEYPOINTS} at most, {descriptors_data.SMALLEST_VOXELS} voxels or wider",
        "patches": f"{PATCH_SIZE}^3, every {PATCH_STEP_VOXELS} voxels, plain and learned alike",
        "MIND": f"12 self-similarities at {MIND_SIZE}^3 places, every {MIND_STEP_VOXELS} voxels",
        "training": f"{MANY_STEPS} steps, few: {FEW_STEPS}; learning rate {LEARNING_RATE}, {BATCH} keypoints a step",
        "people": f"{descriptors_data.PARTS}, rescans on their person's side; tested on: {options.part}",
        "right": f"a match {TOLERANCE_VOXELS} voxels off at most (5 mm in brains); an affine {RIGHT_MM} mm on average",
        "area": "under the precision by recall, the best precision at this recall or a higher one; 0 where not reached",
        "s per pair": "keypoints of both images, descriptors, matches and consensus; the machine was not quiet",
    }


def _tests(part: str) -> list[tuple[str, list[KnownPair]]]:
    names = descriptors_data.names_of(part)
    return [
        ("inverted", descriptors_data.known_pairs(names, "inverted", copies=1, seed=70_000)),
        ("remapped", descriptors_data.known_pairs(names, "remapped", copies=1, seed=80_000)),
        ("other person, inverted", descriptors_data.between_people(names, "inverted", seed=90_000)),
    ]


# --- methods ---------------------------------------------------------------------------------------------------------


def patches(image: Image, points: Tensor, *, size: int) -> Tensor:
    """Intensities about points, ``(N, size^3)``."""
    step = PATCH_STEP_VOXELS * float(image.grid.spacing_mm.mean())
    return patches_at(image, points, size=size, spacing_mm=step).flatten(1)


def learned(network: PatchDescriptor, image: Image, points: Tensor) -> Tensor:
    """What a network makes of them."""
    side = [network.size] * network.num_dims
    return network.describe(patches(image, points, size=network.size).reshape(-1, 1, *side))


def mind(image: Image, points: Tensor) -> Tensor:
    """Self-similarities about points, ``(N, MIND_SIZE^3 * 12)``."""
    unit = (image.tensor - image.tensor.mean()) / image.tensor.std()
    found = MIND().descriptors(unit[None])[0]
    along = (torch.arange(MIND_SIZE, dtype=torch.float64) - (MIND_SIZE - 1) / 2) * MIND_STEP_VOXELS
    offsets = torch.cartesian_prod(along, along, along) * float(image.grid.spacing_mm.mean())
    positions = image.grid.to_voxel(points[:, None] + offsets)
    return functional.sample(found, positions, fill=None).movedim(0, -1).flatten(1)


def _learned(folder: Path) -> dict[str, Describe]:
    """The trained descriptors: CNNFR on each contrast, with few steps, and with these from the other contrast."""
    few, made = {"num_steps": FEW_STEPS}, {}
    made["CNNFR, inverted"] = _trained(folder, "inverted", "inverted", num_steps=MANY_STEPS)
    made["CNNFR, remapped"] = _trained(folder, "remapped", "remapped", num_steps=MANY_STEPS)
    made["CNNFR, remapped, few steps"] = _trained(folder, "few", "remapped", **few)
    made["TrCNNFR"] = _trained(folder, "tuned", "remapped", start=made["CNNFR, inverted"], **few)
    return {name: partial(learned, network) for name, network in made.items()}


def _trained(folder: Path, name: str, kind: str, **words: Any) -> PatchDescriptor:
    path = folder / f"{name}.pt"
    torch.manual_seed(0)
    network = PatchDescriptor(size=PATCH_SIZE)
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    pairs, losses, start = _training_pairs(kind), [], time.perf_counter()
    step = PATCH_STEP_VOXELS * float(pairs[0].fixed.grid.spacing_mm.mean())
    words |= {"batch_size": BATCH, "learning_rate": LEARNING_RATE, "on_step": lambda _, loss: losses.append(loss)}
    train_descriptor(network, pairs, spacing_mm=step, **words)
    ends = [float(np.mean(part)) for part in (losses[:20], losses[-20:])]
    print(f"{name}: loss {ends[0]:.4f} to {ends[1]:.4f}, {time.perf_counter() - start:.0f} s", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network


_PAIRS: dict[str, list[KnownPair]] = {}


def _training_pairs(kind: str) -> list[KnownPair]:
    if kind not in _PAIRS:
        names = descriptors_data.names_of("train")
        seed = {"inverted": 0, "remapped": 30_000}[kind]
        _PAIRS[kind] = descriptors_data.known_pairs(names, kind, copies=2, seed=seed)
    return _PAIRS[kind]


# --- scores ----------------------------------------------------------------------------------------------------------


def score(pair: KnownPair, moving_keypoints: Keypoints, describe: Describe, finding_seconds: float) -> dict[str, Any]:
    """One pair by one method."""
    images, keypoints = (pair.fixed, pair.moving), (pair.keypoints, moving_keypoints)
    found = match(*keypoints, *(describe(i, k.points) for i, k in zip(images, keypoints, strict=True)))
    tolerance = TOLERANCE_VOXELS * float(pair.fixed.grid.spacing_mm.mean())
    precision, recall = precision_and_recall(found, *keypoints, pair.fixed_to_moving, tolerance_mm=tolerance)
    mapped = pair.fixed_to_moving(pair.keypoints.points)
    fitted, seconds = affine_of(images, keypoints, describe)
    error = float("inf") if fitted is None else error_mm(fitted, pair)
    return {
        "curve": [float(precision[recall >= r].max()) if bool((recall >= r).any()) else 0.0 for r in RECALLS],
        "precision": float(precision[-1]),
        "right": round(float(precision[-1]) * len(found)),
        "possible": int((torch.cdist(mapped, moving_keypoints.points).amin(1) <= tolerance).sum()),
        "error_mm": error,
        "seconds": finding_seconds + seconds,
    }


def affine_of(
    images: tuple[Image, Image], keypoints: tuple[Keypoints, Keypoints], describe: Describe
) -> tuple[AbstractTransform | None, float]:
    """The affine map of the consensus, None where none follows, and the seconds it took."""
    start = time.perf_counter()
    tolerance = TOLERANCE_VOXELS * float(images[1].grid.spacing_mm.mean())
    try:
        fitted = fit_keypoints(images, keypoints, describe, tolerance_mm=tolerance).transform
    except ValueError:
        fitted = None
    return fitted, time.perf_counter() - start


def error_mm(found: AbstractTransform, pair: KnownPair) -> float:
    """Mean distance from the true map inside the brain."""
    inside = torch.nonzero(pair.fixed.tensor[0] > 0.2)[::97].double()
    points = pair.fixed.grid.to_world(inside)
    return float(torch.linalg.vector_norm(found(points) - pair.fixed_to_moving(points), dim=1).mean())


def summary(scores: Sequence[dict[str, Any]]) -> Row:
    """Means over pairs."""
    curve = np.mean([s["curve"] for s in scores], axis=0)
    errors = np.array([s["error_mm"] for s in scores])
    return {
        "num_pairs": len(scores),
        "area": float(np.trapezoid(curve, RECALLS)),
        "precision": float(np.mean([s["precision"] for s in scores])),
        "precision_at_half": float(curve[len(RECALLS) // 2]),
        "right_matches": float(np.mean([s["right"] for s in scores])),
        "could_be_right": float(np.mean([s["possible"] for s in scores])),
        "within_5mm": float(np.mean(errors <= RIGHT_MM)),
        "median_error_mm": float(np.median(errors)) if np.isfinite(np.median(errors)) else None,
        "seconds": float(np.mean([s["seconds"] for s in scores])),
        "errors_mm": [e if np.isfinite(e) else None for e in errors.tolist()],
        "recalls": RECALLS.tolist(),
        "precisions": curve.tolist(),
    }


def _prostates(options: argparse.Namespace, methods: dict[str, Describe]) -> None:
    """Rows of the prostates; where no map follows from the matches, the Dice is 0."""
    table = _table(options, "descriptors-prostate", "Descriptors of keypoints, MR onto ultrasound")
    cases = [(*c, *(descriptors_data.keypoints_of(image) for image in c[:2])) for c in descriptors_data.prostates()]
    before = [gland_dice(identity(3), fixed, moving) for _, _, fixed, moving, *_ in cases]
    for method, describe in methods.items():
        found = [affine_of(c[:2], c[4:], describe) for c in cases]
        after = [0.0 if f is None else gland_dice(f, *c[2:4]) for (f, _), c in zip(found, cases, strict=True)]
        means = {"dice_start": float(np.mean(before)), "dice": float(np.mean(after)), "dice_of_pairs": after}
        better = float(np.mean(np.array(after) > np.array(before)))
        table.add({"pairs": "prostate", "method": method, "num_pairs": len(cases), "better": better, **means})


def gland_dice(found: AbstractTransform, fixed: LabelMap, moving: LabelMap) -> float:
    """Overlap of the glands after a map."""
    return mean_dice(dice_per_label(fixed, warp(moving, found, onto=fixed.grid), moving))


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Precision by recall, a panel for each kind of pair."""
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(row["pairs"] for row in rows))
    figure, panels = plt.subplots(1, len(kinds), figsize=(4 * len(kinds), 3.6), sharey=True, layout="constrained")
    for axes, kind in zip(panels, kinds, strict=True):
        for row in (row for row in rows if row["pairs"] == kind):
            axes.plot(row["recalls"], row["precisions"], label=row["method"])
        axes.set(title=kind, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("precision")
    panels[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
