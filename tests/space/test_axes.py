"""Axis codes and reordering: an array may turn in memory, its voxels stay in the world."""

import itertools

import pytest
import torch

from examples import GRIDS, oblique_axes
from pullback.space import Grid, Reorientation, axis_codes, closest_to, closest_to_ras

every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def all_reorientations(num_dims: int) -> list[Reorientation]:
    orders = itertools.permutations(range(num_dims))
    flips = list(itertools.product([False, True], repeat=num_dims))
    return [Reorientation(order, flip) for order in orders for flip in flips]


@pytest.mark.parametrize(
    ("name", "codes"),
    [("RAS", "RAS"), ("LAS", "LAS"), ("LPS", "LPS"), ("AIR", "AIR"), ("oblique", "RAS"), ("2-D oblique", "LA")],
)
def test_codes_name_where_the_axes_point(name, codes):
    assert axis_codes(GRIDS[name]) == codes


def test_codes_follow_every_reordering():
    grid = GRIDS["RAS"]
    ends = (("R", "L"), ("A", "P"), ("S", "I"))
    for reorientation in all_reorientations(3):
        expected = "".join(ends[old][flip] for old, flip in zip(reorientation.order, reorientation.flips, strict=True))
        assert axis_codes(reorientation.apply_to_grid(grid)) == expected


@every_grid
def test_reordering_moves_no_voxel_in_the_world(grid):
    centres = grid.centres().movedim(-1, 0)
    for reorientation in all_reorientations(grid.num_dims):
        reordered = reorientation.apply_to_grid(grid)
        assert tuple(reorientation.apply(centres).shape[1:]) == reordered.shape
        torch.testing.assert_close(reorientation.apply(centres).movedim(0, -1), reordered.centres())


@every_grid
def test_closest_to_ras_needs_no_second_turn(grid):
    nearest = closest_to_ras(grid).apply_to_grid(grid)
    assert axis_codes(nearest) == "RAS"[: grid.num_dims]
    assert closest_to_ras(nearest).order == tuple(range(grid.num_dims))
    assert not any(closest_to_ras(nearest).flips)


def test_closest_to_ras_is_blind_to_the_order_in_memory():
    grid = Grid.from_spacing((4, 5, 6), (1, 2, 3), direction=oblique_axes())
    for reorientation in all_reorientations(3):
        stored = reorientation.apply_to_grid(grid)
        assert closest_to_ras(stored).apply_to_grid(stored).same_as(grid, 1e-9)


@every_grid
def test_any_orientation_can_be_asked_for(grid):
    for reorientation in all_reorientations(grid.num_dims):
        wanted = axis_codes(reorientation.apply_to_grid(grid))
        assert axis_codes(closest_to(grid, wanted).apply_to_grid(grid)) == wanted


@pytest.mark.parametrize("orientation", ["", "RA", "RAR", "RAX", "RASS", "ras"])
def test_an_orientation_names_each_axis_once(orientation):
    with pytest.raises(ValueError, match="orientation"):
        closest_to(GRIDS["RAS"], orientation)
