"""Time and memory of calls."""

import time

import numpy as np
import pytest

from pullback.metrics import measure


def test_the_first_call_does_not_count():
    slept = iter([0.05, 0.001, 0.002, 0.001])
    found = measure(lambda: time.sleep(next(slept)), num_repeats=3)
    assert found.seconds_first >= 0.05 > found.seconds_max
    assert found.seconds_min <= found.seconds <= found.seconds_max


def test_the_peak_sees_what_a_call_held():
    still = measure(lambda: None, num_repeats=1)
    large = measure(lambda: np.ones(25_000_000), num_repeats=1)
    assert large.memory_of in ("calls", "process")
    if large.memory_of == "calls":
        assert large.peak_memory_mb > still.peak_memory_mb + 150


def test_errors():
    with pytest.raises(ValueError, match="the least"):
        measure(lambda: None, num_repeats=0)
