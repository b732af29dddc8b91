"""Gaussian smoothing and coarser copies of images."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pullback.functional import reference
from pullback.functional.lifting import as_array, empty_like_shape, has_kernels, lift_volumes
from pullback.kernels import smoothing

TRUNCATE = 3.0
"""The filter ends at this many standard deviations."""


def gaussian_taps(sigma_voxels: float) -> np.ndarray:
    """One half of a Gaussian filter, centre first, float32, that sums to 1 over both halves."""
    if sigma_voxels <= 0:
        return np.ones(1, dtype=np.float32)
    radius = max(1, math.ceil(TRUNCATE * sigma_voxels))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma_voxels) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def _pad_for_kernels(taps: np.ndarray) -> np.ndarray:
    """Zeros up to 3 + 4 m numbers, which is what the kernels take; a single number stays alone."""
    return taps if len(taps) == 1 else np.pad(taps, (0, (3 - len(taps)) % 4))


def gaussian_smooth(
    volumes: Tensor,
    sigma_voxels: float | Sequence[float],
    *,
    out: Tensor | None = None,
    scratch: Tensor | None = None,
) -> Tensor:
    """Smooth every channel with a Gaussian; the edges are repeated.

    Args:
        volumes: ``(B, C, *shape)``, an image or a field.
        sigma_voxels: Standard deviation in voxels, one or one per axis; 0 leaves an axis as it is.
        out: Where to write, when no gradient is needed; may be `volumes` itself.
        scratch: Room for an intermediate result of the same shape.

    Returns:
        Smoothed volumes of the same shape.
    """
    num_dims = volumes.ndim - 2
    sigmas = [float(sigma_voxels)] * num_dims if isinstance(sigma_voxels, int | float) else list(sigma_voxels)
    sigmas = [s if n > 1 else 0.0 for s, n in zip(sigmas, volumes.shape[2:], strict=True)]
    taps = [np.ones(1, dtype=np.float32)] * (3 - num_dims) + [gaussian_taps(s) for s in sigmas]
    lifted = lift_volumes(volumes, num_dims)
    tracked = torch.is_grad_enabled() and volumes.requires_grad
    if tracked or not has_kernels(volumes):
        for axis, half in enumerate(taps):
            full = torch.from_numpy(np.concatenate([half[:0:-1], half]))
            lifted = reference.convolve(lifted, full, axis) if len(half) > 1 else lifted
        result = lifted if num_dims == 3 else lifted.squeeze(-3)
        return result if out is None else out.copy_(result)
    out = empty_like_shape(*volumes.shape) if out is None else out
    scratch = empty_like_shape(*volumes.shape) if scratch is None else scratch
    _run_smooth(
        lifted, [_pad_for_kernels(half) for half in taps], lift_volumes(scratch, num_dims), lift_volumes(out, num_dims)
    )
    return out


def _run_smooth(volumes: Tensor, taps: list[np.ndarray], scratch: Tensor, out: Tensor) -> None:
    for b in range(volumes.shape[0]):
        source = as_array(volumes[b])
        if len(taps[0]) > 1:
            smoothing.convolve_first_axis(source, taps[0], scratch[b].numpy())
            source = scratch[b].numpy()
        smoothing.convolve_last_axes(source, taps[1], taps[2], out[b].numpy())


def coarsen(volumes: Tensor, factors: Sequence[int], strides: Sequence[int] | None = None) -> Tensor:
    """Averages over blocks of ``factors`` voxels after a light Gaussian; partial last blocks repeat the edge.

    The voxel centres are those of :meth:`pullback.space.Grid.coarsen`.

    Args:
        volumes: ``(B, C, *shape)``.
        factors: Voxels per block along each axis; 1 leaves an axis as it is.
        strides: A block begins every so many voxels (default: `factors`); see `dense_strides`.
    """
    if all(f == 1 for f in factors):
        return volumes
    smoothed = gaussian_smooth(volumes, [0.5 * f if f > 1 else 0.0 for f in factors])
    return block_mean(smoothed, factors, strides)


def dense_strides(factors: Sequence[int]) -> tuple[int, ...]:
    """Strides of blocks that overlap by half or more, so that a coarse copy can be sampled between its voxels.

    Interpolation between blocks side by side blurs, the more the farther from their centres, so that an image differs
    from itself moved by half a block.
    """
    return tuple(max(1, factor // 2) for factor in factors)


def block_mean(volumes: Tensor, factors: Sequence[int], strides: Sequence[int] | None = None) -> Tensor:
    """Plain averages over blocks of ``factors`` voxels; partial last blocks repeat the edge. See `coarsen`."""
    for axis, (factor, stride) in enumerate(zip(factors, strides or factors, strict=True), start=2):
        if factor == 1:
            continue
        size = volumes.shape[axis]
        reach = (-(-size // stride) - 1) * stride + 1
        missing = max(0, reach - 1 + factor - size)
        edge = volumes.narrow(axis, size - 1, 1)
        padded = torch.cat([volumes, *[edge] * missing], dim=axis) if missing else volumes
        parts = [padded.narrow(axis, start, reach) for start in range(factor)]
        every = (slice(None),) * axis + (slice(None, None, stride),)
        total = parts[0][every]
        for part in parts[1:]:
            total = total + part[every]
        volumes = total / factor
    return volumes
