"""Correlation in sliding windows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.functional import reference
from pullback.functional.lifting import as_array, empty_like_shape, has_kernels, lift_volumes
from pullback.kernels import windows
from pullback.kernels.spans import spans_of_volume


def local_correlation(
    fixed: Tensor,
    warped: Tensor,
    weights: Tensor | None = None,
    *,
    radius_voxels: int = 2,
    noise: float = 1e-3,
    noise_is_shared: bool = False,
    contrast: float = 0.0,
    squared: bool = True,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Mean local correlation over all windows and its derivative by `warped`.

    $\mathrm{cc} = \mathrm{cov}^2 / ((\mathrm{var}_f + \epsilon)(\mathrm{var}_w + \epsilon))$, or its signed root; with
    $\mathrm{cov} + \epsilon$ for cov if the noise is shared; times $\mathrm{var}_f / (\mathrm{var}_f + \kappa)$ if
    windows count by contrast.

    Args:
        fixed, warped: ``(B, C, *shape)``.
        weights: ``(B, 1, *shape)`` from 0 to 1; a voxel counts by its weight inside windows, a window by its centre's.
        radius_voxels: Windows have ``2 radius + 1`` voxels a side, cut at the edges.
        noise: $\epsilon$ in squared intensity: the variance below which a window says nothing.
        noise_is_shared: Whether both images have that noise in common, so that windows without contrast agree.
        contrast: $\kappa$ in squared intensity: the variance of the fixed image at which a window counts half. Then the
            value of two equal images is below 1; 0: all windows count alike.
        squared: Whether the correlation is squared (contrast may be inverted).
        out: Where to write the derivative.

    Returns:
        The value, ``(B,)``, a weighted mean over windows and channels, and its derivative, shaped like `warped`.
    """
    num_dims = fixed.ndim - 2
    f, w = lift_volumes(fixed, num_dims), lift_volumes(warped, num_dims)
    m = None if weights is None else lift_volumes(weights, num_dims)
    radii = (radius_voxels if num_dims == 3 else 0, radius_voxels, radius_voxels)
    noises = (noise, noise if noise_is_shared else 0.0, contrast)
    if not has_kernels(fixed, warped):
        return _by_autograd(f, w, m, radii, noises, squared, warped.shape)
    gradient = empty_like_shape(*warped.shape) if out is None else out
    lifted = lift_volumes(gradient, num_dims)
    values = torch.empty(fixed.shape[0], dtype=torch.float64)
    for b in range(fixed.shape[0]):
        total = _total_weight(f[b], None if m is None else m[b])
        value = 0.0
        for c in range(fixed.shape[1]):
            mask = None if m is None else m[b, 0]
            value += _run(f[b, c], w[b, c], mask, radii, noises, squared, 1 / total, lifted[b, c])
        values[b] = value / total
    return values, gradient


def _run(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None,
    radii: tuple,
    noises: tuple,
    squared: bool,
    factor: float,
    out: Tensor,
) -> float:
    f, w = as_array(fixed), as_array(warped)
    totals = np.empty((f.shape[0], windows.num_tiles(f.shape[1])))
    spans = np.empty((2, *f.shape[:2]), dtype=np.int32)
    noises = tuple(np.float32(number) for number in noises)
    _, shared_noise, contrast = noises
    if shared_noise > 0 and contrast == 0:  # windows without contrast count too
        spans[0], spans[1] = 0, f.shape[2]
    else:
        spans_of_volume(f, spans[0], spans[1])
    mask_array = f if mask is None else as_array(mask)
    windows.correlation(
        f, w, mask_array, mask is not None, spans, radii, noises, squared, np.float32(factor), out.numpy(), totals
    )
    return float(totals.sum())


def _total_weight(fixed: Tensor, mask: Tensor | None) -> float:
    count = fixed.numel() if mask is None else fixed.shape[0] * float(as_array(mask).sum(dtype=np.float64))
    return max(count, 1.0)


def _by_autograd(
    fixed: Tensor, warped: Tensor, weights: Tensor | None, radii: Any, noises: Any, squared: bool, shape: Any
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = warped.detach().requires_grad_()
        each = reference.local_correlation(fixed.detach(), leaf, weights, radii, noises, squared)
        total = fixed[0].numel() if weights is None else (fixed.shape[1] * weights.sum(dim=(1, 2, 3, 4))).clamp(min=1)
        values = each.sum(dim=(1, 2, 3, 4)) / total
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach().to(torch.float64), gradient.reshape(shape)
