"""Stationary velocities in mm: closed forms in the world, on oblique grids too."""

import math

import pytest
import torch
from scipy import linalg

from examples import GRIDS, inner_points, noise, oblique_axes, smooth_noise, turn
from pullback.space import Grid
from pullback.transforms import StationaryVelocity, to_world_vectors

ROOMY = Grid.from_spacing((22, 20, 18), (1.0, 1.5, 2.0), origin=(-40, 30, 10), direction=oblique_axes())
FLAT = Grid.from_spacing((24, 20), (1.0, 1.5), origin=(-40, 30), direction=turn(25))
roomy_grid = pytest.mark.parametrize("grid", [ROOMY, FLAT], ids=["3-D", "2-D"])


def smooth_velocity(grid: Grid, largest_voxels: float = 2.0) -> StationaryVelocity:
    voxels = smooth_noise(grid.num_dims, *grid.shape, largest=largest_voxels, sigma=4.0)
    return StationaryVelocity(to_world_vectors(voxels, grid), grid)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_constant_velocity_is_a_translation(grid):
    vector = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)[: grid.num_dims]
    velocity = vector.reshape(-1, *[1] * grid.num_dims).expand(-1, *grid.shape)
    points = inner_points(grid, margin=0)
    torch.testing.assert_close(StationaryVelocity(velocity, grid)(points), points + vector, rtol=0, atol=1e-6)


@roomy_grid
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_velocity_is_the_matrix_exponential_in_the_world(grid, dtype):
    generator = 0.15 * noise(grid.num_dims, grid.num_dims, seed=1, dtype=torch.float64)
    velocity = ((grid.centres() - grid.centre) @ generator.T).movedim(-1, 0).to(dtype)
    points = inner_points(grid, margin=6)
    expected = grid.centre + (points - grid.centre) @ torch.from_numpy(linalg.expm(generator.numpy())).T
    transform = StationaryVelocity(velocity, grid, num_steps=10)
    torch.testing.assert_close(transform(points), expected, rtol=0, atol=2e-3)
    determinants = torch.full((len(points),), math.exp(float(generator.trace())), dtype=torch.float64)
    torch.testing.assert_close(transform.determinant_at(points), determinants, rtol=0, atol=2e-3)


@roomy_grid
def test_the_inverse_is_the_flow_of_minus_v(grid):
    transform = smooth_velocity(grid)
    points = inner_points(grid, margin=4)
    inverse = ~transform
    assert torch.equal(inverse.velocity, -transform.velocity)
    assert inverse.num_steps == transform.num_steps
    assert (transform(points) - points).abs().max() > 0.3
    torch.testing.assert_close((inverse @ transform)(points), points, rtol=0, atol=0.03)


@roomy_grid
def test_the_flow_keeps_the_sign_of_volumes(grid):
    assert smooth_velocity(grid, 4.0).jacobian_determinant(grid).min() > 0


def test_a_zero_velocity_is_the_identity():
    grid = GRIDS["oblique"]
    transform = StationaryVelocity(torch.zeros(3, *grid.shape), grid)
    points = inner_points(grid)
    assert torch.equal(transform(points), points)


def test_broken_velocities_are_refused():
    grid = GRIDS["RAS"]
    with pytest.raises(ValueError, match=r"\(3, 6, 7, 8\) is needed"):
        StationaryVelocity(torch.zeros(2, 6, 7, 8), grid)
    with pytest.raises(ValueError, match="0 or more squarings"):
        StationaryVelocity(torch.zeros(3, 6, 7, 8), grid, num_steps=-1)
