"""Moments and joint histograms against plain NumPy."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from examples import SHAPES, noise
from pullback.functional import histogram_gradient, joint_histogram, weighted_moments

NUM_BINS = 12
CUBIC = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)


def bin_weights(positions: np.ndarray) -> np.ndarray:
    """Value of the cubic B-spline of every bin at each position, ``(N, bins)``."""
    return np.nan_to_num(CUBIC(positions.reshape(-1, 1) - np.arange(NUM_BINS)))


def some_bins(*shape: int, seed: int) -> Tensor:
    return (noise(*shape, seed=seed) * 2 + NUM_BINS / 2).clamp(1, NUM_BINS - 2.001)


def histogram_by_numpy(fixed: Tensor, warped: Tensor, weights: Tensor) -> np.ndarray:
    rows, columns = bin_weights(fixed.double().numpy()), bin_weights(warped.double().numpy())
    return np.einsum("na,nb,n->ab", rows, columns, weights.double().numpy().ravel())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_the_sums(shape, weighted):
    fixed, warped = noise(2, 3, *shape) + 5, noise(2, 3, *shape, seed=1)
    weights = noise(2, 1, *shape, seed=2).abs() if weighted else torch.ones(2, 1, *shape)
    f, w, m = fixed.double(), warped.double(), weights.double().expand_as(fixed)
    expected = torch.stack([t.flatten(2).sum(-1) for t in (m, m * f, m * w, m * f * f, m * w * w, m * f * w)], dim=-1)
    torch.testing.assert_close(weighted_moments(fixed, warped, weights if weighted else None), expected)


def test_moments_do_not_see_the_memory_layout():
    fixed = noise(1, 6, 5, 4, 2).movedim(-1, 1)
    assert torch.equal(weighted_moments(fixed, fixed), weighted_moments(fixed.contiguous(), fixed.contiguous()))


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (1, 1, 1), (9, 1, 4)])
def test_the_histogram_is_a_sum_of_b_splines(shape):
    fixed, warped = some_bins(*shape, seed=1), some_bins(*shape, seed=2)
    weights = noise(*shape, seed=3).clamp(0, 1)
    histogram = joint_histogram(fixed, warped, weights, NUM_BINS).numpy()
    np.testing.assert_allclose(histogram, histogram_by_numpy(fixed, warped, weights), rtol=0, atol=1e-5)
    assert histogram.sum() == pytest.approx(weights.double().sum().item(), rel=1e-5)


def test_rows_are_the_fixed_image():
    fixed, warped = torch.full((1, 1, 1), 3.0), torch.full((1, 1, 1), 7.0)
    histogram = joint_histogram(fixed, warped, torch.ones(1, 1, 1), NUM_BINS)
    assert divmod(int(histogram.argmax()), NUM_BINS) == (3, 7)


def test_the_gradient_is_the_derivative_of_the_weighted_histogram():
    fixed, warped = some_bins(3, 4, 5, seed=1), some_bins(3, 4, 5, seed=2).clamp(1.1, NUM_BINS - 2.2)
    weights = noise(3, 4, 5, seed=3).clamp(0, 1)
    table = noise(NUM_BINS, NUM_BINS, seed=4, dtype=torch.float64)
    gradient = histogram_gradient(fixed, warped, weights, table, NUM_BINS).numpy().ravel()
    slope = CUBIC.derivative()
    slopes = np.nan_to_num(slope(warped.double().numpy().reshape(-1, 1) - np.arange(NUM_BINS)))
    rows = bin_weights(fixed.double().numpy())
    expected = weights.double().numpy().ravel() * np.einsum("na,nb,ab->n", rows, slopes, table.numpy())
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5)
