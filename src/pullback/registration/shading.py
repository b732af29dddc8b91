"""Slow shading, as coils and bias fields leave it: how much of it a pair has, and images without it.

Local correlation is blind to what changes little within a window, but windows of five coarse blocks span a quarter of
an object; and whether two images have one contrast is asked of their intensities as a whole.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pullback import functional
from pullback.registration.choice import seen_by_both
from pullback.registration.initialisation import geometry_of
from pullback.registration.volume import Volume

WIDTH = 0.14
"""Standard deviation of a neighbourhood, in units of half the fixed object's length: 12 mm for a brain."""
BLOCKS_PER_WIDTH = 4
"""The local mean is made of blocks, so many to a standard deviation, and interpolated between them."""
NUM_ROUNDS = 2
"""At the edge of an object a neighbourhood has only one side, so that one round leaves some of a slope."""
FAINT = 0.02
"""Where less than this share of a neighbourhood belongs to the object, its mean tends to that of the whole object."""
DARKEST = 0.2
"""Local means below this share of the whole object's mean are taken for it: a gain of five at most."""


def shading_between(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """How differently two objects are shaded under a world matrix: the spread of the ratio of their local brightness.

    The standard deviation of its logarithm where both objects are, of the channel in which it is largest; 0 where they
    do not overlap.
    """
    warped, inside = seen_by_both(fixed, moving, matrix)
    if inside is None:
        return 0.0
    local = _LocalMean(inside, fixed, WIDTH * geometry_of(fixed)[2])
    gains = (local.gain(f) / local.gain(m) for f, m in zip(fixed.tensor.split(1, 1), warped.split(1, 1), strict=True))
    return max(float(gain[inside > 0].log().numpy().std(dtype=np.float64)) for gain in gains)


def without_shading(fixed: Volume, moving: Volume) -> tuple[Volume, Volume]:
    """Copies of both volumes whose objects are as bright in every neighbourhood, as large for both.

    Whatever else differs slowly across an object goes too, so this is for images that are shaded.
    """
    width_mm = WIDTH * geometry_of(fixed)[2]
    return _even_out(fixed, width_mm), _even_out(moving, width_mm)


def _even_out(volume: Volume, width_mm: float) -> Volume:
    """A copy in which the mean intensity of the object over each neighbourhood is that of the whole object."""
    local, evened = _LocalMean(volume.foreground[None, None].to(torch.float32), volume, width_mm), []
    for channel in volume.tensor.split(1, dim=1):
        for _ in range(NUM_ROUNDS):
            channel = local.gain(channel) * channel
        evened.append(channel)
    return replace(volume, tensor=torch.cat(evened, dim=1).contiguous())


class _LocalMean:
    """Means over Gaussian neighbourhoods of what counts, made of blocks and interpolated between them."""

    def __init__(self, counted: Tensor, volume: Volume, width_mm: float) -> None:
        widths = [width_mm / float(spacing) for spacing in volume.spacing_mm()]
        self.blocks = [
            max(1, min(n, int(w / BLOCKS_PER_WIDTH))) for n, w in zip(volume.grid.shape, widths, strict=True)
        ]
        self.sigmas = [width / block for width, block in zip(widths, self.blocks, strict=True)]
        self.counted, self.total, self.share = counted, max(_sum(counted), 1.0), self._neighbourhood(counted)

    def gain(self, channel: Tensor) -> Tensor:
        """The factor that makes every neighbourhood as bright as the whole; 1 where nothing is shown."""
        inside = channel * self.counted
        mean = _sum(inside) / self.total
        if mean <= 0:
            return torch.ones_like(channel)
        local = (self._neighbourhood(inside) + FAINT * mean) / (self.share + FAINT)
        return self._as_fine(mean / local.clamp(min=DARKEST * mean), like=channel)

    def _neighbourhood(self, values: Tensor) -> Tensor:
        return functional.gaussian_smooth(functional.block_mean(values, self.blocks).contiguous(), self.sigmas)

    def _as_fine(self, coarse: Tensor, like: Tensor) -> Tensor:
        """Interpolated between the centres of blocks, of which the last may be partial."""
        size = [n * block for n, block in zip(coarse.shape[2:], self.blocks, strict=True)]
        i, j, k = like.shape[2:]
        return interpolate(coarse, size=size, mode="trilinear")[..., :i, :j, :k]


def _sum(values: Tensor) -> float:
    """By NumPy, in one order: PyTorch's depends on the number of threads."""
    return float(values.numpy().sum(dtype=np.float64))
