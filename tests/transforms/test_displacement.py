"""Dense displacements in mm: closed forms on every kind of grid, inverses, and the outside."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from examples import GRIDS, inner_points, noise, oblique_axes, smooth_noise, turn
from pullback.space import Grid
from pullback.transforms import Affine, DisplacementField, to_voxel_vectors, to_world_vectors

every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
ROOMY = Grid.from_spacing((20, 18, 16), (1.0, 1.5, 2.0), origin=(-40, 30, 10), direction=oblique_axes())
FLAT = Grid.from_spacing((24, 20), (1.0, 1.5), origin=(-40, 30), direction=turn(25))
roomy_grid = pytest.mark.parametrize("grid", [ROOMY, FLAT], ids=["3-D", "2-D"])


def some_affine(num_dims: int, strength: float = 0.1) -> Affine:
    matrix = np.eye(num_dims + 1)
    matrix[:-1] += strength * noise(num_dims, num_dims + 1, seed=4).numpy()
    return Affine(matrix)


def smooth_field(grid: Grid, largest_voxels: float = 1.5, seed: int = 0) -> DisplacementField:
    voxels = smooth_noise(grid.num_dims, *grid.shape, largest=largest_voxels, sigma=3.0, seed=seed)
    return DisplacementField.from_voxels(voxels, grid)


def points_outside(grid: Grid, by_voxels: float) -> Tensor:
    middle = torch.tensor([(n - 1) / 2 for n in grid.shape], dtype=torch.float64)
    points = middle.repeat(2 * grid.num_dims, 1)
    for axis, size in enumerate(grid.shape):
        points[2 * axis, axis] = -0.5 - by_voxels
        points[2 * axis + 1, axis] = size - 0.5 + by_voxels
    return grid.to_world(points)


@every_grid
def test_the_field_of_an_affine_moves_points_between_voxels_like_the_affine(grid):
    affine = some_affine(grid.num_dims)
    field = DisplacementField((affine(grid.centres()) - grid.centres()).movedim(-1, 0), grid)
    points = inner_points(grid, margin=0.0)
    torch.testing.assert_close(field(points), affine(points), rtol=0, atol=1e-8)
    if min(grid.shape) > 1:
        expected = affine.determinant_at(points)
        torch.testing.assert_close(field.determinant_at(points), expected, rtol=0, atol=1e-4)


@every_grid
def test_voxel_centres_move_by_the_vectors_given(grid):
    displacement = noise(grid.num_dims, *grid.shape)
    field = DisplacementField(displacement, grid)
    torch.testing.assert_close(field.displacement_on(grid), displacement, rtol=0, atol=1e-5)


@every_grid
def test_voxel_vectors_and_world_vectors_are_the_same_arrows(grid):
    displacement = noise(grid.num_dims, *grid.shape, dtype=torch.float64)
    voxels = to_voxel_vectors(displacement, grid)
    torch.testing.assert_close(to_world_vectors(voxels, grid), displacement)
    index = grid.to_voxel(grid.centres()).movedim(-1, 0)
    ends = grid.to_world((index + voxels).movedim(0, -1))
    torch.testing.assert_close(ends, grid.centres() + displacement.movedim(0, -1))
    torch.testing.assert_close(DisplacementField.from_voxels(voxels, grid).in_voxels, voxels)


@every_grid
def test_a_zero_field_moves_no_bit(grid):
    field = DisplacementField(torch.zeros(grid.num_dims, *grid.shape), grid)
    points = inner_points(grid)
    assert torch.equal(field(points), points)
    assert (field.jacobian_determinant(grid) == 1).all()


@every_grid
def test_points_outside_the_grid_do_not_move(grid):
    field = DisplacementField(torch.ones(grid.num_dims, *grid.shape), grid)
    outside, inside = points_outside(grid, 0.01), points_outside(grid, -0.01)
    assert torch.equal(field(outside), outside)
    assert torch.equal(field.determinant_at(outside), torch.ones(len(outside), dtype=torch.float64))
    torch.testing.assert_close(field(inside), inside + 1)


@roomy_grid
def test_the_inverse_undoes_it(grid):
    field = smooth_field(grid)
    points = inner_points(grid, margin=4)
    inverse = ~field
    assert inverse.inversion.maximum < 0.01
    assert not torch.allclose(field(points), points, atol=0.1)
    torch.testing.assert_close((inverse @ field)(points), points, rtol=0, atol=0.1)
    torch.testing.assert_close((field @ inverse)(points), points, rtol=0, atol=0.1)
    at_voxels = inverse.grid.crop([4] * grid.num_dims, [n - 4 for n in grid.shape]).centres()
    torch.testing.assert_close(field(inverse(at_voxels)), at_voxels, rtol=0, atol=0.01)


@roomy_grid
def test_the_inverse_of_the_inverse_is_the_field_itself(grid):
    field = smooth_field(grid)
    assert ~~field is field


@roomy_grid
def test_fields_chain_as_functions(grid):
    outer, inner = smooth_field(grid), smooth_field(grid, seed=1)
    points = inner_points(grid, margin=0)
    assert torch.equal((outer @ inner)(points), outer(inner(points)))


def test_the_determinant_of_a_wave_is_the_analytic_one():
    grid = Grid.from_spacing((60, 6, 6), (0.5, 2.0, 3.0), origin=(-5, 4, 3), direction=oblique_axes())
    axis = grid.direction[:, 0]
    along = (grid.centres() - grid.origin) @ axis
    displacement = (2.0 * torch.sin(along / 4))[..., None] * axis
    field = DisplacementField(displacement.movedim(-1, 0), grid)
    points = inner_points(grid)
    expected = 1 + 0.5 * torch.cos(((points - grid.origin) @ axis) / 4)
    torch.testing.assert_close(field.determinant_at(points), expected, rtol=0, atol=5e-3)


def test_the_determinant_says_by_how_much_a_ball_grows():
    grid = Grid.from_spacing((21, 21, 21), (1.0, 2.0, 0.5), origin=(-10, -20, -5))
    field = DisplacementField(0.1 * grid.centres().movedim(-1, 0), grid)
    torch.testing.assert_close(field.jacobian_determinant(grid), torch.full(grid.shape, 1.1**3))


@roomy_grid
def test_resampling_keeps_the_map(grid):
    affine = some_affine(grid.num_dims, 0.05)
    field = DisplacementField((affine(grid.centres()) - grid.centres()).movedim(-1, 0), grid)
    points = inner_points(grid, margin=2)
    for other in (grid.resize([2 * n for n in grid.shape]), grid.resize([n // 2 for n in grid.shape])):
        torch.testing.assert_close(field.resample(other)(points), field(points), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("displacement", "message"),
    [
        (torch.zeros(3, 6, 7), r"\(3, 6, 7, 8\) is needed"),
        (torch.zeros(2, 6, 7, 8), r"\(3, 6, 7, 8\) is needed"),
        (torch.zeros(3, 6, 7, 8, dtype=torch.int32), "floating-point"),
        (torch.full((3, 6, 7, 8), math.nan), "NaN or infinite"),
    ],
)
def test_broken_fields_are_refused(displacement, message):
    with pytest.raises(ValueError, match=message):
        DisplacementField(displacement, GRIDS["RAS"])
    with pytest.raises(TypeError, match="torch tensor is needed"):
        DisplacementField(np.zeros((3, 6, 7, 8)), GRIDS["RAS"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fields_of_half_precision_become_float32(dtype):
    field = DisplacementField(torch.ones(2, *FLAT.shape, dtype=dtype), FLAT)
    assert field.displacement.dtype == torch.float32
    assert torch.equal(field(inner_points(FLAT)), inner_points(FLAT) + 1)
