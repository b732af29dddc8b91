"""The command line: ``pullback COMMAND``, one file of this folder for each.

Exit status: 0 done, 1 the machine would not (disk, memory), 2 bad input, 3 a registration that failed by its own
verdict, 4 pairs of a table that could not be scored, 130 interrupted, 143 terminated. Each error is one line on
standard error.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from pullback.cli import (
    apply,
    compare,
    compose,
    convert,
    demo,
    evaluate,
    figure,
    info,
    invert,
    jacobian,
    landmarks,
    models,
    register,
    report,
    submission,
    train,
)
from pullback.cli.interruption import INTERRUPTED, TERMINATED, Terminated, say
from pullback.cli.words import spread_initial
from pullback.version import __version__

INPUT_ERRORS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
DONE, MACHINE, BAD_INPUT, FAILED = 0, 1, 2, 3

app = typer.Typer(
    name="pullback",
    help="Register medical images: one command, the map both ways, and an honest verdict.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pullback {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Register medical images: one command, the map both ways, and an honest verdict.

    World coordinates are RAS+ millimetres; a transform maps points of the fixed image to the moving image.
    """


app.command("register")(register.command)
app.command("apply")(apply.command)
app.command("convert")(convert.command)
app.command("compose")(compose.command)
app.command("invert")(invert.command)
app.command("jacobian")(jacobian.command)
app.command("landmarks")(landmarks.command)
app.command("info")(info.command)
app.command("evaluate")(evaluate.command)
app.command("compare")(compare.command)
app.command("submission")(submission.command)
app.command("report")(report.command)
app.add_typer(figure.app, name="figure")
app.command("demo")(demo.command)
app.command("train")(train.command)
app.add_typer(models.app, name="models")


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; every error becomes one line."""
    if "" in arguments:
        return _complain("one of the words is empty; is a variable of the shell not set?", BAD_INPUT)
    try:
        command = typer.main.get_command(app)
        words = spread_initial([_at_home(word) for word in arguments]) or ["--help"]
        status = command.main(words, prog_name="pullback", standalone_mode=False)
    except Terminated:
        return say(TERMINATED)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except MemoryError:
        return _complain("there is not enough memory for images of this size", MACHINE)
    except OSError as error:
        return _complain(str(error), BAD_INPUT if isinstance(error, INPUT_ERRORS) else MACHINE)
    except (ValueError, TypeError, FloatingPointError, ModuleNotFoundError) as error:
        return _complain(str(error), BAD_INPUT)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the parser's own
            raise
        return _complain(f"{error.format_message()} See 'pullback --help'.", BAD_INPUT)
    if status == INTERRUPTED:
        return say(INTERRUPTED)
    return status if isinstance(status, int) else DONE


def _at_home(word: str) -> str:
    """``--out=~/file`` as ``--out ~/file`` arrives: the shell leaves a tilde within a word to the program."""
    option, _, value = word.partition("=")
    is_at_home = option.startswith("--") and (value == "~" or value.startswith("~/"))
    return f"{option}={Path.home()}{value[1:]}" if is_at_home else word


def _complain(message: str, status: int) -> int:
    """One line on standard error."""
    line = " ".join(message.split())
    print(f"pullback: {line}", file=sys.stderr)
    return status
