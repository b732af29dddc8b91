"""B-splines: exact on what splines reproduce, derivatives as differences say, inverses that lead back."""

import pytest
import torch
from scipy import ndimage

from examples import GRIDS, inner_points, noise
from pullback.space import Grid
from pullback.transforms import BSpline

NAMES = ("RAS", "LPS", "oblique", "sheared", "anisotropic", "2-D oblique")
ORDERS = (1, 2, 3)


def spline_on(name, order=3, largest=0.2):
    """Coefficients of a fraction of the spacing, so that nothing folds."""
    grid = GRIDS[name]
    return BSpline(largest * float(grid.spacing_mm.min()) * noise(grid.num_dims, *grid.shape).double(), grid, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NAMES)
def test_reproduces_affine_maps(name, order):
    grid = GRIDS[name]
    matrix = 0.1 * noise(grid.num_dims, grid.num_dims, seed=1).double()
    coefficients = (grid.centres() @ matrix.T + 3.0).movedim(-1, 0)
    points = inner_points(grid)
    spline = BSpline(coefficients, grid, order)
    assert torch.allclose(spline(points), points + points @ matrix.T + 3.0, atol=1e-9, rtol=1e-12)
    expected = torch.linalg.det(torch.eye(grid.num_dims, dtype=torch.float64) + matrix)
    assert torch.allclose(spline.determinant_at(points), expected.expand(len(points)))


@pytest.mark.parametrize("order", ORDERS)
def test_agrees_with_scipy(order):
    spline = spline_on("oblique", order)
    points = inner_points(spline.grid)
    positions = spline.grid.to_voxel(points).T.numpy()
    for axis in range(3):
        expected = ndimage.map_coordinates(
            spline.coefficients[axis].numpy(), positions, order=order, prefilter=False, mode="mirror"
        )
        assert (spline(points) - points)[:, axis].numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_the_limit_of_differences(name, order):
    spline = spline_on(name, order)
    points = inner_points(spline.grid)
    step = 1e-5 * float(spline.grid.spacing_mm.min())
    for axis in range(spline.num_dims):
        shift = torch.zeros(spline.num_dims, dtype=torch.float64)
        shift[axis] = step
        difference = (spline(points + shift) - spline(points - shift)) / (2 * step)
        assert torch.allclose(spline.derivative_at(points)[..., axis], difference, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_inverse_leads_back(name):
    spline = spline_on(name)
    points = inner_points(spline.grid, margin=2.0)
    assert float((~spline).residual_mm(spline(points)).max()) < 1e-7
    assert torch.allclose((~spline)(spline(points)), points, atol=1e-6)
    assert (~~spline) is spline
    product = (~spline).determinant_at(spline(points)) * spline.determinant_at(points)
    assert torch.allclose(product, torch.ones(len(points), dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_points_without_full_support_stay(order):
    grid = Grid.from_spacing((6, 7), 2.0)
    spline = BSpline(torch.ones(2, 6, 7), grid, order)
    rim = (order - 1) / 2
    edge = grid.to_world([[rim, 3.0], [rim - 1e-6, 3.0], [5 - rim, 3.0], [5 - rim + 1e-6, 3.0]])
    assert (spline(edge) - edge)[:, 0].tolist() == pytest.approx([1, 0, 1, 0])
    assert spline.determinant_at(edge).tolist() == pytest.approx([1, 1, 1, 1])


def test_what_is_no_spline_is_refused():
    grid = GRIDS["RAS"]
    with pytest.raises(ValueError, match=r"`coefficients` has shape \(3, 4\)"):
        BSpline(torch.zeros(3, 4), grid)
    with pytest.raises(ValueError, match="NaN"):
        BSpline(torch.full((3, *grid.shape), torch.nan), grid)
    with pytest.raises(ValueError, match="`order` is 4"):
        BSpline(torch.zeros(3, *grid.shape), grid, 4)
    with pytest.raises(ValueError, match="at least 4 along each axis"):
        BSpline(torch.zeros(2, 3, 9), Grid.from_spacing((3, 9)))
