"""Distances between corresponding points."""

import torch
from torch import Tensor

from pullback.data import Points


def point_errors_mm(mapped: Points, true: Points) -> Tensor:
    """Distance in mm of each mapped point from its true position, ``(N,)``.

    The target registration error of `fixed_to_moving` is that of the fixed points, mapped, from the moving points.

    Raises:
        ValueError: If the numbers of points differ.
    """
    if len(mapped) != len(true):
        raise ValueError(f"{len(mapped)} points were mapped, but {len(true)} true positions are given.")
    return torch.linalg.vector_norm(mapped.coordinates - true.coordinates, dim=1)
