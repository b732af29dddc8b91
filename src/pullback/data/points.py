"""Points of the world: landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pullback.checks import as_float64


@dataclass(frozen=True, eq=False)
class Points:
    """Positions in world mm (RAS+): data, so that a gradient stays behind.

    Attributes:
        coordinates: ``(N, D)`` float64.
        names: One name per point, or None.

    Raises:
        ValueError: If the shape is wrong, a coordinate is not finite, or the names do not match.
    """

    coordinates: Tensor
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        coordinates = as_float64(self.coordinates)
        if coordinates.ndim != 2 or coordinates.shape[1] not in (2, 3):
            raise ValueError(f"`coordinates` has shape {tuple(coordinates.shape)}, but (N, 2) or (N, 3) is needed.")
        if not torch.isfinite(coordinates).all():
            raise ValueError("`coordinates` holds NaN or infinite numbers.")
        if self.names is not None and len(self.names) != len(coordinates):
            raise ValueError(f"{len(self.names)} names came with {len(coordinates)} points.")
        object.__setattr__(self, "coordinates", coordinates)

    def __len__(self) -> int:
        return len(self.coordinates)


def check_points(name: str, points: Points) -> Points:
    """Return `points` if they are `Points`.

    Raises:
        TypeError: If not.
    """
    if not isinstance(points, Points):
        raise TypeError(f"`{name}` is a {type(points).__name__}, but `Points` are needed: Points(...).")
    return points
