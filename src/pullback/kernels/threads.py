"""How many threads compute."""

import numba
import torch

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
