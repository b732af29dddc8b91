"""Sixteen numbers at once, each operation against NumPy's; and room that begins with a line of the cache."""

import numpy as np
import pytest
from numba import njit

from pullback.kernels.lanes import (
    all_lanes,
    is_any_filled,
    larger,
    load,
    load_first,
    look_up_pairs,
    multiply_add,
    square_root,
    store,
    store_first,
    where_filled,
)
from pullback.kernels.scratch import room_for, whole_lines, zeros_for

F4, U8 = np.float32, np.uint64
A, B, C = (np.random.default_rng(seed).normal(size=16).astype(F4) for seed in range(3))
HALF_EMPTY = np.where(np.arange(16) % 2, A, F4(0))


@njit
def compute(a, b, c, half_empty, out):
    x, y, z = load(a, U8(0)), load(b, U8(0)), load(c, U8(0))
    store(out, U8(0), x + y)
    store(out, U8(16), x - y)
    store(out, U8(32), x * y)
    store(out, U8(48), x / y)
    store(out, U8(64), multiply_add(x, y, z))
    store(out, U8(80), larger(x, y))
    store(out, U8(96), square_root(x * x))
    store(out, U8(112), all_lanes(F4(2.5)))
    store(out, U8(128), where_filled(load(half_empty, U8(0)), y, z))


def test_arithmetic_is_that_of_single_numbers():
    out = np.zeros(9 * 16, F4)
    compute(A, B, C, HALF_EMPTY, out)
    expected = [A + B, A - B, A * B, A / B, A * B + C, np.maximum(A, B), np.abs(A), np.full(16, 2.5)]
    expected.append(np.where(HALF_EMPTY != 0, B, C))
    np.testing.assert_allclose(out.reshape(9, 16), expected, rtol=1e-6, atol=1e-6)


@njit
def larger_of(a, b, out):
    store(out, U8(0), larger(load(a, U8(0)), load(b, U8(0))))


def test_the_larger_of_a_number_and_nan_is_the_second():
    out, nan = np.zeros(16, F4), np.full(16, np.nan, F4)
    larger_of(nan, A, out)
    np.testing.assert_array_equal(out, A)


@njit
def move(source, out, start, count):
    store_first(out, U8(start), load_first(source, U8(start), count), count)


@pytest.mark.parametrize("count", [1, 7, 15, 16, 40])
def test_the_end_of_a_line_is_not_crossed(count):
    source, out = np.arange(1, 33, dtype=F4), np.full(32, -1, F4)
    move(source, out, 16, count)
    expected = np.full(32, -1, F4)
    expected[16 : 16 + min(count, 16)] = source[16 : 16 + min(count, 16)]
    np.testing.assert_array_equal(out, expected)


@njit
def first_lanes(source, count, out):
    store(out, U8(0), load_first(source, U8(0), count))


def test_what_is_not_read_is_zero():
    out = np.full(16, -1, F4)
    first_lanes(A[:5].copy(), 5, out)
    np.testing.assert_array_equal(out, np.concatenate([A[:5], np.zeros(11, F4)]))


@njit
def is_filled(values):
    return is_any_filled(load(values, U8(0)))


@pytest.mark.parametrize(("value", "expected"), [(0.0, False), (-0.0, False), (1e-30, True), (np.nan, True)])
def test_one_number_fills_lanes(value, expected):
    values = np.zeros(16, F4)
    values[11] = value
    assert is_filled(values) is expected


@njit
def pairs(values, offset, places, out):
    first, second = look_up_pairs(values, U8(offset), places, U8(16))
    store(out, U8(0), first)
    store(out, U8(16), second)


def test_pairs_are_neighbours_wherever_they_are():
    values, places = np.arange(200, dtype=F4), np.random.default_rng(0).integers(0, 150, 32).astype(np.int32)
    out = np.zeros(32, F4)
    pairs(values, 40, places, out)
    np.testing.assert_array_equal(out, np.concatenate([places[16:] + 40, places[16:] + 41]))


@njit
def remainders(n):
    return room_for(n).ctypes.data % 64, zeros_for(n).ctypes.data % 64


@pytest.mark.parametrize("n", [1, 10, 100, 1_000, 10_000, 1_000_000])
def test_room_begins_with_a_line_of_the_cache(n):
    assert remainders(n) == (0, 0)
    assert len(room_for(n)) == n
    assert not zeros_for(n).any()


def test_whole_lines_round_up():
    assert [whole_lines(n) for n in (0, 1, 16, 17)] == [0, 16, 16, 32]


def test_lanes_are_added_to_lanes_only():
    @njit
    def mixed(values):
        return load(values, U8(0)) + F4(1)

    with pytest.raises(Exception, match=r"add"):
        mixed(A)
