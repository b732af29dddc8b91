"""Sums over whole images whose order never changes: moments and joint histograms."""

import numpy as np
import torch
from torch import Tensor

from pullback.functional.lifting import as_array, lift_volumes
from pullback.kernels import statistics


def weighted_moments(fixed: Tensor, warped: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sums of 1, f, w, ff, ww and fw over the voxels of each channel.

    Args:
        fixed, warped: ``(B, C, *shape)``.
        weights: ``(B, 1, *shape)``, default 1.

    Returns:
        ``(B, C, 6)`` float64, on the images' device.
    """
    weights = torch.ones_like(fixed[:, :1]) if weights is None else weights
    if fixed.device.type != "cpu":
        return _weighted_moments_torch(fixed, warped, weights)
    num_dims = fixed.ndim - 2
    f, w, m = (lift_volumes(t, num_dims) for t in (fixed, warped, weights))
    result = torch.empty(*fixed.shape[:2], 6, dtype=torch.float64)
    for b in range(fixed.shape[0]):
        for c in range(fixed.shape[1]):
            partial = np.empty((f.shape[2], 6))
            statistics.weighted_moments(as_array(f[b, c]), as_array(w[b, c]), as_array(m[b, 0]), partial)
            result[b, c] = torch.from_numpy(partial.sum(axis=0))
    return result


def _weighted_moments_torch(fixed: Tensor, warped: Tensor, weights: Tensor) -> Tensor:
    f, w, m = fixed.double(), warped.double(), weights.double().expand_as(fixed)
    products = (m, m * f, m * w, m * f * f, m * w * w, m * f * w)
    return torch.stack([p.flatten(2).sum(-1) for p in products], dim=-1)


def joint_histogram(fixed_bins: Tensor, warped_bins: Tensor, weights: Tensor, num_bins: int) -> Tensor:
    """Parzen joint histogram of two volumes with cubic B-splines along both axes.

    Args:
        fixed_bins, warped_bins: ``(I, J, K)`` float32, positions between 1 and ``num_bins - 2``.
        weights: ``(I, J, K)``.
        num_bins: Bins along each axis.

    Returns:
        ``(num_bins, num_bins)`` float64, rows for the fixed image.
    """
    partial = np.zeros((fixed_bins.shape[0], num_bins, num_bins))
    arrays = [as_array(t.cpu()) for t in (fixed_bins, warped_bins, weights)]
    statistics.joint_histogram(*arrays, num_bins, partial)
    return torch.from_numpy(partial.sum(axis=0))


def histogram_gradient(
    fixed_bins: Tensor, warped_bins: Tensor, weights: Tensor, table: Tensor, num_bins: int
) -> Tensor:
    """Derivative by `warped_bins` of ``sum(table * joint_histogram)``, ``(I, J, K)`` float32."""
    arrays = [as_array(t.cpu()) for t in (fixed_bins, warped_bins, weights)]
    out = np.empty(arrays[0].shape, dtype=np.float32)
    statistics.histogram_gradient(*arrays, table.numpy(), num_bins, out)
    return torch.from_numpy(out).to(warped_bins.device)
