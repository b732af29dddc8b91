"""Derivatives of :func:`pullback.kernels.sampling.warp` for training: by the displacement and by the image."""

import numpy as np
from numba import njit, prange

F4 = np.float32


@njit(inline="always")
def _edge(position, size):
    """Clamped neighbours, weight of the upper one, and 1 where a small move would move the sample, else 0."""
    free = F4(1) if (position > F4(0)) & (position < F4(size - 1)) else F4(0)
    position = position if position > F4(0) else F4(0)  # NaN goes to 0 too
    position = min(position, F4(size - 1))
    lower = int(position)
    return lower, min(lower + 1, size - 1), position - F4(lower), free


@njit(inline="always")
def _position(displacement, m, row, i, j, k):
    x = F4(i) + displacement[0, i, j, k]
    y = F4(j) + displacement[1, i, j, k]
    z = F4(k) + displacement[2, i, j, k]
    return m[row, 0] * x + m[row, 1] * y + m[row, 2] * z + m[row, 3]


@njit(parallel=True, cache=True)
def warp_by_displacement(images, displacement, matrix, upstream, out):
    """``out[c] = sum over channels of upstream * d warped / d displacement_c``; images and upstream have channels."""
    m = matrix.astype(F4)
    num, size_i, size_j, size_k = images.shape
    for i in prange(upstream.shape[1]):
        for j in range(upstream.shape[2]):
            for k in range(upstream.shape[3]):
                i0, i1, a, free_i = _edge(_position(displacement, m, 0, i, j, k), size_i)
                j0, j1, b, free_j = _edge(_position(displacement, m, 1, i, j, k), size_j)
                k0, k1, c, free_k = _edge(_position(displacement, m, 2, i, j, k), size_k)
                gx = gy = gz = F4(0)
                for n in range(num):
                    v, u = images[n], upstream[n, i, j, k]
                    l00, l01 = v[i1, j0, k0] - v[i0, j0, k0], v[i1, j0, k1] - v[i0, j0, k1]
                    l10, l11 = v[i1, j1, k0] - v[i0, j1, k0], v[i1, j1, k1] - v[i0, j1, k1]
                    gx += u * ((l00 + c * (l01 - l00)) * (F4(1) - b) + (l10 + c * (l11 - l10)) * b)
                    p0 = v[i0, j0, k0] + a * l00
                    p1 = v[i0, j0, k1] + a * l01
                    q0 = v[i0, j1, k0] + a * l10
                    q1 = v[i0, j1, k1] + a * l11
                    gy += u * ((q0 - p0) + c * ((q1 - p1) - (q0 - p0)))
                    gz += u * ((p1 - p0) + b * ((q1 - q0) - (p1 - p0)))
                gx, gy, gz = gx * free_i, gy * free_j, gz * free_k
                for row in range(3):
                    out[row, i, j, k] = m[0, row] * gx + m[1, row] * gy + m[2, row] * gz


@njit(parallel=True, cache=True)
def warp_by_image(displacement, matrix, upstream, out):
    """Spread `upstream` ``(C, ...)`` back to the voxels it was sampled from; `out` ``(C, I, J, K)`` starts at zero.

    One task per channel, so that no two tasks add to the same voxel.
    """
    m = matrix.astype(F4)
    num, size_i, size_j, size_k = out.shape
    for n in prange(num):
        for i in range(upstream.shape[1]):
            for j in range(upstream.shape[2]):
                for k in range(upstream.shape[3]):
                    i0, i1, a, _ = _edge(_position(displacement, m, 0, i, j, k), size_i)
                    j0, j1, b, _ = _edge(_position(displacement, m, 1, i, j, k), size_j)
                    k0, k1, c, _ = _edge(_position(displacement, m, 2, i, j, k), size_k)
                    u = upstream[n, i, j, k]
                    low, high = u * (F4(1) - a), u * a
                    ll, lh, hl, hh = low * (F4(1) - b), low * b, high * (F4(1) - b), high * b
                    out[n, i0, j0, k0] += ll * (F4(1) - c)
                    out[n, i0, j0, k1] += ll * c
                    out[n, i0, j1, k0] += lh * (F4(1) - c)
                    out[n, i0, j1, k1] += lh * c
                    out[n, i1, j0, k0] += hl * (F4(1) - c)
                    out[n, i1, j0, k1] += hl * c
                    out[n, i1, j1, k0] += hh * (F4(1) - c)
                    out[n, i1, j1, k1] += hh * c
