"""Local correlation in box windows: its value and its exact gradient in one sweep over the planes.

Box sums are made by adding the lines of each window directly, never by running totals, so no rounding error travels
along an axis and the result does not depend on where the volume is divided between threads.
"""

import numpy as np
from numba import njit, prange

F4 = np.float32
U8 = np.uint64
FAST = {"contract", "nsz", "reassoc"}
PLANES_PER_TASK = 32


@njit(inline="always")
def _sum_row(padded, radius, out, at, n):
    """``out[at:at+n]`` = box sums of a row that has `radius` zeros on either side."""
    centre = U8(radius)
    if radius == 2:
        for k in range(n):
            e = U8(k)
            out[at + e] = padded[e] + padded[e + U8(1)] + padded[e + U8(2)] + padded[e + U8(3)] + padded[e + U8(4)]
        return
    for k in range(n):
        out[at + U8(k)] = padded[centre + U8(k)]
    for q in range(1, radius + 1):
        low, high = centre - U8(q), centre + U8(q)
        for k in range(n):
            out[at + U8(k)] += padded[low + U8(k)] + padded[high + U8(k)]


@njit(inline="always")
def _sum_lines(source, first, step, count, out, at, n):
    """``out[at:at+n]`` = sum of `count` lines of n numbers that lie `step` apart from `first` on."""
    s = U8(step)
    done = 1
    if count >= 5:
        a1, a2, a3, a4 = first + s, first + s + s, first + s + s + s, first + s + s + s + s
        for k in range(n):
            e = U8(k)
            out[at + e] = source[first + e] + source[a1 + e] + source[a2 + e] + source[a3 + e] + source[a4 + e]
        done = 5
    else:
        for k in range(n):
            out[at + U8(k)] = source[first + U8(k)]
    while done + 1 < count:
        a, b = first + U8(done) * s, first + U8(done + 1) * s
        for k in range(n):
            e = U8(k)
            out[at + e] += source[a + e] + source[b + e]
        done += 2
    if done < count:
        a = first + U8(done) * s
        for k in range(n):
            out[at + U8(k)] += source[a + U8(k)]


@njit(inline="always")
def _moment_row(q, fixed, warped, weights, weighted, start, radius, n, padded):
    """Write moment q of one row (f, w, ff, ww, fw, 1), times the weights, between the zeros of `padded`."""
    at = U8(radius)
    for k in range(n):
        e = start + U8(k)
        f, w = fixed[e], warped[e]
        if q == 0:
            value = f
        elif q == 1:
            value = w
        elif q == 2:
            value = f * f
        elif q == 3:
            value = w * w
        elif q == 4:
            value = f * w
        else:
            value = F4(1)
        if weighted:
            value *= weights[e]
        padded[at + U8(k)] = value


@njit(parallel=True, cache=True, fastmath=FAST)
def correlation(fixed, warped, weights, weighted, radii, noise, shared_noise, squared, gradient, values):
    """Local correlation of `fixed` and `warped`, and its derivative with respect to `warped`.

    Args:
        fixed, warped: ``(I, J, K)``.
        weights: ``(I, J, K)`` weights of voxels inside windows and of windows in the sum; read if `weighted`.
        radii: Half widths of the window along the three axes; windows are cut at the edges.
        noise: Added to both variances.
        shared_noise: Added to the covariance.
        squared: Whether the correlation is squared.
        gradient: Out, ``(I, J, K)``: derivative of the sum over windows.
        values: Out, ``(I,)`` float64: (weighted) sum of the correlation over each plane of windows.
    """
    size_i, size_j, n = fixed.shape
    radius_i, radius_j, radius_k = radii
    span, area = 2 * radius_i + 1, size_j * n
    num_moments = 6 if weighted else 5
    flat_f, flat_w, flat_g, flat_m = fixed.reshape(-1), warped.reshape(-1), gradient.reshape(-1), weights.reshape(-1)
    for task in prange((size_i + PLANES_PER_TASK - 1) // PLANES_PER_TASK):
        first, last = task * PLANES_PER_TASK, min((task + 1) * PLANES_PER_TASK, size_i)
        moments = np.zeros(num_moments * span * area, F4)
        terms = np.zeros(3 * span * area, F4)
        sums = np.empty(6 * n, F4)
        padded = np.zeros(n + 2 * radius_k, F4)
        padded_terms = np.zeros((3, n + 2 * radius_k), F4)
        rows = np.empty(3 * area, F4)
        for lead in range(first - 2 * radius_i, last + 2 * radius_i):
            # 1. moments of plane `lead`, summed over its own windows
            slot = (lead + 2 * span) % span
            for q in range(num_moments):
                ring = U8((q * span + slot) * area)
                if lead < 0 or lead >= size_i:
                    for e in range(area):
                        moments[ring + U8(e)] = F4(0)
                    continue
                for j in range(size_j):
                    start = U8(lead * area + j * n)
                    _moment_row(q, flat_f, flat_w, flat_m, weighted, start, radius_k, n, padded)
                    _sum_row(padded, radius_k, rows, U8(j * n), n)
                for j in range(size_j):
                    low, high = max(j - radius_j, 0), min(j + radius_j, size_j - 1)
                    _sum_lines(rows, U8(low * n), n, high - low + 1, moments, ring + U8(j * n), n)
            # 2. correlation of plane `middle`, whose windows are complete now
            middle = lead - radius_i
            if middle < first - radius_i:
                continue
            slot = (middle + 2 * span) % span
            if middle < 0 or middle >= size_i:
                for q in range(3):
                    ring = U8((q * span + slot) * area)
                    for e in range(area):
                        terms[ring + U8(e)] = F4(0)
            else:
                depth = min(middle + radius_i, size_i - 1) - max(middle - radius_i, 0) + 1
                total = 0.0
                for j in range(size_j):
                    for q in range(num_moments):
                        _sum_lines(moments, U8(q * span * area + j * n), area, span, sums, U8(q * n), n)
                    depth_height = depth * (min(j + radius_j, size_j - 1) - max(j - radius_j, 0) + 1)
                    start = U8(middle * area + j * n)
                    row_total = F4(0)
                    for k in range(n):
                        e = U8(k)
                        outer = F4(1)
                        if weighted:
                            outer = flat_m[start + e]
                            count = max(sums[U8(5 * n) + e], F4(1))
                        else:
                            count = F4(depth_height * (min(k + radius_k, n - 1) - max(k - radius_k, 0) + 1))
                        scale = F4(1) / count
                        mean_f, mean_w = sums[e] * scale, sums[U8(n) + e] * scale
                        var_f = max(sums[U8(2 * n) + e] * scale - mean_f * mean_f, F4(0)) + noise
                        var_w = max(sums[U8(3 * n) + e] * scale - mean_w * mean_w, F4(0)) + noise
                        covariance = sums[U8(4 * n) + e] * scale - mean_f * mean_w + shared_noise
                        inverse = F4(1) / (var_f * var_w)
                        if squared:
                            value = covariance * covariance * inverse
                            a = F4(2) * covariance * inverse * scale * outer
                        else:
                            root = np.sqrt(inverse)
                            value = covariance * root
                            a = root * scale * outer
                        b = a * covariance / var_w
                        row_total += outer * value
                        at = U8(radius_k) + e
                        padded_terms[0, at] = a
                        padded_terms[1, at] = b
                        padded_terms[2, at] = a * mean_f - b * mean_w
                    total += row_total
                    for q in range(3):
                        _sum_row(padded_terms[q], radius_k, rows, U8((q * size_j + j) * n), n)
                if first <= middle < last:
                    values[middle] = total
                for q in range(3):
                    ring = U8((q * span + slot) * area)
                    for j in range(size_j):
                        low, high = max(j - radius_j, 0), min(j + radius_j, size_j - 1)
                        at = ring + U8(j * n)
                        _sum_lines(rows, U8((q * size_j + low) * n), n, high - low + 1, terms, at, n)
            # 3. gradient in plane `done`, all of whose windows are known now
            done = middle - radius_i
            if done < first or done >= last:
                continue
            for j in range(size_j):
                for q in range(3):
                    _sum_lines(terms, U8(q * span * area + j * n), area, span, sums, U8(q * n), n)
                start = U8(done * area + j * n)
                for k in range(n):
                    e = U8(k)
                    g = flat_f[start + e] * sums[e] - flat_w[start + e] * sums[U8(n) + e] - sums[U8(2 * n) + e]
                    flat_g[start + e] = g * flat_m[start + e] if weighted else g
