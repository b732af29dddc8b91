"""``pullback figure``: figures for papers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pullback.cli.apply import load_chain, refuse_to_replace
from pullback.data import Image, Pair
from pullback.evaluation.field_of_view import comparable_voxels
from pullback.io import read_image, read_transform
from pullback.registration import predict_levels
from pullback.reports import SavedResult, figures, read_result
from pullback.training.weights import load_network
from pullback.transforms import identity, warp

app = typer.Typer(help="Make a figure for a paper: PNG, SVG or PDF by the suffix of --out.", add_completion=False)

Folder = Annotated[Path, typer.Argument(help="Folder that 'pullback register --out' wrote.")]
Out = Annotated[Path, typer.Option("--out", help="File to write: .png, .svg or .pdf.")]
Fixed = Annotated[Path | None, typer.Option("--fixed", help="Fixed image, if it is no longer where it was registered.")]
Moving = Annotated[Path | None, typer.Option("--moving", help="Moving image, likewise.")]
PlaneName = Annotated[str, typer.Option("--plane", help="axial, coronal or sagittal.")]
At = Annotated[float | None, typer.Option("--at", help="World mm of the slice (default: the middle of the object).")]
Dpi = Annotated[int, typer.Option(help="Pixels per inch.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]
Names = Annotated[str | None, typer.Option("--names", help="Titles of the panels, with commas (default: by file).")]


@app.command("differences")
def differences(
    folder: Folder, out: Out, fixed: Fixed = None, moving: Moving = None, plane: PlaneName = "axial", at: At = None,
    dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """Fixed, before and after, and the differences from the fixed image. Before is the alignment of the headers."""
    refuse_to_replace(out, overwrite)
    result = read_result(folder)
    fixed_image = _image(result, "fixed", fixed)
    moving_image = _image(result, "moving", moving)
    before = warp(moving_image, identity(fixed_image.grid.num_dims), onto=fixed_image.grid)
    maps = (identity(fixed_image.grid.num_dims), result.fixed_to_moving())
    options = {"moving": moving_image, "seen": [comparable_voxels(fixed_image, moving_image, one) for one in maps]}
    figure = figures.differences(fixed_image, before, result.warped(), **options, **_where(plane, at))
    _save(out, figure, dpi)


@app.command("methods")
def methods(
    folders: Annotated[list[Path], typer.Argument(help="Results of several methods for one pair.")], out: Out,
    names: Names = None, fixed: Fixed = None, moving: Moving = None, plane: PlaneName = "axial", at: At = None,
    dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """What several methods made of the same pair, side by side, and their differences from the fixed image."""
    refuse_to_replace(out, overwrite)
    results = [read_result(folder) for folder in folders]
    titles = _titles(names, [result.name for result in results])
    warped = {title: result.warped() for title, result in zip(titles, results, strict=True)}
    fixed_image, moving_image = _image(results[0], "fixed", fixed), _moving_if_there(results[0], moving)
    figures.check_grids(fixed_image, warped.values())
    seen = None
    if moving_image is not None:
        maps = {title: result.fixed_to_moving() for title, result in zip(titles, results, strict=True)}
        seen = {title: comparable_voxels(fixed_image, moving_image, one) for title, one in maps.items()}
    figure = figures.methods(fixed_image, warped, moving=moving_image, seen=seen, **_where(plane, at))
    _save(out, figure, dpi)


@app.command("grids")
def grids(
    transforms: Annotated[list[Path], typer.Argument(help="Files of transforms, one for each panel.")],
    to: Annotated[Path, typer.Option("--to", help="Fixed image under the grids.")], out: Out, names: Names = None,
    plane: PlaneName = "axial", at: At = None, dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """Deformed grids of one or more transforms over the fixed image."""
    refuse_to_replace(out, overwrite)
    titles = _titles(names, [path.name for path in transforms])
    maps = {title: read_transform(path) for title, path in zip(titles, transforms, strict=True)}
    _save(out, figures.grids(read_image(to), maps, **_where(plane, at)), dpi)


@app.command("fields")
def fields(
    transforms: Annotated[list[Path], typer.Argument(help="Applied to points of the fixed image in the order given.")],
    to: Annotated[Path, typer.Option("--to", help="Fixed image.")], out: Out,
    inverse: Annotated[
        Path | None, typer.Option("--inverse", help="File of the inverse (default: it is computed).")
    ] = None,
    plane: PlaneName = "axial", at: At = None, dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """A displacement, its inverse and their composition."""
    refuse_to_replace(out, overwrite)
    forward = load_chain(transforms)
    backward = ~forward if inverse is None else read_transform(inverse)
    _save(out, figures.displacement_and_inverse(read_image(to), forward, backward, **_where(plane, at)), dpi)


@app.command("overlay")
def overlay(
    folder: Folder, out: Out, fixed: Fixed = None, moving: Moving = None,
    strength: Annotated[float, typer.Option(help="Opacity of the registered image, 0 to 1.")] = 0.5,
    plane: PlaneName = "axial", at: At = None, dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """The registered image on the template."""
    refuse_to_replace(out, overwrite)
    result = read_result(folder)
    template, moving_image = _image(result, "fixed", fixed), _moving_if_there(result, moving)
    options = {"moving": moving_image, "strength": strength, **_where(plane, at)}
    _save(out, figures.overlay(template, result.warped(), **options), dpi)


@app.command("sequence")
def sequence(
    transforms: Annotated[list[Path], typer.Argument(help="Coarse to fine: each refines those before it.")],
    fixed: Annotated[Path, typer.Option("--fixed", help="Fixed image.")],
    moving: Annotated[Path, typer.Option("--moving", help="Moving image.")], out: Out, plane: PlaneName = "axial",
    at: At = None, dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """The moving image under more and more of a list of transforms: the affine before the warps, coarse before fine."""
    refuse_to_replace(out, overwrite)
    steps = [read_transform(path) for path in transforms]
    _save(out, figures.sequence(read_image(fixed), read_image(moving), steps, **_where(plane, at)), dpi)


@app.command("levels")
def levels(
    weights: Annotated[Path, typer.Argument(help="File of a network whose levels are composed, such as im2grid.")],
    fixed: Annotated[Path, typer.Option("--fixed", help="Fixed image.")],
    moving: Annotated[Path, typer.Option("--moving", help="Moving image.")], out: Out, plane: PlaneName = "axial",
    at: At = None, dpi: Dpi = 300, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """The moving image as a network's levels move it more and more, coarse to fine, and their grids."""
    refuse_to_replace(out, overwrite)
    network, card = load_network(weights)
    pair = Pair(read_image(fixed), read_image(moving))
    steps = predict_levels(network, card, pair)
    _save(out, figures.sequence(pair.fixed, pair.moving, steps, **_where(plane, at)), dpi)


def _image(result: SavedResult, side: str, given: Path | None) -> Image:
    return result.image(side) if given is None else read_image(given)


def _moving_if_there(result: SavedResult, given: Path | None) -> Image | None:
    """The moving image, for its brightness window; None, with a note, where nobody named it and it is not there."""
    try:
        return _image(result, "moving", given)
    except FileNotFoundError as error:
        if given is not None:
            raise
        print(f"note: {error} Without it the registered image is drawn by its own brightness.")
        return None


def _where(plane: str, at: float | None) -> dict[str, Any]:
    return {"plane": plane, "position_mm": at}


def _titles(names: str | None, default: list[str]) -> list[str]:
    titles = default if names is None else [name.strip() for name in names.split(",")]
    if len(titles) != len(default) or len(set(titles)) < len(titles):
        raise ValueError(
            f"The titles are {', '.join(titles)}, but {len(default)} different ones are needed; give them with --names."
        )
    return titles


def _save(out: Path, figure: Any, dpi: int) -> None:
    figures.save_figure(out, figure, dpi=dpi)
    print(f"written: {out}")
