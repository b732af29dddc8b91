"""Memory that was freed, given back."""

import ctypes
import sys


def _find_trim() -> ctypes._CFuncPtr | None:
    """``malloc_trim`` of the C library; None where it has none (all but glibc)."""
    try:
        return ctypes.CDLL(None).malloc_trim if sys.platform == "linux" else None
    except (OSError, AttributeError):
        return None


_TRIM = _find_trim()


def give_back() -> None:
    """Give freed memory back to the system.

    Of volumes that it has seen come and go, glibc keeps some for those to come: half a gigabyte of a 1 mm brain, on top
    of which the next stage would need its own.
    """
    if _TRIM is not None:
        _TRIM(0)
