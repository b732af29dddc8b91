"""Spatial derivatives: forces, Jacobian determinants, and the derivative of a warped image by an affine matrix."""

import numpy as np
from numba import njit, prange

F4 = np.float32
U8 = np.uint64
FAST = {"contract", "nsz"}


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
    """Per plane of ``(3, I, J, K)``, the largest squared length of a vector."""
    _, size_i, size_j, size_k = field.shape
    for i in prange(size_i):
        best = F4(0)
        for j in range(size_j):
            for k in range(size_k):
                a, b, c = field[0, i, j, k], field[1, i, j, k], field[2, i, j, k]
                best = max(best, a * a + b * b + c * c)
        out[i] = best


@njit(inline="always")
def _relax_at(f, o, rows, v, at, low, high, shear, volume):
    """One voxel of :func:`relax`: `rows` start the lines around it, `low` and `high` are its neighbours along K."""
    c, n, s, e, w, ne, nw, se, sw = rows
    x, y, z = at, at + v, at + v + v
    lx, ly, lz = low, low + v, low + v + v
    hx, hy, hz = high, high + v, high + v + v
    quarter, two = F4(0.25), F4(2)
    xx = f[n + x] + f[s + x] - two * f[c + x]
    yy = f[e + y] + f[w + y] - two * f[c + y]
    zz = f[c + hz] + f[c + lz] - two * f[c + z]
    xyz = f[ne + y] - f[nw + y] - f[se + y] + f[sw + y] + f[n + hz] - f[n + lz] - f[s + hz] + f[s + lz]
    yxz = f[ne + x] - f[nw + x] - f[se + x] + f[sw + x] + f[e + hz] - f[e + lz] - f[w + hz] + f[w + lz]
    zxy = f[n + hx] - f[n + lx] - f[s + hx] + f[s + lx] + f[e + hy] - f[e + ly] - f[w + hy] + f[w + ly]
    across_x = f[e + x] + f[w + x] + f[c + hx] + f[c + lx] - two * (f[c + x] + f[c + x])
    across_y = f[n + y] + f[s + y] + f[c + hy] + f[c + ly] - two * (f[c + y] + f[c + y])
    across_z = f[n + z] + f[s + z] + f[e + z] + f[w + z] - two * (f[c + z] + f[c + z])
    o[c + x] = f[c + x] + shear * (xx + across_x) + volume * (xx + quarter * xyz)
    o[c + y] = f[c + y] + shear * (yy + across_y) + volume * (yy + quarter * yxz)
    o[c + z] = f[c + z] + shear * (zz + across_z) + volume * (zz + quarter * zxy)


@njit(parallel=True, cache=True, fastmath=FAST)
def relax(field, shear, volume, out):
    """``out = field + shear * laplacian(field) + volume * grad div field`` for ``(3, I, J, K)``; edges are repeated.

    Second differences along an axis are compact, mixed ones central.
    """
    _, size_i, size_j, size_k = field.shape
    area = size_j * size_k
    v = U8(size_i * area)
    f, o = field.reshape(-1), out.reshape(-1)
    for i in prange(size_i):
        up, down = min(i + 1, size_i - 1) * area, max(i - 1, 0) * area
        for j in range(size_j):
            ahead, behind = min(j + 1, size_j - 1) * size_k, max(j - 1, 0) * size_k
            rows = (
                U8(i * area + j * size_k),
                U8(up + j * size_k),
                U8(down + j * size_k),
                U8(i * area + ahead),
                U8(i * area + behind),
                U8(up + ahead),
                U8(up + behind),
                U8(down + ahead),
                U8(down + behind),
            )
            last = size_k - 1
            _relax_at(f, o, rows, v, U8(0), U8(0), U8(min(1, last)), shear, volume)
            for k in range(1, last):
                _relax_at(f, o, rows, v, U8(k), U8(k) - U8(1), U8(k) + U8(1), shear, volume)
            _relax_at(f, o, rows, v, U8(last), U8(max(last - 1, 0)), U8(last), shear, volume)


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
