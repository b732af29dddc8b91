"""Grids: voxels and world, and what cropping, resizing and coarsening leave where it is."""

import math

import numpy as np
import pytest
import torch

from examples import GRIDS, noise
from pullback.space import Grid, apply_matrix

every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def some_points(grid: Grid) -> torch.Tensor:
    return 20 * noise(40, grid.num_dims, dtype=torch.float64)


@every_grid
def test_voxel_to_world_to_voxel_is_the_identity(grid):
    voxels = some_points(grid)
    torch.testing.assert_close(grid.to_voxel(grid.to_world(voxels)), voxels, rtol=0, atol=1e-9)


@every_grid
def test_vectors_to_world_to_voxel_is_the_identity(grid):
    vectors = some_points(grid)
    torch.testing.assert_close(grid.vectors_to_voxel(grid.vectors_to_world(vectors)), vectors, rtol=0, atol=1e-10)


@every_grid
def test_vectors_are_differences_of_points(grid):
    here, there = some_points(grid), some_points(grid).flip(0)
    torch.testing.assert_close(grid.vectors_to_world(there - here), grid.to_world(there) - grid.to_world(here))


def test_world_is_the_matrix_times_the_index():
    grid = GRIDS["sheared"]
    expected = [2.0 * 1 + 0.3 * 2 + 0.1 * 3 - 30, 1.5 * 2 - 0.4 * 3 + 12, 0.2 * 1 + 1.2 * 3 + 7]
    assert grid.to_world([[1, 2, 3]])[0].tolist() == pytest.approx(expected)
    assert apply_matrix(grid.voxel_to_world, torch.eye(3, dtype=torch.float64)).shape == (3, 3)


@every_grid
def test_parts_make_the_matrix_again(grid):
    again = Grid.from_spacing(grid.shape, grid.spacing_mm, origin=grid.origin, direction=grid.direction)
    torch.testing.assert_close(again.voxel_to_world, grid.voxel_to_world)


@every_grid
def test_centres_and_corners_are_the_voxels(grid):
    centres = grid.centres()
    assert centres.shape == (*grid.shape, grid.num_dims)
    index = tuple(n - 1 for n in grid.shape)
    torch.testing.assert_close(centres[index], grid.to_world([index])[0])
    corners = grid.corners()
    assert corners.shape == (2**grid.num_dims, grid.num_dims)
    torch.testing.assert_close(corners[0], grid.origin)
    torch.testing.assert_close(corners[-1], centres[index])
    torch.testing.assert_close(corners.mean(dim=0), grid.centre)


@every_grid
def test_crop_keeps_world_points(grid):
    start = (1, 0, 2)[: grid.num_dims]
    part = grid.crop(start, grid.shape)
    slices = tuple(slice(s, None) for s in start)
    torch.testing.assert_close(part.centres(), grid.centres()[slices])


@every_grid
def test_padding_is_undone_by_cropping(grid):
    padded = grid.crop([-2] * grid.num_dims, [n + 3 for n in grid.shape])
    assert padded.shape == tuple(n + 5 for n in grid.shape)
    assert padded.crop([2] * grid.num_dims, [n + 2 for n in grid.shape]).same_as(grid, 1e-9)


@every_grid
@pytest.mark.parametrize("factor", [0.5, 1.7, 3])
def test_resize_keeps_the_outer_faces(grid, factor):
    small = grid.resize([max(1, round(n * factor)) for n in grid.shape])
    for end in (0, 1):
        faces_before = grid.to_world([[end * n - 0.5 for n in grid.shape]])
        faces_after = small.to_world([[end * n - 0.5 for n in small.shape]])
        torch.testing.assert_close(faces_after, faces_before, rtol=0, atol=1e-9)
    torch.testing.assert_close(small.centre, grid.centre)


@every_grid
def test_coarsen_puts_a_voxel_in_the_middle_of_its_block(grid):
    factors = (2, 1, 3)[: grid.num_dims]
    coarse = grid.coarsen(factors)
    assert coarse.shape == tuple(math.ceil(n / f) for n, f in zip(grid.shape, factors, strict=True))
    first_block = tuple(slice(0, f) for f in factors)
    if all(n >= f for n, f in zip(grid.shape, factors, strict=True)):
        mean = grid.centres()[first_block].reshape(-1, grid.num_dims).mean(dim=0)
        torch.testing.assert_close(coarse.origin, mean)
    torch.testing.assert_close(
        coarse.vectors_to_voxel(grid.vectors_to_world([factors])), torch.ones(1, grid.num_dims).double()
    )


@every_grid
def test_coarsen_by_one_changes_nothing(grid):
    assert grid.coarsen([1] * grid.num_dims) == grid


@every_grid
def test_thin_keeps_every_so_many_th_voxel(grid):
    steps = (2, 1, 3)[: grid.num_dims]
    kept = grid.centres()[tuple(slice(None, None, step) for step in steps)]
    torch.testing.assert_close(grid.thin(steps).centres(), kept)


def test_resize_and_coarsen_agree_where_the_blocks_fit():
    grid = Grid.from_spacing((8, 6, 9), (1, 2, 3), direction=GRIDS["oblique"].direction)
    assert grid.coarsen((2, 3, 3)).same_as(grid.resize((4, 2, 3)), 1e-9)


@every_grid
def test_voxel_to_voxel_goes_through_the_world(grid):
    other = GRIDS["oblique" if grid.num_dims == 3 else "2-D oblique"]
    world_map = torch.eye(grid.num_dims + 1, dtype=torch.float64)
    world_map[:-1] += 0.1 * noise(grid.num_dims, grid.num_dims + 1, dtype=torch.float64)
    voxels = some_points(grid)
    expected = other.to_voxel(apply_matrix(world_map, grid.to_world(voxels)))
    torch.testing.assert_close(apply_matrix(grid.voxel_to_voxel(other, world_map), voxels), expected)


@every_grid
def test_equal_grids_are_equal_and_hash_alike(grid):
    twin = Grid(grid.shape, grid.voxel_to_world.numpy())
    assert twin == grid
    assert hash(twin) == hash(grid)
    assert twin.same_as(grid)
    moved = grid.crop([1] + [0] * (grid.num_dims - 1), [grid.shape[0] + 1, *grid.shape[1:]])
    assert moved != grid
    assert not moved.same_as(grid)
    assert grid != "a grid"


def test_same_as_ignores_a_hair_but_not_a_tenth():
    grid = GRIDS["oblique"]
    for gap, same in ((1e-4, True), (0.1, False)):
        matrix = grid.voxel_to_world.clone()
        matrix[:-1, -1] += gap * matrix[:-1, 0]
        assert grid.same_as(Grid(grid.shape, matrix)) is same


def test_a_grid_does_not_share_the_matrix_it_was_given():
    matrix = torch.eye(4, dtype=torch.float64)
    grid = Grid((2, 2, 2), matrix)
    matrix[0, 3] = 99.0
    assert grid.origin[0] == 0


@every_grid
def test_volume_and_right_angles(grid):
    edges = grid.voxel_to_world[:-1, :-1].numpy()
    assert grid.voxel_volume == pytest.approx(abs(np.linalg.det(edges)))
    assert grid.num_voxels == math.prod(grid.shape)
    assert grid.is_orthonormal() is (grid is not GRIDS["sheared"])


def matrix_with(row: int, column: int, value: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("shape", "matrix", "message"),
    [
        ((4,), np.eye(2), "2 or 3 axes"),
        ((4, 4, 4, 4), np.eye(5), "2 or 3 axes"),
        ((4.7, 4, 4), np.eye(4), "whole numbers are needed"),
        ((math.nan, 4, 4), np.eye(4), "whole numbers are needed"),
        ((4, 0, 4), np.eye(4), "at least one voxel"),
        ((4, 4, 4), np.eye(3), r"needs \(4, 4\)"),
        ((4, 4, 4), matrix_with(0, 3, np.nan), "NaN or infinite"),
        ((4, 4, 4), matrix_with(3, 0, 1.0), "last row"),
        ((4, 4, 4), matrix_with(1, 1, 0.0), "without extent"),
        ((4, 4, 4), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_broken_grids_are_refused(shape, matrix, message):
    with pytest.raises(ValueError, match=message):
        Grid(shape, matrix)


def test_points_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="one coordinate per axis"):
        GRIDS["RAS"].to_world([[1.0, 2.0]])
    with pytest.raises(ValueError, match="one coordinate per axis"):
        GRIDS["2-D"].to_voxel(torch.zeros(5, 3))


def test_an_empty_crop_is_refused():
    with pytest.raises(ValueError, match="at least one voxel"):
        GRIDS["RAS"].crop((3, 0, 0), (3, 7, 8))


@pytest.mark.parametrize("spacing", [-1.0, 0.0, math.nan, (1.0, -2.0, 1.0)])
def test_spacing_is_above_zero(spacing):
    with pytest.raises(ValueError, match=r"`spacing_mm` is .* above zero"):
        Grid.from_spacing((4, 4, 4), spacing)


@pytest.mark.parametrize("factors", [(0, 1, 1), (1, -2, 1), (2, 2), (1.5, 1, 1)])
def test_blocks_have_voxels(factors):
    with pytest.raises(ValueError, match="whole numbers"):
        GRIDS["RAS"].coarsen(factors)
