"""Is a deformation sound: Jacobian determinants and the consistency of a map with its inverse."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from pullback.space import Grid


@dataclass(frozen=True)
class JacobianSummary:
    """Jacobian determinants over a region.

    Attributes:
        minimum, maximum: Extremes.
        num_nonpositive: Voxels at or below 0: the map folds there.
        percent_nonpositive: Their share of the region.
        sd_log: Standard deviation of the natural logarithm, determinants below 0.001 counted as 0.001.
    """

    minimum: float
    maximum: float
    num_nonpositive: int
    percent_nonpositive: float
    sd_log: float

    as_dict = asdict


def summarise_jacobian(determinant: Tensor, region: Tensor | None = None) -> JacobianSummary:
    """Summarise determinants, all or those where `region` (bool, same shape) is set."""
    values = (determinant if region is None else determinant[region]).numpy()
    folded = int(np.count_nonzero(values <= 0))
    return JacobianSummary(
        minimum=float(values.min()),
        maximum=float(values.max()),
        num_nonpositive=folded,
        percent_nonpositive=100.0 * folded / values.size,
        sd_log=float(np.log(np.maximum(values, 1e-3)).std(dtype=np.float64)),
    )


@dataclass(frozen=True)
class Consistency:
    """Lengths of ``inverse(transform(x)) - x``.

    Attributes:
        mean_mm, max_mm: Over the region, in mm.
        mean_voxels, max_voxels: The same in voxels of the grid.
    """

    mean_mm: float
    max_mm: float
    mean_voxels: float
    max_voxels: float

    as_dict = asdict


def inverse_consistency(transform, inverse, grid: Grid, region: Tensor | None = None) -> Consistency:
    """How far the way there and back leads away, from every voxel of `grid` (or those in `region`)."""
    region = torch.ones(grid.shape, dtype=torch.bool) if region is None else region
    voxels = torch.nonzero(region).to(torch.float64)
    errors_mm, errors_voxels = [], []
    for part in voxels.split(1 << 20):
        points = grid.to_world(part)
        gap = inverse(transform(points)) - points
        errors_mm.append(torch.linalg.vector_norm(gap, dim=1).numpy())
        errors_voxels.append(torch.linalg.vector_norm(grid.vectors_to_voxel(gap), dim=1).numpy())
    in_mm, in_voxels = np.concatenate(errors_mm), np.concatenate(errors_voxels)
    return Consistency(float(in_mm.mean()), float(in_mm.max()), float(in_voxels.mean()), float(in_voxels.max()))
