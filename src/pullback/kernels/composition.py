"""Composition of displacements by trilinear interpolation, line by line."""

import numpy as np
from numba import njit, prange

from pullback.kernels.lanes import NUM_LANES, all_lanes, larger, load, load_first, multiply_add, store_first
from pullback.kernels.neighbours import (
    NUM_LINES,
    NUM_PLANES,
    length_of_ring,
    num_tasks,
    part_of,
    pitch_of,
    rows_around,
    take_line,
    take_plane,
)
from pullback.kernels.prefetch import prefetch, prefetch_to_write
from pullback.kernels.sampling import corner, interpolate, interpolate_line
from pullback.kernels.scratch import whole_lines, zeros_for

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
def _along(ring, at, s, t, u):
    """Interpolated between a number, the one before it and the one after it."""
    first = s * load(ring, at - U8(1))
    return multiply_add(u, load(ring, at + U8(1)), multiply_add(t, load(ring, at), first))


@njit(inline="always")
def _across(ring, low, here, high, across, along):
    """Interpolated on three neighbouring lines, and between them."""
    p, q, r = across
    s, t, u = along
    first = p * _along(ring, low, s, t, u)
    return multiply_add(r, _along(ring, high, s, t, u), multiply_add(q, _along(ring, here, s, t, u), first))


@njit(inline="always")
def _weights(shift):
    """Of the neighbour before, of the number itself, and of the neighbour after, for a shift of at most a voxel."""
    zero = all_lanes(F4(0))
    before, after = larger(zero - shift, zero), larger(shift, zero)
    return before, all_lanes(F4(1)) - before - after, after


@njit(fastmath={"nsz"})
def _shift_line(ring, rows, pitch, d, row, volume, scale, o, n):
    """A line of ``d + f(x + d)`` for shifts of at most a voxel: every neighbour gets a weight, most of them 0."""
    mm, mz, mp, zm, zz, zp, pm, pz, pp = rows
    factor = all_lanes(scale)
    for k in range(0, n, NUM_LANES):
        e = U8(k)
        x = factor * load_first(d, row + e, n - k)
        y = factor * load_first(d, row + volume + e, n - k)
        z = factor * load_first(d, row + volume + volume + e, n - k)
        a, b, c = _weights(x)
        across, along = _weights(y), _weights(z)
        for component in range(3):
            at = e + U8(component * pitch)
            moved = a * _across(ring, mm + at, mz + at, mp + at, across, along)
            moved = multiply_add(b, _across(ring, zm + at, zz + at, zp + at, across, along), moved)
            moved = multiply_add(c, _across(ring, pm + at, pz + at, pp + at, across, along), moved)
            shift = x if component == 0 else y if component == 1 else z
            store_first(o, row + U8(component) * volume + e, shift + moved, n - k)


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
    shape, outer_bits = (size_i, size_j, n), f.view(np.int32)
    for turn in prange(num_tasks(size_i, size_j)):
        first, last, left, right = part_of(turn, size_i, size_j)
        ring, is_filled = zeros_for(length_of_ring(n)), np.zeros(NUM_PLANES * NUM_LINES, np.bool_)
        ring_bits, largest = ring.view(np.int32), np.zeros(1, F4)
        take_plane(outer_bits, shape, first - 1, left, right, ring_bits, is_filled)
        take_plane(outer_bits, shape, first, left, right, ring_bits, is_filled)
        for i in range(first, last):
            for lead in range(max(left - 1, 0), right + 1):
                if lead < size_j and i + 1 < size_i:
                    take_line(outer_bits, shape, i + 1, lead, left, ring_bits, is_filled)
                j = lead - 1
                if j < left:
                    continue
                row = U8((i * size_j + j) * n)
                for component in range(3):
                    prefetch(d, U8(component) * volume + row + U8(n), n)
                    prefetch_to_write(o, U8(component) * volume + row + U8(n), n)
                _find_largest(bits, row, volume, n, largest.view(np.int32))
                if largest[0] == F4(0):
                    for component in range(3):
                        start = row + U8(component) * volume
                        for k in range(n):
                            o[start + U8(k)] = f[start + U8(k)]
                elif largest[0] * abs(scale) <= F4(1):
                    rows = rows_around(i, j, left, shape)
                    _shift_line(ring, rows, pitch_of(n), d, row, volume, scale, o, n)
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
    d, o, length = inner.reshape(-1), out.reshape(-1), whole_lines(size_k)
    for i in prange(size_i):
        bases, moved = zeros_for(length).view(np.int32), zeros_for(3 * length)
        weights_i, weights_j, weights_k = zeros_for(length), zeros_for(length), zeros_for(length)
        for j in range(size_j):
            row = U8((i * size_j + j) * size_k)
            for component in range(3):
                prefetch(d, U8(component) * volume + row + U8(2 * size_k), size_k)
            for k in range(size_k):
                e = U8(k)
                i0, weights_i[e] = corner(F4(i) + d[row + e], shape_i)
                j0, weights_j[e] = corner(F4(j) + d[row + volume + e], shape_j)
                k0, weights_k[e] = corner(F4(I4(k)) + d[row + volume + volume + e], shape_k)
                bases[e] = (i0 * shape_j + j0) * shape_k + k0
            for component in range(3):
                start, at = U8(component) * volume, U8(component * length)
                if size_k > 1:
                    weights = (weights_i, weights_j, weights_k)
                    interpolate_line(f, start, bases, step_i, step_j, weights, moved, None, moved, at, size_k)
                else:
                    a, b, c = weights_i[0], weights_j[0], weights_k[0]
                    moved[at] = interpolate(f, start + U8(bases[0]), step_i, step_j, step_k, a, b, c)
            for k in range(size_k):
                e = U8(k)
                x, y = d[row + e] + moved[e], d[row + volume + e] + moved[e + U8(length)]
                z = d[row + volume + volume + e] + moved[e + U8(2 * length)]
                o[row + e] = np.sqrt(x * x + y * y + z * z)
