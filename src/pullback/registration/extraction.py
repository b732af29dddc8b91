"""An object cut out of what surrounds it in the other image, such as a brain without its skull.

Its constant background is not empty but unknown: a deformation that took it for empty would press what surrounds the
object in the other image together, and the object's rim with it.
"""

from dataclasses import replace

import numpy as np
import torch

from pullback import functional
from pullback.registration.alignment import COARSE_OBJECT_VOXELS, at
from pullback.registration.choice import Choice
from pullback.registration.volume import Volume
from pullback.registration.work import Work

SURROUNDED = 0.2
"""Share of the object's size that the other object has where this image has background, from which it was cut out; in
heads it is 0.46 and more around a brain, among brains and mice 0.08 at most, with noise and shading or not."""


def settle_extraction(work: Work, choice: Choice, matrix: np.ndarray) -> Choice:
    """Take the background of an object that was cut out for unknown, in `work`, and say so.

    Only where the other image has no constant background: else the outlines tell more about the pose than is lost.
    """
    if work.fixed.has_background == work.moving.has_background:
        return choice
    side = "fixed" if work.fixed.has_background else "moving"
    if surroundings(*at(work, COARSE_OBJECT_VOXELS), matrix) < SURROUNDED:
        return choice
    setattr(work, side, getattr(work, side).with_object_alone())
    return replace(choice, why=f"{choice.why}; the {side} object was cut out, so what lay around it did not count")


def surroundings(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """How much of one object lies in the other image's constant background, as a share of that one's object.

    Args:
        fixed, moving: Volumes, one of which has such a background.
        matrix: World matrix ``(4, 4)``.
    """
    voxel_map = moving.grid.world_to_voxel.numpy() @ matrix @ fixed.grid.voxel_to_world.numpy()
    still = torch.zeros(1, 3, *fixed.grid.shape)
    marks = torch.stack([moving.foreground.to(torch.float32), torch.ones(moving.grid.shape)])[None]
    there, in_view = functional.warp(marks, still, voxel_map, fill=0.0)[0] > 0.5
    alone, other = (fixed.foreground, there) if fixed.has_background else (there, fixed.foreground & in_view)
    return float((other & ~alone).sum()) / max(float(alone.sum()), 1.0)
