"""``pullback convert``."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.cli.transform_files import FileOptions, takes_file_options


@takes_file_options
def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A transform of any known tool.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; its suffix chooses what is written.")],
    *,
    options: FileOptions,
) -> None:
    """Convert a transform from one tool's file to another's.

    What a format cannot hold is refused; a file that does not say what it is, is not guessed (--from). A deformation is
    evaluated on a grid only for a format that holds nothing else, and only with --fixed; that is said. What was written
    is read back and compared on points.
    """
    path = options.target(out)
    (transform,) = options.load(source)
    options.store(path, transform, fixed=options.fixed, moving=options.moving)
    options.store_sidecar(path, fixed=options.fixed, moving=options.moving, sources=[source])
