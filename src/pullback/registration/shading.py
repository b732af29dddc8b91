"""Slow shading, as coils and bias fields leave it, taken out of images.

Local correlation is blind to what changes little within a window, but windows of five coarse blocks span a quarter of
an object; and whether two images have one contrast is asked of their intensities as a whole.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pullback import functional
from pullback.registration.initialisation import geometry_of
from pullback.registration.volume import Volume

WIDTH = 0.24
"""Standard deviation of a neighbourhood, in units of half the fixed object's length: 20 mm for a brain."""
BLOCKS_PER_WIDTH = 4
"""The local mean is made of blocks, so many to a standard deviation, and interpolated between them."""
NUM_ROUNDS = 2
"""At the edge of an object a neighbourhood has only one side, so that one round leaves some of a slope."""
FAINT = 0.02
"""Where less than this share of a neighbourhood belongs to the object, its mean tends to that of the whole object."""
DARKEST = 0.2
"""Local means below this share of the whole object's mean are taken for it: a gain of five at most."""


def without_shading(fixed: Volume, moving: Volume) -> tuple[Volume, Volume]:
    """Copies of both volumes whose objects are as bright in every neighbourhood, as large for both.

    Whatever else differs slowly across an object goes too, so this is for images that are shaded.
    """
    width_mm = WIDTH * geometry_of(fixed)[2]
    return _even_out(fixed, width_mm), _even_out(moving, width_mm)


def _even_out(volume: Volume, width_mm: float) -> Volume:
    """A copy in which the mean intensity of the object over each neighbourhood is that of the whole object."""
    counted = volume.foreground[None, None].to(torch.float32)
    widths = [width_mm / float(spacing) for spacing in volume.spacing_mm()]
    blocks = [max(1, min(n, int(w / BLOCKS_PER_WIDTH))) for n, w in zip(volume.grid.shape, widths, strict=True)]
    sigmas = [width / block for width, block in zip(widths, blocks, strict=True)]

    def neighbourhood(values: Tensor) -> Tensor:
        return functional.gaussian_smooth(functional.block_mean(values, blocks).contiguous(), sigmas)

    share, evened = neighbourhood(counted), []
    for channel in volume.tensor.split(1, dim=1):
        for _ in range(NUM_ROUNDS):
            inside = channel * counted
            mean = _sum(inside) / max(_sum(counted), 1.0)
            if mean <= 0:  # a channel that shows nothing where the object is
                break
            local = (neighbourhood(inside) + FAINT * mean) / (share + FAINT)
            gain = mean / local.clamp(min=DARKEST * mean)
            channel = _as_fine(gain, blocks, channel) * channel
        evened.append(channel)
    return replace(volume, tensor=torch.cat(evened, dim=1).contiguous())


def _sum(values: Tensor) -> float:
    """By NumPy, in one order: PyTorch's depends on the number of threads."""
    return float(values.numpy().sum(dtype=np.float64))


def _as_fine(coarse: Tensor, blocks: list[int], like: Tensor) -> Tensor:
    """Interpolated between the centres of blocks, of which the last may be partial."""
    size = [n * block for n, block in zip(coarse.shape[2:], blocks, strict=True)]
    i, j, k = like.shape[2:]
    return interpolate(coarse, size=size, mode="trilinear")[..., :i, :j, :k]
