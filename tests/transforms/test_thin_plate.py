"""Thin-plate splines: through the landmarks, affine where they are, as scipy's, with derivative and inverse."""

import pytest
import torch
from scipy.interpolate import RBFInterpolator

from examples import noise
from pullback.transforms import Affine, ThinPlateSpline

KERNELS = {2: "thin_plate_spline", 3: "linear"}
"""What scipy calls the kernels; its linear one is minus the distance too."""


def landmarks(num_dims: int, count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    fixed = 60 * noise(count, num_dims, seed=1).double() + 100
    return fixed, fixed + 4 * noise(count, num_dims, seed=2).double()


@pytest.mark.parametrize("num_dims", [2, 3])
def test_goes_through_every_landmark(num_dims):
    fixed, moving = landmarks(num_dims)
    spline = ThinPlateSpline.fit(fixed, moving)
    assert (spline(fixed) - moving).abs().max() < 1e-9
    assert spline.weights.sum(0).abs().max() < 1e-12
    assert (spline.weights.T @ fixed).abs().max() < 1e-9


@pytest.mark.parametrize("smoothing", [0.0, 3.0, 5000.0])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_agrees_with_scipy(num_dims, smoothing):
    fixed, moving = landmarks(num_dims)
    points = 150 * noise(50, num_dims, seed=3).double()
    theirs = RBFInterpolator(fixed, moving, kernel=KERNELS[num_dims], degree=1, smoothing=smoothing)(points)
    ours = ThinPlateSpline.fit(fixed, moving, smoothing=smoothing)(points)
    assert ours.numpy() == pytest.approx(theirs, abs=1e-7)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_affine_landmarks_bend_nothing(num_dims):
    fixed, _ = landmarks(num_dims)
    truth = Affine.from_parts(rotation=[0.2] * (1 if num_dims == 2 else 3), scaling=[1.1] * num_dims, num_dims=num_dims)
    spline = ThinPlateSpline.fit(fixed, truth(fixed))
    assert spline.weights.abs().max() < 1e-9
    assert torch.allclose(spline.affine.matrix, truth.matrix, atol=1e-9)


def test_much_smoothing_is_the_affine_of_least_squares():
    fixed, moving = landmarks(3)
    rows = torch.cat([fixed, torch.ones(len(fixed), 1, dtype=torch.float64)], dim=1)
    best = torch.linalg.lstsq(rows, moving).solution
    smooth = ThinPlateSpline.fit(fixed, moving, smoothing=1e12)
    assert torch.allclose(smooth(fixed), rows @ best, atol=1e-6)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_derivative_is_the_limit_of_differences(num_dims):
    spline = ThinPlateSpline.fit(*landmarks(num_dims))
    points = 100 * noise(30, num_dims, seed=4).double()
    for axis in range(num_dims):
        step = torch.zeros(num_dims, dtype=torch.float64)
        step[axis] = 1e-4
        difference = (spline(points + step) - spline(points - step)) / 2e-4
        assert torch.allclose(spline.derivative_at(points)[..., axis], difference, atol=1e-6)
    assert torch.isfinite(spline.determinant_at(spline.landmarks)).all()


@pytest.mark.parametrize("num_dims", [2, 3])
def test_inverse_leads_back(num_dims):
    fixed, _ = landmarks(num_dims)
    spline = ThinPlateSpline.fit(fixed, fixed + 2 * noise(*fixed.shape, seed=5).double())
    points = 120 * noise(40, num_dims, seed=6).double()
    assert ((~spline)(spline(points)) - points).abs().max() < 1e-6
    assert torch.allclose(
        (~spline).determinant_at(spline(points)) * spline.determinant_at(points), torch.ones(40).double()
    )
    assert ~~spline is spline


@pytest.mark.parametrize(
    ("fixed", "options", "message"),
    [
        ([[0.0, 0], [1, 0]], {}, "needs 3 or more"),
        ([[0.0, 0], [1, 1], [2, 2], [3, 3]], {}, "on a line"),
        ([[0.0, 0], [1, 0], [0, 1], [1, float("nan")]], {}, "NaN or infinite"),
        ([[0.0, 0], [1, 0], [0, 1], [0, 1]], {}, "coincide"),
        ([[0.0, 0], [1, 0], [0, 1]], {"smoothing": -1.0}, "`smoothing` is -1"),
    ],
)
def test_refuses_landmarks_from_which_no_map_follows(fixed, options, message):
    fixed = torch.tensor(fixed)
    with pytest.raises(ValueError, match=message):
        ThinPlateSpline.fit(fixed, fixed, **options)


def test_landmarks_that_coincide_are_met_halfway_with_smoothing():
    fixed = torch.tensor([[0.0, 0], [9, 0], [0, 9], [0, 9]])
    moving = fixed + torch.tensor([[0.0, 0], [0, 0], [0, 1], [0, -1]])
    spline = ThinPlateSpline.fit(fixed, moving, smoothing=1.0)
    assert torch.allclose(spline(fixed), fixed.double(), atol=1e-9)
