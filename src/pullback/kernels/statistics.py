"""Sums over all voxels, made per plane so that their order never changes: moments and joint histograms."""

import numpy as np
from numba import njit, prange

F4 = np.float32


@njit(parallel=True, cache=True)
def weighted_moments(fixed, warped, weights, out):
    """Sums of w, wf, ww, wff, www, wfw per plane (w the weight): `out` is ``(I, 6)`` float64."""
    size_i, size_j, size_k = fixed.shape
    for i in prange(size_i):
        s0 = s1 = s2 = s3 = s4 = s5 = 0.0
        for j in range(size_j):
            for k in range(size_k):
                w, a, b = np.float64(weights[i, j, k]), np.float64(fixed[i, j, k]), np.float64(warped[i, j, k])
                s0 += w
                s1 += w * a
                s2 += w * b
                s3 += w * a * a
                s4 += w * b * b
                s5 += w * a * b
        out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4], out[i, 5] = s0, s1, s2, s3, s4, s5


@njit(cache=True)
def _spline_bins(position, num_bins):
    """First of the four bins that a position reaches, and the values of the cubic B-splines in them."""
    position = position if position > F4(1) else F4(1)  # NaN goes to 1 too
    position = min(position, F4(num_bins) - F4(2.001))
    first = int(position) - 1
    t = position - F4(first + 1)
    s = F4(1) - t
    w0, w3 = s * s * s / F4(6), t * t * t / F4(6)
    w1 = F4(2) / F4(3) - t * t * (F4(2) - t) / F4(2)
    return first, t, (w0, w1, F4(1) - w0 - w1 - w3, w3)


@njit(parallel=True, cache=True)
def joint_histogram(fixed_bins, warped_bins, weights, num_bins, out):
    """Parzen joint histogram per plane, cubic B-splines along both axes: `out` is ``(I, bins, bins)`` float64, zeros.

    `fixed_bins` and `warped_bins` hold positions in bins, 1 to ``num_bins - 2``.
    """
    size_i, size_j, size_k = fixed_bins.shape
    for i in prange(size_i):
        for j in range(size_j):
            for k in range(size_k):
                weight = weights[i, j, k]
                if weight == F4(0):
                    continue
                first_f, _, weights_f = _spline_bins(fixed_bins[i, j, k], num_bins)
                first_w, _, weights_w = _spline_bins(warped_bins[i, j, k], num_bins)
                for a in range(4):
                    wa = weight * weights_f[a]
                    for b in range(4):
                        out[i, first_f + a, first_w + b] += wa * weights_w[b]


@njit(parallel=True, cache=True)
def histogram_gradient(fixed_bins, warped_bins, weights, table, num_bins, out):
    """Derivative by `warped_bins` of the sum of ``table[f, w] * histogram[f, w]``."""
    size_i, size_j, size_k = fixed_bins.shape
    for i in prange(size_i):
        for j in range(size_j):
            for k in range(size_k):
                weight = weights[i, j, k]
                out[i, j, k] = F4(0)
                position = warped_bins[i, j, k]
                if weight == F4(0) or position <= F4(1) or position >= F4(num_bins) - F4(2.001):
                    continue
                first_f, _, weights_f = _spline_bins(fixed_bins[i, j, k], num_bins)
                first_w, t, _ = _spline_bins(position, num_bins)
                s = F4(1) - t
                slopes = (-s * s / F4(2), t * (F4(1.5) * t - F4(2)), s * (F4(2) - F4(1.5) * s), t * t / F4(2))
                total = F4(0)
                for a in range(4):
                    row = F4(0)
                    for b in range(4):
                        row += F4(table[first_f + a, first_w + b]) * slopes[b]
                    total += weights_f[a] * row
                out[i, j, k] = weight * total
