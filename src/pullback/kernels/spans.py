"""Where lines of voxels are not zero, so that loops can leave out what cannot change a result.

A span is a half-open range of indices along K; an empty one is ``(n, 0)``, so that unions are minima and maxima. Spans
begin and end at multiples of 16 numbers (or at the end of the line), the width of a vector register.
"""

import numpy as np
from numba import njit, prange

from pullback.kernels.lanes import NUM_LANES, is_any_filled, load_first

F4 = np.float32
U8 = np.uint64


@njit(inline="always")
def widen(low, high, radius, n):
    """A span with `radius` more on either side, rounded outwards, cut at the ends of the line; empty stays empty."""
    if high <= low:
        return n, 0
    return max(low - radius, 0) // NUM_LANES * NUM_LANES, min(
        (high + radius + NUM_LANES - 1) // NUM_LANES * NUM_LANES, n
    )


@njit(inline="always")
def copy(source, start, out, at, n):
    """``out[at:at+n] = source[start:start+n]``, both int32 views; returns 0 if all is (positive) zero.

    A straight copy asks the memory for many places at once, where a search for the first number waits for each.
    """
    seen = np.int32(0)
    for k in range(n):
        bits = source[start + U8(k)]
        out[at + U8(k)] = bits
        seen |= bits
    return seen


@njit(inline="always")
def span_of(values, start, n):
    """The span of what is not zero (or NaN) in ``values[start:start+n]``."""
    low = 0
    while low < n and not is_any_filled(load_first(values, U8(start + low), n - low)):
        low += NUM_LANES
    if low >= n:
        return n, 0
    last = (n - 1) // NUM_LANES * NUM_LANES
    while not is_any_filled(load_first(values, U8(start + last), n - last)):
        last -= NUM_LANES
    return low, min(last + NUM_LANES, n)


@njit(inline="always")
def union_of(lows, highs, first, last, n):
    """The span over lines `first` to `last` (exclusive), all of whose spans are listed."""
    low, high = n, 0
    for line in range(first, last):
        low, high = min(low, lows[line]), max(high, highs[line])
    return low, high


@njit(inline="always")
def clear(out, at, n):
    """Zeros in ``out[at:at+n]``."""
    for k in range(n):
        out[at + U8(k)] = F4(0)


@njit(inline="always")
def clear_outside(out, at, low, high, n):
    """Zeros in a line of `n` numbers outside of its span."""
    clear(out, at, min(low, n))
    if high < n:
        clear(out, at + U8(max(high, min(low, n))), n - max(high, min(low, n)))


@njit(parallel=True, cache=True)
def spans_of_volume(volume, lows, highs):
    """The span of each line of ``(I, J, K)`` along K: `lows` and `highs` are ``(I, J)`` int32."""
    size_i, size_j, n = volume.shape
    flat = volume.reshape(-1)
    for i in prange(size_i):
        for j in range(size_j):
            low, high = span_of(flat, (i * size_j + j) * n, n)
            lows[i, j], highs[i, j] = low, high


@njit(cache=True)
def spread(task, num_tasks):
    """Another order of tasks, in which those that each thread gets one after the other come from everywhere.

    Threads share a range evenly, but work stands where the object is: neighbours would leave one thread with all of it.
    """
    step = max(1, int(0.618 * num_tasks))
    a, b = num_tasks, step
    while b != 0:
        a, b = b, a % b
        if b == 0 and a != 1:
            step += 1
            a, b = num_tasks, step
    return task * step % num_tasks
