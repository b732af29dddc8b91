"""Colour tables, and their legends as CSS gradients."""

import numpy as np

DIVERGING = ("#8fd0ff", "#2f86d6", "#16386b", "#101114", "#6b2413", "#e0602a", "#ffc48a")
"""Blue, near black, orange: nothing to see is dark, like the background of the slices beside it."""

SEQUENTIAL = ("#101114", "#2c2360", "#6a2a84", "#b23a78", "#ee6a50", "#fcb45c", "#fdf5b4")
"""Dark to light over violet and orange, evenly in lightness."""

ALARM = "#d8ff00"
"""For voxels that must not be overlooked."""


def colour_map(table: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    """Colours ``(..., 3)`` in [0, 1]; a table of odd length is read from -1 to 1 with its middle at 0."""
    stops = np.array([hex_to_rgb(colour) for colour in table])
    positions = np.linspace(-1.0, 1.0, len(table))
    return np.stack([np.interp(values, positions, stops[:, channel]) for channel in range(3)], axis=-1)


def css_gradient(table: tuple[str, ...]) -> str:
    """The table as a CSS background from left to right."""
    return f"linear-gradient(90deg, {', '.join(table)})"


def hex_to_rgb(colour: str) -> tuple[float, float, float]:
    """``#rrggbb`` to three numbers in [0, 1]."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
