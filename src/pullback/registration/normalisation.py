"""Intensities on one scale, so that a network sees the numbers it was trained on."""

from dataclasses import dataclass

import numpy as np
import torch

from pullback.checks import check_choice
from pullback.data import Image
from pullback.registration.volume import otsu_threshold

KINDS = ("none", "min-max", "percentile", "z-score", "white-matter-peak")
PEAK_BINS, PEAK_SMOOTHING, PEAK_SHARE = 256, 3, 0.25
"""Bins of the histogram in which the white matter's peak is sought, half width of their running mean, and the share of
the highest bin that a local maximum must reach to count."""


@dataclass(frozen=True)
class Normalisation:
    """How intensities are put on one scale, each channel for itself.

    Attributes:
        kind: ``none``; ``min-max`` (to 0..1); ``percentile`` (the two percentiles become 0 and 1, beyond is cut);
            ``z-score`` (mean 0 and standard deviation 1 of the foreground); ``white-matter-peak`` (lowest value 0, the
            brightest peak of the foreground's histogram 1: white matter in T1).
        low_percentile, high_percentile: Of all voxels, for ``percentile``.
    """

    kind: str = "min-max"
    low_percentile: float = 0.5
    high_percentile: float = 99.5

    def __post_init__(self) -> None:
        check_choice("normalisation.kind", self.kind, KINDS)
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError(
                f"The percentiles are {self.low_percentile} and {self.high_percentile}, but two growing numbers from 0 "
                "to 100 are needed."
            )

    def apply(self, image: Image) -> Image:
        """The image with its intensities on the scale, float32.

        Raises:
            ValueError: If a channel is constant.
        """
        channels = [self._scale(channel.numpy().astype(np.float32), image.name) for channel in image.tensor]
        return image.with_tensor(torch.from_numpy(np.stack(channels)))

    def _scale(self, values: np.ndarray, name: str) -> np.ndarray:
        if self.kind == "none":
            return values
        offset, unit = self._offset_and_unit(values)
        if not unit > 0:
            raise ValueError(f"The image '{name}' is constant where it is looked at: it cannot be put on a scale.")
        scaled = (values - np.float32(offset)) / np.float32(unit)
        return scaled.clip(0, 1) if self.kind == "percentile" else scaled

    def _offset_and_unit(self, values: np.ndarray) -> tuple[float, float]:
        if self.kind == "min-max":
            return float(values.min()), float(values.max() - values.min())
        if self.kind == "percentile":
            low, high = np.percentile(values, (self.low_percentile, self.high_percentile))
            return float(low), float(high - low)
        if not values.max() > values.min():
            return 0.0, 0.0
        foreground = values[values > otsu_threshold(values)]
        if self.kind == "z-score":
            return float(foreground.mean(dtype=np.float64)), float(foreground.std(dtype=np.float64))
        return float(values.min()), white_matter_peak(foreground) - float(values.min())


def white_matter_peak(foreground: np.ndarray) -> float:
    """The brightest peak of the histogram of the foreground, which is white matter in T1-weighted brains."""
    top = float(np.percentile(foreground, 99.9))
    counts, edges = np.histogram(foreground, bins=PEAK_BINS, range=(float(foreground.min()), top))
    width = 2 * PEAK_SMOOTHING + 1
    smooth = np.convolve(counts, np.full(width, 1 / width), mode="same")
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner >= PEAK_SHARE * smooth.max()))
    best = int(peaks[-1]) if len(peaks) else int(smooth.argmax())
    return float(edges[best] + edges[best + 1]) / 2
