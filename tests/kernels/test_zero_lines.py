"""Lines of zeros are left out, and no number changes: compared with the same kernels made to work everywhere."""

import numpy as np
import pytest
import torch

from examples import noise
from pullback.functional import compose, gaussian_smooth, largest_length, local_correlation, reference, relax, warp
from pullback.kernels import windows
from pullback.kernels.spans import spans_of_volume

SHAPE = (21, 60, 50)
"""More lines than one tile has, and not a multiple of a register along K."""


def island(*channels: int, seed: int = 0) -> torch.Tensor:
    """Noise in a ball, zero around it."""
    axes = [torch.linspace(-1, 1, n) for n in SHAPE]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    return noise(*channels, *SHAPE, seed=seed) * ((i - 0.2) ** 2 + j**2 + (k + 0.3) ** 2 < 0.2)


def correlation(
    fixed: np.ndarray, warped: np.ndarray, spans: np.ndarray, *, contrast: float, weighted: bool, squared: bool
):
    """The kernel, with the spans given; the noise is shared where windows count by contrast."""
    gradient = np.full(SHAPE, np.nan, np.float32)
    values = np.full((SHAPE[0], windows.num_tiles(SHAPE[1])), np.nan)
    weights = np.ones(SHAPE, np.float32)
    noises = (np.float32(1e-3), np.float32(1e-3 if contrast else 0), np.float32(contrast))
    one = np.float32(1)
    windows.correlation(fixed, warped, weights, weighted, spans, (2, 2, 2), noises, squared, one, gradient, values)
    return values.sum(), gradient


@pytest.mark.parametrize("contrast", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_windows_without_the_fixed_object_change_no_bit(weighted, squared, contrast):
    fixed, warped = island().numpy(), noise(*SHAPE, seed=1).numpy()
    found = np.empty((2, *SHAPE[:2]), np.int32)
    spans_of_volume(fixed, found[0], found[1])
    everywhere = np.stack([np.zeros(SHAPE[:2], np.int32), np.full(SHAPE[:2], SHAPE[2], np.int32)])
    settings = {"contrast": contrast, "weighted": weighted, "squared": squared}
    value, gradient = correlation(fixed, warped, found, **settings)
    whole, exact = correlation(fixed, warped, everywhere, **settings)
    assert value == pytest.approx(whole, rel=1e-6)
    assert np.array_equal(gradient, exact)
    assert (gradient != 0).mean() < 0.5


def test_an_empty_fixed_image_has_no_correlation():
    value, gradient = local_correlation(torch.zeros(1, 1, *SHAPE), noise(1, 1, *SHAPE))
    assert value.item() == 0
    assert not gradient.any()


def test_spans_are_as_narrow_as_registers_allow():
    volume = np.zeros((1, 3, 50), np.float32)
    volume[0, 1, 20], volume[0, 2, 0], volume[0, 2, 49] = 1, np.nan, -1
    lows, highs = np.empty((1, 3), np.int32), np.empty((1, 3), np.int32)
    spans_of_volume(volume, lows, highs)
    assert highs[0, 0] <= lows[0, 0]
    assert (lows[0, 1], highs[0, 1]) == (16, 32)
    assert (lows[0, 2], highs[0, 2]) == (0, 50)


@pytest.mark.parametrize("sigma", [0.5, 1.7, 4.0])
def test_smoothing_around_zeros_is_smoothing(sigma):
    field = island(1, 3)
    exact = gaussian_smooth(field.double(), sigma)
    torch.testing.assert_close(gaussian_smooth(field, sigma).double(), exact, rtol=0, atol=1e-5)


def test_relaxing_around_zeros_is_relaxing():
    field = island(1, 3)
    torch.testing.assert_close(relax(field, 0.05, 0.08), reference.relax(field, 0.05, 0.08), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [0.9, 3.0])
def test_composing_with_small_and_large_steps_around_zeros(length):
    outer, inner = noise(1, 3, *SHAPE), island(1, 3, seed=1)
    inner *= length / largest_length(inner)
    still = (inner == 0).all(dim=1).all(dim=-1)[0]
    composed = compose(outer, inner)
    torch.testing.assert_close(composed, inner + warp(outer, inner), rtol=0, atol=1e-5)
    assert torch.equal(composed[0][:, still], outer[0][:, still])


def test_the_longest_vector_is_found_to_the_bit():
    field = noise(1, 3, *SHAPE)
    field[0, :, 7, 8, 9] = torch.tensor([3.0, -4.0, 12.0])
    assert largest_length(field) == 13.0
