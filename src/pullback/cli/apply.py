"""``pullback apply``."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.cli.transform_files import Fixed, From, Moving, load_chain, refuse_to_replace
from pullback.data import Image, LabelMap
from pullback.functional import INTERPOLATIONS
from pullback.io import read_image, read_labels, read_points, write_image, write_points
from pullback.transforms import warp, warp_points


def command(
    transforms: Annotated[
        list[Path],
        typer.Argument(help="Files of any known tool, applied to points of the fixed image in the order given."),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    image: Annotated[Path | None, typer.Option("--image", help="Moving image or labels to resample.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Image whose grid the result takes.")] = None,
    points: Annotated[Path | None, typer.Option("--points", help="csv of points to send through instead.")] = None,
    interpolation: Annotated[
        str | None, typer.Option(help=f"{', '.join(INTERPOLATIONS)}. nearest and label are for label maps.")
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Apply the inverse of the whole list.")] = False,
    fixed: Fixed = None,
    moving: Moving = None,
    form: From = None,
    lps: Annotated[bool, typer.Option("--lps", help="Points in and out are in ITK's LPS mm.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Resample an image onto a grid, or move points, through one or more transforms.

    As with antsApplyTransforms, a warp is listed before the affine that follows it. Points go the other way than
    images: fixed_to_moving takes points of the fixed image to the moving image. For formats that need the images they
    were made with, --fixed is --to and --moving is --image unless given (with --inverse the other way round).
    """
    if (image is None) == (points is None):
        raise ValueError("Give either --image (with --to) or --points.")
    if image is not None and to is None:
        raise ValueError("--image needs --to: the image whose grid the result takes.")
    if points is not None and interpolation is not None:
        raise ValueError("--interpolation is for --image; points are just moved.")
    if image is not None and lps:
        raise ValueError("--lps is for --points; images say themselves where they are.")
    refuse_to_replace(out, overwrite)
    ends = (image, to) if inverse else (to, image)
    fixed, moving = ends[0] if fixed is None else fixed, ends[1] if moving is None else moving
    transform = load_chain(transforms, fixed=fixed, moving=moving, form=form)
    transform = ~transform if inverse else transform
    if points is not None:
        moved = warp_points(read_points(points, lps=lps, num_dims=transform.num_dims), transform)
        write_points(out, moved, lps=lps)
        return
    target = read_image(to)
    source: Image | LabelMap = read_labels(image) if interpolation in ("nearest", "label") else read_image(image)
    write_image(out, warp(source, transform, onto=target.grid, interpolation=interpolation), like=target)
