"""Moving images, labels and points through a transform."""

from typing import TypeVar

import torch

from pullback import functional
from pullback.checks import check_choice
from pullback.data import Image, LabelMap, Points, check_points
from pullback.functional import INTERPOLATIONS
from pullback.space import Grid
from pullback.transforms.abstract import AbstractTransform, points_of

Voxels = TypeVar("Voxels", Image, LabelMap)


def warp(
    moving: Voxels,
    fixed_to_moving: AbstractTransform,
    *,
    onto: Grid,
    interpolation: str | None = None,
    fill: float = 0.0,
) -> Voxels:
    """Resample an image or a label map onto the fixed grid: each voxel takes the value at ``fixed_to_moving(x)``.

    Args:
        moving: Image or label map on its own grid.
        fixed_to_moving: The pull-back.
        onto: The grid of the result.
        interpolation: ``linear``, ``nearest``, ``cubic`` or ``label`` (see :func:`pullback.functional.sample`).
            Default: ``linear`` for images, ``label`` for label maps.
        fill: Value where the transform leads outside the moving image.

    Returns:
        The same kind of image on `onto`.

    Raises:
        ValueError: If labels are asked to be averaged, or dimensions differ.
    """
    is_labels = isinstance(moving, LabelMap)
    interpolation = ("label" if is_labels else "linear") if interpolation is None else interpolation
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    if is_labels and interpolation in ("linear", "cubic"):
        raise ValueError(f"'{interpolation}' would average labels into new ones; use 'label' or 'nearest'.")
    if not moving.grid.num_dims == fixed_to_moving.num_dims == onto.num_dims:
        raise ValueError(
            f"The image has {moving.grid.num_dims} dimensions, the transform {fixed_to_moving.num_dims} and the grid "
            f"{onto.num_dims}; they must agree."
        )
    image = moving.tensor
    if interpolation == "cubic":
        image = functional.spline_coefficients(image)
    parts = [
        functional.sample(
            image,
            moving.grid.to_voxel(fixed_to_moving.map_points(points)),
            interpolation=interpolation,
            fill=fill,
            is_prefiltered=True,
        )
        for points in points_of(onto)
    ]
    tensor = torch.cat(parts, dim=1).reshape(-1, *onto.shape).to(moving.tensor.dtype)
    return moving.with_tensor(tensor, onto)


def warp_points(points: Points, transform: AbstractTransform) -> Points:
    """Send points through a transform.

    Points go the other way than images: `fixed_to_moving` takes points of the fixed image into the moving image.

    Raises:
        TypeError: If `points` are no `Points`; an array goes through ``transform(array)``.
    """
    check_points("points", points)
    return Points(transform(points.coordinates), points.names)
