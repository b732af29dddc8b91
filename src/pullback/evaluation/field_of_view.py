"""Which voxels of the fixed grid an image shows: not those beyond its edges, and not those that were no numbers."""

import torch
from torch import Tensor

from pullback import functional
from pullback.data import Image
from pullback.space import Grid
from pullback.transforms import AbstractTransform
from pullback.transforms.abstract import points_of

WHOLE = 0.999
"""Share of a value that must come from valid voxels."""


def valid_voxels(image: Image) -> Tensor:
    """Voxels of an image that hold finite numbers, and did so in its file, bool ``(*shape,)``."""
    finite, invalid = torch.isfinite(image.tensor).all(dim=0), image.header.get("invalid")
    return finite if invalid is None else finite & ~invalid


def voxels_seen(moving: Image, fixed_to_moving: AbstractTransform, onto: Grid) -> Tensor:
    """Voxels of a grid that `warp` gives values of valid voxels of the moving image alone, bool ``(*onto.shape,)``."""
    valid = valid_voxels(moving).to(torch.float32)[None]
    parts = [
        functional.sample(valid, moving.grid.to_voxel(fixed_to_moving.map_points(points))) for points in points_of(onto)
    ]
    return (torch.cat(parts, dim=1) > WHOLE).reshape(onto.shape)


def comparable_voxels(fixed: Image, moving: Image, fixed_to_moving: AbstractTransform) -> Tensor:
    """Voxels of the fixed grid that are valid there and in the moving image, in whose field of view they lie, bool."""
    return valid_voxels(fixed) & voxels_seen(moving, fixed_to_moving, fixed.grid)
