"""Smoothness and errors of maps, against closed forms."""

import math

import pytest
import torch

from examples import GRIDS
from pullback.metrics import (
    ERROR_PERCENTILES,
    bending_energy,
    deformation_error_percentiles,
    spread_of_jacobian,
    summarise_magnitude,
)
from pullback.space import Grid
from pullback.transforms import Affine, Translation, identity


def quadratic(grid: Grid) -> torch.Tensor:
    """u = (x^2 + 3 x y, 0, ...): second derivatives 2, 3 and 3."""
    points = grid.centres()
    displacement = torch.zeros(grid.num_dims, *grid.shape, dtype=torch.float64)
    displacement[0] = points[..., 0] ** 2 + 3 * points[..., 0] * points[..., 1]
    return displacement


@pytest.mark.parametrize("name", [name for name, grid in GRIDS.items() if min(grid.shape) > 2])
def test_bending_of_a_quadratic_on_any_grid(name: str):
    grid = GRIDS[name]
    centred = Grid(grid.shape, grid.voxel_to_world)
    found = bending_energy(quadratic(centred), centred)
    assert found == pytest.approx(2**2 + 2 * 3**2, rel=1e-6)


def test_an_affine_does_not_bend_and_thin_grids_cannot():
    grid = GRIDS["oblique"]
    affine = Affine.from_parts(rotation=(0.2, 0, 0.1), scaling=(1.2, 0.9, 1.0))
    assert bending_energy(affine.displacement_on(grid).double(), grid) == pytest.approx(0, abs=1e-9)
    thin = GRIDS["one voxel thick"]
    assert math.isnan(bending_energy(torch.zeros(3, *thin.shape), thin))


def test_bending_in_a_region():
    grid = Grid.from_spacing((9, 8, 7))
    displacement = torch.zeros(3, *grid.shape)
    displacement[1, 4, 4, 3] = 1.0
    region = torch.zeros(grid.shape, dtype=torch.bool)
    region[4, 4, 3] = True
    assert bending_energy(displacement, grid, region) == pytest.approx(3 * 4.0)  # -2 along each axis


def test_magnitudes():
    displacement = torch.zeros(3, 2, 2, 1)
    displacement[0, 0], displacement[1, 0] = 3.0, 4.0
    found = summarise_magnitude(displacement)
    assert (found.mean, found.sd, found.maximum) == (2.5, 2.5, 5.0)
    region = torch.tensor([[[True], [True]], [[False], [False]]])
    assert summarise_magnitude(displacement, region).mean == 5.0


def test_spread_of_determinants():
    assert spread_of_jacobian(torch.tensor([1.0, 3.0])) == (2.0, 1.0)
    assert spread_of_jacobian(torch.tensor([1.0, 3.0]), torch.tensor([False, True])) == (3.0, 0.0)


def test_percentiles_of_deformation_error():
    grid = Grid.from_spacing((1001, 1, 1))
    growing = Affine([[1.001, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    found = deformation_error_percentiles(growing, identity(3), grid)
    assert list(found) == list(ERROR_PERCENTILES)
    assert list(found.values()) == pytest.approx([p / 100 for p in ERROR_PERCENTILES])
    shift = deformation_error_percentiles(Translation.by([0, 3.0, 4.0]), identity(3), grid)
    assert set(shift.values()) == {5.0}
