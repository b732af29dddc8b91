"""Threads of every library in the process that runs, for the benchmarks that measure in their own process."""

import numba
import SimpleITK
import torch


def use_threads(count: int) -> None:
    """Let PyTorch, Numba and ITK use so many threads.

    Raises:
        SystemExit: If Numba was started with fewer.
    """
    torch.set_num_threads(count)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    if count > numba.config.NUMBA_NUM_THREADS:
        raise SystemExit(f"--threads {count}, but Numba has {numba.config.NUMBA_NUM_THREADS}; set NUMBA_NUM_THREADS.")
    numba.set_num_threads(count)
