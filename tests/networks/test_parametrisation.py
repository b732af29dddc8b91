"""From a network's numbers to displacements: exact cases, and the published ways against their plain formulas."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from examples import noise, smooth_noise
from pullback import functional
from pullback.networks import composition
from pullback.networks.parametrisation import BandLimited, Displacement, Velocity, resize_field

SHAPES = [(12, 16), (8, 12, 10)]


def sample_by_corners(image: Tensor, displacement: Tensor) -> Tensor:
    """The published codes' warp: corners aligned, zeros outside."""
    axes = [torch.arange(n, dtype=image.dtype) for n in image.shape[2:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement
    halves = torch.tensor([(n - 1) / 2 for n in image.shape[2:]], dtype=image.dtype).reshape(1, -1, *[1] * len(axes))
    grid = (points / halves - 1).movedim(1, -1).flip(-1)
    return nnf.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def field(*shape: int, largest: float = 3.0, batch: int = 2, seed: int = 0) -> Tensor:
    parts = [smooth_noise(len(shape), *shape, largest=largest, sigma=1.5, seed=seed + n) for n in range(batch)]
    return torch.stack(parts)


@pytest.mark.parametrize("shape", SHAPES)
def test_zeros_outside_is_the_published_codes_sampling(shape):
    image, displacement = noise(2, 3, *shape), field(*shape, largest=6.0)
    ours = composition.warp(image, displacement, outside="zeros")
    torch.testing.assert_close(ours, sample_by_corners(image, displacement), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_integration_with_zeros_outside_is_the_published_codes(shape):
    velocity = field(*shape)
    expected = velocity / 2**5
    for _ in range(5):
        expected = expected + sample_by_corners(expected, expected)
    ours = composition.exponential(velocity, num_squarings=5, outside="zeros")
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("outside", composition.OUTSIDE)
def test_inside_both_ways_agree(outside):
    shape = (24, 24)
    bump = torch.zeros(1, 2, *shape)
    bump[..., 10:14, 10:14] = 1.0
    assert torch.equal(
        composition.exponential(bump, num_squarings=6, outside=outside), functional.exponential(bump, num_steps=6)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_resizing_by_corners_is_the_published_codes(shape):
    values = noise(2, len(shape), *shape)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    half, double = tuple(n // 2 for n in shape), tuple(2 * n for n in shape)
    small = 0.5 * nnf.interpolate(values, size=half, mode=mode, align_corners=True)
    large = 2 * nnf.interpolate(values, size=double, mode=mode, align_corners=True)
    torch.testing.assert_close(resize_field(values, half, resizing="corners"), small, rtol=0, atol=2e-5)
    torch.testing.assert_close(resize_field(values, double, resizing="corners"), large, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_resized_linear_field_moves_the_same_points(shape):
    """The centre of a coarse voxel c is the fine position 2 c + 1/2; a fine length is two coarse ones."""
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    small = resize_field(0.3 * points, tuple(n // 2 for n in shape))
    axes = [2 * torch.arange(n // 2, dtype=torch.float64) + 0.5 for n in shape]
    coarse = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    torch.testing.assert_close(2 * small, 0.3 * coarse)
    back = resize_field(small, shape)
    inside = (..., *[slice(1, -1)] * len(shape))
    torch.testing.assert_close(back[inside], (0.3 * points)[inside])


def test_a_displacement_is_itself():
    values = noise(1, 2, 4, 4)
    assert Displacement()(values)["displacement"] is values


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_constant_velocity_is_a_shift(factor):
    velocity = torch.tensor([1.5, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 16, 16)
    state = Velocity(5, factor, is_bidirectional=True)(velocity)
    torch.testing.assert_close(state["displacement"], velocity.contiguous())
    torch.testing.assert_close(state["inverse_displacement"], -velocity)
    assert set(state) == {"velocity", "displacement", "inverse_displacement"}


@pytest.mark.parametrize("shape", SHAPES)
def test_forwards_and_backwards_cancel(shape):
    state = Velocity(7, is_bidirectional=True)(field(*shape, largest=1.0))
    residual = functional.compose(state["inverse_displacement"], state["displacement"])
    inside = (..., *[slice(2, -2)] * len(shape))
    assert residual[inside].abs().max() < 0.1 * state["displacement"].abs().max()


def test_a_velocity_on_the_half_lattice_counts_in_its_own_voxels():
    velocity = torch.full((1, 2, 8, 8), 1.5)
    state = Velocity(5, 2)(velocity, (16, 16))
    torch.testing.assert_close(state["displacement"], torch.full((1, 2, 16, 16), 3.0))
    torch.testing.assert_close(state["velocity"], torch.full((1, 2, 16, 16), 3.0))


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_band_limited_field_passes_through_its_samples(num_dims):
    samples = noise(2, num_dims, *[4] * num_dims)
    full = BandLimited(gain=2.0)(samples, (16,) * num_dims)
    every_fourth = (..., *[slice(None, None, 4)] * num_dims)
    torch.testing.assert_close(full[every_fourth], 2 * samples, rtol=0, atol=1e-5)


def test_normalised_units_span_the_lattice():
    samples = torch.ones(1, 2, 4, 4)
    full = BandLimited(unit="normalised")(samples, (16, 8))
    torch.testing.assert_close(full[:, 0], torch.full((1, 16, 8), 7.5))
    torch.testing.assert_close(full[:, 1], torch.full((1, 16, 8), 3.5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Velocity(outside="mirror"),
        lambda: Velocity(integration_factor=3),
        lambda: BandLimited(unit="mm"),
        lambda: resize_field(noise(1, 2, 4, 4), (8, 8), resizing="middle"),
        lambda: composition.compose(noise(1, 2, 4, 4), noise(1, 2, 4, 4), outside="mirror"),
    ],
)
def test_unknown_ways_are_refused(make):
    with pytest.raises(ValueError, match="can be"):
        make()
