"""Pairs that were registered before, whose maps teach a network: what takes a registration seconds, learned once.

A network that follows a similarity alone ends with fields that are better for the similarity and worse for structures
than those of a registration, which is smoother, looks from both sides, and knows where each scan's field of view ends
(``docs/learning.md``).

Reference: Bigalke et al., Unsupervised 3D registration through optimization-guided cyclical self-training, MICCAI 2023,
doi:10.1007/978-3-031-43999-5_64 (there in rounds, here once).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pullback.data import Pair
from pullback.registration import RegistrationResult, predict, register
from pullback.registration.verdict import FAILED
from pullback.space import Grid
from pullback.training.cache import BACK, THERE, Cache, key_of_maps, whole, with_maps
from pullback.training.cohort import Cohort
from pullback.training.manifest import Manifest, content_of
from pullback.training.preprocessing import lattice_of
from pullback.training.recipe import Recipe, Teacher, recipe_of
from pullback.training.weights import load_network
from pullback.transforms import AbstractTransform


def teach(
    cache: Cache, manifest: Manifest, recipe: Recipe, on_pair: Callable[[int, int, str], None] | None = None
) -> Cache:
    """Register the training pairs of a recipe that has a teacher, and keep the maps with the prepared scans.

    Registered are the scans themselves, in their own spaces; the maps are kept as displacements between the lattices.
    What is there already is not made again. A pair whose registration failed teaches nothing and is left out.

    Args:
        cache: Holds the prepared scans.
        manifest: Where the scans' files are.
        recipe: Says the pairs and the teacher.
        on_pair: Told the number of each pair, how many there are, and its names.

    Returns:
        The cache, which now knows the maps.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If the recipe has no teacher, or a pair cannot be registered.
    """
    from pullback.io import read_image  # only here are files read: training goes on from what is kept

    plan = recipe.teacher
    if plan is None:
        raise ValueError("The recipe has no `teacher`.")
    cohort = Cohort(cache, ("training",), torch.device("cpu"), shared=recipe.pairs.training.shared)
    entries = {entry.name: entry for entry in cohort.entries}
    lattices = {name: lattice_of(entry.record) for name, entry in entries.items()}
    run, identity = registrar(plan), content_of(Path(plan.weights)) if plan.weights else ""
    pairs = cohort.pairs(recipe.pairs.training, "training")
    once = list({frozenset(pair): pair for pair in reversed(pairs)}.values())[::-1]
    maps = []
    for number, (fixed, moving) in enumerate(once):
        if on_pair is not None:
            on_pair(number, len(once), f"{fixed} <- {moving}")
        file = f"{key_of_maps(entries[fixed], entries[moving], identity, plan.refine)}.npz"
        if not (cache.folder / file).is_file():
            images = (read_image(manifest.find(entries[name].scan).image, name=name) for name in (fixed, moving))
            found = run(Pair(*images))
            if found.verdict.value == FAILED:
                maps.append((fixed, moving, ""))
                continue
            there = displacement_between(found.fixed_to_moving, lattices[fixed], lattices[moving])
            back = displacement_between(found.moving_to_fixed, lattices[moving], lattices[fixed])
            with whole(cache.folder / file) as path, path.open("wb") as stream:
                np.savez(stream, **{THERE: there.numpy().astype(np.float16), BACK: back.numpy().astype(np.float16)})
        maps.append((fixed, moving, file))
    return with_maps(cache, plan, maps)


def registrar(plan: Teacher) -> Callable[[Pair], RegistrationResult]:
    """What registers a pair as a teacher does; weights are read once.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If they are damaged, or learned from labels and the plan does not say so.
    """
    if not plan.weights:
        return register
    network, card = load_network(plan.weights)
    if card.recipe and recipe_of(card.recipe).supervision == "semi-supervised" and not plan.has_seen_labels:
        raise ValueError(
            f"The teacher '{plan.weights}' learned from labels, so what it teaches is not unsupervised; set "
            "teacher.has_seen_labels=true."
        )
    return lambda pair: predict(network, card, pair, refine=plan.refine)


def displacement_between(transform: AbstractTransform, fixed: Grid, moving: Grid) -> Tensor:
    """A map of the world as displacements of the fixed lattice's voxels, in voxels of the moving one, ``(D, *S)``."""
    axes = [torch.arange(n, dtype=torch.float64) for n in fixed.shape]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    points = transform(fixed.to_world(voxels).reshape(-1, len(axes)))
    return (moving.to_voxel(points).reshape(voxels.shape) - voxels).movedim(-1, 0).to(torch.float32)
