"""Reading and writing transforms on the command line: the options that several commands share, and what is said."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.io import read_image
from pullback.io.bids import bids_path, write_sidecar
from pullback.io.formats import AbstractFormat, Written, in_words
from pullback.io.registry import certainly, format_for, format_named, known, recognise
from pullback.io.transforms import read_transform, write_transform
from pullback.io.verify import domain_of, largest_difference_mm, read_back_mm
from pullback.space import Grid
from pullback.transforms import AbstractTransform, chain

FROM = f"Which tool wrote the file, where its content does not say so: {known()}."
Fixed = Annotated[Path | None, typer.Option("--fixed", help="The fixed image, where the format needs its grid.")]
Moving = Annotated[Path | None, typer.Option("--moving", help="The moving image, likewise.")]
From = Annotated[str | None, typer.Option("--from", help=FROM)]
To = Annotated[
    str | None, typer.Option("--to", help=f"Format to write, where the suffix is that of several: {known()}.")
]
Kind = Annotated[str | None, typer.Option("--kind", help="Which kind of file of that format, such as displacement.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not read the file back and compare it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]
Bids = Annotated[
    str | None,
    typer.Option(
        "--bids",
        help="OUT is a folder; the file in it is named as BIDS says, and a JSON file is written beside it: "
        "sub-01_from-MOVING_to-FIXED, since the transform resamples the moving image into the fixed space.",
    ),
]


def load(
    path: Path, *, fixed: Path | Grid | None = None, moving: Path | Grid | None = None, form: str | None = None
) -> AbstractTransform:
    """Read one transform; `form` overrules the content."""
    return read_transform(path, fixed=grid_of(fixed), moving=grid_of(moving), format=form)


def load_list(
    paths: list[Path], *, fixed: Path | Grid | None = None, moving: Path | Grid | None = None, form: str | None = None
) -> list[AbstractTransform]:
    """Read several transforms; the grids are those of the ends, so they serve only a transform that stands alone.

    Raises:
        ValueError: As for one, and if one of several needs the images it was made with.
    """
    if len(paths) == 1:
        return [load(paths[0], fixed=fixed, moving=moving, form=form)]
    return [_one_of_many(path, form) for path in paths]


def load_chain(
    paths: list[Path], *, fixed: Path | Grid | None = None, moving: Path | Grid | None = None, form: str | None = None
) -> AbstractTransform:
    """The transforms of several files as one; the first acts first on a point of the fixed image."""
    return chain(*reversed(load_list(paths, fixed=fixed, moving=moving, form=form)))


def grid_of(image: Path | Grid | None) -> Grid | None:
    """The grid of an image's file."""
    return read_image(image).grid if isinstance(image, Path) else image


def refuse_to_replace(path: Path, overwrite: bool) -> None:
    """Raise FileExistsError if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"'{path}' exists already; use --overwrite to replace it.")


def target_of(out: Path, to: str | None, bids: str | None, overwrite: bool) -> Path:
    """The file to write: `out`, or in it as a folder the one with the BIDS name."""
    if bids is not None:
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"'{out}' is a file, but with --bids the folder for the files is needed.")
        out = bids_path(out, bids, format_named("itk" if to is None else to).suffixes[0])
    refuse_to_replace(out, overwrite)
    return out


def store(
    path: Path,
    transform: AbstractTransform,
    *,
    fixed: Path | Grid | None,
    moving: Path | Grid | None,
    to: str | None,
    kind: str | None,
    verify: bool,
) -> None:
    """Write a transform, read it back, and say what was done.

    Raises:
        OSError: If the file read back is not what was written.
    """
    fixed, moving = grid_of(fixed), grid_of(moving)
    written = write_transform(path, transform, fixed=fixed, moving=moving, format=to, kind=kind)
    form = format_for(path) if to is None else format_named(to)
    print(f"written: {path} ({form.name}, {in_words(written.transform)})")
    for note in written.notes:
        print(f"note: {note}")
    if written.notes:
        print(f"note: {_loss(transform, written, fixed)}")
    if verify:
        gap = read_back_mm(path, written, fixed=fixed, moving=moving, form=form, kind=kind)
        print(f"read back: largest difference {gap:.2g} mm at random points")


def store_sidecar(path: Path, *, fixed: Path | None, moving: Path | None, sources: list[Path]) -> None:
    """Write the JSON file of BIDS beside a transform that was just written."""
    form = recognise(path)
    sidecar = write_sidecar(
        path, format_title=form.title, fixed=fixed, moving=moving, source=" ".join(map(str, sources))
    )
    print(f"written: {sidecar}")


def _loss(transform: AbstractTransform, written: Written, fixed: Grid | None) -> str:
    gap = largest_difference_mm(transform, written.transform, domain_of(written.transform, fixed))
    return f"Between the voxels it differs from the original by up to {gap:.2g} mm."


def _one_of_many(path: Path, form: str | None) -> AbstractTransform:
    says: list[AbstractFormat] = certainly(path)
    try:
        return load(path, form=None if says else form)
    except ValueError as error:
        if " needs the " not in str(error):
            raise
        raise ValueError(
            f"{error} In a list of transforms, convert this one alone first (pullback convert)."
        ) from error
