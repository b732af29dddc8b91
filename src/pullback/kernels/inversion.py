"""Inverting a dense displacement voxel by voxel with a damped Newton iteration."""

import numpy as np
from numba import njit, prange

MAX_TRIALS = 40


@njit(inline="always")
def _evaluate(field, x, value, slope):
    """Write u(x) and du/dx of the trilinear interpolant, edges repeated."""
    _, size_i, size_j, size_k = field.shape
    p0 = min(x[0] if x[0] > 0.0 else 0.0, size_i - 1.0)  # NaN goes to 0 too
    p1 = min(x[1] if x[1] > 0.0 else 0.0, size_j - 1.0)
    p2 = min(x[2] if x[2] > 0.0 else 0.0, size_k - 1.0)
    i0, j0, k0 = min(int(p0), max(size_i - 2, 0)), min(int(p1), max(size_j - 2, 0)), min(int(p2), max(size_k - 2, 0))
    i1, j1, k1 = min(i0 + 1, size_i - 1), min(j0 + 1, size_j - 1), min(k0 + 1, size_k - 1)
    a, b, c = p0 - i0, p1 - j0, p2 - k0
    for n in range(3):
        v000, v001 = field[n, i0, j0, k0], field[n, i0, j0, k1]
        v010, v011 = field[n, i0, j1, k0], field[n, i0, j1, k1]
        v100, v101 = field[n, i1, j0, k0], field[n, i1, j0, k1]
        v110, v111 = field[n, i1, j1, k0], field[n, i1, j1, k1]
        x00, x01, x10, x11 = v100 - v000, v101 - v001, v110 - v010, v111 - v011
        slope[n, 0] = (1 - b) * ((1 - c) * x00 + c * x01) + b * ((1 - c) * x10 + c * x11)
        w00, w01, w10, w11 = v000 + a * x00, v001 + a * x01, v010 + a * x10, v011 + a * x11
        slope[n, 1] = (1 - c) * (w10 - w00) + c * (w11 - w01)
        slope[n, 2] = (1 - b) * (w01 - w00) + b * (w11 - w10)
        value[n] = (1 - b) * ((1 - c) * w00 + c * w01) + b * ((1 - c) * w10 + c * w11)


@njit(inline="always")
def _newton_direction(slope, residual, direction):
    """Solve ``(I + slope) direction = residual``; the residual itself where the map is nearly folded."""
    a, b, c = 1 + slope[0, 0], slope[0, 1], slope[0, 2]
    d, e, f = slope[1, 0], 1 + slope[1, 1], slope[1, 2]
    g, h, m = slope[2, 0], slope[2, 1], 1 + slope[2, 2]
    c0, c1, c2 = e * m - f * h, f * g - d * m, d * h - e * g
    determinant = a * c0 + b * c1 + c * c2
    if determinant < 0.02:
        direction[:] = residual
        return
    r0, r1, r2 = residual
    direction[0] = (c0 * r0 + (c * h - b * m) * r1 + (b * f - c * e) * r2) / determinant
    direction[1] = (c1 * r0 + (a * m - c * g) * r1 + (c * d - a * f) * r2) / determinant
    direction[2] = (c2 * r0 + (b * g - a * h) * r1 + (a * e - b * d) * r2) / determinant


@njit(cache=True)
def _solve(field, target, x, tolerance, value, slope, residual, direction, trial):
    """Improve `x` until ``x + u(x)`` is `target`; return the remaining distance."""
    _evaluate(field, x, value, slope)
    for n in range(3):
        residual[n] = x[n] + value[n] - target[n]
    best = np.sqrt(residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
    step = 1.0
    _newton_direction(slope, residual, direction)
    for _ in range(MAX_TRIALS):
        if best < tolerance or step < 1e-3:
            break
        for n in range(3):
            trial[n] = x[n] - step * direction[n]
        _evaluate(field, trial, value, slope)
        for n in range(3):
            residual[n] = trial[n] + value[n] - target[n]
        distance = np.sqrt(residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
        if distance < best:
            best, step = distance, min(1.0, 2 * step)
            x[:] = trial
            _newton_direction(slope, residual, direction)
        else:
            step *= 0.5
    return best


@njit(parallel=True, cache=True)
def invert(field, start, tolerance, out, remaining):
    """For each voxel y the v with ``y + v + u(y + v) = y``: `out` like `field`, `remaining` ``(I, J, K)`` distances.

    Each search starts from -u(y), and where that ends badly from the answer of the voxel before in the row. With a
    `start`, whose distances `remaining` holds, each search that is needed starts there.
    """
    _, size_i, size_j, size_k = field.shape
    for row in prange(size_i * size_j):
        i, j = row // size_j, row % size_j
        value, slope, residual = np.zeros(3), np.zeros((3, 3)), np.zeros(3)
        direction, trial, x, other = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
        target = np.array([float(i), float(j), 0.0])
        for k in range(size_k):
            target[2] = k
            if start is not None and remaining[i, j, k] < tolerance:
                out[:, i, j, k] = start[:, i, j, k]
                continue
            for n in range(3):
                if start is None:
                    x[n] = target[n] - field[n, i, j, k]
                else:
                    x[n] = target[n] + start[n, i, j, k]
            best = _solve(field, target, x, tolerance, value, slope, residual, direction, trial)
            if best > 10 * tolerance and k > 0:
                for n in range(3):
                    other[n] = target[n] + out[n, i, j, k - 1]
                distance = _solve(field, target, other, tolerance, value, slope, residual, direction, trial)
                if distance < best:
                    best = distance
                    x[:] = other
            for n in range(3):
                out[n, i, j, k] = x[n] - target[n]
            remaining[i, j, k] = best
