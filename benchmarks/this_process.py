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
    try:
        numba.set_num_threads(count)
    except ValueError as error:
        raise SystemExit(f"--threads {count}: {error}; set NUMBA_NUM_THREADS.") from None
