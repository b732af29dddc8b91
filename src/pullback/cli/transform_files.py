"""Reading and writing transforms on the command line: the options that several commands share, and what is said."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from pullback.io import read_image
from pullback.io.bids import bids_path, sidecar_path, write_sidecar
from pullback.io.formats import AbstractFormat, Written, in_words
from pullback.io.registry import certainly, format_for, format_named, kinds, known, recognise
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
Kind = Annotated[str | None, typer.Option("--kind", help=f"Which kind of file of that format; {kinds()}.")]
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


@dataclass(frozen=True)
class FileOptions:
    """The options of every command that writes a transform."""

    fixed: Fixed = None
    moving: Moving = None
    form: From = None
    to: To = None
    kind: Kind = None
    bids: Bids = None
    no_verify: NoVerify = False
    overwrite: Overwrite = False

    def target(self, out: Path) -> Path:
        """The file to write: `out`, or in it as a folder the one with the BIDS name."""
        if self.bids is not None:
            if out.exists() and not out.is_dir():
                raise NotADirectoryError(f"'{out}' is a file, but with --bids the folder for the files is needed.")
            out = bids_path(out, self.bids, format_named("itk" if self.to is None else self.to).suffixes[0])
            refuse_to_replace(sidecar_path(out), self.overwrite)
        refuse_to_replace(out, self.overwrite)
        return out

    def load(self, *paths: Path) -> list[AbstractTransform]:
        """Read the transforms that the command works on."""
        return load_list(list(paths), fixed=self.fixed, moving=self.moving, form=self.form)

    def store(
        self, path: Path, transform: AbstractTransform, *, fixed: Path | Grid | None, moving: Path | Grid | None
    ) -> None:
        """Write a transform between two images, read it back, and say what was done.

        Raises:
            OSError: If the file read back is not what was written.
        """
        fixed, moving = grid_of(fixed), grid_of(moving)
        written = write_transform(path, transform, fixed=fixed, moving=moving, format=self.to, kind=self.kind)
        form = format_for(path) if self.to is None else format_named(self.to)
        print(f"written: {path} ({form.name}, {in_words(written.transform)})")
        for note in written.notes:
            print(f"note: {note}")
        if written.notes:
            print(f"note: {_loss(transform, written, fixed)}")
        if not self.no_verify:
            gap = read_back_mm(path, written, fixed=fixed, moving=moving, form=form, kind=self.kind)
            print(f"read back: largest difference {gap:.2g} mm at random points")

    def store_sidecar(self, path: Path, *, fixed: Path | None, moving: Path | None, sources: list[Path]) -> None:
        """With ``--bids``, write the JSON file beside a transform that was just written."""
        if self.bids is None:
            return
        form = recognise(path) if self.to is None else format_named(self.to)
        title, source = form.title, " ".join(map(str, sources))
        sidecar = write_sidecar(path, format_title=title, fixed=fixed, moving=moving, source=source)
        print(f"written: {sidecar}")


def takes_file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Show the parser an option for each field of `FileOptions` in place of the parameter ``options``."""
    own = [one for name, one in inspect.signature(command).parameters.items() if name != "options"]
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(FileOptions)
    ]

    @functools.wraps(command)
    def parsed(**words: Any) -> None:
        options = FileOptions(**{one.name: words.pop(one.name) for one in shared})
        command(**words, options=options)

    parsed.__signature__ = inspect.Signature([*own, *shared])
    parsed.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
    return parsed


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
    """Raise IsADirectoryError if `path` is a folder, FileExistsError if it exists and may not be replaced."""
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder, but the path of a file to write is needed.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"'{path}' exists already; use --overwrite to replace it.")


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
