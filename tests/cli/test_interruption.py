"""Ctrl-C and SIGTERM wherever the main thread happens to be: not lost, and no traceback."""

import signal
import subprocess
import sys

import pytest

LISTEN = "import signal, sys, time\nfrom pullback.cli.interruption import Terminated, listen\nlisten()\n"
IN_A_DESTRUCTOR = """
class Cut:
    def __del__(self):
        signal.raise_signal({number})
        time.sleep(10)
try:
    Cut()
    for _ in range(100):
        time.sleep(0.05)
except (KeyboardInterrupt, Terminated) as error:
    sys.exit(type(error).__name__)
"""
HALF_MADE = """
class HalfMade:
    def __init__(self):
        signal.raise_signal({number})
        self.pointer = 1
    def __del__(self):
        del self.pointer
try:
    HalfMade()
except (KeyboardInterrupt, Terminated) as error:
    sys.exit(type(error).__name__)
"""
NUMBERS = [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")]


def python(source: str) -> subprocess.CompletedProcess[str]:
    # Tests that run in a shell's background ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    signal.signal(signal.SIGINT, before)
    return done


@pytest.mark.parametrize(("number", "name"), NUMBERS)
@pytest.mark.parametrize("source", [IN_A_DESTRUCTOR, HALF_MADE])
def test_it_is_neither_lost_nor_noisy(source: str, number: int, name: str):
    done = python(LISTEN + source.format(number=int(number)))
    assert (done.returncode, done.stderr) == (1, f"{name}\n")


def test_without_an_interruption_a_destructor_may_complain():
    done = python(LISTEN + "class Broken:\n    def __del__(self):\n        del self.pointer\nBroken()\n")
    assert done.returncode == 0
    assert "AttributeError" in done.stderr


def test_ctrl_c_that_the_shell_ignores_stays_ignored():
    ignored = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    assert python(ignored + LISTEN + "signal.raise_signal(signal.SIGINT)\n").returncode == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_libraries_are_imported(number: int, status: int):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "pullback", "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    for line in process.stderr:
        if "numpy" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("pullback: ")
