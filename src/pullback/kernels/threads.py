"""How many threads compute."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numba.np.ufunc.parallel as numba_threads
import torch
from threadpoolctl import ThreadpoolController

from pullback.checks import check_positive

_before: list[int] = []
"""Threads of the compiled kernels and of torch before a number was first given."""

_forked_from: list[int] = []
"""The process that this one was forked from, if that had started its threads."""

_blas_limits: list[Any] = []
"""One entry, the same, for each `one_blas_thread` that lasts."""
_blas_lock = threading.Lock()


def _remember_fork() -> None:
    if getattr(numba_threads, "_is_initialized", False):
        _forked_from.append(os.getppid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember_fork)


def use_threads(num_threads: int | None) -> int:
    """Set the threads of the compiled kernels and of torch; None takes as many as before a number was first given.

    Results do not depend on it.

    Returns:
        The number in force.

    Raises:
        ValueError: If more are asked for than the machine has.
        RuntimeError: In a process that was forked from one that had computed: its threads are gone, and OpenMP ends it.
    """
    if _forked_from:
        raise RuntimeError(
            f"This process was forked from one that had computed before (process {_forked_from[0]}), and has none of "
            'its threads; start processes by "spawn" or "forkserver" (multiprocessing.get_context).'
        )
    most = int(numba.config.NUMBA_NUM_THREADS)
    if num_threads is None:
        _set(*_before) if _before else None
        return int(numba.get_num_threads())
    check_positive("threads", num_threads)
    if num_threads > most:
        raise ValueError(f"`threads` is {num_threads}, but this machine offers {most}; ask for {most} or fewer.")
    if not _before:
        _before.extend((numba.get_num_threads(), torch.get_num_threads()))
    _set(num_threads, num_threads)
    return num_threads


def _set(compiled: int, torchs: int) -> None:
    numba.set_num_threads(compiled)
    torch.set_num_threads(torchs)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """While this lasts, NumPy's and SciPy's OpenBLAS has one thread; then as many as before.

    Its threads spin for a while after each product, and the compiled kernels want the cores then: on two cores a
    registration is up to three times slower for it, and the products are of small matrices. Of several at a time, in
    threads of one process, the first sets the number and the last puts it back.
    """
    with _blas_lock:
        if not _blas_limits:
            with warnings.catch_warnings():  # it speaks up where two OpenMP libraries are loaded: not ours to mend
                warnings.simplefilter("ignore", RuntimeWarning)
                libraries = ThreadpoolController()
            _blas_limits.append(libraries.select(internal_api="openblas").limit(limits=1))
        else:
            _blas_limits.append(_blas_limits[0])
    try:
        yield
    finally:
        with _blas_lock:
            limit = _blas_limits.pop()
            if not _blas_limits:
                limit.restore_original_limits()
