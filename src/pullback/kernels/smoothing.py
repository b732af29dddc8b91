"""Separable convolution of volumes with short symmetric filters; the edges are repeated.

Lines that hold nothing but zeros as far as the filter reaches are left out: their sum is zero, exactly. Before lines
far apart in memory are added up they are copied side by side: volumes whose planes are a multiple of 4096 bytes would
put them all in one set of the cache.
"""

import numpy as np
from numba import njit, prange

from pullback.kernels.lanes import NUM_LANES, all_lanes, load, multiply_add, store
from pullback.kernels.prefetch import prefetch, prefetch_to_write
from pullback.kernels.scratch import room_for, whole_lines, zeros_for
from pullback.kernels.spans import clear, clear_outside, copy, span_of, spread, union_of, widen

F4 = np.float32
U8 = np.uint64
PIECE = 512
"""Numbers of a plane that are filtered along the first axis at a time: what its ring of planes needs fits in L1."""
FAST = {"contract", "nsz"}


@njit(inline="always")
def _add_four(out, at, source, low, high, taps, first, n):
    """``out[at:at+n] += sum over q < 4 of taps[first + q] * (source[low[q]:] + source[high[q]:])``."""
    w0, w1, w2, w3 = taps[first], taps[first + 1], taps[first + 2], taps[first + 3]
    a0, a1, a2, a3 = low
    b0, b1, b2, b3 = high
    for k in range(n):
        e = U8(k)
        out[at + e] += (
            w0 * (source[a0 + e] + source[b0 + e])
            + w1 * (source[a1 + e] + source[b1 + e])
            + w2 * (source[a2 + e] + source[b2 + e])
            + w3 * (source[a3 + e] + source[b3 + e])
        )


@njit(inline="always")
def _start_with_two(out, at, source, centre, low, high, taps, n):
    """``out[at:at+n]`` = the middle tap and two pairs."""
    w0, w1, w2 = taps[0], taps[1], taps[2]
    a1, a2 = low
    b1, b2 = high
    for k in range(n):
        e = U8(k)
        out[at + e] = (
            w0 * source[centre + e] + w1 * (source[a1 + e] + source[b1 + e]) + w2 * (source[a2 + e] + source[b2 + e])
        )


@njit(inline="always")
def _start_with_six(out, at, source, centre, low, high, taps, n):
    """``out[at:at+n]`` = the middle tap and six pairs."""
    w0, w1, w2, w3, w4, w5, w6 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6]
    a1, a2, a3, a4, a5, a6 = low
    b1, b2, b3, b4, b5, b6 = high
    for k in range(n):
        e = U8(k)
        out[at + e] = (
            w0 * source[centre + e]
            + w1 * (source[a1 + e] + source[b1 + e])
            + w2 * (source[a2 + e] + source[b2 + e])
            + w3 * (source[a3 + e] + source[b3 + e])
            + w4 * (source[a4 + e] + source[b4 + e])
            + w5 * (source[a5 + e] + source[b5 + e])
            + w6 * (source[a6 + e] + source[b6 + e])
        )


@njit(inline="always")
def _convolve(source, places, taps, out, at, n):
    """``out[at:at+n]``, where ``places[radius + q]`` is the first of the `n` numbers that tap q takes."""
    c = len(taps) - 1
    if c == 0:
        for k in range(n):
            out[at + U8(k)] = taps[0] * source[places[0] + U8(k)]
        return
    if c == 2:
        low, high = (places[1], places[0]), (places[3], places[4])
        _start_with_two(out, at, source, places[2], low, high, taps, n)
        return
    low = (places[c - 1], places[c - 2], places[c - 3], places[c - 4], places[c - 5], places[c - 6])
    high = (places[c + 1], places[c + 2], places[c + 3], places[c + 4], places[c + 5], places[c + 6])
    _start_with_six(out, at, source, places[c], low, high, taps, n)
    for q in range(7, c, 4):
        low = (places[c - q], places[c - q - 1], places[c - q - 2], places[c - q - 3])
        high = (places[c + q], places[c + q + 1], places[c + q + 2], places[c + q + 3])
        _add_four(out, at, source, low, high, taps, q, n)


@njit(inline="always")
def _convolve_line(line, first, taps, out, at, n):
    """``out[at:at+n]`` from a line itself, of which the first number's tap in the middle takes ``line[first]``."""
    c = len(taps) - 1
    if c == 6:
        w0, w1, w2, w3 = all_lanes(taps[0]), all_lanes(taps[1]), all_lanes(taps[2]), all_lanes(taps[3])
        w4, w5, w6 = all_lanes(taps[4]), all_lanes(taps[5]), all_lanes(taps[6])
        for k in range(0, n, NUM_LANES):
            e = first + U8(k)
            total = w0 * load(line, e)
            total = multiply_add(w1, load(line, e - U8(1)) + load(line, e + U8(1)), total)
            total = multiply_add(w2, load(line, e - U8(2)) + load(line, e + U8(2)), total)
            total = multiply_add(w3, load(line, e - U8(3)) + load(line, e + U8(3)), total)
            total = multiply_add(w4, load(line, e - U8(4)) + load(line, e + U8(4)), total)
            total = multiply_add(w5, load(line, e - U8(5)) + load(line, e + U8(5)), total)
            total = multiply_add(w6, load(line, e - U8(6)) + load(line, e + U8(6)), total)
            store(out, at + U8(k), total)
        return
    for k in range(0, n, NUM_LANES):
        e = first + U8(k)
        total = all_lanes(taps[0]) * load(line, e)
        for q in range(1, c + 1):
            total = multiply_add(all_lanes(taps[q]), load(line, e - U8(q)) + load(line, e + U8(q)), total)
        store(out, at + U8(k), total)


@njit(parallel=True, cache=True, fastmath=FAST)
def convolve_first_axis(volumes, taps, out):
    """Filter each volume of ``(N, I, J, K)`` along I, a piece of each plane at a time.

    `taps` is one half of the filter, centre first, with 1 or 3 + 4 m numbers; so in all functions of this file.
    """
    num, size_i, size_j, size_k = volumes.shape
    source_bits, target = volumes.reshape(-1).view(np.int32), out.reshape(-1)
    radius, area = len(taps) - 1, size_j * size_k
    pieces = (area + PIECE - 1) // PIECE
    mask = 1
    while mask < 2 * radius + 1:
        mask *= 2
    mask -= 1
    for turn in prange(num * pieces):
        task = spread(turn, num * pieces)
        first = task % pieces * PIECE
        base, n = task // pieces * size_i * area + first, min(PIECE, area - first)
        ring = room_for((mask + 1) * PIECE)
        ring_bits = ring.view(np.int32)
        places, num_filled = np.empty(2 * radius + 1, np.uint64), np.zeros(size_i + radius + 1, np.int64)
        for lead in range(size_i + radius):
            num_filled[lead + 1] = num_filled[lead]
            prefetch(source_bits, U8(base + (lead + 2) * area), n if lead + 2 < size_i else 0)
            if lead < size_i:
                at = U8((lead & mask) * PIECE)
                num_filled[lead + 1] += copy(source_bits, U8(base + lead * area), ring_bits, at, n) != 0
            i = lead - radius
            if i < 0:
                continue
            at = U8(base + i * area)
            prefetch_to_write(target, at + U8(area), n if i + 1 < size_i else 0)
            if num_filled[lead + 1] == num_filled[max(i - radius, 0)]:
                clear(target, at, n)
                continue
            for q in range(-radius, radius + 1):
                places[radius + q] = U8((min(max(i + q, 0), size_i - 1) & mask) * PIECE)
            _convolve(ring, places, taps, target, at, n)


@njit(parallel=True, cache=True, fastmath=FAST)
def convolve_last_axes(volumes, taps_j, taps_k, out):
    """Filter each volume of ``(N, I, J, K)`` along K, then along J."""
    num, size_i, size_j, n = volumes.shape
    source_bits, target = volumes.reshape(-1).view(np.int32), out.reshape(-1)
    radius_j, radius_k = len(taps_j) - 1, len(taps_k) - 1
    mask = 1
    while mask < 2 * radius_j + 1:
        mask *= 2
    mask -= 1
    for turn in prange(num * size_i):
        plane = spread(turn, num * size_i)
        pitch, start = whole_lines(n), whole_lines(radius_k)
        ring = room_for((mask + 1) * pitch)
        padded = zeros_for(start + whole_lines(n) + whole_lines(radius_k))
        padded_bits = padded.view(np.int32)
        lows, highs = np.empty(size_j, np.int64), np.empty(size_j, np.int64)
        places = np.empty(2 * radius_j + 1, np.uint64)
        base = plane * size_j * n
        for lead in range(size_j + radius_j):
            if lead < size_j:
                at = U8((lead & mask) * pitch)
                low, high = n, 0
                prefetch(source_bits, U8(base + (lead + 3) * n), n)
                if copy(source_bits, U8(base + lead * n), padded_bits, U8(start), n) != 0:
                    low, high = span_of(padded, start, n)
                    low, high = widen(low, high, radius_k, n)
                lows[lead], highs[lead] = low, high
                clear_outside(ring, at, low, high, n)
                if high > low:
                    for k in range(radius_k):
                        padded[U8(start - radius_k + k)] = padded[U8(start)]
                        padded[U8(start + n + k)] = padded[U8(start + n - 1)]
                    _convolve_line(padded, U8(start + low), taps_k, ring, at + U8(low), high - low)
            j = lead - radius_j
            if j < 0:
                continue
            low, high = union_of(lows, highs, max(j - radius_j, 0), min(j + radius_j + 1, size_j), n)
            at = U8(base + j * n)
            prefetch_to_write(target, at + U8(2 * n), n)
            clear_outside(target, at, low, high, n)
            for q in range(-radius_j, radius_j + 1):
                places[radius_j + q] = U8((min(max(j + q, 0), size_j - 1) & mask) * pitch + low)
            if high > low:
                _convolve(ring, places, taps_j, target, at + U8(low), high - low)
