"""Threads of every library in the process that runs, for the benchmarks that measure in their own process."""

import os

import numba
import SimpleITK
import torch


def use_threads(count: int) -> None:
    """Let PyTorch, Numba and ITK use so many threads.

    Raises:
        SystemExit: If Numba was started with fewer.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(count)  # for the ITK that antspyx and elastix bring along
    torch.set_num_threads(count)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    try:
        numba.set_num_threads(count)
    except ValueError as error:
        raise SystemExit(f"--threads {count}: {error}; set NUMBA_NUM_THREADS.") from None
