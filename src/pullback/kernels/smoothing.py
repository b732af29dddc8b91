"""Separable convolution of volumes with short symmetric filters; the edges are repeated."""

import numpy as np
from numba import njit, prange

F4 = np.float32
U8 = np.uint64
FAST = {"contract", "nsz"}


@njit(inline="always")
def _add_four(out, at, source, low, high, taps, first, n):
    """``out[at:at+n] += sum over q < 4 of taps[first + q] * (source[low[q]:] + source[high[q]:])``."""
    w0, w1, w2, w3 = taps[first], taps[first + 1], taps[first + 2], taps[first + 3]
    a0, a1, a2, a3 = low
    b0, b1, b2, b3 = high
    for k in range(n):
        e = U8(k)
        out[at + e] += (
            w0 * (source[a0 + e] + source[b0 + e])
            + w1 * (source[a1 + e] + source[b1 + e])
            + w2 * (source[a2 + e] + source[b2 + e])
            + w3 * (source[a3 + e] + source[b3 + e])
        )


@njit(inline="always")
def _convolve_lines(source, base, step, size, line, taps, out, at, n):
    """One output line of `n` numbers, filtered across the `size` lines that lie `step` apart from `base` on."""
    centre = U8(base + line * step)
    for k in range(n):
        out[at + U8(k)] = taps[0] * source[centre + U8(k)]
    for q in range(1, len(taps), 4):
        low = (
            U8(base + max(line - q, 0) * step),
            U8(base + max(line - q - 1, 0) * step),
            U8(base + max(line - q - 2, 0) * step),
            U8(base + max(line - q - 3, 0) * step),
        )
        high = (
            U8(base + min(line + q, size - 1) * step),
            U8(base + min(line + q + 1, size - 1) * step),
            U8(base + min(line + q + 2, size - 1) * step),
            U8(base + min(line + q + 3, size - 1) * step),
        )
        _add_four(out, at, source, low, high, taps, q, n)


@njit(parallel=True, cache=True, fastmath=FAST)
def convolve_first_axis(volumes, taps, out):
    """Filter each volume of ``(N, I, J, K)`` along I.

    `taps` is one half of the filter, centre first, with 1 + 4 m numbers; so in all functions of this file.
    """
    num, size_i, size_j, size_k = volumes.shape
    source, target = volumes.reshape(-1), out.reshape(-1)
    step = size_j * size_k
    for row in prange(num * size_j):
        base = (row // size_j) * size_i * step + (row % size_j) * size_k
        for i in range(size_i):
            _convolve_lines(source, base, step, size_i, i, taps, target, U8(base + i * step), size_k)


@njit(parallel=True, cache=True, fastmath=FAST)
def convolve_last_axes(volumes, taps_j, taps_k, out):
    """Filter each volume of ``(N, I, J, K)`` along K, then along J."""
    num, size_i, size_j, size_k = volumes.shape
    source, target = volumes.reshape(-1), out.reshape(-1)
    radius = len(taps_k) - 1
    for plane in prange(num * size_i):
        rows = np.empty(size_j * size_k, F4)
        padded = np.empty(size_k + 2 * radius, F4)
        base = plane * size_j * size_k
        for j in range(size_j):
            start = U8(base + j * size_k)
            for k in range(radius):
                padded[U8(k)] = source[start]
                padded[U8(radius + size_k + k)] = source[start + U8(size_k - 1)]
            for k in range(size_k):
                padded[U8(radius) + U8(k)] = source[start + U8(k)]
            at, centre = U8(j * size_k), U8(radius)
            for k in range(size_k):
                rows[at + U8(k)] = taps_k[0] * padded[centre + U8(k)]
            for q in range(1, len(taps_k), 4):
                low = (centre - U8(q), centre - U8(q + 1), centre - U8(q + 2), centre - U8(q + 3))
                high = (centre + U8(q), centre + U8(q + 1), centre + U8(q + 2), centre + U8(q + 3))
                _add_four(rows, at, padded, low, high, taps_k, q, size_k)
        for j in range(size_j):
            _convolve_lines(rows, 0, size_k, size_j, j, taps_j, target, U8(base + j * size_k), size_k)
