"""From the numbers of an image to grey levels between 0 and 1."""

from dataclasses import dataclass

import numpy as np

from pullback.data import Image
from pullback.reports.slices import FOREGROUND_LEVEL, sample_voxels

LOW_PERCENTILE = 0.5
HIGH_PERCENTILE = 99.5
RED_GREEN_BLUE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Window:
    """The range of intensities that runs from black (0) to white (1)."""

    low: float
    high: float

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Map `values` to [0, 1], clipped; a window without width gives 0."""
        width = self.high - self.low
        if width <= 0:
            return np.zeros_like(values, dtype=np.float32)
        return np.clip((values - self.low) / width, 0.0, 1.0).astype(np.float32)


def window_of(image: Image) -> Window:
    """A robust window: from the lowest half per cent of all voxels to the highest half of the foreground.

    The foreground alone decides the upper end, so the amount of background around an object does not change how bright
    the object is drawn.
    """
    values = grey(sample_voxels(image), image)
    low, high = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE))
    foreground = values[values > low + FOREGROUND_LEVEL * (high - low)]
    if foreground.size:
        high = np.percentile(foreground, HIGH_PERCENTILE)
    if high <= low:  # a few bright voxels in a constant image
        low, high = values.min(), values.max()
    return Window(float(low), float(high))


def grey(values: np.ndarray, image: Image) -> np.ndarray:
    """Reduce channels ``(C, ...)`` to one value: luminance of photographs, the mean of anything else."""
    if is_photograph(image):
        return np.tensordot(np.asarray(RED_GREEN_BLUE, dtype=values.dtype), values, axes=1)
    return values[0] if len(values) == 1 else values.mean(axis=0)


def check_channels(warped: Image, moving: Image) -> None:
    """Refuse a warped image that cannot come from the moving one.

    Raises:
        ValueError: If they have different numbers of channels.
    """
    if warped.num_channels != moving.num_channels:
        raise ValueError(
            f"'{warped.name}' has {warped.num_channels} channels, but the moving image '{moving.name}' has "
            f"{moving.num_channels}; was it the one that was registered?"
        )


def is_photograph(image: Image) -> bool:
    """Whether the three channels are red, green and blue."""
    return image.header.get("format") == "raster" and image.num_channels == 3
