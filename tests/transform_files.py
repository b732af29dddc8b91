"""Transforms, grids and points that the tests of files share, and what SimpleITK makes of a file."""

import numpy as np
import SimpleITK
import torch

from pullback.space import Grid
from pullback.transforms import Affine, BSpline, DisplacementField

TOLERANCE_MM = 1e-4


def turn(num_dims, degrees=20.0):
    """A rotation that mixes all axes."""
    angle = np.radians(degrees)
    matrix = np.eye(num_dims)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if num_dims == 3:
        matrix = matrix @ [[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]]
    return matrix


def grid_of(name, num_dims):
    shape, origin = (6, 7, 8)[:num_dims], (-20.0, 35.0, 50.0)[:num_dims]
    spacing, direction = (2.0, 1.5, 3.0)[:num_dims], np.eye(num_dims)
    if name == "thin":
        shape = (6, 1, 8)[:num_dims]
    if name == "anisotropic":
        spacing = (0.4, 5.0, 0.4)[:num_dims]
    if name == "LPS":
        direction = np.diag([-1, -1, 1][:num_dims])
    if name == "oblique":
        direction = turn(num_dims) @ np.diag([-1, 1, 1][:num_dims])
    return Grid.from_spacing(shape, spacing, origin=origin, direction=direction)


def affine(num_dims):
    """A matrix that is no rotation, with translations of a head's size."""
    generator = np.random.default_rng(2)
    matrix = np.eye(num_dims + 1)
    matrix[:-1, :-1] = turn(num_dims, -35.0) @ (np.eye(num_dims) + 0.1 * generator.normal(size=(num_dims, num_dims)))
    matrix[:-1, -1] = generator.uniform(-150, 150, num_dims)
    return Affine(torch.from_numpy(matrix))


def affine_of(linear):
    """The homogeneous matrix of a linear part."""
    matrix = np.eye(len(linear) + 1)
    matrix[:-1, :-1] = linear
    return matrix


def field_on(grid):
    generator = torch.Generator().manual_seed(3)
    return DisplacementField(torch.rand((grid.num_dims, *grid.shape), generator=generator) * 10 - 5, grid)


def spline_on(grid, order=3):
    """A B-spline with control points on a grid and coefficients of up to 2 mm."""
    generator = torch.Generator().manual_seed(7)
    coefficients = torch.rand((grid.num_dims, *grid.shape), generator=generator, dtype=torch.float64) * 4 - 2
    return BSpline(coefficients, grid, order)


def points_in(grid, outside=0.0):
    """World points inside the grid's voxel centres, or around them too."""
    generator = torch.Generator().manual_seed(4)
    last = torch.tensor(grid.shape, dtype=torch.float64) - 1
    voxels = torch.rand((50, grid.num_dims), generator=generator, dtype=torch.float64)
    return grid.to_world(voxels * (last + 2 * outside) - outside)


def mapped_by_simpleitk(path, points):
    """What SimpleITK makes of RAS points with a file."""
    transform = path if isinstance(path, SimpleITK.Transform) else SimpleITK.ReadTransform(str(path))
    signs = np.array([-1, -1, 1])[: points.shape[1]]
    return torch.tensor(
        np.array([transform.TransformPoint((point * signs).tolist()) for point in points.numpy()]) * signs
    )


def largest_gap(first, second):
    return float((first - second).abs().max())


def simpleitk_field(grid, values):
    """An ITK field transform from a grid and LPS vectors ``(*shape, D)``, in double."""
    signs = np.array([-1, -1, 1])[: grid.num_dims]
    order = (*reversed(range(grid.num_dims)), grid.num_dims)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.transpose(order)).astype(np.float64), isVector=True)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin((signs * grid.origin.numpy()).tolist())
    image.SetDirection((signs[:, None] * grid.direction.numpy()).ravel().tolist())
    return image
