"""Band-limited resizing: exact on waves, interpolating, real, differentiable, and like the discrete transform."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from examples import noise
from pullback.functional import fourier_resize

SIZES = [(4, 16), (5, 16), (4, 15), (5, 15), (1, 6), (6, 6), (16, 4), (15, 5), (16, 5), (15, 4), (6, 1)]


def by_transform(values: np.ndarray, shape: tuple[int, ...], *, scale: bool) -> np.ndarray:
    """Cut or pad the centred spectrum, keep the real part: what the Fourier-Nets' code does, all axes at once."""
    spectrum = np.fft.fftshift(np.fft.fftn(values))
    for axis, new in enumerate(shape):
        old = values.shape[axis]
        first = old // 2 - new // 2
        if first >= 0:
            spectrum = np.take(spectrum, range(first, first + new), axis=axis)
        else:
            before = new // 2 - old // 2
            widths = [(0, 0)] * values.ndim
            widths[axis] = (before, new - old - before)
            spectrum = np.pad(spectrum, widths)
    result = np.fft.ifftn(np.fft.ifftshift(spectrum)).real
    return result * (math.prod(shape) / values.size if scale else 1)


def wave(size: int, turns: float, *, phase: float = 0.0) -> Tensor:
    x = torch.arange(size, dtype=torch.float64) / size
    return torch.cos(2 * math.pi * (turns * x + phase))[None, None]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_waves_of_the_common_band_stay_what_they_are(old, new):
    for turns in range(math.ceil(min(old, new) / 2)):
        resized = fourier_resize(wave(old, turns, phase=0.1), (new,))
        torch.testing.assert_close(resized, wave(new, turns, phase=0.1))


@pytest.mark.parametrize("new", [4, 5])
def test_waves_above_the_band_vanish(new):
    assert fourier_resize(wave(16, 5, phase=0.2), (new,)).abs().max() < 1e-12


@pytest.mark.parametrize(("old", "factor"), list(itertools.product([1, 4, 5], [1, 2, 4])))
def test_a_finer_lattice_passes_through_the_samples(old, factor):
    samples = noise(2, 3, old, old, dtype=torch.float64)
    fine = fourier_resize(samples, (old * factor, old * factor))
    torch.testing.assert_close(fine[..., ::factor, ::factor], samples)


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (4, 5)])
def test_the_mean_is_kept(shape):
    values = noise(1, 1, 8, 10, dtype=torch.float64)
    torch.testing.assert_close(fourier_resize(values, shape).mean(), values.mean())


@pytest.mark.parametrize("shape", [(12, 16, 20), (13, 16, 9)])
def test_the_paired_wave_keeps_all_energy_in_the_band(shape):
    fine = fourier_resize(noise(1, 1, 6, 5, 4, dtype=torch.float64), shape)[0, 0]
    spectrum = torch.fft.fftn(fine)
    for axis, (band, size) in enumerate(zip((6, 5, 4), shape, strict=True)):
        frequencies = (torch.fft.fftfreq(size) * size).abs()
        beyond = spectrum.index_select(axis, torch.nonzero(frequencies > band / 2 + 1e-3).flatten())
        assert beyond.abs().max() < 1e-10


@pytest.mark.parametrize(
    ("old", "new"), [((4, 6), (16, 24)), ((4, 4, 6), (8, 16, 12)), ((16, 12), (8, 6)), ((8, 8, 8), (4, 4, 4))]
)
def test_unpaired_it_is_the_transform_of_all_axes_with_its_imaginary_part_dropped(old, new):
    values = noise(*old, dtype=torch.float64)
    expected = torch.from_numpy(by_transform(values.numpy(), new, scale=True))
    resized = fourier_resize(values[None, None], new, is_nyquist_paired=False)[0, 0]
    torch.testing.assert_close(resized, expected)
    assert not torch.allclose(fourier_resize(values[None, None], new)[0, 0], expected)


@pytest.mark.parametrize("old", [(5, 7), (5, 3, 7)])
def test_odd_sizes_have_no_wave_to_pair(old):
    values = noise(1, 1, *old, dtype=torch.float64)
    new = tuple(2 * n + 1 for n in old)
    torch.testing.assert_close(fourier_resize(values, new), fourier_resize(values, new, is_nyquist_paired=False))


@pytest.mark.parametrize("is_nyquist_paired", [True, False])
def test_gradcheck(is_nyquist_paired):
    values = noise(1, 2, 4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: fourier_resize(v, (6, 7), is_nyquist_paired=is_nyquist_paired), values)


def test_batches_and_channels_do_not_mix():
    values = noise(2, 3, 4, 6)
    together = fourier_resize(values, (8, 12))
    for b, c in itertools.product(range(2), range(3)):
        torch.testing.assert_close(fourier_resize(values[b : b + 1, c : c + 1], (8, 12))[0, 0], together[b, c])
