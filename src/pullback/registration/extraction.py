"""An object cut out of what surrounds it in the other image, such as a brain without its skull.

Its constant background is not empty but unknown: a search that takes it for empty finds no clear pose, and a
deformation would press what surrounds the object in the other image together, and the object's rim with it.
"""

from dataclasses import replace

import numpy as np
import torch

from pullback import functional
from pullback.registration.volume import Volume

SURROUNDED = 0.2
"""Share of the object's size that the other object has where this image has background, from which it was cut out; in
heads it is 0.46 and more around a brain, among brains and mice 0.08 at most, with noise and shading or not."""


def smaller_object(fixed: Volume, moving: Volume) -> str:
    """The side whose object is so much smaller that it may be a part of the other, in a constant background; or empty.

    Args:
        fixed, moving: Volumes at full resolution.
    """
    sizes = {"fixed": _size_mm3(fixed), "moving": _size_mm3(moving)}
    side = min(sizes, key=lambda name: sizes[name])
    is_surrounded = (fixed if side == "fixed" else moving).has_background
    return side if is_surrounded and max(sizes.values()) >= (1 + SURROUNDED) * sizes[side] else ""


def cut_out(fixed: Volume, moving: Volume, matrix: np.ndarray) -> str:
    """Which object seems to be cut out of what the other image shows: ``fixed`` or ``moving``; empty if none does.

    Args:
        fixed, moving: Volumes at a coarse resolution.
        matrix: World matrix ``(4, 4)``.
    """
    shares = surroundings(fixed, moving, matrix)
    side = max(shares, key=lambda name: shares[name], default="")
    return side if side and shares[side] >= SURROUNDED else ""


def surroundings(fixed: Volume, moving: Volume, matrix: np.ndarray) -> dict[str, float]:
    """How much of the other object lies in an image's constant background, as a share of the image's own object.

    Args:
        fixed, moving: Volumes at a coarse resolution.
        matrix: World matrix ``(4, 4)``.

    Returns:
        A share for each of ``fixed`` and ``moving`` that has such a background.
    """
    voxel_map = moving.grid.world_to_voxel.numpy() @ matrix @ fixed.grid.voxel_to_world.numpy()
    still = torch.zeros(1, 3, *fixed.grid.shape)
    marks = torch.stack([moving.foreground.to(torch.float32), torch.ones(moving.grid.shape)])[None]
    there, in_view = functional.warp(marks, still, voxel_map, fill=0.0)[0] > 0.5
    shares = {}
    if fixed.has_background:
        shares["fixed"] = _share(there, fixed.foreground)
    if moving.has_background:
        shares["moving"] = _share(fixed.foreground & in_view, there)
    return shares


def within_part(fixed: Volume, moving: Volume, matrix: np.ndarray) -> Volume:
    """The fixed volume where a moving object that was cut out lies under a world matrix; the rest does not count.

    Else a deformation can choose what is compared: it gains by moving what does not match out of the part.
    """
    voxel_map = moving.grid.world_to_voxel.numpy() @ matrix @ fixed.grid.voxel_to_world.numpy()
    seen = functional.warp(moving.weights, torch.zeros(1, 3, *fixed.grid.shape), voxel_map, fill=0.0)
    return replace(fixed, weights=seen if fixed.weights is None else fixed.weights * seen)


def _size_mm3(volume: Volume) -> float:
    return float(volume.foreground.sum()) * volume.grid.voxel_volume


def _share(other: torch.Tensor, own: torch.Tensor) -> float:
    return float((other & ~own).sum()) / max(float(own.sum()), 1.0)
