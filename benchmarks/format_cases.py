"""What the checks of ``formats.py`` share: geometries, transforms on them, and how differences are taken."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pullback.data import Image
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, BSpline, Chain, DisplacementField, warp

READ, WRITTEN = "read", "written"
NUM_POINTS = 200
SHAPE = (22, 20, 18)
SPACING_MM = 2.0
MARGIN_VOXELS = 1.0
"""Voxels whose place in the moving image is nearer than this to its rim are left out: there tools differ."""


@dataclass(frozen=True)
class Geometry:
    """Two grids that overlap.

    Attributes:
        name: Of the fixed grid.
        fixed: The fixed grid.
        moving: The moving grid, of another orientation.
    """

    name: str
    fixed: Grid
    moving: Grid

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.fixed.num_dims


@dataclass(frozen=True)
class Difference:
    """How far a tool and we are apart: points in mm, images in per cent of the range (None: not compared)."""

    mm: float
    percent: float | None = None


@dataclass(frozen=True)
class Check:
    """One kind of file against one tool.

    Attributes:
        format: As in ``--to``.
        content: What the file holds, with its suffix.
        way: ``read`` or ``written``.
        package: The distribution of the tool; the check is left out where it is not installed.
        run: From a geometry and an empty folder to the difference; it imports the tool.
        num_dims: Which geometries apply.
    """

    format: str
    content: str
    way: str
    package: str
    run: Callable[[Geometry, Path], Difference]
    num_dims: tuple[int, ...] = (2, 3)


def _grid(kind: str, num_dims: int) -> Grid:
    spacing = np.full(num_dims, SPACING_MM)
    axes = np.eye(num_dims)
    if len(kind) == 3:
        axes = np.diag([1.0 if a == b else -1.0 for a, b in zip(kind, "RAS", strict=True)])[:num_dims, :num_dims]
    if kind == "oblique":
        turn = Rotation.from_euler("xyz", (12, -17, 25), degrees=True).as_matrix()
        flat = Rotation.from_euler("z", 25, degrees=True).as_matrix()
        axes = turn if num_dims == 3 else flat[:2, :2]
    if kind == "anisotropic":
        spacing = np.array([1.2, 2.0, 4.0])[:num_dims]
    shape = SHAPE[:num_dims]
    centre = np.array([8.0, -13.0, 21.0])[:num_dims]
    origin = centre - axes @ ((np.array(shape) - 1) / 2 * spacing)
    return Grid.from_spacing(shape, spacing, origin=origin, direction=axes)


_KINDS = ("RAS", "LAS", "LPS", "oblique", "anisotropic")
GEOMETRIES: dict[str, Geometry] = {
    f"{kind} {num_dims}-D": Geometry(
        kind, _grid(kind, num_dims), _grid(_KINDS[(_KINDS.index(kind) + 2) % len(_KINDS)], num_dims)
    )
    for num_dims in (2, 3)
    for kind in _KINDS
}
"""The moving grid is of another kind than the fixed one."""


def affine_of(geometry: Geometry) -> Affine:
    """A matrix with turn, scales, shear and shift about the middle of the image."""
    flat = geometry.num_dims == 2
    return Affine.from_parts(
        rotation=(0.15,) if flat else (0.1, -0.05, 0.15),
        scaling=(1.05, 0.95) if flat else (1.05, 0.95, 1.02),
        shear=(0.03,) if flat else (0.03, -0.02, 0.01),
        translation_mm=(1.5, -2.0) if flat else (1.5, -2.0, 1.0),
        centre_mm=geometry.fixed.centre.tolist(),
        num_dims=geometry.num_dims,
    )


def field_of(geometry: Geometry) -> DisplacementField:
    """A smooth field of up to 3 mm on the fixed grid."""
    return DisplacementField(
        torch.from_numpy(_smooth(geometry.num_dims, geometry.fixed.shape, 3.0)).float(), geometry.fixed
    )


def spline_of(geometry: Geometry, order: int = 3) -> BSpline:
    """A B-spline of up to 3 mm whose support holds the fixed grid."""
    fixed, num_dims = geometry.fixed, geometry.num_dims
    lattice = fixed.crop([-8] * num_dims, [n + 8 for n in fixed.shape]).coarsen([4] * num_dims)
    return BSpline(torch.from_numpy(_smooth(num_dims, lattice.shape, 3.0, sigma=0.7)), lattice, order)


def chain_of(geometry: Geometry) -> Chain:
    """A matrix after a field, as a registration gives."""
    return Chain((affine_of(geometry), field_of(geometry)))


def _smooth(num_channels: int, shape: tuple[int, ...], largest: float, sigma: float = 3.0) -> np.ndarray:
    rough = np.random.default_rng(5).normal(size=(num_channels, *shape))
    soft = ndimage.gaussian_filter(rough, [0.0] + [sigma] * len(shape), mode="nearest")
    return soft * (largest / np.abs(soft).max())


def moving_image(geometry: Geometry) -> Image:
    """A smooth image on the moving grid, 0 to 1000."""
    values = _smooth(1, geometry.moving.shape, 500.0, sigma=2.0) + 500.0
    return Image(torch.from_numpy(values).float(), geometry.moving)


def points_of(geometry: Geometry, *, centres: bool = False) -> torch.Tensor:
    """Random points of the fixed grid, mm RAS; voxel centres where a tool interpolates its fields otherwise."""
    last = np.array(geometry.fixed.shape) - 1.0
    voxels = np.random.default_rng(6).uniform(0.0, last, (NUM_POINTS, geometry.num_dims))
    return geometry.fixed.to_world(torch.from_numpy(np.rint(voxels) if centres else voxels))


def largest_mm(ours: torch.Tensor, theirs: np.ndarray | torch.Tensor) -> float:
    """The largest distance between two sets of points in mm."""
    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs), axis=-1).max())


def largest_percent(geometry: Geometry, transform: AbstractTransform, theirs: np.ndarray) -> float:
    """The largest difference of the tool's resampled image ``fixed.shape`` from ours, in % of the range."""
    ours = warp(moving_image(geometry), transform, onto=geometry.fixed).tensor[0].numpy()
    voxels = geometry.moving.to_voxel(transform(geometry.fixed.centres())).numpy()
    last = np.array(geometry.moving.shape) - 1.0
    inside = ((voxels >= MARGIN_VOXELS) & (voxels <= last - MARGIN_VOXELS)).all(axis=-1)
    if not inside.any():
        raise ValueError("no voxel of the fixed grid lies within the moving image")
    return float(np.abs(np.asarray(theirs) - ours)[inside].max() / 10.0)
