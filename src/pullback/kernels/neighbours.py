"""The 27 lines around a line of a vector field, side by side: three of each of three planes, of three components.

Read where they are, lines of volumes whose planes are a multiple of 4096 bytes compete for the same few places of the
first cache. A task is a tile of lines over a block of planes. Three planes of its lines stand in a ring that stays in
the second cache: a line is copied once, and used nine times.
"""

import numpy as np
from numba import njit

from pullback.kernels.prefetch import CACHE_LINE, prefetch
from pullback.kernels.scratch import whole_lines
from pullback.kernels.spans import copy, spread

U8 = np.uint64
PLANES_PER_TASK, LINES_PER_TASK = 32, 32
NUM_PLANES, NUM_LINES = 3, LINES_PER_TASK + 2


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
def pitch_of(n):
    """From a line of `n` in the ring to the next component's, where each has one more on either side."""
    return whole_lines(n + 2)


@njit(inline="always")
def length_of_ring(n):
    """Numbers in the ring for lines of `n`."""
    return 2 * CACHE_LINE + NUM_PLANES * NUM_LINES * 3 * pitch_of(n)


@njit(inline="always")
def _place_of(plane, line, left):
    """Which place of the ring a line of a plane has, in a task whose lines begin with `left`."""
    return plane % NUM_PLANES * NUM_LINES + line - left + 1


@njit
def _take_line(source, start, ring, at, n):
    """A line into the ring, with its ends repeated; returns 0 if all of it is (positive) zero."""
    ring[at - U8(1)], ring[at + U8(n)] = source[start], source[start + U8(n - 1)]
    return copy(source, start, ring, at, n)


@njit
def take_line(field, shape, plane, line, left, ring, is_filled):
    """A line of a plane into the ring.

    Args:
        field: ``(3 I J K,)`` int32, the bits of the numbers; the ring's, too.
        shape: ``(I, J, K)``.
        plane, line: Which; inside the volume.
        left: The first line of the task.
        ring: ``(length_of_ring(K),)``.
        is_filled: Out, ``(NUM_PLANES * NUM_LINES,)``: whether the line holds anything but zeros, at its place.
    """
    size_i, size_j, n = shape
    place = _place_of(plane, line, left)
    is_filled[place] = False
    for component in range(3):
        start = U8(((component * size_i + plane) * size_j + line) * n)
        at = U8((place * 3 + component) * pitch_of(n) + CACHE_LINE)
        prefetch(field, start + U8(2 * n), n)
        is_filled[place] |= _take_line(field, start, ring, at, n) != 0


@njit(inline="always")
def rows_around(i, j, left, shape):
    """Where the first component of nine lines begins in the ring: plane by plane, of lines j - 1, j and j + 1.

    Beyond the edges planes and lines are repeated. Other components follow after :func:`pitch_of` numbers and twice as
    many.
    """
    size_i, size_j, n = shape
    step = 3 * pitch_of(n)
    below, above = max(i - 1, 0), min(i + 1, size_i - 1)
    behind, ahead = max(j - 1, 0), min(j + 1, size_j - 1)
    return (
        U8(_place_of(below, behind, left) * step + CACHE_LINE),
        U8(_place_of(below, j, left) * step + CACHE_LINE),
        U8(_place_of(below, ahead, left) * step + CACHE_LINE),
        U8(_place_of(i, behind, left) * step + CACHE_LINE),
        U8(_place_of(i, j, left) * step + CACHE_LINE),
        U8(_place_of(i, ahead, left) * step + CACHE_LINE),
        U8(_place_of(above, behind, left) * step + CACHE_LINE),
        U8(_place_of(above, j, left) * step + CACHE_LINE),
        U8(_place_of(above, ahead, left) * step + CACHE_LINE),
    )


@njit
def is_any_filled(i, j, left, shape, is_filled):
    """Whether any of the nine lines around line j of plane i holds anything but zeros."""
    size_i, size_j, _ = shape
    seen = False
    for plane in range(max(i - 1, 0), min(i + 2, size_i)):
        for line in range(max(j - 1, 0), min(j + 2, size_j)):
            seen |= is_filled[_place_of(plane, line, left)]
    return seen


@njit
def take_plane(field, shape, plane, left, right, ring, is_filled):
    """The lines of a plane that a task needs, :func:`take_line` by line; none beyond the volume."""
    if 0 <= plane < shape[0]:
        for line in range(max(left - 1, 0), min(right + 1, shape[1])):
            take_line(field, shape, plane, line, left, ring, is_filled)
