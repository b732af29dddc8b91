"""Do SimpleITK and ANTs get from our transform files the images that we get?

Two 2 mm brains are brought into several geometries, registered, and the transforms both ways written as ITK composites;
SimpleITK and antspyx resample moving onto fixed and fixed onto moving with them, linearly.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK
import torch
from scipy.spatial.transform import Rotation

from common import Column, Row, Table, data_folder, parser_of
from pullback.data import Image, Pair
from pullback.io import read_image, write_image, write_transform
from pullback.registration import register
from pullback.space import Grid, Reorientation, axis_codes
from pullback.transforms import AbstractTransform, identity, warp
from this_process import use_threads

SUBJECTS = ("1000", "1001")
"""Fixed, moving."""
CASES = (
    ("RAS", "RAS"),
    ("LAS", "LPS"),
    ("LPS", "RAS"),
    ("oblique", "LAS"),
    ("anisotropic", "oblique"),
    ("LPS", "anisotropic"),
    ("oblique anisotropic", "oblique"),
)
TURN_DEGREES = (12.0, -17.0, 25.0)
SPACING_MM = (1.6, 2.0, 4.0)
MARGIN = 1.15
"""How much longer than the image a turned field of view is."""
NUM_POINTS = 2000
COLUMNS = (
    Column("case", "fixed <- moving"),
    Column("axes", "axes"),
    Column("way", "way"),
    Column("by", "by"),
    Column("largest_percent", "largest difference, % of range", 5),
    Column("mean_percent", "mean difference, % of range", 6),
    Column("percent_beyond", "voxels beyond 0.01 %, %", 4),
    Column("largest_mm", "points, largest mm", 6),
    Column("verdict", "verdict"),
)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    use_threads(options.threads)
    folder = data_folder("brains", "native-2mm")
    images = [read_image(folder / f"{subject}_image.nii.gz") for subject in SUBJECTS]
    cases = CASES[: options.cases]
    tools = ("SimpleITK", "antspyx")
    table = Table(
        "interoperability",
        "Our transforms applied by others",
        COLUMNS,
        folder=options.results,
        settings=_settings(options),
        group="by",
        expected=2 * len(tools) * len(cases),
    )
    for kinds in cases:
        fixed, moving = (in_geometry(image, kind) for image, kind in zip(images, kinds, strict=True))
        for row in _rows(Pair(fixed, moving)):
            table.add({"case": " <- ".join(kinds), **row})
    worst = max(row["largest_percent"] for row in table.rows)
    table.remark(f"Largest difference of all: {worst:.2g} % of the range of intensities.")


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many geometries")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> dict[str, object]:
    return {
        "threads": options.threads,
        "images": f"brains/native-2mm, {SUBJECTS[0]} <- {SUBJECTS[1]}",
        "oblique": f"turned by {TURN_DEGREES} degrees about x, y, z",
        "anisotropic": f"{SPACING_MM} mm",
        "files": ".h5 for both ways",
        "interpolation": "linear, 0 outside",
        "range": "largest minus smallest intensity of the image that is resampled",
    }


def in_geometry(image: Image, kind: str) -> Image:
    """A copy of an image: reordered axes for a code such as ``LPS``, else resampled onto another grid."""
    if len(kind) == 3:
        return image.reorient().reorient(_flips_to(kind))
    spacing = SPACING_MM if "anisotropic" in kind else tuple(image.grid.spacing_mm.tolist())
    turn = Rotation.from_euler("xyz", TURN_DEGREES if "oblique" in kind else (0, 0, 0), degrees=True).as_matrix()
    extent = MARGIN * image.reorient().grid.spacing_mm * torch.tensor(image.reorient().grid.shape)
    shape = [int(np.ceil(float(e) / s)) for e, s in zip(extent, spacing, strict=True)]
    middle = torch.tensor([(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)], dtype=torch.float64)
    origin = image.grid.centre - torch.from_numpy(turn) @ middle
    grid = Grid.from_spacing(shape, spacing, origin=origin.tolist(), direction=turn)
    return warp(image, identity(3), onto=grid)


def _flips_to(code: str) -> Reorientation:
    """From RAS to a code with the same order of axes."""
    return Reorientation((0, 1, 2), tuple(letter != positive for letter, positive in zip(code, "RAS", strict=True)))


def _rows(pair: Pair) -> Iterator[Row]:
    result = register(pair)
    ways = (
        ("moving onto fixed", pair.moving, pair.fixed, result.fixed_to_moving),
        ("fixed onto moving", pair.fixed, pair.moving, result.moving_to_fixed),
    )
    axes = f"{axis_codes(pair.fixed.grid)} <- {axis_codes(pair.moving.grid)}"
    for way, source, target, transform in ways:
        ours = warp(source, transform, onto=target.grid).tensor[0].numpy()
        span = float(source.tensor.max() - source.tensor.min())
        with TemporaryDirectory() as folder:
            files = _write(Path(folder), source, target, transform)
            for tool, apply in (("SimpleITK", _by_simpleitk), ("antspyx", _by_ants)):
                gap = np.abs(apply(*files) - ours) / span * 100
                row = {"axes": axes, "way": way, "by": tool, "verdict": result.verdict.value}
                row |= {"largest_percent": float(gap.max()), "mean_percent": float(gap.mean())}
                row |= {"percent_beyond": float(100 * (gap > 0.01).mean())}
                if tool == "SimpleITK":
                    row["largest_mm"] = _largest_gap_mm(files[2], transform, target.grid)
                yield row


def _write(folder: Path, source: Image, target: Image, transform: AbstractTransform) -> tuple[Path, Path, Path]:
    files = folder / "source.nii.gz", folder / "target.nii.gz", folder / "transform.h5"
    write_image(files[0], source)
    write_image(files[1], target)
    write_transform(files[2], transform)
    return files


def _by_simpleitk(source: Path, target: Path, transform: Path) -> np.ndarray:
    images = [SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32) for path in (source, target)]
    read = SimpleITK.ReadTransform(str(transform))
    warped = SimpleITK.Resample(*images, read, SimpleITK.sitkLinear, 0.0, SimpleITK.sitkFloat32)
    return SimpleITK.GetArrayFromImage(warped).T


def _by_ants(source: Path, target: Path, transform: Path) -> np.ndarray:
    import ants

    images = [ants.image_read(str(path)) for path in (target, source)]
    return ants.apply_transforms(*images, transformlist=[str(transform)], interpolator="linear").numpy()


def _largest_gap_mm(path: Path, transform: AbstractTransform, grid: Grid) -> float:
    """How far SimpleITK's point of the file is from ours, at most, at random points of the target image."""
    generator = np.random.default_rng(0)
    voxels = generator.uniform(0, np.array(grid.shape) - 1.0, (NUM_POINTS, grid.num_dims))
    points = grid.to_world(torch.from_numpy(voxels))
    to_lps = np.array([-1.0, -1.0, 1.0])  # here ITK itself is the judge, so its frame is written out once more
    read = SimpleITK.ReadTransform(str(path))
    theirs = np.array([read.TransformPoint(point.tolist()) for point in points.numpy() * to_lps]) * to_lps
    return float(np.linalg.norm(theirs - transform(points).numpy(), axis=1).max())


if __name__ == "__main__":
    main()
