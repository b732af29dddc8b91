"""Ctrl-C and SIGTERM: an exception in the main thread that is not lost and makes no noise.

Python raises the handler's exception wherever the main thread happens to be. In a destructor or a callback of C it
cannot leave, is printed and forgotten; and an object cut short in its making complains when it is thrown away. So an
exception that could not leave is raised again a moment later, and after the first one such complaints are not shown.
"""

import _thread
import signal
import sys
import threading

INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses, as of shells: 128 and the signal's number."""
AGAIN_AFTER = 0.05
"""Seconds until an interruption that could not leave is raised again."""


class Terminated(BaseException):
    """SIGTERM, by which batch systems end a job (no KeyboardInterrupt, which the parser would take for Ctrl-C)."""


_received: list[int] = []


def listen() -> None:
    """Raise KeyboardInterrupt on SIGINT, unless the caller's shell ignores it, and `Terminated` on SIGTERM."""
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _raise)
    sys.unraisablehook = _cannot_leave


def say(status: int) -> int:
    """Say on standard error that the command was stopped, and return the status."""
    word = "interrupted" if status == INTERRUPTED else "terminated"
    print(f"pullback: {word}; no file is left half-written under its name", file=sys.stderr)
    return status


def _raise(number: int, _frame: object) -> None:
    _received.append(number)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _cannot_leave(problem: "sys.UnraisableHookArgs") -> None:
    if _received and issubclass(problem.exc_type, (KeyboardInterrupt, Terminated)):
        again = threading.Timer(AGAIN_AFTER, _thread.interrupt_main, (_received[-1],))
        again.daemon = True
        again.start()
    elif not _received:
        sys.__unraisablehook__(problem)
