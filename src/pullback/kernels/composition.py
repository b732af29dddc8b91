"""Composition of displacements by trilinear interpolation, line by line."""

import numpy as np
from numba import njit, prange

from pullback.kernels.neighbours import NUM_PLACES, length_of_ring, num_tasks, part_of, rows_around, take_lines
from pullback.kernels.prefetch import prefetch
from pullback.kernels.sampling import corner, interpolate

F4 = np.float32
I4 = np.int32
U8 = np.uint64
FAST = {"contract", "nsz"}
NO_SIGN = np.int32(0x7FFFFFFF)


@njit
def _find_largest(bits, row, volume, n, out):
    """The largest magnitude among the components on a line, as the bits of a float32; NaN is above everything."""
    best = I4(0)
    for component in range(3):
        start = row + U8(component) * volume
        for k in range(n):
            best = max(best, bits[start + U8(k)] & NO_SIGN)
    out[0] = best


@njit(inline="always")
def _across(f, low, here, high, e, minus, zero, plus):
    return minus * f[low + e] + zero * f[here + e] + plus * f[high + e]


@njit(fastmath=FAST)
def _shift_line(ring, rows, offset, d, row, volume, scale, o, own, n):
    """A line of ``d + f(x + d)`` for shifts of at most a voxel: every neighbour gets a weight, most of them 0.

    One component, which begins `offset` after :func:`rows_around` the line in the ring, and at `own` in `d` and `o`.
    """
    mm, mz, mp, zm, zz, zp, pm, pz, pp = rows
    mm, mz, mp = mm + offset, mz + offset, mp + offset
    zm, zz, zp = zm + offset, zz + offset, zp + offset
    pm, pz, pp = pm + offset, pz + offset, pp + offset
    row_j, row_k, one = row + volume, row + volume + volume, U8(1)
    for k in range(n):
        e = U8(k)
        x, y, z = scale * d[row + e], scale * d[row_j + e], scale * d[row_k + e]
        a, c = max(-x, F4(0)), max(x, F4(0))
        b = F4(1) - a - c
        p, r = max(-y, F4(0)), max(y, F4(0))
        q = F4(1) - p - r
        s, u = max(-z, F4(0)), max(z, F4(0))
        t = F4(1) - s - u
        below = p * _across(ring, mm - one, mm, mm + one, e, s, t, u)
        below += q * _across(ring, mz - one, mz, mz + one, e, s, t, u)
        below += r * _across(ring, mp - one, mp, mp + one, e, s, t, u)
        level = p * _across(ring, zm - one, zm, zm + one, e, s, t, u)
        level += q * _across(ring, zz - one, zz, zz + one, e, s, t, u)
        level += r * _across(ring, zp - one, zp, zp + one, e, s, t, u)
        above = p * _across(ring, pm - one, pm, pm + one, e, s, t, u)
        above += q * _across(ring, pz - one, pz, pz + one, e, s, t, u)
        above += r * _across(ring, pp - one, pp, pp + one, e, s, t, u)
        o[own + e] = scale * d[own + e] + (a * below + b * level + c * above)


@njit
def _look_up_line(f, d, scale, o, row, volume, i, j, shape):
    """A line of :func:`compose`, however far it moves."""
    size_i, size_j, size_k = shape
    step_i = U8(size_j * size_k if size_i > 1 else 0)
    step_j = U8(size_k if size_j > 1 else 0)
    step_k = U8(1 if size_k > 1 else 0)
    for k in range(size_k):
        at = row + U8(k)
        x, y, z = scale * d[at], scale * d[at + volume], scale * d[at + volume + volume]
        i0, a = corner(F4(i) + x, size_i)
        j0, b = corner(F4(j) + y, size_j)
        k0, c = corner(F4(I4(k)) + z, size_k)
        base = U8((i0 * size_j + j0) * size_k + k0)
        o[at] = x + interpolate(f, base, step_i, step_j, step_k, a, b, c)
        o[at + volume] = y + interpolate(f, base + volume, step_i, step_j, step_k, a, b, c)
        base += volume + volume
        o[at + volume + volume] = z + interpolate(f, base, step_i, step_j, step_k, a, b, c)


@njit(parallel=True, cache=True, fastmath=FAST)
def compose(outer, inner, scale, out):
    """``out(x) = s inner(x) + outer(x + s inner(x))``, both in voxels of one lattice, edges repeated.

    A line on which nothing moves is copied; one on which nothing moves by more than a voxel, as in the steps of a
    registration, needs no look-ups.
    """
    _, size_i, size_j, n = outer.shape
    f, d, o = outer.reshape(-1), inner.reshape(-1), out.reshape(-1)
    bits, volume = d.view(np.int32), U8(size_i * size_j * n)
    for turn in prange(num_tasks(size_i, size_j)):
        first, last, left, right = part_of(turn, size_i, size_j)
        ring, is_filled = np.zeros(length_of_ring(n), F4), np.zeros(NUM_PLACES, np.bool_)
        largest = np.zeros(1, F4)
        for i in range(first, last):
            for lead in range(max(left - 1, 0), right + 1):
                if lead < size_j:
                    take_lines(f, (size_i, size_j, n), i, lead, right, ring, is_filled)
                j = lead - 1
                if j < left:
                    continue
                row = U8((i * size_j + j) * n)
                for component in range(3):
                    prefetch(d, U8(component) * volume + row + U8(n), n)
                _find_largest(bits, row, volume, n, largest.view(np.int32))
                if largest[0] == F4(0):
                    for component in range(3):
                        start = row + U8(component) * volume
                        for k in range(n):
                            o[start + U8(k)] = f[start + U8(k)]
                elif largest[0] * abs(scale) <= F4(1):
                    rows = rows_around(j, size_j, n)
                    for component in range(3):
                        own, offset = U8(component) * volume + row, U8(component * (n + 2))
                        _shift_line(ring, rows, offset, d, row, volume, scale, o, own, n)
                else:
                    _look_up_line(f, d, scale, o, row, volume, i, j, (I4(size_i), I4(size_j), I4(n)))


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
                i0, a = corner(F4(i) + x, shape_i)
                j0, b = corner(F4(j) + y, shape_j)
                k0, c = corner(F4(k) + z, shape_k)
                base = U8((i0 * shape_j + j0) * shape_k + k0)
                x += interpolate(f, base, step_i, step_j, step_k, a, b, c)
                base += volume
                y += interpolate(f, base, step_i, step_j, step_k, a, b, c)
                base += volume
                z += interpolate(f, base, step_i, step_j, step_k, a, b, c)
                out[i, j, k] = np.sqrt(x * x + y * y + z * z)
