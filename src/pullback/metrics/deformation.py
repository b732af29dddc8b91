"""Is a deformation sound: Jacobian determinants, smoothness, and the consistency of a map with its inverse."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from pullback.space import Grid

SMALLEST_FOR_LOG = 1e-3
"""Determinants below this count as this where a logarithm is taken."""

ERROR_PERCENTILES = (0.3, 5.0, 25.0, 50.0, 75.0, 95.0, 99.7)
"""At which deformation errors are given (the tables of Quicksilver)."""

PointMap = Callable[[Tensor], Tensor]
"""World points ``(N, D)`` in mm to world points."""


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
    """Summarise determinants, all or those where `region` (bool, same shape) is set.

    By central differences they come from :func:`pullback.functional.jacobian_determinant`; all one-sided differences
    together are judged by :func:`pullback.metrics.summarise_folding`.
    """
    values = (determinant if region is None else determinant[region]).numpy()
    folded = int(np.count_nonzero(values <= 0))
    return JacobianSummary(
        minimum=float(values.min()),
        maximum=float(values.max()),
        num_nonpositive=folded,
        percent_nonpositive=100.0 * folded / values.size,
        sd_log=float(np.log(np.maximum(values, SMALLEST_FOR_LOG)).std(dtype=np.float64)),
    )


def spread_of_jacobian(determinant: Tensor, region: Tensor | None = None) -> tuple[float, float]:
    """Mean and standard deviation of the determinants themselves, all or those in `region`."""
    values = (determinant if region is None else determinant[region]).to(torch.float64)
    return float(values.mean()), float(values.std(correction=0))


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


def inverse_consistency(
    transform: PointMap, inverse: PointMap, grid: Grid, region: Tensor | None = None
) -> Consistency:
    """How far the way there and back leads away, from every voxel of `grid` (or those in `region`)."""
    region = torch.ones(grid.shape, dtype=torch.bool) if region is None else region
    errors_mm, errors_voxels = [], []
    for part in torch.nonzero(region).split(1 << 18):
        points = grid.to_world(part.to(torch.float64))
        gap = inverse(transform(points)) - points
        errors_mm.append(torch.linalg.vector_norm(gap, dim=1).numpy())
        errors_voxels.append(torch.linalg.vector_norm(grid.vectors_to_voxel(gap), dim=1).numpy())
    in_mm, in_voxels = np.concatenate(errors_mm), np.concatenate(errors_voxels)
    return Consistency(float(in_mm.mean()), float(in_mm.max()), float(in_voxels.mean()), float(in_voxels.max()))


@dataclass(frozen=True)
class MagnitudeSummary:
    """Lengths of the displacements ``T(x) - x`` over a region, in mm."""

    mean: float
    sd: float
    maximum: float

    as_dict = asdict


def summarise_magnitude(displacement_mm: Tensor, region: Tensor | None = None) -> MagnitudeSummary:
    """Summarise the lengths of displacements ``(D, *shape)`` in mm, all or those in `region`."""
    lengths = torch.linalg.vector_norm(displacement_mm.to(torch.float64), dim=0)
    lengths = lengths if region is None else lengths[region]
    return MagnitudeSummary(float(lengths.mean()), float(lengths.std(correction=0)), float(lengths.max()))


def bending_energy(displacement_mm: Tensor, grid: Grid, region: Tensor | None = None) -> float:
    r"""Mean over voxels of $\sum_c \sum_{ab} (\partial^2 u_c / \partial x_a \partial x_b)^2$, in 1/mm^2.

    0 for an affine map. Second derivatives are central, in mm of the world, at voxels whose neighbours all exist.

    Args:
        displacement_mm: ``(D, *grid.shape)`` along the world axes.
        grid: Where the vectors are; it may be oblique or sheared.
        region: Bool ``(*grid.shape,)``; None takes all inner voxels.

    Returns:
        The energy; NaN where an axis has fewer than three voxels or no inner voxel lies in the region.

    Reference:
        Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 18 (1999), doi:10.1109/42.796284.
    """
    inner = (slice(1, -1),) * grid.num_dims
    region = (torch.ones(grid.shape, dtype=torch.bool) if region is None else region)[inner]
    if not bool(region.any()):
        return float("nan")
    axes = list(combinations_with_replacement(range(grid.num_dims), 2))
    to_voxel = grid.world_to_voxel[:-1, :-1]
    total = 0.0
    for component in displacement_mm.to(torch.float64):
        hessian = torch.empty(int(region.sum()), grid.num_dims, grid.num_dims, dtype=torch.float64)
        for a, b in axes:
            hessian[:, a, b] = hessian[:, b, a] = _second_difference(component, a, b)[region]
        total += float(torch.einsum("ac,nab,bd->ncd", to_voxel, hessian, to_voxel).square().sum())
    return total / int(region.sum())


def _second_difference(values: Tensor, a: int, b: int) -> Tensor:
    """Central second differences along axes a and b at the inner voxels."""

    def at(step_a: int, step_b: int) -> Tensor:
        steps = [step_a * (axis == a) + step_b * (axis == b) for axis in range(values.ndim)]
        return values[tuple(slice(1 + s, n - 1 + s) for s, n in zip(steps, values.shape, strict=True))]

    if a == b:
        return at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    return (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4


def deformation_error_percentiles(
    found: PointMap, true: PointMap, grid: Grid, region: Tensor | None = None
) -> dict[float, float]:
    """Percentiles (:data:`ERROR_PERCENTILES`) of the distance in mm between two maps, over the voxels of a grid.

    Args:
        found: The map to judge.
        true: The reference map.
        grid: At whose voxels to compare.
        region: Bool ``(*grid.shape,)``; None takes all.

    Returns:
        Percentile to mm.
    """
    region = torch.ones(grid.shape, dtype=torch.bool) if region is None else region
    lengths = []
    for part in torch.nonzero(region).to(torch.float64).split(1 << 20):
        points = grid.to_world(part)
        lengths.append(torch.linalg.vector_norm(found(points) - true(points), dim=1).numpy())
    values = np.percentile(np.concatenate(lengths), ERROR_PERCENTILES).tolist()
    return dict(zip(ERROR_PERCENTILES, values, strict=True))
