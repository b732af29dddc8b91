"""The written transforms, read and applied by SimpleITK, give our images: both ways, for every kind of grid."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

import phantoms
import pullback as pb
from examples import oblique_axes
from pullback.data import Image
from pullback.space import Grid
from pullback.transforms import identity, warp

DIRECTIONS: dict[str, tuple[np.ndarray, tuple[float, float, float]]] = {
    "RAS": (np.eye(3), (4, 4, 4)),
    "LAS": (np.diag([-1.0, 1, 1]), (4, 4, 4)),
    "LPS": (np.diag([-1.0, -1, 1]), (4, 4, 4)),
    "oblique": (oblique_axes(), (4, 4, 4)),
    "anisotropic": (np.eye(3)[:, [2, 0, 1]], (3, 6, 4)),
}
SHEAR = np.array([[1, 0.15, 0], [0, 1, -0.1], [0, 0, 1.0]])
PAIRS = [
    ("RAS", "LAS"),
    ("LAS", "LPS"),
    ("LPS", "oblique"),
    ("oblique", "anisotropic"),
    ("anisotropic", "RAS"),
    ("sheared", "oblique"),
    ("RAS", "sheared"),
]


def on_grid(image: Image, kind: str) -> Image:
    """The image on a grid of a kind, that covers it."""
    axes, spacing = DIRECTIONS[kind] if kind != "sheared" else (SHEAR, (4.0, 4.0, 4.0))
    matrix = axes * np.array(spacing)
    inside = np.linalg.inv(matrix) @ image.grid.corners().numpy().T
    low, high = np.floor(inside.min(axis=1)), np.ceil(inside.max(axis=1))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, matrix @ low
    return warp(image, identity(3), onto=Grid(tuple((high - low + 1).astype(int)), affine))


def itk_values(image: Image, transform: Path, onto: Grid) -> np.ndarray:
    """The image resampled by SimpleITK on the world points of `onto` (any grid), voxel by voxel."""
    map_ = SimpleITK.ReadTransform(str(transform))
    array = image.tensor[0].numpy()
    direction, spacing = image.grid.direction.numpy(), image.grid.spacing_mm.numpy()
    flip = np.diag([-1.0, -1, 1])
    moving = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0).astype(np.float64))
    moving.SetSpacing(spacing.tolist())
    moving.SetOrigin((flip @ image.grid.origin.numpy()).tolist())
    moving.SetDirection((flip @ direction).ravel().tolist())
    reference = SimpleITK.Image([int(n) for n in onto.shape], SimpleITK.sitkFloat64)
    reference.SetSpacing(onto.spacing_mm.tolist())
    reference.SetOrigin((flip @ onto.origin.numpy()).tolist())
    reference.SetDirection((flip @ onto.direction.numpy()).ravel().tolist())
    resampled = SimpleITK.Resample(moving, reference, map_, SimpleITK.sitkLinear, 0.0)
    return SimpleITK.GetArrayFromImage(resampled).transpose(2, 1, 0)


def itk_points(transform: Path, points: torch.Tensor) -> np.ndarray:
    map_ = SimpleITK.ReadTransform(str(transform))
    flip = np.array([-1.0, -1, 1])
    return np.array([np.array(map_.TransformPoint((p * flip).tolist())) * flip for p in points.numpy()])


@pytest.mark.parametrize(("fixed_kind", "moving_kind"), PAIRS, ids=["-".join(p) for p in PAIRS])
def test_simpleitk_gives_our_images(tmp_path: Path, fixed_kind: str, moving_kind: str):
    fixed, moving = on_grid(phantoms.head(), fixed_kind), on_grid(phantoms.other_scan()[0], moving_kind)
    paths = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    for path, image in zip(paths, (fixed, moving), strict=True):
        pb.write_image(path, image)
    found = phantoms.register(*paths, initial="header", preset="fast")
    out = found.save(tmp_path / "out")
    points = phantoms.points_in(phantoms.head())[::499]
    for name, ours in (("fixed_to_moving", found.fixed_to_moving), ("moving_to_fixed", found.moving_to_fixed)):
        np.testing.assert_allclose(itk_points(out / f"{name}.h5", points), ours(points).numpy(), atol=2e-3)
    ways = [
        ("fixed_to_moving", moving, fixed.grid, pb.read_image(out / "warped.nii.gz")),
        ("moving_to_fixed", fixed, moving.grid, pb.warp(fixed, found.moving_to_fixed, onto=moving.grid)),
    ]
    for name, image, onto, ours in ways:
        if not (image.grid.is_orthonormal(1e-4) and onto.is_orthonormal(1e-4)):
            continue  # SimpleITK holds no sheared image; the points above were compared
        theirs = itk_values(image, out / f"{name}.h5", onto)
        gap = np.abs(theirs - ours.tensor[0].numpy())
        scale = float(image.tensor.max())
        assert np.quantile(gap, 0.999) < 2e-3 * scale
        assert np.mean(gap > 2e-3 * scale) < 1e-3
        assert np.corrcoef(theirs.ravel(), ours.tensor[0].numpy().ravel())[0, 1] > 0.9999
