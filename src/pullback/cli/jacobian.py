"""``pullback jacobian``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from pullback.cli.transform_files import From, Moving, load_chain, refuse_to_replace
from pullback.data import Image
from pullback.io import read_image, write_image
from pullback.metrics import summarise_jacobian

SMALLEST_FOR_LOG = 1e-3


def command(
    transforms: Annotated[list[Path], typer.Argument(help="Applied to points of the fixed image in the order given.")],
    to: Annotated[Path, typer.Option("--to", help="Image on whose grid to evaluate.")],
    out: Annotated[Path, typer.Option("--out", help="Image to write.")],
    moving: Moving = None,
    form: From = None,
    log: Annotated[
        bool, typer.Option("--log", help=f"Natural logarithm; determinants below {SMALLEST_FOR_LOG} count as that.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write the Jacobian determinant of a transform: above 1 it expands, below 1 it shrinks, at or below 0 it folds."""
    refuse_to_replace(out, overwrite)
    fixed = read_image(to)
    transform = load_chain(transforms, fixed=fixed.grid, moving=moving, form=form)
    determinant = transform.jacobian_determinant(fixed.grid)
    summary = summarise_jacobian(determinant)
    values = determinant.clamp(min=SMALLEST_FOR_LOG).log() if log else determinant
    write_image(out, Image(values[None].to(torch.float32), fixed.grid), like=fixed)
    print(
        f"determinant {summary.minimum:.4g} to {summary.maximum:.4g}, {summary.num_nonpositive} voxels "
        f"({summary.percent_nonpositive:.4g} %) at or below 0, standard deviation of the logarithm {summary.sd_log:.4g}"
    )
