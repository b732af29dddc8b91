"""What a computation costs: seconds and peak memory; parameters and multiply-adds are counted in ``networks``."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Cost:
    """Time and memory of repeated calls.

    Attributes:
        seconds: Median over the repeats, after the warm-up.
        seconds_first: The first warm-up call, with all compiling and caching; NaN without warm-up.
        seconds_min, seconds_max: Over the repeats.
        peak_memory_mb: The most memory held during the repeats: of the process on the CPU, of the allocator on a GPU.
        memory_of: ``calls`` where the peak could be reset before them, else ``process``: the most since its start.
    """

    seconds: float
    seconds_first: float
    seconds_min: float
    seconds_max: float
    peak_memory_mb: float
    memory_of: str

    as_dict = asdict


def measure(call: Callable[[], Any], *, num_warm_ups: int = 1, num_repeats: int = 3, device: str = "cpu") -> Cost:
    """Time a call, waiting for the device before each look at the clock.

    Args:
        call: What to run; its result is dropped.
        num_warm_ups: Calls before, which compile and fill caches; 0 or more.
        num_repeats: Calls that count; 1 or more.
        device: ``cpu``, or a CUDA device whose queue is waited for and whose memory is watched.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> measure(lambda: sum(range(1000)), num_repeats=2).seconds < 1
        True
    """
    if num_warm_ups < 0 or num_repeats < 1:
        raise ValueError(
            f"`num_warm_ups` is {num_warm_ups} and `num_repeats` {num_repeats}, but 0 and 1 are the least."
        )
    first = [_seconds(call, device) for _ in range(num_warm_ups)][:1]
    memory_of = "calls" if _reset_peak(device) else "process"
    seconds = [_seconds(call, device) for _ in range(num_repeats)]
    return Cost(
        seconds=statistics.median(seconds),
        seconds_first=first[0] if first else float("nan"),
        seconds_min=min(seconds),
        seconds_max=max(seconds),
        peak_memory_mb=peak_memory_mb(device),
        memory_of=memory_of,
    )


def peak_memory_mb(device: str = "cpu") -> float:
    """The most memory held so far, in MB: of this process, or of a CUDA device's allocator."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _seconds(call: Callable[[], Any], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _reset_peak(device: str) -> bool:
    """Forget the peak so far; Linux lets a process do that for itself, other systems do not."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
