"""How many threads compute."""

import warnings
from contextlib import AbstractContextManager

import numba
import torch
from threadpoolctl import ThreadpoolController

from pullback.checks import check_positive


def use_threads(num_threads: int | None) -> int:
    """Set the threads of the compiled kernels and of torch; None leaves all that the machine allows.

    Results do not depend on it.

    Returns:
        The number in force.

    Raises:
        ValueError: If more are asked for than the machine has.
    """
    most = int(numba.config.NUMBA_NUM_THREADS)
    if num_threads is None:
        return int(numba.get_num_threads())
    check_positive("threads", num_threads)
    if num_threads > most:
        raise ValueError(f"`threads` is {num_threads}, but this machine offers {most}; ask for {most} or fewer.")
    numba.set_num_threads(num_threads)
    torch.set_num_threads(num_threads)
    return num_threads


def one_blas_thread() -> AbstractContextManager[object]:
    """While this lasts, NumPy's and SciPy's OpenBLAS has one thread; then as many as before.

    Its threads spin for a while after each product, and the compiled kernels want the cores then: on two cores a
    registration is up to three times slower for it, and the products are of small matrices.
    """
    with warnings.catch_warnings():  # it speaks up where two OpenMP libraries are loaded, which is not ours to mend
        warnings.simplefilter("ignore", RuntimeWarning)
        libraries = ThreadpoolController()
    return libraries.select(internal_api="openblas").limit(limits=1)
