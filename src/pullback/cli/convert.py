"""``pullback convert``."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.cli.transform_files import (
    Bids,
    Fixed,
    From,
    Kind,
    Moving,
    NoVerify,
    Overwrite,
    To,
    load,
    store,
    store_sidecar,
    target_of,
)


def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A transform of any known tool.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; its suffix chooses what is written.")],
    fixed: Fixed = None,
    moving: Moving = None,
    form: From = None,
    to: To = None,
    kind: Kind = None,
    bids: Bids = None,
    no_verify: NoVerify = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert a transform from one tool's file to another's.

    What a format cannot hold is refused; a file that does not say what it is, is not guessed (--from). A deformation is
    evaluated on a grid only for a format that holds nothing else, and only with --fixed; that is said. What was written
    is read back and compared on points.
    """
    path = target_of(out, to, bids, overwrite)
    transform = load(source, fixed=fixed, moving=moving, form=form)
    store(path, transform, fixed=fixed, moving=moving, to=to, kind=kind, verify=not no_verify)
    if bids is not None:
        store_sidecar(path, fixed=fixed, moving=moving, sources=[source])
