"""``pullback compose``."""

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
    load_list,
    store,
    store_sidecar,
    target_of,
)
from pullback.transforms import chain


def command(
    transforms: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="The LAST one acts FIRST on a point: A B is A(B(x)).")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    fixed: Fixed = None,
    moving: Moving = None,
    form: From = None,
    to: To = None,
    kind: Kind = None,
    bids: Bids = None,
    no_verify: NoVerify = False,
    overwrite: Overwrite = False,
) -> None:
    """Compose transforms into one: compose A B is A after B, the product A @ B, x -> A(B(x)).

    ORDER: a point of the fixed image goes through the LAST file first. So for a registration of an affine and then a
    warp it is: compose affine.mat warp.nii.gz --out both.h5 (the warp lives in the fixed space and acts first). This is
    the order of a product; 'pullback apply' lists the files the other way round, first things first.

    Matrices are multiplied, fields and splines are kept as they are in .h5; with --fixed a format for one field holds
    the composition evaluated at the voxels of that image.
    """
    path = target_of(out, to, bids, overwrite)
    whole = chain(*load_list(transforms, fixed=fixed, moving=moving, form=form))
    store(path, whole, fixed=fixed, moving=moving, to=to, kind=kind, verify=not no_verify)
    if bids is not None:
        store_sidecar(path, fixed=fixed, moving=moving, sources=transforms)
