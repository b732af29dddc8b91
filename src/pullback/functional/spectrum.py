"""Band-limited resizing: the Fourier series of the samples is cut or continued with zeros.

Per axis this is a product with a real matrix: at the sizes of a network faster on a CPU than transforms of the full
lattice, without complex numbers, and differentiable.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def fourier_resize(volumes: Tensor, shape: tuple[int, ...], *, is_nyquist_paired: bool = True) -> Tensor:
    r"""Resize by trigonometric interpolation: sample m of n stands at voxel $m N / n$ of the new N, values are kept.

    A finer lattice interpolates the samples exactly; a coarser one first removes all waves that it cannot hold, and
    keeps the mean.

    Args:
        volumes: ``(B, C, *old_shape)``.
        shape: The new sizes, any numbers from 1 on.
        is_nyquist_paired: The wave of half the sampling rate (even sizes have one) counts half for each of its two
            signs. False leaves it with one sign and drops the imaginary part of the result, as some published
            networks do.

    Returns:
        ``(B, C, *shape)``, real.
    """
    if not is_nyquist_paired:
        volumes = volumes.to(torch.complex64 if volumes.dtype == torch.float32 else torch.complex128)
    for axis, size in enumerate(shape, start=2):
        old = volumes.shape[axis]
        if old != size:
            matrix = torch.from_numpy(_matrix(old, size, is_nyquist_paired)).to(volumes)
            volumes = (volumes.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return volumes.real.contiguous() if volumes.is_complex() else volumes.contiguous()


@lru_cache(maxsize=64)
def _matrix(old: int, new: int, is_nyquist_paired: bool) -> np.ndarray:
    """``(new, old)``: the sum over the waves k of both lattices of ``exp(2 pi i k (x / new - m / old)) / old``."""
    band = min(old, new)
    waves = np.arange(band) - band // 2
    turns = np.arange(new)[:, None] / new - np.arange(old) / old
    matrix = np.exp(2j * np.pi * waves[:, None, None] * turns).sum(axis=0) / old
    return matrix.real.copy() if is_nyquist_paired else matrix
