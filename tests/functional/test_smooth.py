"""Gaussian smoothing and coarsening."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from examples import GRIDS, SHAPES, noise
from pullback.functional import block_mean, coarsen, dense_strides, gaussian_smooth
from pullback.functional.smooth import TRUNCATE, gaussian_taps


@pytest.mark.parametrize("sigma", [0.5, 1.7, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(shape, sigma):
    volumes = noise(2, 3, *shape)
    exact = gaussian_smooth(volumes.double(), sigma)
    torch.testing.assert_close(gaussian_smooth(volumes, sigma).double(), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [(0.8, 2.5, 0.0), (0.0, 1.1, 3.0), (5.0, 0.3, 1.0)])
def test_it_agrees_with_scipy_axis_by_axis(sigma, dtype):
    volumes = noise(1, 2, 11, 12, 13, dtype=dtype)
    radius = [max(1, math.ceil(TRUNCATE * s)) if s else 0 for s in sigma]
    for ours, channel in zip(gaussian_smooth(volumes, sigma)[0], volumes[0], strict=True):
        expected = ndimage.gaussian_filter(channel.double().numpy(), sigma, mode="nearest", radius=radius)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0, 2.0, 3.3])
def test_the_taps_sum_to_one_and_have_the_width_asked_for(sigma):
    half = gaussian_taps(sigma).astype(np.float64)
    full = np.concatenate([half[:0:-1], half])
    offsets = np.arange(len(full)) - len(full) // 2
    assert full.sum() == pytest.approx(1.0, abs=1e-6)
    if sigma >= 1:
        assert math.sqrt((full * offsets**2).sum()) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_stays_constant(shape):
    volumes = torch.full((1, 1, *shape), 3.0)
    torch.testing.assert_close(gaussian_smooth(volumes, 2.0), volumes)


def test_a_ramp_stays_a_ramp_inside():
    ramp = torch.arange(30.0).reshape(1, 1, 30, 1, 1).expand(1, 1, 30, 5, 6).contiguous()
    torch.testing.assert_close(gaussian_smooth(ramp, 1.5)[:, :, 6:-6], ramp[:, :, 6:-6])


def test_an_impulse_keeps_its_place():
    volume = torch.zeros(1, 1, 15, 17, 19)
    volume[0, 0, 7, 8, 9] = 1
    smoothed = gaussian_smooth(volume, (1.0, 1.5, 2.0))
    for axis in (2, 3, 4):
        torch.testing.assert_close(smoothed.flip(axis), smoothed)
    assert smoothed.argmax() == volume.argmax()


def test_sigma_zero_changes_no_bit():
    volumes = noise(1, 2, 5, 6, 7)
    assert torch.equal(gaussian_smooth(volumes, 0.0), volumes)


def test_in_place_and_scratch_give_the_same():
    volumes = noise(2, 3, 8, 9, 10)
    expected = gaussian_smooth(volumes, 1.3)
    in_place = volumes.clone()
    assert gaussian_smooth(in_place, 1.3, out=in_place, scratch=torch.empty_like(volumes)) is in_place
    assert torch.equal(in_place, expected)


def test_a_batch_of_two_is_twice_a_batch_of_one():
    volumes = noise(2, 2, 8, 9, 10)
    single = [gaussian_smooth(volumes[b : b + 1], 1.3) for b in range(2)]
    assert torch.equal(gaussian_smooth(volumes, 1.3), torch.cat(single))


@pytest.mark.parametrize("sigma", [1.3, (0.0, 1.0, 2.0)])
def test_memory_layout_does_not_matter(sigma):
    volumes = noise(1, 8, 9, 10, 3).movedim(-1, 1)
    assert torch.equal(gaussian_smooth(volumes, sigma), gaussian_smooth(volumes.contiguous(), sigma))


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3)])
def test_gradcheck(shape):
    volumes = noise(1, 2, *shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: gaussian_smooth(v, 0.7), volumes)


def test_float32_is_differentiable_too():
    volumes = noise(1, 1, 6, 7, 8).requires_grad_()
    smoothed = gaussian_smooth(volumes, 1.0)
    torch.testing.assert_close(smoothed.detach(), gaussian_smooth(volumes.detach(), 1.0))
    (gradient,) = torch.autograd.grad(smoothed.sum(), volumes)
    assert gradient.sum() == pytest.approx(volumes.numel(), rel=1e-5)


# --- coarsening ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RAS", "oblique", "anisotropic", "2-D oblique"])
def test_coarse_voxels_hold_what_lies_at_the_centres_of_the_coarse_grid(name):
    """An image of the world's own coordinates, made coarser, still says where it is."""
    grid = GRIDS[name].resize([12] * GRIDS[name].num_dims)
    factors = (2, 3, 1)[: grid.num_dims]
    places = grid.centres().movedim(-1, 0)[None]
    expected = grid.coarsen(factors).centres().movedim(-1, 0)[None]
    torch.testing.assert_close(block_mean(places, factors), expected)
    inner = tuple([slice(None)] * 2 + [slice(2, -2)] * grid.num_dims)
    torch.testing.assert_close(coarsen(places, factors)[inner], expected[inner], rtol=0, atol=1e-3)


@pytest.mark.parametrize("strides", [(1, 3, 1), (1, 1, 1), (2, 2, 1)])
def test_overlapping_blocks_lie_where_the_grid_says(strides):
    grid = GRIDS["oblique"].resize([12] * 3)
    factors = (2, 3, 1)
    places = grid.centres().movedim(-1, 0)[None]
    coarse = grid.coarsen(factors, strides)
    inner = (..., *(slice(0, -f) for f in factors))  # beyond that blocks are partial
    torch.testing.assert_close(
        block_mean(places, factors, strides)[inner], coarse.centres().movedim(-1, 0)[None][inner]
    )


def test_every_so_many_th_of_the_overlapping_blocks_is_one_of_those_side_by_side():
    volumes, factors = noise(1, 2, 16, 8, 13), (8, 2, 4)
    strides = dense_strides(factors)
    assert strides == (4, 1, 2)
    dense = coarsen(volumes, factors, strides)
    assert torch.equal(dense[..., ::2, ::2, ::2], coarsen(volumes, factors))


def test_blocks_overlap_by_half_or_more():
    for factor in range(2, 20):
        assert 1 <= dense_strides((factor,))[0] <= factor / 2
    assert dense_strides((1, 1)) == (1, 1)


def test_a_partial_block_repeats_the_edge():
    row = torch.tensor([[[[1.0, 3.0, 5.0, 7.0, 9.0]]]])
    assert block_mean(row, (1, 2)).flatten().tolist() == [2.0, 6.0, 9.0]
    assert block_mean(row, (2, 3)).flatten().tolist() == pytest.approx([3.0, 25 / 3])
    assert block_mean(row, (1, 4), (1, 2)).flatten().tolist() == pytest.approx([4.0, 7.5, 9.0])


@pytest.mark.parametrize("shape", SHAPES)
def test_coarse_shapes_are_those_of_the_grid(shape):
    factors = (2, 3, 4)[: len(shape)]
    expected = tuple(math.ceil(n / f) for n, f in zip(shape, factors, strict=True))
    assert tuple(coarsen(noise(1, 1, *shape), factors).shape[2:]) == expected


def test_factors_of_one_change_nothing():
    volumes = noise(1, 1, 4, 5)
    assert coarsen(volumes, (1, 1)) is volumes
