"""A learned start under hard starts (``starts.py``): alone, with the linear stage after it, and with the fallback.

Scans of the test people are turned by up to 180 degrees, moved, scaled, cropped, shaded and made noisy, and registered
to the template. A start is recovered if the map differs by less than 2 voxels (4 mm) on average over the template's
brain from the conventional map of the scan as it is, after which the same was done to the world.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from learned_affine_data import CARD, NUM_FOLDS, TEST, Data, scan, template
from pullback.data import Image, Pair
from pullback.networks import AbstractNetwork, build
from pullback.registration import Candidate, Card, Plan, conclusion, predict_start, register
from pullback.registration.placement import see
from pullback.registration.predict import place_for
from pullback.training.weights import load_network
from pullback.transforms import Affine
from starts import perturb

RECOVERED_MM = 4.0
METHOD_NAMES = ("alone", "refined", "with fallback")


HARD_FILE = "hard.npz"


def prepare_hard(data: Data, folder: Path, count: int) -> None:
    """Hard starts of the scans of all but the test people, to learn from, by other seeds than those of the test."""
    names = sorted({data.scans[int(n)] for fold in range(NUM_FOLDS) for n in data.where(fold)})
    images, matrices = [], []
    for seed in range(count):
        name = names[seed % len(names)]
        start = perturb(scan(name), np.random.default_rng([10, seed]))
        lattice = place_for(CARD, start.image)
        world = torch.from_numpy(start.moved @ _truth(data, name))
        images.append(see(start.image, CARD, lattice)[0].half())
        matrices.append(lattice.world_to_voxel @ world @ data.template_lattice)
    np.savez(folder / HARD_FILE, images=torch.stack(images).numpy(), matrices=torch.stack(matrices).numpy())


def load_hard(data: Data, folder: Path) -> Data:
    """The study's data with hard starts for images, all to learn from."""
    with np.load(folder / HARD_FILE, allow_pickle=False) as arrays:
        images, matrices = (torch.from_numpy(arrays[name]) for name in ("images", "matrices"))
    folds = torch.arange(len(images)) % NUM_FOLDS
    return replace(data, images=images, matrices=matrices, registered=images, folds=folds)


def stress(data: Data, network: AbstractNetwork, card: Card, *, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One row per start: mm of each method, and what became of the learned start."""
    fixed = template()
    points = fixed.grid.to_world(torch.nonzero(fixed.tensor[0] > 0).double())[::997]
    names = sorted({data.scans[int(n)] for n in data.where(TEST)})
    for seed in seeds:
        moving = names[seed % len(names)]
        start = perturb(scan(moving), np.random.default_rng([9, seed]))
        expected = Affine(start.moved @ _truth(data, moving))
        learned = predict_start(network, card, Pair(fixed, start.image))
        found = {"alone": learned.matrix, "refined": _refined(fixed, start.image, learned)}
        begun = time.perf_counter()
        result = register(Pair(fixed, start.image), Plan(first=learned, deformable=None))
        seconds = time.perf_counter() - begun
        found["with fallback"] = result.linear.matrix
        row = {"seed": seed, "scan": moving, "degrees": round(start.facts["degrees"], 1)}
        row["kept"] = round(start.facts["kept"], 2)
        for method, matrix in found.items():
            gap = Affine(matrix)(points) - expected(points)
            row[f"{method} mm"] = round(float(torch.linalg.vector_norm(gap, dim=1).mean()), 2)
        said = {"why": result.initialisation.why, "verdict": result.verdict.value, "seconds": round(seconds, 1)}
        yield row | said


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many of the starts each method recovers, and what the verdict says of those that none does."""
    counts = {m: sum(row[f"{m} mm"] < RECOVERED_MM for row in rows) for m in METHOD_NAMES}
    lost = [row["verdict"] for row in rows if row[f"{METHOD_NAMES[-1]} mm"] >= RECOVERED_MM]
    return ", ".join(f"{method} {count}" for method, count in counts.items()) + f" of {len(rows)}; lost: {lost}"


def _truth(data: Data, name: str) -> np.ndarray:
    """The conventional map of a scan as it is: its first copy was left where it was."""
    index = torch.tensor([data.scans.index(name)])
    return data.world_matrices(data.matrices[index], index)[0].numpy()


def _refined(fixed: Image, moving: Image, learned: Candidate) -> torch.Tensor:
    """The linear stage from the learned start, with nothing to fall back on."""
    with mock.patch.object(conclusion, "margin_over_rivals", return_value=1.0):
        return register(Pair(fixed, moving), Plan(methods=("none",), given=(learned,), deformable=None)).linear.matrix


def load(path: Path | None) -> tuple[AbstractNetwork, Card, str]:
    """Weights and their card; without a file, a network that has learned nothing: the middles of the views together."""
    if path is None:
        return build("airnet").eval(), CARD, "untrained"
    return *load_network(path), path.stem
