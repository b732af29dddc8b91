"""Spatial derivatives: forces, Jacobian determinants, and the derivative of a warped image by an affine matrix."""

import numpy as np
from numba import njit, prange

from pullback.kernels.neighbours import (
    NUM_LINES,
    NUM_PLANES,
    is_any_filled,
    length_of_ring,
    num_tasks,
    part_of,
    pitch_of,
    rows_around,
    take_line,
    take_plane,
)
from pullback.kernels.prefetch import prefetch_to_write
from pullback.kernels.scratch import room_for, zeros_for
from pullback.kernels.spans import clear

F4 = np.float32
U8 = np.uint64
FAST = {"contract", "nsz"}
NO_SIGN = np.int32(0x7FFFFFFF)


@njit(parallel=True, cache=True, fastmath=FAST)
def multiply_by_gradient(values, image, out):
    """``out[c] = values * d image / d x_c`` by central differences; `out` is ``(3, I, J, K)``."""
    size_i, size_j, size_k = image.shape
    v, m = values.reshape(-1), image.reshape(-1)
    o = out.reshape(-1)
    area, volume = size_j * size_k, size_i * size_j * size_k
    half = F4(0.5)
    for i in prange(size_i):
        up, down = min(i + 1, size_i - 1) * area, max(i - 1, 0) * area
        for j in range(size_j):
            row = U8(i * area + j * size_k)
            high_i, low_i = U8(up + j * size_k), U8(down + j * size_k)
            high_j, low_j = U8(i * area + min(j + 1, size_j - 1) * size_k), U8(i * area + max(j - 1, 0) * size_k)
            out_i, out_j, out_k = row, row + U8(volume), row + U8(2 * volume)
            for k in range(size_k):
                e = U8(k)
                o[out_i + e] = v[row + e] * half * (m[high_i + e] - m[low_i + e])
                o[out_j + e] = v[row + e] * half * (m[high_j + e] - m[low_j + e])
            o[out_k] = F4(0)
            o[out_k + U8(size_k - 1)] = F4(0)
            for k in range(1, size_k - 1):
                e = U8(k)
                o[out_k + e] = v[row + e] * half * (m[row + e + U8(1)] - m[row + e - U8(1)])


@njit(parallel=True, cache=True)
def largest_squared_norm(field, out):
    """Per plane of ``(3, I, J, K)``, the largest squared length of a vector; NaN counts as the largest.

    Squares are compared by their bits, whose order is that of the numbers: integers need no care for NaN.
    """
    _, size_i, size_j, n = field.shape
    f = field.reshape(-1)
    volume = U8(size_i * size_j * n)
    for i in prange(size_i):
        squares = room_for(n)
        bits = squares.view(np.int32)
        best = np.int32(0)
        for j in range(size_j):
            row = U8((i * size_j + j) * n)
            for k in range(n):
                e = row + U8(k)
                a, b, c = f[e], f[e + volume], f[e + volume + volume]
                squares[U8(k)] = a * a + b * b + c * c
            for k in range(n):
                best = max(best, bits[U8(k)] & NO_SIGN)
        bits[0] = best
        out[i] = squares[0]


@njit(fastmath=FAST)
def _relax_along_i(ring, rows, size, n, shear, volume, out, at):
    """First component of a line of :func:`relax`; `rows` are :func:`rows_around` it."""
    sw, s, se, w, c, e, nw, north, ne = rows
    y, z = U8(size), U8(2 * size)
    for k in range(n):
        x = U8(k)
        here, low, high = ring[c + x], ring[c + x - U8(1)], ring[c + x + U8(1)]
        along = ring[north + x] + ring[s + x] - F4(2) * here
        across = ring[e + x] + ring[w + x] + high + low - F4(4) * here
        mixed = ring[ne + y + x] - ring[nw + y + x] - ring[se + y + x] + ring[sw + y + x]
        mixed += ring[north + z + x + U8(1)] - ring[north + z + x - U8(1)]
        mixed += ring[s + z + x - U8(1)] - ring[s + z + x + U8(1)]
        out[at + x] = here + shear * (along + across) + volume * (along + F4(0.25) * mixed)


@njit(fastmath=FAST)
def _relax_along_j(ring, rows, size, n, shear, volume, out, at):
    """Second component of a line of :func:`relax`."""
    sw, s, se, w, c, e, nw, north, ne = rows
    y, z = U8(size), U8(2 * size)
    for k in range(n):
        x = U8(k)
        here, low, high = ring[c + y + x], ring[c + y + x - U8(1)], ring[c + y + x + U8(1)]
        along = ring[e + y + x] + ring[w + y + x] - F4(2) * here
        across = ring[north + y + x] + ring[s + y + x] + high + low - F4(4) * here
        mixed = ring[ne + x] - ring[nw + x] - ring[se + x] + ring[sw + x]
        mixed += ring[e + z + x + U8(1)] - ring[e + z + x - U8(1)]
        mixed += ring[w + z + x - U8(1)] - ring[w + z + x + U8(1)]
        out[at + x] = here + shear * (along + across) + volume * (along + F4(0.25) * mixed)


@njit(fastmath=FAST)
def _relax_along_k(ring, rows, size, n, shear, volume, out, at):
    """Third component of a line of :func:`relax`."""
    _, s, _, w, c, e, _, north, _ = rows
    y, z = U8(size), U8(2 * size)
    for k in range(n):
        x = U8(k)
        here = ring[c + z + x]
        along = ring[c + z + x + U8(1)] + ring[c + z + x - U8(1)] - F4(2) * here
        across = ring[north + z + x] + ring[s + z + x] + ring[e + z + x] + ring[w + z + x] - F4(4) * here
        mixed = ring[north + x + U8(1)] - ring[north + x - U8(1)] - ring[s + x + U8(1)] + ring[s + x - U8(1)]
        mixed += ring[e + y + x + U8(1)] - ring[e + y + x - U8(1)]
        mixed += ring[w + y + x - U8(1)] - ring[w + y + x + U8(1)]
        out[at + x] = here + shear * (along + across) + volume * (along + F4(0.25) * mixed)


@njit(parallel=True, cache=True, fastmath=FAST)
def relax(field, shear, volume, out):
    """``out = field + shear * laplacian(field) + volume * grad div field`` for ``(3, I, J, K)``; edges are repeated.

    Second differences along an axis are compact, mixed ones central. Lines with nothing but zeros around them are left
    out.
    """
    _, size_i, size_j, n = field.shape
    f, o = field.reshape(-1), out.reshape(-1)
    area = size_j * n
    shape, bits = (size_i, size_j, n), f.view(np.int32)
    for turn in prange(num_tasks(size_i, size_j)):
        first, last, left, right = part_of(turn, size_i, size_j)
        ring, is_filled = zeros_for(length_of_ring(n)), np.zeros(NUM_PLANES * NUM_LINES, np.bool_)
        ring_bits = ring.view(np.int32)
        take_plane(bits, shape, first - 1, left, right, ring_bits, is_filled)
        take_plane(bits, shape, first, left, right, ring_bits, is_filled)
        for i in range(first, last):
            for lead in range(max(left - 1, 0), right + 1):
                if lead < size_j and i + 1 < size_i:
                    take_line(bits, shape, i + 1, lead, left, ring_bits, is_filled)
                j = lead - 1
                if j < left:
                    continue
                at_i, at_j = U8(i * area + j * n), U8((size_i + i) * area + j * n)
                at_k = U8((2 * size_i + i) * area + j * n)
                for at in (at_i, at_j, at_k):
                    prefetch_to_write(o, at + U8(n), n)
                if is_any_filled(i, j, left, shape, is_filled):
                    rows = rows_around(i, j, left, shape)
                    _relax_along_i(ring, rows, pitch_of(n), n, shear, volume, o, at_i)
                    _relax_along_j(ring, rows, pitch_of(n), n, shear, volume, o, at_j)
                    _relax_along_k(ring, rows, pitch_of(n), n, shear, volume, o, at_k)
                else:
                    clear(o, at_i, n)
                    clear(o, at_j, n)
                    clear(o, at_k, n)


@njit(inline="always")
def _difference(field, c, i, j, k, axis):
    """Central difference of component c along an axis; one-sided at the edges; 0 on an axis of one voxel."""
    size = field.shape[axis + 1]
    if size == 1:
        return F4(0)
    at = (i, j, k)[axis]
    low, high = max(at - 1, 0), min(at + 1, size - 1)
    span = F4(high - low)
    if axis == 0:
        return (field[c, high, j, k] - field[c, low, j, k]) / span
    if axis == 1:
        return (field[c, i, high, k] - field[c, i, low, k]) / span
    return (field[c, i, j, high] - field[c, i, j, low]) / span


@njit(parallel=True, cache=True)
def jacobian_determinant(field, out):
    """Determinant of d(x + u) / dx for a voxel displacement ``(3, I, J, K)``."""
    _, size_i, size_j, size_k = field.shape
    one = F4(1)
    for i in prange(size_i):
        for j in range(size_j):
            for k in range(size_k):
                a = one + _difference(field, 0, i, j, k, 0)
                b = _difference(field, 0, i, j, k, 1)
                c = _difference(field, 0, i, j, k, 2)
                d = _difference(field, 1, i, j, k, 0)
                e = one + _difference(field, 1, i, j, k, 1)
                f = _difference(field, 1, i, j, k, 2)
                g = _difference(field, 2, i, j, k, 0)
                h = _difference(field, 2, i, j, k, 1)
                m = one + _difference(field, 2, i, j, k, 2)
                out[i, j, k] = a * (e * m - f * h) - b * (d * m - f * g) + c * (d * h - e * g)


@njit(parallel=True, cache=True)
def affine_derivative(moving, matrix, values, out):
    """Sum over voxels x of ``values(x) * grad moving(matrix x) outer (x, 1)``, plane by plane: `out` is (I, 3, 4).

    The gradient is that of the trilinear interpolant; positions outside the volume contribute nothing.
    """
    size_i, size_j, size_k = moving.shape
    for i in prange(values.shape[0]):
        total = np.zeros((3, 4))
        for j in range(values.shape[1]):
            for k in range(values.shape[2]):
                value = values[i, j, k]
                if value == F4(0):
                    continue
                x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + matrix[0, 3]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + matrix[1, 3]
                z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
                if x < 0 or y < 0 or z < 0 or x > size_i - 1 or y > size_j - 1 or z > size_k - 1:
                    continue
                i0, j0, k0 = int(x), int(y), int(z)
                i1, j1, k1 = min(i0 + 1, size_i - 1), min(j0 + 1, size_j - 1), min(k0 + 1, size_k - 1)
                a, b, c = x - i0, y - j0, z - k0
                v000, v001 = moving[i0, j0, k0], moving[i0, j0, k1]
                v010, v011 = moving[i0, j1, k0], moving[i0, j1, k1]
                v100, v101 = moving[i1, j0, k0], moving[i1, j0, k1]
                v110, v111 = moving[i1, j1, k0], moving[i1, j1, k1]
                low = v000 + c * (v001 - v000) + b * (v010 + c * (v011 - v010) - v000 - c * (v001 - v000))
                high = v100 + c * (v101 - v100) + b * (v110 + c * (v111 - v110) - v100 - c * (v101 - v100))
                gx = value * (high - low)
                near = v000 + c * (v001 - v000) + a * (v100 + c * (v101 - v100) - v000 - c * (v001 - v000))
                far = v010 + c * (v011 - v010) + a * (v110 + c * (v111 - v110) - v010 - c * (v011 - v010))
                gy = value * (far - near)
                left = v000 + b * (v010 - v000) + a * (v100 + b * (v110 - v100) - v000 - b * (v010 - v000))
                right = v001 + b * (v011 - v001) + a * (v101 + b * (v111 - v101) - v001 - b * (v011 - v001))
                gz = value * (right - left)
                for row in range(3):
                    g = gx if row == 0 else (gy if row == 1 else gz)
                    total[row, 0] += g * i
                    total[row, 1] += g * j
                    total[row, 2] += g * k
                    total[row, 3] += g
        out[i] = total
