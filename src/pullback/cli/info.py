"""``pullback info``."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from pullback.cli.words import TRANSFORM_SUFFIXES
from pullback.data import Image
from pullback.io import read_image, read_transform
from pullback.space import Grid, axis_codes
from pullback.transforms import AbstractLinear, AbstractTransform, Affine, Chain, DisplacementField


def command(file: Annotated[Path, typer.Argument(help="An image or a transform.")]) -> None:
    """Say what an image or a transform is, in words and numbers."""
    for line in describe(file):
        print(line)


def describe(path: Path) -> list[str]:
    """Lines about a file."""
    if path.suffix.lower() in TRANSFORM_SUFFIXES:
        return describe_transform(read_transform(path))
    try:
        image = read_image(path)
        nifti = image.header.get("nifti")
        if nifti is not None and nifti.get_intent()[0] == "vector":
            return describe_transform(read_transform(path))
        return describe_image(image)
    except ValueError as image_error:
        try:
            return describe_transform(read_transform(path))
        except ValueError:
            raise image_error from None


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
    return [f"transform: {type(transform).__name__}"]


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
