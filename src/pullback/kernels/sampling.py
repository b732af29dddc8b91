"""Sampling and composition by trilinear interpolation, line by line.

Positions, and from them neighbours and weights, are found for a whole line before anything is looked up, in loops of
their own that compile to vector instructions. Volumes have fewer than 2^31 voxels.
"""

import numpy as np
from numba import njit, prange

F4 = np.float32
I4 = np.int32
U8 = np.uint64
FAST = {"contract", "nsz"}
ONE_AS_BITS = np.int32(0x3F800000)
NO_SIGN = np.int32(0x7FFFFFFF)


@njit(inline="always")
def _corner(position, size):
    """The lower neighbour of a clamped position along one axis and the weight of the upper one."""
    position = position if position > F4(0) else F4(0)  # NaN goes to 0 too
    position = min(position, F4(size - 1))
    lower = min(I4(position), I4(max(size - 2, 0)))
    return lower, position - F4(lower)


@njit(inline="always")
def _is_inside(position, size):
    return (position >= F4(-0.5)) & (position < F4(size) - F4(0.5))


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
    size_i, size_j, size_k = I4(image.shape[0]), I4(image.shape[1]), I4(image.shape[2])
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    flat, d, o = image.reshape(-1), displacement.reshape(-1), out.reshape(-1)
    n, volume, m = out.shape[2], U8(out.size), matrix.astype(F4)
    for i in prange(out.shape[0]):
        bases, is_inside = np.empty(n, np.int32), np.empty(n, np.bool_)
        weights_i, weights_j, weights_k = np.empty(n, F4), np.empty(n, F4), np.empty(n, F4)
        for j in range(out.shape[1]):
            row = U8((i * out.shape[1] + j) * n)
            for k in range(n):
                e = U8(k)
                x, y = F4(i) + d[row + e], F4(j) + d[row + volume + e]
                z = F4(I4(k)) + d[row + volume + volume + e]
                at_i = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                at_j = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                at_k = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                is_inside[e] = _is_inside(at_i, size_i) & _is_inside(at_j, size_j) & _is_inside(at_k, size_k)
                i0, weights_i[e] = _corner(at_i, size_i)
                j0, weights_j[e] = _corner(at_j, size_j)
                k0, weights_k[e] = _corner(at_k, size_k)
                bases[e] = (i0 * size_j + j0) * size_k + k0
            for k in range(n):
                e = U8(k)
                a, b, c = weights_i[e], weights_j[e], weights_k[e]
                o[row + e] = _interpolate(flat, U8(bases[e]), step_i, step_j, step_k, a, b, c)
            if fill is not None:
                for k in range(n):
                    e = U8(k)
                    o[row + e] = o[row + e] if is_inside[e] else F4(fill)


@njit(inline="always")
def _largest_as_bits(bits, row, volume, n):
    """The largest magnitude among the components on a line, as the bits of a float32; NaN is above everything."""
    best = I4(0)
    for component in range(3):
        start = row + U8(component) * volume
        for k in range(n):
            best = max(best, bits[start + U8(k)] & NO_SIGN)
    return best


@njit(inline="always")
def _across(f, low, here, high, e, minus, zero, plus):
    return minus * f[low + e] + zero * f[here + e] + plus * f[high + e]


@njit(fastmath=FAST)
def _shift_line(f, d, o, row, volume, component, rows, n):
    """A line of ``d + f(x + d)`` for shifts of at most a voxel: every neighbour gets a weight, most of them 0.

    `rows` are where the nine lines around begin, over (i - 1, i, i + 1) and (j - 1, j, j + 1). All but the ends.
    """
    mm, mz, mp, zm, zz, zp, pm, pz, pp = rows
    row_j, row_k = row + volume, row + volume + volume
    off = U8(component) * volume
    mm, mz, mp = mm + off, mz + off, mp + off
    zm, zz, zp = zm + off, zz + off, zp + off
    pm, pz, pp = pm + off, pz + off, pp + off
    own, one = row + off, U8(1)
    for k in range(1, n - 1):
        e = U8(k)
        x, y, z = d[row + e], d[row_j + e], d[row_k + e]
        a, c = max(-x, F4(0)), max(x, F4(0))
        b = F4(1) - a - c
        p, r = max(-y, F4(0)), max(y, F4(0))
        q = F4(1) - p - r
        s, u = max(-z, F4(0)), max(z, F4(0))
        t = F4(1) - s - u
        below = p * _across(f, mm - one, mm, mm + one, e, s, t, u)
        below += q * _across(f, mz - one, mz, mz + one, e, s, t, u)
        below += r * _across(f, mp - one, mp, mp + one, e, s, t, u)
        level = p * _across(f, zm - one, zm, zm + one, e, s, t, u)
        level += q * _across(f, zz - one, zz, zz + one, e, s, t, u)
        level += r * _across(f, zp - one, zp, zp + one, e, s, t, u)
        above = p * _across(f, pm - one, pm, pm + one, e, s, t, u)
        above += q * _across(f, pz - one, pz, pz + one, e, s, t, u)
        above += r * _across(f, pp - one, pp, pp + one, e, s, t, u)
        o[own + e] = d[own + e] + (a * below + b * level + c * above)


@njit(inline="always")
def _compose_at(f, d, o, row, volume, i, j, k, shape):
    """One voxel of :func:`compose`, however far it moves."""
    size_i, size_j, size_k = shape
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    at = row + U8(k)
    x, y, z = d[at], d[at + volume], d[at + volume + volume]
    i0, a = _corner(F4(i) + x, size_i)
    j0, b = _corner(F4(j) + y, size_j)
    k0, c = _corner(F4(k) + z, size_k)
    base = U8((i0 * size_j + j0) * size_k + k0)
    o[at] = x + _interpolate(f, base, step_i, step_j, step_k, a, b, c)
    o[at + volume] = y + _interpolate(f, base + volume, step_i, step_j, step_k, a, b, c)
    base += volume + volume
    o[at + volume + volume] = z + _interpolate(f, base, step_i, step_j, step_k, a, b, c)


@njit(parallel=True, cache=True, fastmath=FAST)
def compose(outer, inner, out):
    """``out(x) = inner(x) + outer(x + inner(x))``, both in voxels of one lattice, edges repeated.

    A line on which nothing moves is copied; one on which nothing moves by more than a voxel, as in the steps of a
    registration, needs no look-ups.
    """
    _, size_i, size_j, n = outer.shape
    f, d, o = outer.reshape(-1), inner.reshape(-1), out.reshape(-1)
    bits = d.view(np.int32)
    area, volume = size_j * n, U8(size_i * size_j * n)
    shape = (I4(size_i), I4(size_j), I4(n))
    for i in prange(size_i):
        up, down = min(i + 1, size_i - 1) * area, max(i - 1, 0) * area
        for j in range(size_j):
            row = U8(i * area + j * n)
            largest = _largest_as_bits(bits, row, volume, n)
            if largest == 0:
                for component in range(3):
                    start = row + U8(component) * volume
                    for k in range(n):
                        o[start + U8(k)] = f[start + U8(k)]
            elif largest <= ONE_AS_BITS and n > 2:
                ahead, behind, here = min(j + 1, size_j - 1) * n, max(j - 1, 0) * n, j * n
                rows = (
                    U8(down + behind),
                    U8(down + here),
                    U8(down + ahead),
                    U8(i * area + behind),
                    row,
                    U8(i * area + ahead),
                    U8(up + behind),
                    U8(up + here),
                    U8(up + ahead),
                )
                for component in range(3):
                    _shift_line(f, d, o, row, volume, component, rows, n)
                _compose_at(f, d, o, row, volume, i, j, 0, shape)
                _compose_at(f, d, o, row, volume, i, j, n - 1, shape)
            else:
                for k in range(n):
                    _compose_at(f, d, o, row, volume, i, j, k, shape)


@njit(parallel=True, cache=True, fastmath=FAST)
def gap(outer, inner, out):
    """The length of ``inner(x) + outer(x + inner(x))``: how far `outer` is from undoing `inner`."""
    _, size_i, size_j, size_k = outer.shape
    f = outer.reshape(-1)
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    volume = U8(size_i * size_j * size_k)
    shape_i, shape_j, shape_k = I4(size_i), I4(size_j), I4(size_k)
    for i in prange(size_i):
        for j in range(size_j):
            for k in range(size_k):
                x, y, z = inner[0, i, j, k], inner[1, i, j, k], inner[2, i, j, k]
                i0, a = _corner(F4(i) + x, shape_i)
                j0, b = _corner(F4(j) + y, shape_j)
                k0, c = _corner(F4(k) + z, shape_k)
                base = U8((i0 * shape_j + j0) * shape_k + k0)
                x += _interpolate(f, base, step_i, step_j, step_k, a, b, c)
                base += volume
                y += _interpolate(f, base, step_i, step_j, step_k, a, b, c)
                base += volume
                z += _interpolate(f, base, step_i, step_j, step_k, a, b, c)
                out[i, j, k] = np.sqrt(x * x + y * y + z * z)
