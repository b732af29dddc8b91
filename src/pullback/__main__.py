"""The process of the command line; also ``python -m pullback``."""

import sys

from pullback.cli.interruption import INTERRUPTED, TERMINATED, Terminated, listen, say


def main() -> None:
    """Run the words of the command line and leave with the exit status.

    The command line is imported here, as that takes seconds in which somebody may think better of it.
    """
    listen()
    try:
        from pullback.cli.main import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = say(INTERRUPTED)
    except Terminated:
        status = say(TERMINATED)
    sys.exit(status)


if __name__ == "__main__":
    main()
