"""``pullback compose``."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.cli.transform_files import FileOptions, takes_file_options
from pullback.transforms import chain


@takes_file_options
def command(
    transforms: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="The LAST one acts FIRST on a point: A B is A(B(x)).")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    *,
    options: FileOptions,
) -> None:
    """Compose transforms into one: compose A B is A after B, the product A @ B, x -> A(B(x)).

    ORDER: a point of the fixed image goes through the LAST file first. So for a registration of an affine and then a
    warp it is: compose affine.mat warp.nii.gz --out both.h5 (the warp lives in the fixed space and acts first). This is
    the order of a product; 'pullback apply' lists the files the other way round, first things first.

    Matrices are multiplied, fields and splines are kept as they are in .h5; with --fixed a format for one field holds
    the composition evaluated at the voxels of that image.
    """
    path = options.target(out)
    whole = chain(*options.load(*transforms))
    options.store(path, whole, fixed=options.fixed, moving=options.moving)
    options.store_sidecar(path, fixed=options.fixed, moving=options.moving, sources=transforms)
