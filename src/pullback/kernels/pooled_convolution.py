"""A convolution over 3 voxels per axis, ReLU and max-pooling by 2 in one sweep, and its derivatives.

Few channels on many voxels are what libraries of matrix products are bad at: here the rows of one channel are made with
vector instructions and pooled while they are in the first cache. Lines whose neighbourhood is all zero, which is most
of a brain image, give the bias and are left out. Of each block of 8 only the largest has a derivative.

Images are ``(B, C, I, J, K)`` with even I, J and K, weights ``(C', C, 3, 3, 3)``, results ``(B, C', I/2, J/2, K/2)``.
"""

import numpy as np
from numba import njit, prange

from pullback.kernels.spans import span_of, widen

F4 = np.float32
U8 = np.uint64
FAST = {"contract", "nsz", "reassoc"}


@njit
def _copy_padded(image, first, padded, lows, highs):
    """Planes `first` to ``first + len`` of ``(C, I, J, K)`` with zeros around them, and the span of each of their rows.

    `padded` is ``(C, planes, J + 2, K + 2)``; `lows` and `highs` are ``(planes, J + 2)``: over all channels, in indices
    of `image`.
    """
    num_channels, num_planes, size_j, n = image.shape
    flat = image.reshape(-1)
    padded[:] = F4(0)
    lows[:], highs[:] = n, 0
    for c in range(num_channels):
        for p in range(padded.shape[1]):
            i = first + p
            if i < 0 or i >= num_planes:
                continue
            for j in range(size_j):
                start = ((c * num_planes + i) * size_j + j) * n
                low, high = span_of(flat, start, n)
                lows[p, j + 1], highs[p, j + 1] = min(lows[p, j + 1], low), max(highs[p, j + 1], high)
                for k in range(n):
                    padded[c, p, j + 1, k + 1] = flat[U8(start + k)]


@njit(inline="always")
def _span_of_rows(lows, highs, plane, row, n):
    """Where outputs of the two rows from padded row `row` + 1 on, in two planes, can differ from the bias."""
    low, high = n, 0
    for p in range(plane, plane + 4):
        for r in range(row, row + 4):
            low, high = min(low, lows[p, r]), max(high, highs[p, r])
    return widen(low, high, 1, n)


@njit(fastmath=FAST)
def _add_plane(acc, at, padded, start, step, taps, low, high):
    """Add what the nine `taps` of one plane make of three padded rows, the first of which begins at `start`."""
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = (
        taps[0, 0],
        taps[0, 1],
        taps[0, 2],
        taps[1, 0],
        taps[1, 1],
        taps[1, 2],
        taps[2, 0],
        taps[2, 1],
        taps[2, 2],
    )
    a, b, c = U8(start), U8(start + step), U8(start + 2 * step)
    one, two = U8(1), U8(2)
    for k in range(low, high):
        e = U8(k)
        top = t0 * padded[a + e] + t1 * padded[a + e + one] + t2 * padded[a + e + two]
        middle = t3 * padded[b + e] + t4 * padded[b + e + one] + t5 * padded[b + e + two]
        bottom = t6 * padded[c + e] + t7 * padded[c + e + one] + t8 * padded[c + e + two]
        acc[at + e] += top + middle + bottom


@njit(fastmath=FAST)
def _pool(acc, n, low, high, out, which):
    """The largest of each block of 8 in four rows of `n`, at least 0, and its number in the block; NaN stays NaN."""
    for cell in range(low // 2, high // 2):
        largest, at = acc[U8(2 * cell)], 0
        for number in range(1, 8):
            value = acc[U8((number >> 1) * n + 2 * cell + (number & 1))]
            if value > largest or value != value:
                largest, at = value, number
        out[cell], which[cell] = F4(0) if largest < F4(0) else largest, at


@njit(parallel=True, cache=True, fastmath=FAST)
def forward(images, weights, biases, out, which):
    """`out` and, for the derivatives, the number of the largest in each block (`which`, uint8)."""
    batch, num_inputs, size_i, size_j, n = images.shape
    num_planes, num_outputs = size_i // 2, weights.shape[0]
    for task in prange(batch * num_planes):
        b, plane = task // num_planes, task % num_planes
        padded = np.empty((num_inputs, 4, size_j + 2, n + 2), F4)
        lows, highs = np.empty((4, size_j + 2), np.int32), np.empty((4, size_j + 2), np.int32)
        _copy_padded(images[b], 2 * plane - 1, padded, lows, highs)
        flat, acc = padded.reshape(-1), np.empty(4 * n, F4)
        for row in range(size_j // 2):
            low, high = _span_of_rows(lows, highs, 0, 2 * row, n)
            for c in range(num_outputs):
                line, places = out[b, c, plane, row], which[b, c, plane, row]
                line[:], places[:] = max(biases[c], F4(0)), 0
                if high <= low:
                    continue
                acc[:] = biases[c]
                for line_number in range(4):
                    for channel in range(num_inputs):
                        for p in range(3):
                            start = (channel * 4 + line_number // 2 + p) * (size_j + 2) + 2 * row + line_number % 2
                            at = U8(line_number * n)
                            taps = weights[c, channel, p]
                            _add_plane(acc, at, flat, start * (n + 2), n + 2, taps, low, high)
                _pool(acc, n, low, high, line, places)


@njit(parallel=True, cache=True, fastmath=FAST)
def backward(images, weights, out, which, upstream, by_images, by_weights, by_biases):
    """Derivatives of ``sum(upstream * out)``, image by image, for the caller to add up.

    `by_images` is shaped like the images, or has no images if that is not wanted; `by_weights` is ``(B, C', C, 27)``
    and `by_biases` ``(B, C')``; all three start at zero.
    """
    batch, num_inputs, size_i, size_j, n = images.shape
    for b in prange(batch):
        padded = np.empty((num_inputs, size_i + 2, size_j + 2, n + 2), F4)
        lows, highs = np.empty((size_i + 2, size_j + 2), np.int32), np.empty((size_i + 2, size_j + 2), np.int32)
        _copy_padded(images[b], -1, padded, lows, highs)
        is_by_image = len(by_images) > 0
        spread = np.zeros(padded.shape if is_by_image else (0, 0, 0, 0), F4)
        for c in range(weights.shape[0]):
            for i in range(size_i // 2):
                for j in range(size_j // 2):
                    low, high = _span_of_rows(lows, highs, 2 * i, 2 * j, n)
                    for k in range(n // 2):
                        u = upstream[b, c, i, j, k]
                        if u == F4(0) or out[b, c, i, j, k] <= F4(0):
                            continue
                        by_biases[b, c] += u
                        w = which[b, c, i, j, k]
                        at_i, at_j, at_k = 2 * i + (w >> 2), 2 * j + (w >> 1 & 1), 2 * k + (w & 1)
                        if low <= at_k < high:
                            _add_patch(padded, at_i, at_j, at_k, u, by_weights[b, c])
                        if is_by_image:
                            _spread_patch(spread, at_i, at_j, at_k, u, weights[c])
        if is_by_image:
            by_images[b] = spread[:, 1:-1, 1:-1, 1:-1]


@njit(inline="always")
def _add_patch(padded, i, j, k, u, out):
    for c in range(padded.shape[0]):
        for p in range(3):
            for q in range(3):
                for r in range(3):
                    out[c, 9 * p + 3 * q + r] += u * padded[c, i + p, j + q, k + r]


@njit(inline="always")
def _spread_patch(spread, i, j, k, u, weights):
    for c in range(spread.shape[0]):
        for p in range(3):
            for q in range(3):
                for r in range(3):
                    spread[c, i + p, j + q, k + r] += u * weights[c, p, q, r]
