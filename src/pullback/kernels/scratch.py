"""Room for what a task keeps between lines.

Numba's own arrays begin at a multiple of 32 bytes: in every other one each vector of 64 bytes crosses two lines of the
cache, which takes twice as long.
"""

import numpy as np
from numba import njit

from pullback.kernels.prefetch import CACHE_LINE

F4 = np.float32
BYTES = 4 * CACHE_LINE


@njit(cache=True)
def room_for(n):
    """Uninitialised, ``(n,)`` float32, from the start of a line of the cache on."""
    room = np.empty(n + CACHE_LINE, F4)
    first = (BYTES - int(room.ctypes.data) % BYTES) % BYTES // 4
    return room[first : first + n]


@njit(cache=True)
def zeros_for(n):
    """The same, filled with zeros."""
    room = room_for(n)
    room[:] = F4(0)
    return room


@njit(inline="always")
def whole_lines(n):
    """`n` rounded up to whole lines of the cache, so that what comes after begins with one, too."""
    return (n + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
