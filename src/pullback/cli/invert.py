"""``pullback invert``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from pullback.cli.transform_files import FileOptions, grid_of, takes_file_options
from pullback.io.verify import domain_of, random_points
from pullback.space import Grid
from pullback.transforms import AbstractTransform, DisplacementField


@takes_file_options
def command(
    transform: Annotated[Path, typer.Argument(metavar="T", help="A transform of any known tool.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    onto: Annotated[
        Path | None,
        typer.Option("--onto", help="Evaluate the inverse at the voxels of this image, as one displacement field."),
    ] = None,
    *,
    options: FileOptions,
) -> None:
    """Invert a transform: what took points of the fixed image to the moving one takes them back.

    --fixed and --moving are those of T, so in what is written they change places. A field is inverted on its own grid;
    a B-spline has no inverse that a file could hold, so it needs --onto: an image of the moving space.
    """
    path = options.target(out)
    (there,) = options.load(transform)
    grid = grid_of(onto)
    back = ~there if grid is None else DisplacementField((~there).displacement_on(grid), grid)
    if grid is not None:
        print(f"note: The inverse was evaluated at the {' x '.join(map(str, grid.shape))} voxels of '{onto}'.")
    print(f"inverse: a point comes back from where it was sent to within {_residual(there, back, grid):.2g} mm")
    options.store(path, back, fixed=options.moving if grid is None else grid, moving=options.fixed)
    beside = options.moving if onto is None else onto
    options.store_sidecar(path, fixed=beside, moving=options.fixed, sources=[transform])


def _residual(there: AbstractTransform, back: AbstractTransform, grid: Grid | None) -> float:
    """The largest distance of ``there(back(x))`` from x at random points."""
    points = random_points(domain_of(back, grid), back.num_dims)
    return float(torch.linalg.vector_norm(there(back(points)) - points, dim=-1).max())
