"""Transforms from and to the files of all tools that :mod:`pullback.io.registry` lists.

Whatever a tool stores, what is read maps points of the fixed world to points of the moving world, RAS+ mm.
"""

from pathlib import Path

from pullback.data import AbstractVoxels
from pullback.io.atomic import suffix_of
from pullback.io.formats import Written
from pullback.io.registry import format_for, format_named, recognise, told
from pullback.space import Grid
from pullback.transforms import AbstractTransform

Where = AbstractVoxels | Grid | None
"""An image, a label map or a grid; or nothing, where the format does not need it."""


def read_transform(
    path: str | Path, *, fixed: Where = None, moving: Where = None, format: str | None = None
) -> AbstractTransform:
    """Read a transform from fixed to moving world, RAS+ mm.

    Args:
        path: A file of any known tool. What it is, is told from its content.
        fixed: The fixed image or its grid, for formats that cannot be understood without it (FSL's matrices, fields
            in voxels).
        moving: The moving image or its grid, likewise.
        format: The tool's name, such as ``itk`` or ``fsl``, where the content does not say it; with a kind, such as
            ``fsl:absolute``, where it does not say that either.

    Returns:
        The transform; a `Chain` for a composite of several, with its parts in the order of a product (the last is
        applied first).

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `fixed` or `moving` is no image or grid.
        ValueError: If the file is damaged, of no known format, does not say its format, or needs an image.
    """
    path = Path(path).expanduser()
    form = recognise(path) if format is None else told(format)
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist or is a folder.")
    return form.read(path, _grid(fixed, "fixed"), _grid(moving, "moving"))


def write_transform(
    path: str | Path,
    transform: AbstractTransform,
    *,
    fixed: Where = None,
    moving: Where = None,
    format: str | None = None,
    kind: str | None = None,
) -> Written:
    """Write a transform from fixed to moving world, whole or not at all.

    Args:
        path: The file; its suffix decides what is written.
        transform: What to write; a stationary velocity is written as its displacement field.
        fixed: The fixed image or grid, at whose voxels a transform that is not one field is evaluated for a file that
            holds one field, and without which some formats have no meaning.
        moving: The moving image or grid, likewise.
        format: The tool's name; by default the one that the suffix belongs to, ITK for a suffix of many.
        kind: Which kind of file of that tool, where the suffix does not say it.

    Returns:
        What the file holds, with notes in plain sentences.

    Raises:
        FileNotFoundError: If the folder does not exist.
        TypeError: If `fixed` or `moving` is no image or grid.
        ValueError: If the suffix is unknown, the format cannot hold the transform, or needs an image, or if an image
            has other dimensions than the transform.
        OSError: If the place cannot be written to or the disk is full.
    """
    path = Path(path).expanduser()
    form = format_for(path) if format is None else format_named(format)
    if suffix_of(path) not in form.suffixes:
        raise ValueError(
            f"'{path}' has the suffix '{suffix_of(path)}', but {form.name} is written to {' '.join(form.suffixes)}."
        )
    grids = _grid(fixed, "fixed"), _grid(moving, "moving")
    for which, grid in zip(("fixed", "moving"), grids, strict=True):
        _check_dimensions(transform, grid, which)
    return form.write(path, transform, *grids, kind)


def _check_dimensions(transform: AbstractTransform, grid: Grid | None, which: str) -> None:
    if grid is not None and grid.num_dims != transform.num_dims:
        raise ValueError(
            f"The transform has {transform.num_dims} dimensions and the {which} image {grid.num_dims}; they must agree."
        )


def _grid(where: Where, which: str) -> Grid | None:
    if not isinstance(where, Where):
        raise TypeError(
            f"`{which}` is a {type(where).__name__}, but an image, a label map or a grid is needed; read a file with "
            "read_image."
        )
    return where.grid if isinstance(where, AbstractVoxels) else where
