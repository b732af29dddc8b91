"""``pullback info``."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from pullback.cli.transform_files import Fixed, From, Moving, load
from pullback.data import Image
from pullback.io import read_image
from pullback.io.atomic import suffix_of
from pullback.io.formats import in_words
from pullback.io.images import READABLE
from pullback.io.registry import certainly, possibly
from pullback.space import Grid, axis_codes
from pullback.transforms import AbstractLinear, AbstractTransform, Affine, BSpline, Chain, DisplacementField


def command(
    file: Annotated[Path, typer.Argument(help="An image or a transform.")],
    fixed: Fixed = None,
    moving: Moving = None,
    form: From = None,
) -> None:
    """Say what an image or a transform is, in words and numbers."""
    for line in describe(file, fixed=fixed, moving=moving, form=form):
        print(line)


def describe(
    path: Path, *, fixed: Path | None = None, moving: Path | None = None, form: str | None = None
) -> list[str]:
    """Lines about a file."""
    found = [] if form is not None or path.is_dir() else certainly(path)
    if form is not None or found:
        name = form if form is not None else found[0].name
        lines = [f"format: {name}", *describe_transform(load(path, fixed=fixed, moving=moving, form=form))]
        return lines if form is not None or name != "itk" else [*lines, *_as_image(path)]
    try:
        lines = [*describe_image(read_image(path)), *_could_be(path)]
    except ValueError as image_error:
        if path.is_dir() or (suffix_of(path) in READABLE and not possibly(path)):
            raise
        try:
            return describe_transform(load(path, fixed=fixed, moving=moving))
        except ValueError as error:
            raise error from image_error
    if fixed is not None or moving is not None:
        raise ValueError(
            f"--fixed and --moving are for transforms, but '{path}' is an image; --from would say otherwise."
        )
    return lines


def _as_image(path: Path) -> list[str]:
    """ITK stores vectors and the channels of an image alike, so both are said."""
    if suffix_of(path) not in READABLE:
        return []
    try:
        image = read_image(path)
    except ValueError:
        return []
    low, high = float(image.tensor.min()), float(image.tensor.max())
    return [
        f"note: as an image it is {image.grid.num_dims}-D with {image.num_channels} channels, intensities {low:g} to "
        f"{high:g}; a file does not say whether these are vectors"
    ]


def _could_be(path: Path) -> list[str]:
    names = [] if path.is_dir() else [form.name for form in possibly(path)]
    return [f"note: it could also be a transform of {', '.join(names)}; --from says so"] if names else []


def describe_image(image: Image) -> list[str]:
    """Lines about an image."""
    values = image.tensor
    channels = "" if image.num_channels == 1 else f", {image.num_channels} channels"
    lines = [
        f"image: {image.grid.num_dims}-D{channels}, stored as {image.header.get('dtype', values.dtype)}",
        *describe_grid(image.grid),
        f"intensities: {float(values.min()):g} to {float(values.max()):g}, mean {float(values.double().mean()):g}",
    ]
    return lines + [f"note: {note}" for note in image.header.get("notes", ())]


def describe_grid(grid: Grid) -> list[str]:
    """Lines about a grid."""
    spacing = grid.spacing_mm
    extent = [n * s for n, s in zip(grid.shape, spacing.tolist(), strict=True)]
    kind = "right angles" if grid.is_orthonormal() else "sheared"
    lines = [
        f"grid: {' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{s:.4g}' for s in spacing.tolist())} mm "
        f"(field of view {' x '.join(f'{e:.4g}' for e in extent)} mm), axes {axis_codes(grid)}, {kind}",
        f"voxel 0 at ({', '.join(f'{o:.4f}' for o in grid.origin.tolist())}) mm RAS",
    ]
    return lines


def describe_transform(transform: AbstractTransform) -> list[str]:
    """Lines about a transform."""
    if isinstance(transform, Chain):
        lines = [f"transform: a chain of {len(transform.parts)}, applied to a point from the last to the first"]
        for number, part in enumerate(transform.parts, start=1):
            lines += [f"part {number}: {line}" for line in describe_transform(part)]
        return lines
    if isinstance(transform, AbstractLinear):
        return _describe_linear(transform)
    if isinstance(transform, DisplacementField):
        return _describe_field(transform)
    if isinstance(transform, BSpline):
        largest = float(torch.linalg.vector_norm(transform.coefficients, dim=0).max())
        word = (
            f"B-spline of order {transform.order}, {transform.num_dims}-D, RAS mm, largest coefficient {largest:.4g} mm"
        )
        return [word, *(f"control points: {line}" for line in describe_grid(transform.grid))]
    return [f"transform: {in_words(transform)}"]


def _describe_linear(transform: AbstractLinear) -> list[str]:
    parts = Affine(transform.matrix).decompose()
    angles = ", ".join(f"{math.degrees(a):.3f}" for a in parts.rotation)
    return [
        f"linear, {transform.num_dims}-D, fixed to moving, RAS mm",
        *(f"  {np.array2string(row, precision=6, suppress_small=True)}" for row in transform.matrix.numpy()),
        f"translation {np.round(parts.translation_mm, 4).tolist()} mm, rotation vector ({angles}) degrees, "
        f"scales {np.round(parts.scaling, 5).tolist()}, shears {np.round(parts.shear, 5).tolist()}",
    ]


def _describe_field(transform: DisplacementField) -> list[str]:
    lengths = torch.linalg.vector_norm(transform.displacement, dim=0)
    return [
        f"displacement field, {transform.num_dims}-D, RAS mm, mean length {float(lengths.double().mean()):.4g}, "
        f"largest {float(lengths.max()):.4g} mm",
        *describe_grid(transform.grid),
    ]
