"""Regularities: analytic energies, and forces that go down them."""

import pytest
import torch
from torch import Tensor

from examples import noise, voxel_points
from pullback.functional import gaussian_smooth, jacobian_determinant, relax
from pullback.regularity import AbstractRegularity, Bending, Diffusion, Elasticity, Gaussian

ENERGIES: list[AbstractRegularity] = [Diffusion(0.7), Bending(0.7)]
every_energy = pytest.mark.parametrize("regularity", ENERGIES, ids=["diffusion", "bending"])


def field_of(first: Tensor, num_dims: int) -> Tensor:
    """A field whose first component is given, the others zero, ``(1, D, *shape)`` float64."""
    return torch.stack([first] + [torch.zeros_like(first)] * (num_dims - 1))[None]


@every_energy
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5), (1, 5, 6)])
def test_a_translation_costs_nothing(regularity, shape):
    field = torch.full((2, len(shape), *shape), 3.0)
    assert torch.equal(regularity.energy(field), torch.zeros(2))
    assert not regularity.force(field).any()


def test_bending_costs_nothing_for_an_affine_field():
    points = voxel_points(5, 6, 7)
    field = (points @ noise(3, 3, dtype=torch.float64)).movedim(-1, 0)[None]
    assert Bending().energy(field).item() == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6)])
def test_diffusion_of_a_linear_field_is_its_squared_slope(shape):
    field = field_of(3.0 * voxel_points(*shape)[..., 1], len(shape))
    num_steps = (shape[1] - 1) / shape[1]
    assert Diffusion(0.5).energy(field).item() == pytest.approx(0.5 * 9 * num_steps)


def test_bending_of_a_quadratic_field_is_its_squared_curvature():
    x, y = voxel_points(6, 7).unbind(-1)
    pure, mixed = field_of(2.0 * x**2, 2), field_of(3.0 * x * y, 2)
    assert Bending().energy(pure).item() == pytest.approx(4.0**2 * (4 * 7) / 42)
    assert Bending().energy(mixed).item() == pytest.approx(2 * 3.0**2 * (5 * 6) / 42)


@every_energy
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5), (1, 5, 6)])
def test_the_force_is_minus_the_derivative_of_the_energy(regularity, shape):
    field = noise(2, len(shape), *shape, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(regularity.energy(field).sum(), field)
    torch.testing.assert_close(regularity.force(field.detach()), -gradient * field[0, 0].numel())


def test_gaussian_smooths_updates_and_fields_in_place():
    regularity = Gaussian(fluid_voxels=1.5, elastic_voxels=0.5)
    update, scratch = noise(1, 3, 6, 7, 8), torch.empty(1, 3, 6, 7, 8)
    for smooth, sigma in ((regularity.smooth_update, 1.5), (regularity.smooth_field, 0.5)):
        copy = update.clone()
        assert smooth(copy, scratch) is copy
        assert torch.equal(copy, gaussian_smooth(update, sigma))
    assert Gaussian(0, 0).smooth_update(update, scratch) is update
    assert Gaussian(0, 0).smooth_field(update, scratch) is update


@pytest.mark.parametrize("kind", [Diffusion, Bending, Gaussian])
def test_negative_weights_are_refused(kind):
    with pytest.raises(ValueError, match="-1"):
        kind(-1.0)


def test_elasticity_relaxes_updates_by_volume_alone_and_fields_by_both():
    field, scratch = noise(1, 3, 6, 7, 8), torch.empty(1, 3, 6, 7, 8)
    regularity = Elasticity(shear=0.05, volume=0.1, fluid_volume=0.2)
    assert torch.equal(regularity.smooth_update(field.clone(), scratch), relax(field, 0.0, 0.2))
    assert torch.equal(regularity.smooth_field(field.clone(), scratch), relax(field, 0.05, 0.1))
    assert Elasticity(0, 0, 0).smooth_field(field, scratch) is field


def test_stiff_bodies_relax_in_several_stable_steps():
    field = gaussian_smooth(noise(1, 3, 16, 16, 16), 1.0)
    spread = [jacobian_determinant(field).std()]
    for stiffness in (1.0, 10.0, 100.0):
        regularity = Elasticity(0.0, 0.1 * stiffness)
        spread.append(jacobian_determinant(regularity.smooth_field(field.clone(), torch.empty_like(field))).std())
    assert spread[0] > spread[1] > spread[2] > spread[3]


def test_elasticity_refuses_weights_below_zero():
    with pytest.raises(ValueError, match="0 or more"):
        Elasticity(volume=-0.1)


@pytest.mark.parametrize("regularity", ENERGIES, ids=lambda regularity: type(regularity).__name__)
def test_energies_are_scaled_so_that_wider_structures_cost_as_much(regularity: AbstractRegularity):
    def wave(width: int) -> torch.Tensor:
        angle = 2 * torch.pi * torch.arange(4 * 64.0) / (16 * width)
        return torch.cos(angle)[None, None, :, None, None].expand(1, 3, -1, 4, 4).contiguous()

    assert float(regularity.scaled(2.0).energy(wave(2))) == pytest.approx(float(regularity.energy(wave(1))), rel=0.05)


def test_widths_are_scaled_as_they_are_and_weights_of_elasticity_by_the_square():
    gaussian, elasticity = Gaussian(1.5, 0.5).scaled(2.0), Elasticity(0.02, 0.05, 0.2).scaled(2.0)
    assert (gaussian.fluid_voxels, gaussian.elastic_voxels) == (3.0, 1.0)
    assert (elasticity.shear, elasticity.volume, elasticity.fluid_volume) == (0.08, 0.2, 0.8)
