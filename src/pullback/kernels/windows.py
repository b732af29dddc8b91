"""Local correlation in box windows: its value and its exact gradient in one sweep over the planes.

Box sums are made by adding the lines of each window directly, never by running totals, so no rounding error travels
along an axis and the result does not depend on where the volume is divided between threads. Windows in which the fixed
image is zero everywhere have no covariance and no derivative, or do not count: they are left out, which changes no
number.

A task is a tile of lines over a block of planes, small enough that all it keeps stays in the second cache. Several
quantities of one line (five moments, three factors) stand one after the other with zeros between them, and are summed
as one long line.
"""

import numpy as np
from numba import njit, prange

from pullback.kernels.lanes import (
    NUM_LANES,
    all_lanes,
    larger,
    load,
    load_first,
    multiply_add,
    square_root,
    store,
    store_first,
)
from pullback.kernels.prefetch import CACHE_LINE, prefetch
from pullback.kernels.scratch import room_for, whole_lines, zeros_for
from pullback.kernels.spans import spread

F4 = np.float32
U8 = np.uint64
FAST = {"nsz"}
"""Neither "contract" nor "reassoc": which product of a sum is fused, and in which order terms are added, is then the
optimiser's choice, and Numba's code differed between how it is compiled and how it is loaded from its cache: the first
run of all was not like the next."""
PLANES_PER_TASK, LINES_PER_TASK = 32, 48


def num_tiles(size_j):
    """How many tiles `size_j` lines make."""
    return -(-size_j // LINES_PER_TASK)


@njit(fastmath=FAST)
def _sum_row(padded, radius, out, at, first, last):
    """``out[at + k]`` = sum of ``padded[k - radius : k + radius + 1]`` for `first` <= k < `last`."""
    if radius == 2:
        for k in range(first, last):
            e = U8(k)
            low = padded[e - U8(2)] + padded[e - U8(1)]
            out[at + e] = low + padded[e] + (padded[e + U8(1)] + padded[e + U8(2)])
        return
    for k in range(first, last):
        out[at + U8(k)] = padded[U8(k)]
    for q in range(1, radius + 1):
        for k in range(first, last):
            out[at + U8(k)] += padded[U8(k - q)] + padded[U8(k + q)]


@njit(fastmath=FAST)
def _sum_ring(ring, first, last, height, step, offset, out, at, n):
    """``out[at:at+n]`` = sum of the lines `first` to `last` (exclusive) of a ring of `height`, `step` apart."""
    if last - first == 5:
        a0, a1 = U8(first % height * step + offset), U8((first + 1) % height * step + offset)
        a2, a3 = U8((first + 2) % height * step + offset), U8((first + 3) % height * step + offset)
        a4 = U8((first + 4) % height * step + offset)
        for k in range(n):
            e = U8(k)
            out[at + e] = ring[a0 + e] + ring[a1 + e] + ring[a2 + e] + ring[a3 + e] + ring[a4 + e]
        return
    for k in range(n):
        out[at + U8(k)] = F4(0)
    for line in range(first, last):
        a = U8(line % height * step + offset)
        for k in range(n):
            out[at + U8(k)] += ring[a + U8(k)]


@njit(inline="always")
def _five_moments(fixed, warped, first, step, out, at, size, n):
    """Moments f, w, ff, ww and fw of a line, summed over five planes `step` apart; each `size` after the other."""
    s1, s2, s3, s4 = U8(size), U8(2 * size), U8(3 * size), U8(4 * size)
    for k in range(0, n, NUM_LANES):
        x, place = first + U8(k), at + U8(k)
        f, w = load_first(fixed, x, n - k), load_first(warped, x, n - k)
        sum_f, sum_w, sum_ff, sum_ww, sum_fw = f, w, f * f, w * w, f * w
        for _ in range(4):
            x += U8(step)
            f, w = load_first(fixed, x, n - k), load_first(warped, x, n - k)
            sum_f, sum_w = sum_f + f, sum_w + w
            sum_ff, sum_ww, sum_fw = multiply_add(f, f, sum_ff), multiply_add(w, w, sum_ww), multiply_add(f, w, sum_fw)
        store(out, place, sum_f)
        store(out, place + s1, sum_w)
        store(out, place + s2, sum_ff)
        store(out, place + s3, sum_ww)
        store(out, place + s4, sum_fw)


@njit(fastmath=FAST)
def _sum_moments(fixed, warped, weights, weighted, first, step, count, out, at, size, n):
    """Moments f, w, ff, ww, fw (and the weights) of a line, summed over `count` planes; each `size` after the other."""
    if count == 5 and not weighted:
        _five_moments(fixed, warped, U8(first), step, out, U8(at), size, n)
        return
    for q in range(6 if weighted else 5):
        a = U8(at + q * size)
        for k in range(n):
            out[a + U8(k)] = F4(0)
        for plane in range(count):
            start = U8(first + plane * step)
            for k in range(n):
                f, w = fixed[start + U8(k)], warped[start + U8(k)]
                value = f if q == 0 else w if q == 1 else f * f if q == 2 else w * w if q == 3 else f * w
                value = F4(1) if q == 5 else value
                out[a + U8(k)] += value * weights[start + U8(k)] if weighted else value


@njit(inline="always")
def _along_line(padded, radius, at):
    """Sums of the numbers within `radius` of sixteen places."""
    if radius == 2:
        low = load(padded, at - U8(2)) + load(padded, at - U8(1))
        return low + load(padded, at) + (load(padded, at + U8(1)) + load(padded, at + U8(2)))
    total = load(padded, at)
    for q in range(1, radius + 1):
        total = total + (load(padded, at - U8(q)) + load(padded, at + U8(q)))
    return total


@njit(fastmath=FAST)
def _find_factors(padded, inverse_counts, weights, start, weighted, noises, squared, size, margin, radius, n, terms):
    """From the moments of a line, summed over planes and lines, to the factors a, b and c of the derivative.

    The derivative by the warped voxel x is the sum over its windows of ``a f(x) - b w(x) - c``. What each window adds
    to the sum of the correlation stands after them.
    """
    noise, shared_noise, contrast = all_lanes(noises[0]), all_lanes(noises[1]), all_lanes(noises[2])
    zero, one = all_lanes(F4(0)), all_lanes(F4(1))
    s1, s2, s3, s4, s5 = U8(size), U8(2 * size), U8(3 * size), U8(4 * size), U8(5 * size)
    for k in range(0, n, NUM_LANES):
        e = U8(k + margin)
        if weighted:
            outer = load_first(weights, start + U8(k), n - k)
            scale = one / larger(_along_line(padded, radius, s5 + e), one)
        else:
            outer, scale = one, load(inverse_counts, U8(k))
        mean_f, mean_w = _along_line(padded, radius, e) * scale, _along_line(padded, radius, s1 + e) * scale
        clean_var_f = larger(_along_line(padded, radius, s2 + e) * scale - mean_f * mean_f, zero)
        var_f = clean_var_f + noise
        var_w = larger(_along_line(padded, radius, s3 + e) * scale - mean_w * mean_w, zero) + noise
        covariance = _along_line(padded, radius, s4 + e) * scale - mean_f * mean_w + shared_noise
        product = var_f * var_w
        if noises[2] > 0:  # one division for two quotients
            inverse_all = one / (product * (clean_var_f + contrast))
            inverse = inverse_all * (clean_var_f + contrast)
            outer = outer * (clean_var_f * product * inverse_all)
        else:
            inverse = one / product
        if squared:
            value = covariance * covariance * inverse
            a = all_lanes(F4(2)) * covariance * inverse * scale * outer
        else:
            root = square_root(inverse)
            value = covariance * root
            a = root * scale * outer
        b = a * covariance * inverse * var_f
        store_first(terms, e, a, n - k)
        store_first(terms, s1 + e, b, n - k)
        store_first(terms, s2 + e, a * mean_f - b * mean_w, n - k)
        store_first(terms, s3 + e, outer * value, n - k)


@njit(fastmath=FAST)
def _add_line(line, at, totals):
    """``totals += line[at:]``."""
    for k in range(len(totals)):
        totals[U8(k)] += line[at + U8(k)]


@njit(fastmath=FAST)
def _combine(fixed, warped, weights, weighted, start, planes, first, last, depth, step, offset, size, n, factor, out):
    """The derivative on a line, from factors that lie summed over lines in planes `first` to `last` (exclusive)."""
    s1, s2, factors = U8(size), U8(2 * size), all_lanes(factor)
    for k in range(0, n, NUM_LANES):
        x = start + U8(k)
        place = U8(first % depth * step + offset + k)
        a, b, c = load(planes, place), load(planes, place + s1), load(planes, place + s2)
        for plane in range(first + 1, last):
            place = U8(plane % depth * step + offset + k)
            a, b, c = a + load(planes, place), b + load(planes, place + s1), c + load(planes, place + s2)
        slope = load_first(fixed, x, n - k) * a - load_first(warped, x, n - k) * b - c
        if weighted:
            slope = slope * load_first(weights, x, n - k)
        store_first(out, x, factors * slope, n - k)


@njit
def _reach(is_filled, radius, first, last, out):
    """``out[j]`` for `first` <= j < `last`: whether any line within `radius` of j is filled."""
    size, seen = len(is_filled), -radius - 1
    for j in range(max(first - radius, 0), min(first + radius, size)):
        seen = j if is_filled[j] else seen
    for j in range(first, last):
        ahead = j + radius
        seen = ahead if ahead < size and is_filled[ahead] else seen
        out[j] = seen >= j - radius


@njit(cache=True)
def _part_of_line(spans, first, last, left, right, radii, n):
    """What lines of a task can matter at all: the span of all lines that its windows reach, and their windows."""
    radius_i, radius_j, radius_k = radii
    low, high = n, 0
    for i in range(max(first - 2 * radius_i, 0), min(last + 2 * radius_i, spans.shape[1])):
        for j in range(max(left - 2 * radius_j, 0), min(right + 2 * radius_j, spans.shape[2])):
            low, high = min(low, spans[0, i, j]), max(high, spans[1, i, j])
    return max(low - 2 * radius_k, 0) // CACHE_LINE * CACHE_LINE, min(high + 2 * radius_k, n)


@njit(parallel=True, cache=True, fastmath=FAST)
def correlation(fixed, warped, weights, weighted, spans, radii, noises, squared, factor, gradient, values):
    """Local correlation of `fixed` and `warped`, and its derivative with respect to `warped`.

    Args:
        fixed, warped: ``(I, J, K)``.
        weights: ``(I, J, K)`` weights of voxels inside windows and of windows in the sum; read if `weighted`.
        spans: ``(2, I, J)``: where each line of `fixed` begins and ends to be other than zero; whole lines if windows
            without any of it count.
        radii: Half widths of the window along the three axes; windows are cut at the edges.
        noises: What is added to both variances, and to the covariance, and the contrast by which windows count (0:
            they all do alike).
        squared: Whether the correlation is squared.
        factor: Of the derivative.
        gradient: Out, ``(I, J, K)``: derivative of the sum over windows, times `factor`.
        values: Out, ``(I, tiles)`` float64: (weighted) sum of the correlation over the windows of each plane and tile.
    """
    size_i, size_j, n = fixed.shape
    radius_i, radius_j, radius_k = radii
    depth, height, area = 2 * radius_i + 1, 2 * radius_j + 1, size_j * n
    num_moments = 6 if weighted else 5
    f, w, m, g = fixed.reshape(-1), warped.reshape(-1), weights.reshape(-1), gradient.reshape(-1)
    num_columns = values.shape[1]
    num_blocks = (size_i + PLANES_PER_TASK - 1) // PLANES_PER_TASK
    for turn in prange(num_columns * num_blocks):
        task = spread(turn, num_columns * num_blocks)
        tile = task % num_columns
        first, left = task // num_columns * PLANES_PER_TASK, tile * LINES_PER_TASK
        last, right = min(first + PLANES_PER_TASK, size_i), min(left + LINES_PER_TASK, size_j)
        low, high = _part_of_line(spans, first, last, left, right, radii, n)
        for i in range(first, last):
            values[i, tile] = 0.0
            for e in range(i * area + left * n, i * area + right * n):
                g[U8(e)] = F4(0)
        if high <= low:
            continue
        margin = whole_lines(radius_k)
        count = high - low
        size = margin + whole_lines(count)  # zeros, and numbers from the start of a line of the cache on
        lines = zeros_for(height * num_moments * size)  # moments of the last lines, summed over planes
        padded = zeros_for(num_moments * size + margin)  # of one line, summed over planes and lines
        terms = zeros_for(4 * size)  # factors of the derivative, of one line, and what it adds to the value
        totals = np.zeros(count)  # of a plane, by the place along K
        term_lines = zeros_for(height * 3 * size)  # of the last lines, summed along K
        planes = zeros_for(depth * LINES_PER_TASK * 3 * size)  # of the last planes, summed along K and J
        inverse_counts, num_lines = (
            room_for(whole_lines(count)),
            0,
        )  # one by the voxels of each window, for so many lines
        is_filled, has_windows, is_reached = np.zeros((3, size_j), np.bool_)
        last_done = np.full(LINES_PER_TASK, -depth)  # the last plane in which a line has factors
        for middle in range(max(first - radius_i, 0), last + radius_i):
            near, far = max(middle - radius_i, 0), min(middle + radius_i + 1, size_i)
            for j in range(max(left - 2 * radius_j, 0), min(right + 2 * radius_j, size_j)):
                is_filled[j] = False
                for i in range(near, far if middle < size_i else near):
                    is_filled[j] |= spans[1, i, j] > spans[0, i, j]
            _reach(is_filled, radius_j, max(left - radius_j, 0), min(right + radius_j, size_j), has_windows)
            _reach(has_windows, radius_j, max(left - 2 * radius_j, 0), min(right + 2 * radius_j, size_j), is_reached)
            totals[:] = 0.0
            for lead in range(left - 2 * radius_j, right + 2 * radius_j):
                # 1. line `lead`: moments summed over planes
                if 0 <= lead < size_j and is_reached[lead]:
                    start, at = near * area + lead * n + low, lead % height * num_moments * size + margin
                    soon = U8((far - 1) * area + (lead + 1) * n + low)
                    prefetch(f, soon, count)
                    prefetch(w, soon, count)
                    _sum_moments(f, w, m, weighted, start, area, far - near, lines, at, size, count)
                # 2. line `j`: moments of its windows, the correlation, and the factors of the derivative
                j = lead - radius_j
                if max(left - radius_j, 0) <= j < min(right + radius_j, size_j):
                    at = j % height * 3 * size
                    if has_windows[j]:
                        above, below = max(j - radius_j, 0), min(j + radius_j + 1, size_j)
                        _sum_ring(lines, above, below, height, num_moments * size, 0, padded, U8(0), num_moments * size)
                        if num_lines != (far - near) * (below - above):
                            num_lines = (far - near) * (below - above)
                            for k in range(low, high):
                                along = min(k + radius_k, n - 1) - max(k - radius_k, 0) + 1
                                inverse_counts[k - low] = F4(1) / F4(num_lines * along)
                        start = U8(middle * area + j * n + low)
                        _find_factors(
                            padded,
                            inverse_counts,
                            m,
                            start,
                            weighted,
                            noises,
                            squared,
                            size,
                            margin,
                            radius_k,
                            count,
                            terms,
                        )
                        if left <= j < right:
                            _add_line(terms, U8(3 * size + margin), totals)
                        _sum_row(terms, radius_k, term_lines, U8(at), margin, 3 * size)
                    else:
                        for k in range(3 * size):
                            term_lines[U8(at + k)] = F4(0)
                # 3. line `j`: the factors summed along K and J
                j = lead - 2 * radius_j
                if left <= j < right:
                    slot = middle % depth
                    last_done[j - left] = middle if is_reached[j] else last_done[j - left]
                    at = (slot * LINES_PER_TASK + j - left) * 3 * size
                    above, below = max(j - radius_j, 0), min(j + radius_j + 1, size_j)
                    _sum_ring(term_lines, above, below, height, 3 * size, 0, planes, U8(at), 3 * size)
            if first <= middle < last:
                values[middle, tile] = totals.sum()
            # 4. derivative in plane `done`, all of whose windows are known now
            done = middle - radius_i
            for j in range(left, right if first <= done < last else left):
                if last_done[j - left] < done - radius_i:
                    continue
                above, below = max(done - radius_i, 0), min(done + radius_i + 1, size_i)
                step, offset = LINES_PER_TASK * 3 * size, (j - left) * 3 * size + margin
                start = U8(done * area + j * n + low)
                _combine(f, w, m, weighted, start, planes, above, below, depth, step, offset, size, count, factor, g)
