"""Sampling by trilinear interpolation, line by line.

Positions, and from them neighbours and weights, are found for a whole line before anything is looked up, in loops of
their own that compile to vector instructions. Volumes have fewer than 2^31 voxels.
"""

import numpy as np
from numba import njit, prange

from pullback.kernels.lanes import NUM_LANES, all_lanes, load, look_up_pairs, multiply_add, store_first, where_filled
from pullback.kernels.prefetch import CACHE_LINE, prefetch
from pullback.kernels.scratch import whole_lines, zeros_for

F4 = np.float32
I4 = np.int32
U8 = np.uint64
FAST = {"contract", "nsz"}


@njit(inline="always")
def corner(position, size):
    """The lower neighbour of a clamped position along one axis and the weight of the upper one."""
    position = position if position > F4(0) else F4(0)  # NaN goes to 0 too
    position = min(position, F4(size - 1))
    lower = min(I4(position), I4(max(size - 2, 0)))
    return lower, position - F4(lower)


@njit(inline="always")
def _is_inside(position, size):
    return (position >= F4(-0.5)) & (position < F4(size) - F4(0.5))


@njit(inline="always")
def interpolate(flat, base, step_i, step_j, step_k, a, b, c):
    """Trilinear mean of the eight voxels from `base` on; exactly the voxel itself where a weight is 0 or 1."""
    top = base + step_i
    p, q, r = F4(1) - a, F4(1) - b, F4(1) - c
    v00 = r * flat[base] + c * flat[base + step_k]
    v01 = r * flat[base + step_j] + c * flat[base + step_j + step_k]
    v10 = r * flat[top] + c * flat[top + step_k]
    v11 = r * flat[top + step_j] + c * flat[top + step_j + step_k]
    return p * (q * v00 + b * v01) + a * (q * v10 + b * v11)


@njit(fastmath={"nsz"})
def interpolate_line(flat, start, bases, step_i, step_j, weights, inside, fill, o, row, n):
    """A line of interpolated numbers, where two voxels that are neighbours along K lie side by side.

    Args:
        flat: Volumes one after the other; `start` is where the one to sample begins.
        bases: int32, whole lines of the cache: the first of the eight voxels around each position.
        step_i, step_j: From there to the next along an axis.
        weights: Those of the upper neighbours along I, J and K.
        inside: Other than zero where a position is inside; read if `fill` is not None.
        fill: For positions outside; or None.
        o, row, n: Where the line begins, and how long it is.
    """
    weights_i, weights_j, weights_k = weights
    one = all_lanes(F4(1))
    for k in range(0, n, NUM_LANES):
        e = U8(k)
        a, b, c = load(weights_i, e), load(weights_j, e), load(weights_k, e)
        p, q, r = one - a, one - b, one - c
        near, far = look_up_pairs(flat, start, bases, e)
        total = p * q * multiply_add(c, far, r * near)
        near, far = look_up_pairs(flat, start + step_j, bases, e)
        total = multiply_add(p * b, multiply_add(c, far, r * near), total)
        near, far = look_up_pairs(flat, start + step_i, bases, e)
        total = multiply_add(a * q, multiply_add(c, far, r * near), total)
        near, far = look_up_pairs(flat, start + step_i + step_j, bases, e)
        total = multiply_add(a * b, multiply_add(c, far, r * near), total)
        if fill is not None:
            total = where_filled(load(inside, e), total, all_lanes(F4(fill)))
        store_first(o, row + e, total, n - k)


@njit(parallel=True, cache=True, fastmath=FAST)
def warp(image, displacement, matrix, fill, out):
    """Sample `image` at ``matrix (x + displacement(x))`` for every voxel x of `out`.

    `matrix` is ``(3, 4)``; positions more than half a voxel outside give `fill`, or the nearest edge if that is None.
    """
    size_i, size_j, size_k = I4(image.shape[0]), I4(image.shape[1]), I4(image.shape[2])
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    flat, d, o = image.reshape(-1), displacement.reshape(-1), out.reshape(-1)
    n, volume, m = out.shape[2], U8(out.size), matrix.astype(F4)
    length = whole_lines(n)
    for i in prange(out.shape[0]):
        bases, inside = zeros_for(length).view(np.int32), zeros_for(length)
        weights_i, weights_j, weights_k = zeros_for(length), zeros_for(length), zeros_for(length)
        for j in range(out.shape[1]):
            row = U8((i * out.shape[1] + j) * n)
            for component in range(3):
                prefetch(d, U8(component) * volume + row + U8(2 * n), n)
            for k in range(n):
                e = U8(k)
                x, y = F4(i) + d[row + e], F4(j) + d[row + volume + e]
                z = F4(I4(k)) + d[row + volume + volume + e]
                at_i = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                at_j = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                at_k = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                is_inside = _is_inside(at_i, size_i) & _is_inside(at_j, size_j) & _is_inside(at_k, size_k)
                inside[e] = F4(1) if is_inside else F4(0)
                i0, weights_i[e] = corner(at_i, size_i)
                j0, weights_j[e] = corner(at_j, size_j)
                k0, weights_k[e] = corner(at_k, size_k)
                bases[e] = (i0 * size_j + j0) * size_k + k0
            for k in range(0, n, CACHE_LINE):  # where the next line but one is likely to look
                soon = U8(bases[U8(k)]) + step_j + step_j
                prefetch(flat, soon, 1)
                prefetch(flat, soon + step_i, 1)
            if size_k > 1:
                weights = (weights_i, weights_j, weights_k)
                interpolate_line(flat, U8(0), bases, step_i, step_j, weights, inside, fill, o, row, n)
                continue
            for k in range(n):
                e = U8(k)
                a, b, c = weights_i[e], weights_j[e], weights_k[e]
                o[row + e] = interpolate(flat, U8(bases[e]), step_i, step_j, step_k, a, b, c)
                if fill is not None and inside[e] == F4(0):
                    o[row + e] = F4(fill)
