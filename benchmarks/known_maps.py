"""Where the truth is known: an image against itself, and against a copy that was moved, with and without noise.

A brain at 1 mm, a head at 2 mm, a mouse, a hippocampus without a background. The copy is resampled once, by a cubic
spline; the noise of both images is white, their own, and where the image is not 0. Errors are over points of the fixed
object.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import pullback
from common import Column, Row, Table, data_folder, parser_of
from pullback.data import Image
from pullback.functional.rotations import rotation_from_vector
from pullback.transforms import AbstractTransform, Affine, identity, warp

MOVES = ((0.0, 0.0), (0.4, 0.005), (2.0, 0.03))
"""Voxels and radians."""
NOISE = (0.0, 0.03)
"""Standard deviation, in units of the image's."""
DIRECTION, AXIS = np.array([0.81, -0.49, 0.32]), np.array([0.76, -0.53, 0.38])
POINT_STEP = 97
COLUMNS = (
    Column("image", "image"),
    Column("voxels", "moved by voxels", 1),
    Column("degrees", "turned by degrees", 1),
    Column("noise", "noise", 2),
    Column("linear_voxels", "after affine, voxels", 3),
    Column("linear_largest", "largest", 3),
    Column("mean_voxels", "after all, voxels", 3),
    Column("largest_voxels", "largest", 3),
    Column("sd_log", "sd log J", 4),
    Column("verdict", "verdict"),
)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    about = {"threads": options.threads, "truth": "exact; the moved copy is a cubic resampling"}
    table = Table("known-maps", "Known maps", COLUMNS, folder=options.results, settings=about, spread=False)
    for name, path in _images().items():
        if name in options.only:
            for row in _rows(pullback.read_image(path), options.threads):
                table.add({"image": name, **row})


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="*", choices=list(_images()), default=list(_images()))
    return parser.parse_args()


def _images() -> dict[str, Path]:
    mouse, hippocampus = (sorted(data_folder(name, "images").glob("*.nii.gz")) for name in ("mouse", "hippocampus"))
    return {
        "brain, 1 mm": data_folder("brains", "native") / "1000_image.nii.gz",
        "head, 2 mm": data_folder("brains", "heads-2mm") / "1000_image.nii.gz",
        "mouse": mouse[0],
        "hippocampus": hippocampus[3],
    }


def _rows(image: Image, threads: int) -> Iterator[Row]:
    for voxels, radians in MOVES:
        truth = _truth(image, voxels, radians)
        moving = warp(image, truth.inverse(), onto=image.grid, interpolation="cubic") if voxels else image
        for noise in NOISE:
            noisy = (_with_noise(each, noise, seed) for seed, each in enumerate((image, moving)))
            found = pullback.register(*noisy, threads=threads)
            linear, whole = (_errors(found, of, truth) for of in (found.result.linear, found.fixed_to_moving))
            yield {
                "voxels": voxels,
                "degrees": float(np.degrees(radians)),
                "noise": noise,
                "linear_voxels": float(linear.mean()),
                "linear_largest": float(linear.max()),
                "mean_voxels": float(whole.mean()),
                "largest_voxels": float(whole.max()),
                "sd_log": found.result.evidence.jacobian.sd_log,
                "verdict": found.verdict.value,
                "seconds": found.result.seconds,
            }


def _truth(image: Image, voxels: float, radians: float) -> AbstractTransform:
    """A turn about the middle and a shift."""
    if not voxels:
        return identity(3)
    centre, matrix = image.grid.centre.numpy(), np.eye(4)
    matrix[:3, :3] = rotation_from_vector(AXIS * radians)
    shift = DIRECTION * voxels * float(image.grid.spacing_mm.min())
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift
    return Affine(torch.from_numpy(matrix))


def _with_noise(image: Image, noise: float, seed: int) -> Image:
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(image.tensor.shape, generator=generator) * (image.tensor != 0)
    return image.with_tensor(image.tensor + noise * float(image.tensor.std()) * rough)


def _errors(found: pullback.Registration, transform: AbstractTransform, truth: AbstractTransform) -> torch.Tensor:
    """How far points of the fixed object go from where they belong, in voxels."""
    grid = found.pair.fixed.grid
    points = grid.to_world(torch.nonzero(found.result.fixed_object.tensor[0])[::POINT_STEP].to(torch.float64))
    return torch.linalg.vector_norm(transform(points) - truth(points), dim=1) / float(grid.spacing_mm.min())


if __name__ == "__main__":
    main()
