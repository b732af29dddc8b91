"""Where things are: grids and axes. Knows no image, file or device."""

from pullback.space.axes import Reorientation, axis_codes, closest_to, closest_to_ras
from pullback.space.grid import Grid, apply_matrix

__all__ = ["Grid", "Reorientation", "apply_matrix", "axis_codes", "closest_to", "closest_to_ras"]
