"""Sampling by a matrix and its derivative by the matrix, for losses on the images that an affine map gives.

Both visit only those voxels whose samples can see something: the rest of a line, outside of the box of what is not zero
in the image, is left out, which changes no number. Positions outside of the image repeat its edge.
"""

import numpy as np
from numba import njit, prange

F4 = np.float32
U8 = np.uint64


@njit(cache=True)
def box_of(volume, out):
    """First and last (exclusive) index along each axis of what is not zero in ``(I, J, K)``; `out` is ``(3, 2)``."""
    size_i, size_j, size_k = volume.shape
    out[0], out[1], out[2] = (size_i, 0), (size_j, 0), (size_k, 0)
    for i in range(size_i):
        for j in range(size_j):
            low, high = size_k, 0
            for k in range(size_k):
                if volume[i, j, k] != F4(0):
                    low, high = min(low, k), k + 1
            if high > low:
                out[0, 0], out[0, 1] = min(out[0, 0], i), i + 1
                out[1, 0], out[1, 1] = min(out[1, 0], j), max(out[1, 1], j + 1)
                out[2, 0], out[2, 1] = min(out[2, 0], low), max(out[2, 1], high)


@njit
def _visible(matrix, box, shape, i, j, n):
    """The range of k in which positions see the box, a voxel more on either side."""
    first, last = 0.0, float(n)
    for axis in range(3):
        if box[axis, 1] <= box[axis, 0]:
            return 0, 0
        low = -np.inf if box[axis, 0] == 0 else box[axis, 0] - 1.0
        high = np.inf if box[axis, 1] == shape[axis] else float(box[axis, 1])
        start = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3]
        slope = matrix[axis, 2]
        if abs(slope) < 1e-6:  # the line stays where it is, to a small part of a voxel
            if start < low - 0.01 or start > high + 0.01:
                return 0, 0
            continue
        one, other = (low - start) / slope, (high - start) / slope
        first, last = max(first, min(one, other) - 1), min(last, max(one, other) + 2)
    return (0, 0) if last <= first else (int(first), int(last))


@njit(inline="always")
def _corner(position, size):
    """Lower neighbour, weight of the upper one, and 1 where a small move would move the sample, else 0."""
    free = F4(1) if (position > 0) & (position < size - 1) else F4(0)
    position = position if position > 0 else 0.0  # NaN goes to 0 too
    position = min(position, size - 1.0)
    lower = min(int(position), max(size - 2, 0))
    return lower, F4(position - lower), free


@njit(inline="always")
def _position(matrix, axis, i, j, k):
    return matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3] + matrix[axis, 2] * k


@njit(inline="always")
def _steps(size_i, size_j, size_k):
    """From a voxel to the next along each axis, in a flat volume; none along an axis of a single voxel."""
    return U8(size_j * size_k if size_i > 1 else 0), U8(size_k if size_j > 1 else 0), U8(1 if size_k > 1 else 0)


@njit(parallel=True, cache=True)
def warp(volumes, matrix, box, out):
    """``out[c](x) = volumes[c](matrix x)``; `out` starts at zero, `matrix` is ``(3, 4)`` and finite."""
    num, size_i, size_j, size_k = volumes.shape
    flat, volume = volumes.reshape(-1), U8(size_i * size_j * size_k)
    step_i, step_j, step_k = _steps(size_i, size_j, size_k)
    for i in prange(out.shape[1]):
        for j in range(out.shape[2]):
            first, last = _visible(matrix, box, (size_i, size_j, size_k), i, j, out.shape[3])
            for k in range(first, last):
                i0, a, _ = _corner(_position(matrix, 0, i, j, k), size_i)
                j0, b, _ = _corner(_position(matrix, 1, i, j, k), size_j)
                k0, c, _ = _corner(_position(matrix, 2, i, j, k), size_k)
                p, q, r = F4(1) - a, F4(1) - b, F4(1) - c
                near = U8((i0 * size_j + j0) * size_k + k0)
                for n in range(num):
                    far = near + step_i
                    low = q * (r * flat[near] + c * flat[near + step_k])
                    low += b * (r * flat[near + step_j] + c * flat[near + step_j + step_k])
                    high = q * (r * flat[far] + c * flat[far + step_k])
                    high += b * (r * flat[far + step_j] + c * flat[far + step_j + step_k])
                    out[n, i, j, k] = p * low + a * high
                    near += volume


@njit(parallel=True, cache=True)
def warp_by_matrix(volumes, matrix, box, upstream, out):
    """Derivative of ``sum(upstream * warp)`` by the matrix, plane by plane: `out` is ``(I, 3, 4)``."""
    num, size_i, size_j, size_k = volumes.shape
    flat, volume = volumes.reshape(-1), U8(size_i * size_j * size_k)
    step_i, step_j, step_k = _steps(size_i, size_j, size_k)
    for i in prange(upstream.shape[1]):
        total = np.zeros((3, 4))
        for j in range(upstream.shape[2]):
            first, last = _visible(matrix, box, (size_i, size_j, size_k), i, j, upstream.shape[3])
            x = y = z = x_k = y_k = z_k = 0.0
            for k in range(first, last):
                i0, a, free_i = _corner(_position(matrix, 0, i, j, k), size_i)
                j0, b, free_j = _corner(_position(matrix, 1, i, j, k), size_j)
                k0, c, free_k = _corner(_position(matrix, 2, i, j, k), size_k)
                gx = gy = gz = F4(0)
                near = U8((i0 * size_j + j0) * size_k + k0)
                for n in range(num):
                    u, far = upstream[n, i, j, k], near + step_i
                    v00, v01 = flat[near], flat[near + step_k]
                    v10, v11 = flat[near + step_j], flat[near + step_j + step_k]
                    l00, l01 = flat[far] - v00, flat[far + step_k] - v01
                    l10, l11 = flat[far + step_j] - v10, flat[far + step_j + step_k] - v11
                    gx += u * ((l00 + c * (l01 - l00)) * (F4(1) - b) + (l10 + c * (l11 - l10)) * b)
                    p0, p1, q0, q1 = v00 + a * l00, v01 + a * l01, v10 + a * l10, v11 + a * l11
                    gy += u * ((q0 - p0) + c * ((q1 - p1) - (q0 - p0)))
                    gz += u * ((p1 - p0) + b * ((q1 - q0) - (p1 - p0)))
                    near += volume
                gx, gy, gz = gx * free_i, gy * free_j, gz * free_k
                x, y, z = x + gx, y + gy, z + gz
                x_k, y_k, z_k = x_k + gx * k, y_k + gy * k, z_k + gz * k
            _add_line(total, i, j, (x, y, z), (x_k, y_k, z_k))
        out[i] = total


@njit(inline="always")
def _add_line(total, i, j, sums, sums_by_k):
    """Sums over a line, and sums weighted by k, to the derivatives by a matrix."""
    for row in range(3):
        total[row, 0] += i * sums[row]
        total[row, 1] += j * sums[row]
        total[row, 2] += sums_by_k[row]
        total[row, 3] += sums[row]
