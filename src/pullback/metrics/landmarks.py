"""Distances between corresponding points."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pullback.data import Points
from pullback.space import Grid


@dataclass(frozen=True)
class LandmarkSummary:
    """Target registration errors (TRE) over the landmarks of one pair, in mm.

    Attributes:
        mean, median, percentile75, maximum: Of the distances; the percentile is interpolated linearly.
        sd: Standard deviation of the population.
    """

    mean: float
    median: float
    percentile75: float
    maximum: float
    sd: float

    as_dict = asdict


def point_errors_mm(mapped: Points, true: Points) -> Tensor:
    """Distance in mm of each mapped point from its true position, ``(N,)``.

    The target registration error of `fixed_to_moving` is that of the fixed points, mapped, from the moving points.

    Raises:
        ValueError: If the numbers of points differ.
    """
    if len(mapped) != len(true):
        raise ValueError(f"{len(mapped)} points were mapped, but {len(true)} true positions are given.")
    return torch.linalg.vector_norm(mapped.coordinates - true.coordinates, dim=1)


def summarise_errors(errors_mm: Tensor) -> LandmarkSummary:
    """Summarise distances ``(N,)``.

    Raises:
        ValueError: If there is none.

    Example:
        >>> summarise_errors(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])).percentile75
        3.0
    """
    if not len(errors_mm):
        raise ValueError("`errors_mm` is empty: no landmark was mapped.")
    errors = errors_mm.to(torch.float64)
    quantiles = errors.quantile(torch.tensor([0.5, 0.75], dtype=torch.float64)).tolist()
    return LandmarkSummary(
        mean=float(errors.mean()),
        median=quantiles[0],
        percentile75=quantiles[1],
        maximum=float(errors.max()),
        sd=float(errors.std(correction=0)),
    )


def snapped_to_voxels(points: Points, grid: Grid) -> Points:
    """Points moved to the nearest voxel centre of `grid` (halves to the even index).

    Landmarks are often clicked on voxels, so that some papers round the mapped point to a voxel of the moving image
    before they measure (DIR-Lab's "snap-to-voxel"); such errors are smaller where the map is right to half a voxel.
    """
    return Points(grid.to_world(grid.to_voxel(points.coordinates).round()), points.names)


def share_improved(before_mm: Tensor, after_mm: Tensor) -> float:
    """Robustness of one pair: the share of landmarks that registration brought nearer, 0 to 1 (ANHIR, BraTS-Reg).

    Learn2Reg speaks of robustness too and means the worst 30 % of cases: see :func:`pullback.metrics.dice30` and
    :func:`pullback.metrics.hardest_cases`.

    Raises:
        ValueError: If the numbers of points differ or there is none.
    """
    if len(before_mm) != len(after_mm) or not len(before_mm):
        raise ValueError(
            f"{len(before_mm)} errors before and {len(after_mm)} after came, but one of each per landmark is needed."
        )
    return float((after_mm < before_mm).double().mean())
