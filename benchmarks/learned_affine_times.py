"""Seconds per pair of learned and conventional affine registrations, in one run, on the same pairs of 64^3 voxels.

Every tool gets both images in memory and the same number of threads; it is called once before the clock runs. Networks
have weights that were never trained: what they compute takes as long. Our own registration comes twice: with all its
starts and its verdict, and alone, from headers and centres of mass. Errors in mm are those from the truth of the data.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import learned_affine_tools as tools
from learned_affine_data import TEST, Data
from pullback.data import Image
from pullback.networks import build
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine

NUM_PAIRS = 4
NETWORKS = {
    "airnet": ("airnet", {}),
    "airnet-matches": ("airnet-matches", {}),
    "c2fvit, 32 channels": ("c2fvit", {"start_channels": 32}),
    "c2fvit, 256 channels": ("c2fvit", {}),
    "keymorph, 8 channels": ("keymorph", {}),
    "keymorph, 16 channels": ("keymorph", {"start_channels": 16}),
}
Method = Callable[[Image, Image], AbstractTransform | None]


def measure(data: Data, threads: int) -> list[dict[str, Any]]:
    """The rows: median seconds and mean error of each tool."""
    index = data.where(TEST)[:: len(data.where(TEST)) // NUM_PAIRS][:NUM_PAIRS]
    shape = tuple(data.template.shape[2:])
    fixed = Image(data.template[0], Grid(shape, data.template_lattice))
    pairs = [Image(data.images[n].float(), Grid(shape, data.lattices[n])) for n in index]
    world = data.world_matrices(data.matrices[index], index)
    points = fixed.grid.to_world(torch.nonzero(data.template[0, 0] > 0).double())[::31]
    rows = []
    for name, method in _methods(threads).items():
        method(fixed, pairs[0])
        seconds, errors = [], []
        for moving, matrix in zip(pairs, world, strict=True):
            start = time.perf_counter()
            found = method(fixed, moving)
            seconds.append(time.perf_counter() - start)
            if found is not None:
                gap = found(points) - Affine(matrix)(points)
                errors.append(float(torch.linalg.vector_norm(gap, dim=1).mean()))
        row = {"method": name, "seconds": round(float(np.median(seconds)), 4), "num_pairs": len(pairs)}
        rows.append(row | ({"affine_error_mm": [round(e, 2) for e in errors]} if errors else {}))
        print(rows[-1], flush=True)
    return rows


def _methods(threads: int) -> dict[str, Method]:
    methods: dict[str, Method] = {name: _network(*words) for name, words in NETWORKS.items()}
    methods["ours, all starts and verdict"] = tools.ours_with_verdict
    methods["ours, from headers and centres"] = tools.ours
    methods["greedy affine"] = partial(tools.greedy, threads=threads)
    return methods | {"antspyx Affine": tools.ants, "elastix affine": tools.elastix}


def _network(family: str, settings: dict[str, Any]) -> Method:
    network = build(family, **settings).eval()

    def run(fixed: Image, moving: Image) -> None:
        with torch.no_grad():
            network(fixed.tensor[None], moving.tensor[None])

    return run
