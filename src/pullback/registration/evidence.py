"""Gathering what the verdict is based on, at a middle resolution."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from pullback import functional
from pullback.registration.linear import Comparison
from pullback.registration.volume import Volume
from pullback.similarity import AbstractSimilarity
from pullback.space import Grid
from pullback.transforms import AbstractTransform
from pullback.transforms.abstract import points_of

SMALLEST_TURNED_SCORE = 1e-6


def flat_grid(volume: Volume) -> Grid:
    """The volume's grid in the dimensions of the image it came from."""
    grid = volume.grid
    return Grid(grid.shape[1:], grid.voxel_to_world[1:, 1:]) if volume.is_flat else grid


@dataclass(frozen=True, eq=False)
class View:
    """The moving volume seen through a transform, on the fixed volume's grid.

    Attributes:
        warped: ``(1, C, I, J, K)``.
        weights: ``(1, 1, I, J, K)``: voxels to compare.
        inside: ``(I, J, K)`` bool: voxels that the map sends into the moving field of view.
        foreground: ``(I, J, K)`` bool: the moving foreground.
    """

    warped: Tensor
    weights: Tensor
    inside: Tensor
    foreground: Tensor


def look_through(fixed: Volume, moving: Volume, transform: AbstractTransform) -> View:
    """Resample everything about the moving volume through a transform."""
    moving_grid = flat_grid(moving)
    shape = fixed.grid.shape
    layers = torch.cat([
        moving.tensor[0],
        moving.foreground[None].to(torch.float32),
        torch.ones_like(moving.tensor[0, :1]) if moving.weights is None else moving.weights[0],
        torch.ones_like(moving.tensor[0, :1]),
    ])
    layers = layers[:, 0] if moving.is_flat else layers
    parts = [
        functional.sample(layers, moving_grid.to_voxel(transform.map_points(points)), fill=0.0)
        for points in points_of(flat_grid(fixed))
    ]
    sampled = torch.cat(parts, dim=1).reshape(-1, *shape)
    inside = sampled[-1] > 0.5
    weights = sampled[-2] if moving.weights is not None or not moving.has_background else torch.ones(shape)
    weights = weights if fixed.weights is None else weights * fixed.weights[0, 0]
    return View(sampled[None, :-3], weights[None, None].contiguous(), inside, sampled[-3] > 0.5)


def similarity_through(fixed: Volume, view: View, similarity: AbstractSimilarity) -> float:
    """The similarity of the fixed volume and a view."""
    return float(similarity.value_and_gradient(fixed.tensor, view.warped.contiguous(), view.weights)[0][0])


def overlap_of(a: Tensor, b: Tensor) -> float:
    """Dice of two masks."""
    return 2.0 * float((a & b).sum()) / max(float(a.sum()) + float(b.sum()), 1.0)


def turned_ratio(fixed: Volume, moving: Volume, similarity: AbstractSimilarity, matrix: np.ndarray) -> float:
    """The best similarity when the linear result is turned by 90 or 180 degrees about an axis, over its own.

    The turns are about the centre of the fixed object; similarities that can be negative (MSE) are compared by what they
    lose, so that 1 always means "as good".
    """
    comparison = Comparison(fixed, moving, similarity, ignores_view=True)
    centre = fixed.grid.to_world(torch.nonzero(fixed.foreground).to(torch.float64)).mean(dim=0).numpy()
    own = comparison.value(matrix)
    others = [comparison.value(matrix @ _turn(centre, axis, angle)) for axis, angle in _turns(fixed.is_flat)]
    best = max(others)
    if own < 0:
        return own / min(best, -SMALLEST_TURNED_SCORE)
    return max(best, 0.0) / max(own, SMALLEST_TURNED_SCORE)


def _turns(is_flat: bool) -> list[tuple[str, float]]:
    return [(axis, angle) for axis in ("x" if is_flat else "xyz") for angle in (90.0, 180.0, 270.0)]


def _turn(centre: np.ndarray, axis: str, angle: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(axis, angle, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix
