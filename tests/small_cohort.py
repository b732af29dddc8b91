"""A handful of tiny scans with labels on disk, and a recipe that trains on them in a second."""

from pathlib import Path

import numpy as np
import torch

from pullback.data import Image, LabelMap
from pullback.io import write_image
from pullback.space import Grid
from pullback.training.cache import Cache, fill
from pullback.training.manifest import Manifest, read_globs
from pullback.training.recipe import Recipe, recipe_of
from pullback.training.splits import by_fractions

NUM_SCANS, SIZE = 6, 16
VALUES = {
    "name": "small",
    "source": {"images": "images/*.nii", "labels": "labels/*.nii"},
    "split": {"fractions": [0.5, 0.3, 0.2]},
    "preprocessing": {"shape": [SIZE] * 3, "alignment": "view", "storage": "float32"},
    "network": {
        "family": "voxelmorph",
        "settings": {"encoder": [4, 4, 4, 4], "decoder": [4, 4, 4, 4, 4, 4, 4], "num_squarings": 3},
    },
    "losses": [
        {"kind": "similarity", "measure": "mse"},
        {"kind": "dice"},
        {"kind": "diffusion", "field": "velocity", "weight": 0.1},
    ],
    "augmentation": {"flips": [0], "own": {"translation_voxels": 1.0}, "noise": 0.01},
    "optimisation": {"num_steps": 6, "batch_size": 2, "learning_rate": 0.01, "decay": "cosine", "clip_norm": 1.0},
    "validation": {"every_steps": 2},
    "logging": {"every_steps": 1},
}


def recipe(**changes) -> Recipe:
    """The small recipe, with other values for whole parts, or for some values of a part."""
    values = dict(VALUES)
    for key, value in changes.items():
        values[key] = (
            {**values[key], **value} if isinstance(value, dict) and isinstance(values.get(key), dict) else value
        )
    return recipe_of(values)


def ball(centre: np.ndarray, size: int = SIZE, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """An image of two nested balls and its labels 1 (shell) and 2 (core)."""
    axes = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    away = np.sqrt(((axes - centre) ** 2).sum(-1))
    labels = (away < 5.5).astype(np.int16) + (away < 3).astype(np.int16)
    random = np.random.default_rng(int(centre.sum() * 1000))
    return (labels * 50 + 50 * noise * random.standard_normal(labels.shape)).astype(np.float32), labels


def write_scans(folder: Path) -> Manifest:
    """Balls at different places, as files."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    random = np.random.default_rng(0)
    for number in range(NUM_SCANS):
        image, labels = ball(SIZE / 2 - 0.5 + random.uniform(-2, 2, 3))
        grid = Grid.from_spacing(image.shape, 2.0, origin=(number, 0, 0))
        write_image(folder / "images" / f"s{number}.nii", Image(torch.from_numpy(image[None]), grid))
        write_image(folder / "labels" / f"s{number}.nii", LabelMap(torch.from_numpy(labels[None]), grid))
    return read_scans(folder)


def read_scans(folder: Path) -> Manifest:
    """What `write_scans` wrote."""
    return read_globs(folder, "images/*.nii", "labels/*.nii")


def manifest_in(folder: Path) -> Manifest:
    """The scans beside a cache that `make_cache` made."""
    return read_scans(folder / "data")


def make_cache(folder: Path, plan: Recipe | None = None) -> Cache:
    """The scans, prepared."""
    plan = plan or recipe()
    manifest = write_scans(folder / "data")
    return fill(folder / "cache", manifest, by_fractions(manifest, plan.split.fractions), plan.preprocessing)
