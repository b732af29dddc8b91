"""Asking the memory early for what a loop is going to read.

A loop that computes on one line of voxels, and then waits for the next line, takes the sum of both times. Asked for a
line or two ahead the memory works meanwhile. A processor does as much by itself only within a page of 4096 bytes and
for few lines at a time. Nothing is read in the sense of the program: places beyond the end of an array do no harm, and
no number changes.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

U8 = np.uint64
CACHE_LINE = 16
"""Float32 numbers in a line of the cache."""


@intrinsic(prefer_literal=True)
def _ask_for(typing_context, values, index, is_written):
    """Ask for the line of the cache that holds ``values[index]``, to read it or to write to it (a literal)."""
    to_write = int(is_written.literal_value)

    def generate(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte_pointer, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.bitcast(builder.gep(array.data, [args[1]]), byte_pointer)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        keep, is_data = 3, 1
        builder.call(function, [place, i32(to_write), i32(keep), i32(is_data)])
        return context.get_dummy_value()

    return types.void(values, types.uint64, is_written), generate


@njit(inline="always")
def prefetch(values, at, n):
    """Ask for ``values[at:at+n]``, numbers of four bytes in a flat array; all of it may lie beyond the end."""
    for k in range(0, n, CACHE_LINE):
        _ask_for(values, at + U8(k), False)


@njit(inline="always")
def prefetch_to_write(values, at, n):
    """The same for numbers that will be written."""
    for k in range(0, n, CACHE_LINE):
        _ask_for(values, at + U8(k), True)
