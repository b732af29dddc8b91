"""The 27 lines around a line of a vector field, side by side: three of each of three planes, of three components.

Read where they are, lines of volumes whose planes are a multiple of 4096 bytes compete for the same few places of the
first cache. A task is a tile of lines over a block of planes, so that a line stays in the second cache until all three
planes around have used it. Its lines are copied into a ring with room for four, of which three are read at a time.
"""

import numpy as np
from numba import njit

from pullback.kernels.prefetch import prefetch
from pullback.kernels.spans import copy, spread

U8 = np.uint64
PLANES_PER_TASK, LINES_PER_TASK = 32, 32
NUM_PLACES = 4


@njit(inline="always")
def num_tasks(size_i, size_j):
    """How many tasks a volume makes."""
    return (-(-size_i // PLANES_PER_TASK)) * (-(-size_j // LINES_PER_TASK))


@njit(inline="always")
def part_of(turn, size_i, size_j):
    """First and last (exclusive) plane, first and last (exclusive) line of a task."""
    task, num_tiles = spread(turn, num_tasks(size_i, size_j)), -(-size_j // LINES_PER_TASK)
    first, left = task // num_tiles * PLANES_PER_TASK, task % num_tiles * LINES_PER_TASK
    return first, min(first + PLANES_PER_TASK, size_i), left, min(left + LINES_PER_TASK, size_j)


@njit(inline="always")
def length_of_ring(n):
    """Numbers in the ring for lines of `n`, each with one more on either side."""
    return NUM_PLACES * 9 * (n + 2)


@njit
def _take_line(source, start, ring, at, n):
    """A line into the ring, with its ends repeated; returns 0 if all of it is (positive) zero."""
    ring[at - U8(1)], ring[at + U8(n)] = source[start], source[start + U8(n - 1)]
    return copy(source, start, ring, at, n)


@njit
def take_lines(field, shape, i, line, right, ring, is_filled):
    """Line `line` of the planes around `i` into the ring, and the one after it, up to `right`, on its way.

    Args:
        field: ``(3 I J K,)``.
        shape: ``(I, J, K)``; beyond its edges planes are repeated.
        i: The plane in the middle.
        line: Which line of each plane.
        right: The line before which the task ends.
        ring: ``(length_of_ring(K),)``.
        is_filled: Out, ``(4,)``: whether these lines hold anything but zeros, at the line's place.
    """
    size_i, size_j, n = shape
    place, bits, ring_bits = line % NUM_PLACES, field.view(np.int32), ring.view(np.int32)
    is_filled[place] = False
    for component in range(3):
        first = component * size_i
        if line < right:
            prefetch(field, U8(((first + min(i + 1, size_i - 1)) * size_j + line + 1) * n), n)
        for plane in range(3):
            start = U8(((first + min(max(i + plane - 1, 0), size_i - 1)) * size_j + line) * n)
            at = U8(((place * 3 + plane) * 3 + component) * (n + 2) + 1)
            is_filled[place] |= _take_line(bits, start, ring_bits, at, n) != 0


@njit(inline="always")
def rows_around(j, size_j, n):
    """Where the first component of nine lines begins in the ring: plane by plane, of lines j - 1, j and j + 1.

    Other components follow after n + 2 and 2 n + 4 numbers.
    """
    step = 3 * (n + 2)
    behind = max(j - 1, 0) % NUM_PLACES * 3 * step + 1
    here = j % NUM_PLACES * 3 * step + 1
    ahead = min(j + 1, size_j - 1) % NUM_PLACES * 3 * step + 1
    return (
        U8(behind),
        U8(here),
        U8(ahead),
        U8(behind + step),
        U8(here + step),
        U8(ahead + step),
        U8(behind + 2 * step),
        U8(here + 2 * step),
        U8(ahead + 2 * step),
    )
