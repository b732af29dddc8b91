"""Sampling of volumes at listed positions: nearest, linear, cubic B-spline, and a vote among labels.

Positions are float64 voxel coordinates ``(3, N)``. A position is inside when it lies within half a voxel of the outer
centres, ``-0.5 <= x < n - 0.5`` on each axis, which is also ITK's rule; outside positions give `fill`.
"""

import math

import numpy as np
from numba import njit, prange

BLOCK = 4096
"""Positions of one task."""
HAIR_VOXELS = 1e-8
"""A position this near to a voxel centre is on it: what rounding does on the way through the world changes no bit."""
LABEL_SIGMA_VOXELS = 0.49
"""Width of the Gaussian with which neighbouring voxels vote for their label. Below 0.495 a voxel outweighs all its
neighbours together at its own centre, so that an unmoved label map stays as it is, down to lone voxels."""


@njit(inline="always")
def _is_inside(x, y, z, shape):
    return (x >= -0.5) & (x < shape[0] - 0.5) & (y >= -0.5) & (y < shape[1] - 0.5) & (z >= -0.5) & (z < shape[2] - 0.5)


@njit(inline="always")
def _between(x, size):
    """Lower and upper neighbour of a position on an axis whose edge is repeated, and the weight of the upper."""
    x = min(x if x > 0.0 else 0.0, size - 1.0)  # NaN goes to 0 too
    nearest = math.floor(x + 0.5)
    if abs(x - nearest) < HAIR_VOXELS:
        x = nearest
    lower = int(x)
    return lower, min(lower + 1, size - 1), x - lower


@njit(parallel=True, cache=True)
def sample_nearest(volume, positions, fill, out):
    """The voxel whose centre is nearest; halves go up, as in ITK."""
    num = positions.shape[1]
    for block in prange((num + BLOCK - 1) // BLOCK):
        for n in range(block * BLOCK, min((block + 1) * BLOCK, num)):
            x, y, z = positions[0, n], positions[1, n], positions[2, n]
            out[n] = fill
            if _is_inside(x, y, z, volume.shape):
                out[n] = volume[int(math.floor(x + 0.5)), int(math.floor(y + 0.5)), int(math.floor(z + 0.5))]


@njit(parallel=True, cache=True)
def sample_linear(volumes, positions, fill, clamp, out):
    """Trilinear mean of the eight neighbours in each of ``(C, I, J, K)``; `out` is ``(C, N)``. `clamp`: no outside."""
    num, shape = positions.shape[1], volumes.shape[1:]
    for block in prange((num + BLOCK - 1) // BLOCK):
        for n in range(block * BLOCK, min((block + 1) * BLOCK, num)):
            x, y, z = positions[0, n], positions[1, n], positions[2, n]
            if not clamp and not _is_inside(x, y, z, shape):
                out[:, n] = fill
                continue
            i0, i1, a = _between(x, shape[0])
            j0, j1, b = _between(y, shape[1])
            k0, k1, c = _between(z, shape[2])
            for v in range(volumes.shape[0]):
                volume = volumes[v]
                v00 = volume[i0, j0, k0] + c * (volume[i0, j0, k1] - volume[i0, j0, k0])
                v01 = volume[i0, j1, k0] + c * (volume[i0, j1, k1] - volume[i0, j1, k0])
                v10 = volume[i1, j0, k0] + c * (volume[i1, j0, k1] - volume[i1, j0, k0])
                v11 = volume[i1, j1, k0] + c * (volume[i1, j1, k1] - volume[i1, j1, k0])
                v0, v1 = v00 + b * (v01 - v00), v10 + b * (v11 - v10)
                out[v, n] = v0 + a * (v1 - v0)


@njit(inline="always")
def _cubic_weights(t):
    """Values of the four cubic B-splines around a position with fractional part t."""
    s = 1.0 - t
    w0, w3 = s * s * s / 6.0, t * t * t / 6.0
    w1 = 2.0 / 3.0 - t * t * (2.0 - t) / 2.0
    return w0, w1, 1.0 - w0 - w1 - w3, w3


@njit(inline="always")
def _mirror(index, size):
    """Reflect an index about the outer centres."""
    if size == 1:
        return 0
    period = 2 * size - 2
    index = abs(index) % period
    return period - index if index >= size else index


@njit(parallel=True, cache=True)
def sample_cubic(coefficients, positions, fill, out):
    """Cubic B-spline with the given `coefficients` (mirrored at the edges)."""
    num, (size_i, size_j, size_k) = positions.shape[1], coefficients.shape
    for block in prange((num + BLOCK - 1) // BLOCK):
        for n in range(block * BLOCK, min((block + 1) * BLOCK, num)):
            x, y, z = positions[0, n], positions[1, n], positions[2, n]
            out[n] = fill
            if not _is_inside(x, y, z, coefficients.shape):
                continue
            i0, j0, k0 = int(math.floor(x)), int(math.floor(y)), int(math.floor(z))
            weights_i, weights_j, weights_k = _cubic_weights(x - i0), _cubic_weights(y - j0), _cubic_weights(z - k0)
            total = 0.0
            for a in range(4):
                i = _mirror(i0 + a - 1, size_i)
                for b in range(4):
                    j = _mirror(j0 + b - 1, size_j)
                    weight = weights_i[a] * weights_j[b]
                    for c in range(4):
                        k = _mirror(k0 + c - 1, size_k)
                        total += weight * weights_k[c] * coefficients[i, j, k]
            out[n] = total


@njit(parallel=True, cache=True)
def sample_labels(volume, positions, fill, out):
    """The label with most Gaussian weight among the 4 x 4 x 4 voxels around; at a tie the smaller label."""
    num, (size_i, size_j, size_k) = positions.shape[1], volume.shape
    decay = -0.5 / LABEL_SIGMA_VOXELS**2
    for block in prange((num + BLOCK - 1) // BLOCK):
        found = np.empty(64, volume.dtype)
        votes = np.empty(64, np.float64)
        for n in range(block * BLOCK, min((block + 1) * BLOCK, num)):
            x, y, z = positions[0, n], positions[1, n], positions[2, n]
            out[n] = fill
            if not _is_inside(x, y, z, volume.shape):
                continue
            i0, j0, k0 = int(math.floor(x)) - 1, int(math.floor(y)) - 1, int(math.floor(z)) - 1
            count = 0
            for i in range(max(i0, 0), min(i0 + 4, size_i)):
                for j in range(max(j0, 0), min(j0 + 4, size_j)):
                    for k in range(max(k0, 0), min(k0 + 4, size_k)):
                        vote = math.exp(decay * ((i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2))
                        label = volume[i, j, k]
                        at = 0
                        while at < count and found[at] != label:
                            at += 1
                        if at == count:
                            found[at], votes[at] = label, 0.0
                            count += 1
                        votes[at] += vote
            best = 0
            for at in range(1, count):
                if votes[at] > votes[best] or (votes[at] == votes[best] and found[at] < found[best]):
                    best = at
            out[n] = found[best]
