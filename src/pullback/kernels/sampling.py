"""Sampling and composition by trilinear interpolation."""

import numpy as np
from numba import njit, prange

F4 = np.float32
I4 = np.int32
U8 = np.uint64
FAST = {"contract", "nsz"}


@njit(inline="always")
def _corner(position, size):
    """The lower neighbour of a clamped position along one axis, the weight of the upper one, and whether inside."""
    inside = (position >= F4(-0.5)) & (position < F4(size) - F4(0.5))
    position = position if position > F4(0) else F4(0)  # NaN goes to 0 too
    position = min(position, F4(size - 1))
    lower = min(I4(position), I4(max(size - 2, 0)))
    return lower, position - F4(lower), inside


@njit(inline="always")
def _interpolate(flat, base, step_i, step_j, step_k, a, b, c):
    """Trilinear mean of the eight voxels from `base` on; exactly the voxel itself where a weight is 0 or 1."""
    top = base + step_i
    p, q, r = F4(1) - a, F4(1) - b, F4(1) - c
    v00 = r * flat[base] + c * flat[base + step_k]
    v01 = r * flat[base + step_j] + c * flat[base + step_j + step_k]
    v10 = r * flat[top] + c * flat[top + step_k]
    v11 = r * flat[top + step_j] + c * flat[top + step_j + step_k]
    return p * (q * v00 + b * v01) + a * (q * v10 + b * v11)


@njit(parallel=True, cache=True, fastmath=FAST)
def warp(image, displacement, matrix, fill, out):
    """Sample `image` at ``matrix (x + displacement(x))`` for every voxel x of `out`.

    `matrix` is ``(3, 4)``; positions more than half a voxel outside give `fill`, or the nearest edge if that is None.
    """
    size_i, size_j, size_k = image.shape
    flat = image.reshape(-1)
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    stride_i, stride_j = U8(size_j * size_k), U8(size_k)
    m = matrix.astype(F4)
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x = F4(i) + displacement[0, i, j, k]
                y = F4(j) + displacement[1, i, j, k]
                z = F4(k) + displacement[2, i, j, k]
                i0, a, in_i = _corner(m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3], size_i)
                j0, b, in_j = _corner(m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3], size_j)
                k0, c, in_k = _corner(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3], size_k)
                base = U8(i0) * stride_i + U8(j0) * stride_j + U8(k0)
                value = _interpolate(flat, base, step_i, step_j, step_k, a, b, c)
                if fill is not None:
                    value = value if in_i & in_j & in_k else F4(fill)
                out[i, j, k] = value


@njit(parallel=True, cache=True, fastmath=FAST)
def compose(outer, inner, out):
    """``out(x) = inner(x) + outer(x + inner(x))``, both in voxels of one lattice, edges repeated."""
    _, size_i, size_j, size_k = outer.shape
    flat = outer.reshape(-1)
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    stride_i, stride_j = U8(size_j * size_k), U8(size_k)
    volume = U8(size_i * size_j * size_k)
    for i in prange(size_i):
        for j in range(size_j):
            for k in range(size_k):
                d0, d1, d2 = inner[0, i, j, k], inner[1, i, j, k], inner[2, i, j, k]
                i0, a, _ = _corner(F4(i) + d0, size_i)
                j0, b, _ = _corner(F4(j) + d1, size_j)
                k0, c, _ = _corner(F4(k) + d2, size_k)
                base = U8(i0) * stride_i + U8(j0) * stride_j + U8(k0)
                out[0, i, j, k] = d0 + _interpolate(flat, base, step_i, step_j, step_k, a, b, c)
                base += volume
                out[1, i, j, k] = d1 + _interpolate(flat, base, step_i, step_j, step_k, a, b, c)
                base += volume
                out[2, i, j, k] = d2 + _interpolate(flat, base, step_i, step_j, step_k, a, b, c)


@njit(parallel=True, cache=True, fastmath=FAST)
def gap(outer, inner, out):
    """The length of ``inner(x) + outer(x + inner(x))``: how far `outer` is from undoing `inner`."""
    _, size_i, size_j, size_k = outer.shape
    flat = outer.reshape(-1)
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    stride_i, stride_j = U8(size_j * size_k), U8(size_k)
    volume = U8(size_i * size_j * size_k)
    for i in prange(size_i):
        for j in range(size_j):
            for k in range(size_k):
                d0, d1, d2 = inner[0, i, j, k], inner[1, i, j, k], inner[2, i, j, k]
                i0, a, _ = _corner(F4(i) + d0, size_i)
                j0, b, _ = _corner(F4(j) + d1, size_j)
                k0, c, _ = _corner(F4(k) + d2, size_k)
                base = U8(i0) * stride_i + U8(j0) * stride_j + U8(k0)
                d0 += _interpolate(flat, base, step_i, step_j, step_k, a, b, c)
                base += volume
                d1 += _interpolate(flat, base, step_i, step_j, step_k, a, b, c)
                base += volume
                d2 += _interpolate(flat, base, step_i, step_j, step_k, a, b, c)
                out[i, j, k] = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
