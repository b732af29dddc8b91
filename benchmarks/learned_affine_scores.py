"""How near the answers of the trainings are to the conventional ones, on people that no training has seen.

MSE and NCC are those of source 002: of the image brought to the template, on the lattice of 64 voxels, intensities from
0 to 1. Beside them stand what it lacked: Dice of the tissues, on the template's 2 mm voxels and from the scan's own
labels; and the mean distance in mm, over the template's brain, of where a map sends a point and where the conventional
one does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learned_affine_data import TEST, Data, template, template_tissues, tissues
from learned_affine_training import weights_path
from pullback import functional
from pullback.data import LabelMap
from pullback.metrics import dice_per_label, mean_dice
from pullback.networks import AbstractNetwork, affine
from pullback.similarity import NCC
from pullback.training.weights import load_network
from pullback.transforms import Affine, warp

MEASURES = ("mse", "ncc", "dice", "affine_error_mm")


@dataclass(frozen=True)
class Bench:
    """What every answer is held against.

    Attributes:
        data: The images.
        index: Of those that are scored.
        labels: Tissues of the template.
        native: Tissues of each scan.
        points: In the template's brain, ``(N, 3)`` mm.
    """

    data: Data
    index: Tensor
    labels: LabelMap
    native: dict[str, LabelMap]
    points: Tensor


def bench_of(data: Data) -> Bench:
    """The test images."""
    index = data.where(TEST)
    brain = template()
    points = brain.grid.to_world(torch.nonzero(brain.tensor[0] > 0).double())[::101]
    native = {name: tissues(name) for name in sorted({data.scans[int(n)] for n in index})}
    return Bench(data, index, template_tissues(), native, points)


def scores_of(bench: Bench, matrices: Tensor) -> dict[str, list[float]]:
    """Each measure of each image, for voxel matrices ``(N, 4, 4)`` of the bench's images."""
    data = bench.data
    shape = tuple(data.template.shape[2:])
    world = data.world_matrices(matrices, bench.index)
    true = data.world_matrices(data.matrices[bench.index], bench.index)
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for n, number in enumerate(bench.index.tolist()):
        moving = data.images[number : number + 1].float()
        warped = functional.warp(moving, affine.displacement_of(matrices[n : n + 1].float(), shape))
        found["mse"].append(float((warped - data.template).square().mean()))
        found["ncc"].append(float(NCC(squared=False).value_and_gradient(data.template, warped)[0][0]))
        labels = bench.native[data.scans[number]]
        seen = warp(labels, Affine(data.carried[number] @ world[n]), onto=bench.labels.grid, interpolation="nearest")
        found["dice"].append(mean_dice(dice_per_label(bench.labels, seen, among=labels)))
        gap = Affine(world[n])(bench.points) - Affine(true[n])(bench.points)
        found["affine_error_mm"].append(float(torch.linalg.vector_norm(gap, dim=1).mean()))
    return found


def answers_of(network: AbstractNetwork, data: Data, index: Tensor) -> Tensor:
    """Voxel matrices of a network, ``(N, 4, 4)``, one image at a time."""
    with torch.no_grad():
        return torch.cat([network(data.template, data.images[n : n + 1].float())["matrix"] for n in index.tolist()])


def rows_of(bench: Bench, experiments: list[str], folds: list[int], folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of what is there: without registration and the conventional one (with fold 0), and each training."""
    if 0 in folds:
        eye = torch.eye(4).expand(len(bench.index), -1, -1)
        yield row("none", None, scores_of(bench, eye))
        yield row("conventional", None, scores_of(bench, bench.data.matrices[bench.index]))
    for experiment in experiments:
        for fold in folds:
            path = weights_path(folder, experiment, fold)
            if path.exists():
                network, card = load_network(path)
                answers = answers_of(network, bench.data, bench.index)
                yield row(experiment, fold, scores_of(bench, answers)) | {"training": card.figures}


def merged(earlier: list[dict[str, Any]], rows: list[dict[str, Any]], experiments: list[str]) -> list[dict[str, Any]]:
    """Rows with those of other trainings that were scored before, by experiment and fold."""
    by_training = {(one["experiment"], one["fold"]): one for one in [*earlier, *rows]}
    order = ["none", "conventional", *experiments]
    return sorted(by_training.values(), key=lambda one: (order.index(one["experiment"]), one["fold"] or 0))


def row(experiment: str, fold: int | None, scores: dict[str, list[float]]) -> dict[str, Any]:
    """Means, standard deviations over images, and how many."""
    numbers: dict[str, Any] = {"experiment": experiment, "fold": fold, "num_images": len(scores["mse"])}
    for name, values in scores.items():
        numbers[name] = round(float(np.mean(values)), 5)
        numbers[f"{name}_sd"] = round(float(np.std(values)), 5)
    return numbers
