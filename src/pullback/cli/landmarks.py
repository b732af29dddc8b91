"""``pullback landmarks``."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.cli.transform_files import FileOptions, grid_of, takes_file_options
from pullback.data import Points
from pullback.io import read_keypoints, read_points
from pullback.landmarks import MODELS, LandmarkFit, fit_landmarks, pair_by_name
from pullback.metrics import summarise_errors
from pullback.space import Grid
from pullback.transforms import AbstractTransform, DisplacementField, ThinPlateSpline

MOST_NAMES = 10


@takes_file_options
def command(
    fixed_points: Annotated[
        Path, typer.Argument(metavar="FIXED", help="Landmarks: csv with x,y,z in world RAS mm, Slicer's fcsv or json.")
    ],
    moving_points: Annotated[
        Path,
        typer.Argument(metavar="MOVING", help="Those that correspond: by name if they share names, else in order."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Transform to write.")],
    model: Annotated[str, typer.Option(help=", ".join(MODELS) + " (thin-plate spline).")] = "affine",
    smoothing: Annotated[
        float, typer.Option(help="Of tps: 0 goes through every landmark; mm^2 in 2-D, mm in 3-D.")
    ] = 0.0,
    robust: Annotated[
        bool, typer.Option("--robust", help="Leave out landmarks that disagree with most (RANSAC).")
    ] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="With --robust: how far a landmark may be off, mm. Default: estimated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the search for outliers.")] = 0,
    flat: Annotated[bool, typer.Option("--flat", help="The points are 2-D: columns x and y.")] = False,
    lps: Annotated[bool, typer.Option("--lps", help="The points are in ITK's LPS mm.")] = False,
    voxels: Annotated[
        bool,
        typer.Option("--voxels", help="The points are Learn2Reg's keypoints: voxel indices of --fixed and --moving."),
    ] = False,
    *,
    options: FileOptions,
) -> None:
    """Register by corresponding landmarks: rigid, similarity or affine in closed form, or a thin-plate spline.

    Says how far the map is off at the landmarks it was fitted to, and at landmarks that were held out. --fixed and
    --moving give the grids where --voxels or the format needs them. No file format holds a thin-plate spline, so it is
    evaluated at the voxels of --fixed, as a displacement field.
    """
    if options.form is not None:
        raise ValueError(f"--from is '{options.form}', but landmarks are no transform of a tool; leave it out.")
    path = options.target(out)
    fixed_grid, moving_grid = grid_of(options.fixed), grid_of(options.moving)
    if model == "tps" and fixed_grid is None:
        raise ValueError(f"'{path}' cannot hold a thin-plate spline; give the fixed image (--fixed) for a field.")
    sides = [(fixed_points, fixed_grid, "fixed"), (moving_points, moving_grid, "moving")]
    read = [_read(file, grid, which, flat=flat, lps=lps, voxels=voxels) for file, grid, which in sides]
    pair = pair_by_name(*read)
    fit = fit_landmarks(*pair, model, smoothing=smoothing, robust=robust, tolerance_mm=tolerance, seed=seed)
    _say(fit, pair[0], read, model)
    options.store(path, _storable(fit.transform, fixed_grid), fixed=fixed_grid, moving=moving_grid)
    options.store_sidecar(path, fixed=options.fixed, moving=options.moving, sources=[fixed_points, moving_points])


def _read(file: Path, grid: Grid | None, which: str, *, flat: bool, lps: bool, voxels: bool) -> Points:
    if flat and grid is not None and grid.num_dims != 2:
        raise ValueError(f"--flat is for 2-D points, but the {which} image has {grid.num_dims} dimensions.")
    if not voxels:
        num_dims = grid.num_dims if grid is not None else 2 if flat else 3
        return read_points(file, lps=lps, num_dims=num_dims)
    if lps:
        raise ValueError("--lps and --voxels contradict each other: voxel indices have no frame.")
    if grid is None:
        raise ValueError(f"'{file}' holds voxel indices (--voxels), so the {which} image is needed: give --{which}.")
    return read_keypoints(file, grid)


def _say(fit: LandmarkFit, used: Points, read: list[Points], model: str) -> None:
    left = [len(points) - len(used) for points in read]
    if any(left):
        print(f"note: {left[0]} fixed and {left[1]} moving landmarks have a name that the other side lacks; left out")
    if fit.tolerance_mm is not None:
        print(f"outliers: {_outliers(fit, used)}, tolerance {fit.tolerance_mm:.4g} mm")
    inside = summarise_errors(fit.errors_mm[fit.is_used])
    print(f"{model}, {int(fit.is_used.sum())} landmarks: mean error {inside.mean:.4g} mm, largest {inside.maximum:.4g}")
    if fit.held_out_mm is None:
        print("held out: too few landmarks to hold some of them out")
        return
    outside = summarise_errors(fit.held_out_mm)
    print(f"held out: mean error {outside.mean:.4g} mm, median {outside.median:.4g}, largest {outside.maximum:.4g}")


def _outliers(fit: LandmarkFit, used: Points) -> str:
    rows = (~fit.is_used).nonzero().flatten().tolist()
    if not rows:
        return "none"
    names = [used.names[n] if used.names and used.names[n] else f"number {n + 1}" for n in rows[:MOST_NAMES]]
    more = f" and {len(rows) - MOST_NAMES} more" if len(rows) > MOST_NAMES else ""
    return f"{len(rows)} of {len(used)} ({', '.join(names)}{more})"


def _storable(transform: AbstractTransform, grid: Grid | None) -> AbstractTransform:
    if not isinstance(transform, ThinPlateSpline):
        return transform
    print(f"note: The spline was evaluated at the {' x '.join(map(str, grid.shape))} voxels of the fixed image.")
    return DisplacementField(transform.displacement_on(grid), grid)
