"""What the transform does to space: the warped grid, the change of volume, the length of the way."""

from collections.abc import Iterator

import numpy as np
import scipy.ndimage
from torch import Tensor

from pullback.reports.colours import ALARM, DIVERGING, SEQUENTIAL, colour_map, hex_to_rgb
from pullback.reports.slices import Plane

TENTHS = 10
"""SVG coordinates of grids are whole tenths of a pixel."""

NUM_LINES = 28
"""Lines of a grid along the longest side, about."""

MOST_POINTS = 100
"""Points along one line at most."""

STEPS_MM = (1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
JACOBIAN_LIMITS = (1.25, 1.5, 2.0, 3.0, 4.0)
ROUNDING = 1e-6
ALARM_RADIUS_PIXELS = 2


def line_spacing_mm(planes: tuple[Plane, ...]) -> float:
    """A round distance between the lines of the grids, the same in all slices."""
    wanted = max(max(plane.size_mm) for plane in planes) / NUM_LINES
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(
        min(
            (step * scale for step in STEPS_MM for scale in (power / 10, power, power * 10)),
            key=lambda step: abs(np.log(step / wanted)),
        )
    )


def grid_path(displacement: Tensor, plane: Plane, spacing_mm: float) -> str:
    """The deformed grid of one slice as the data of an SVG path, in tenths of a pixel.

    Lines of constant fixed coordinates are drawn where the transform takes them: at ``x + displacement(x)``. The part
    of the displacement across the slice is not drawn.
    """
    lines = grid_lines(plane.section(displacement), plane, spacing_mm)
    return "".join(_path(plane.to_pixels(line)) for line in lines)


def grid_lines(section: np.ndarray, plane: Plane, spacing_mm: float) -> Iterator[np.ndarray]:
    """The lines of the deformed grid of one slice, each ``(N, 2)`` voxels along width and height in RAS order.

    Args:
        section: Displacement ``(D, width, height)`` in mm at the voxels of the slice.
        plane: The slice.
        spacing_mm: Distance between lines.
    """
    moved = _voxel_displacement(section, plane)
    counts = moved.shape[1:]
    spacing = [float(plane.grid.spacing_mm[axis]) for axis in plane.axes[:2]]
    for constant in (0, 1):
        along = np.linspace(0, counts[1 - constant] - 1, min(counts[1 - constant], MOST_POINTS))
        for position in _line_positions(counts[constant], spacing_mm / spacing[constant]):
            line = np.empty((len(along), 2))
            line[:, constant], line[:, 1 - constant] = position, along
            shift = [scipy.ndimage.map_coordinates(one, line.T, order=1, mode="nearest") for one in moved]
            yield line + np.stack(shift, axis=-1)


def log_jacobian(jacobian: Tensor, plane: Plane) -> np.ndarray:
    """The slice of log(Jacobian) as a picture; voxels at or below 0, which have none, count as the smallest above."""
    values = np.nan_to_num(plane.cut(jacobian).astype(np.float32), nan=1.0, posinf=1e3, neginf=-1.0)
    positive = values[values > 0]
    floor = float(positive.min()) if positive.size else 1.0
    return plane.resize(np.log(np.maximum(values, max(floor, 1e-3))))


def nonpositive(jacobian: Tensor, plane: Plane) -> np.ndarray:
    """Boolean picture of voxels whose Jacobian is not above 0, enlarged so that a single one is seen."""
    bad = ~(plane.cut(jacobian) > 0)
    if not bad.any():
        return np.zeros(plane.shape_pixels, dtype=bool)
    enlarged = plane.resize(bad.astype(np.float32), nearest=True) > 0.5
    if min(plane.shape_pixels) < min(bad.shape):  # shrinking may drop it
        rows, columns = (np.nonzero(bad)[axis] * plane.shape_pixels[axis] // bad.shape[axis] for axis in (0, 1))
        enlarged[rows, columns] = True
    return scipy.ndimage.binary_dilation(enlarged, iterations=ALARM_RADIUS_PIXELS)


def jacobian_limit(logarithms: list[np.ndarray]) -> float:
    """The factor at the ends of the colour scale: a round number that covers all but half a per cent."""
    spread = max((float(np.percentile(np.abs(one), 99.5)) for one in logarithms), default=0.0)
    return next((limit for limit in JACOBIAN_LIMITS if np.log(limit) >= spread - ROUNDING), JACOBIAN_LIMITS[-1])


def jacobian_map(logarithm: np.ndarray, bad: np.ndarray, limit: float) -> np.ndarray:
    """Colours: blue below 1, orange above, both the same for a factor and its inverse; alarm where `bad`."""
    colours = colour_map(DIVERGING, logarithm / np.log(limit))
    colours[bad] = hex_to_rgb(ALARM)
    return colours


def magnitude(displacement: Tensor, plane: Plane) -> np.ndarray:
    """Length of the displacement in mm, all components, as a picture."""
    return np.sqrt((plane.draw(displacement) ** 2).sum(axis=0))


def magnitude_map(length_mm: np.ndarray, limit_mm: float) -> np.ndarray:
    """Colours from dark (0) to light (`limit_mm`)."""
    return colour_map(SEQUENTIAL, 2.0 * length_mm / limit_mm - 1.0)


def _voxel_displacement(section: np.ndarray, plane: Plane) -> np.ndarray:
    """The displacement of a slice along width and height in voxels, RAS order."""
    section = np.nan_to_num(section.astype(np.float64), posinf=0.0, neginf=0.0)
    linear = plane.grid.world_to_voxel[:-1, :-1].numpy()[list(plane.axes[:2])]
    return np.einsum("ij,jhv->ihv", linear, section)


def _line_positions(count: int, step: float) -> np.ndarray:
    """Positions in voxels, `step` apart, laid evenly about the middle."""
    half = int(((count - 1) / 2) // step)
    return (count - 1) / 2 + step * np.arange(-half, half + 1)


def _path(points: np.ndarray) -> str:
    """Relative steps in whole tenths of a pixel, rounded so that errors do not add up."""
    whole = np.rint(points * TENTHS).astype(int)
    steps = np.diff(whole, axis=0)
    return f"M{whole[0, 0]} {whole[0, 1]}l" + " ".join(f"{x} {y}" for x, y in steps) if len(steps) else ""
