"""Spatial derivatives: Jacobian determinants, forces, and the derivative by an affine matrix."""

import numpy as np
import pytest
import torch
from torch import Tensor

from examples import SHAPES, SHAPES_3D, noise, voxel_points
from pullback.functional import (
    affine_derivative,
    jacobian_determinant,
    largest_length,
    multiply_by_gradient,
    reference,
    relax,
)


def linear_field(matrix: np.ndarray, *shape: int) -> Tensor:
    return (voxel_points(*shape) @ torch.from_numpy(matrix).T).movedim(-1, 0)[None]


# --- Jacobian determinants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_no_displacement_changes_no_volume(shape):
    assert torch.equal(jacobian_determinant(torch.zeros(2, len(shape), *shape)), torch.ones(2, *shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 6, 7), (2, 2, 2), (5, 6)])
def test_a_linear_field_has_the_determinant_of_its_matrix_up_to_the_edges(shape, dtype):
    num_dims = len(shape)
    matrix = 0.3 * noise(num_dims, num_dims, seed=2, dtype=torch.float64).numpy()
    expected = torch.full((1, *shape), float(np.linalg.det(np.eye(num_dims) + matrix)), dtype=dtype)
    torch.testing.assert_close(jacobian_determinant(linear_field(matrix, *shape).to(dtype)), expected)


def test_expansion_is_above_one_and_a_fold_below_zero():
    grow, fold = (linear_field(np.diag([s, 0.0, 0.0]), 4, 4, 4).float() for s in (1.0, -1.5))
    assert (jacobian_determinant(grow) == 2).all()
    assert (jacobian_determinant(fold) == -0.5).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(shape):
    displacement = 0.5 * noise(2, len(shape), *shape)
    exact = jacobian_determinant(displacement.double())
    torch.testing.assert_close(jacobian_determinant(displacement).double(), exact, rtol=0, atol=1e-5)


def test_a_batch_of_two_is_twice_a_batch_of_one():
    displacement = noise(2, 3, 4, 5, 6)
    single = [jacobian_determinant(displacement[b : b + 1]) for b in range(2)]
    assert torch.equal(jacobian_determinant(displacement), torch.cat(single))


def test_memory_layout_does_not_matter():
    displacement = noise(1, 6, 5, 4, 3).movedim(-1, 1)
    assert torch.equal(jacobian_determinant(displacement), jacobian_determinant(displacement.contiguous()))


@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 4)])
def test_gradcheck(shape):
    displacement = noise(1, len(shape), *shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(jacobian_determinant, displacement)


# --- forces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES_3D)
def test_the_force_kernel_agrees_with_the_reference(shape):
    values, image = noise(2, 1, *shape), noise(2, 1, *shape, seed=1)
    exact = multiply_by_gradient(values.double(), image.double())
    torch.testing.assert_close(multiply_by_gradient(values, image).double(), exact, rtol=0, atol=2e-6)


def test_the_force_on_a_ramp_is_its_slope_times_the_values():
    slopes = torch.tensor([2.0, -3.0, 5.0])
    ramp = (voxel_points(6, 7, 8).float() @ slopes)[None, None]
    values = noise(1, 1, 6, 7, 8)
    force = multiply_by_gradient(values, ramp)[..., 1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(force, (values * slopes.reshape(1, 3, 1, 1, 1))[..., 1:-1, 1:-1, 1:-1])


def test_the_force_points_up_the_way_a_warp_grows():
    """Moving the samples along the force raises the sum of ``values * warped``: the sign that registration needs."""
    image = torch.exp(-0.05 * (voxel_points(12, 12, 12) - 5.5).square().sum(-1)).float()[None, None]
    values = noise(1, 1, 12, 12, 12)
    force = multiply_by_gradient(values, image)
    step = 1e-2
    ahead = (reference.warp(image, step * force, np.eye(4)[:3], None) * values).sum()
    assert (ahead - (image * values).sum()) / step == pytest.approx(float(force.square().sum()), rel=0.15)


def test_the_force_is_written_to_out():
    values, image = noise(2, 1, 4, 5, 6), noise(1, 4, 5, 6, 2).movedim(-1, 0)
    out = torch.empty(2, 3, 4, 5, 6)
    assert multiply_by_gradient(values, image, out=out) is out
    assert torch.equal(out, multiply_by_gradient(values, image.contiguous()))


@pytest.mark.parametrize("shape", SHAPES_3D)
def test_the_longest_vector_is_found(shape):
    field = noise(2, 3, *shape)
    expected = float(torch.linalg.vector_norm(field.double(), dim=1).max())
    assert largest_length(field) == pytest.approx(expected, rel=1e-6)
    assert largest_length(field.double()) == pytest.approx(expected, rel=1e-12)


# --- elasticity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES_3D, (35, 67, 9), (6, 7)])  # one of more lines and planes than a task
def test_relaxing_agrees_with_the_reference(shape):
    field = noise(2, len(shape), *shape)
    exact = relax(field.double(), 0.06, 0.1)
    torch.testing.assert_close(relax(field, 0.06, 0.1).double(), exact, rtol=0, atol=2e-6)
    out = torch.empty_like(field)
    assert relax(field, 0.06, 0.1, out=out) is out
    assert torch.equal(out, relax(field, 0.06, 0.1))


def test_relaxing_a_quadratic_field_adds_its_curvature():
    """Laplacian and gradient of the divergence of (x^2 + x y, 0, y z) are (2, 0, 0) and (2, 1 + 1, 0)."""
    x, y, z = voxel_points(5, 6, 7).unbind(-1)
    field = torch.stack([x**2 + x * y, torch.zeros_like(x), y * z])[None]
    change = (relax(field, 0.5, 0.25) - field)[0, :, 1:-1, 1:-1, 1:-1]
    for c, expected in enumerate((0.5 * 2 + 0.25 * 2, 0.25 * 2, 0.0)):
        torch.testing.assert_close(change[c], torch.full_like(change[c], expected))


def test_relaxing_leaves_translations_turns_and_shears_alone():
    matrix = torch.tensor([[0.0, 0.3, -0.2], [-0.3, 0.0, 0.5], [0.7, -0.5, 0.0]], dtype=torch.float64)
    field = ((voxel_points(5, 6, 7) @ matrix.T).movedim(-1, 0) + 2.0)[None]
    inside = (..., *[slice(1, -1)] * 3)
    torch.testing.assert_close(relax(field, 0.1, 0.2)[inside], field[inside])


# --- derivative by an affine matrix ----------------------------------------------------------------------------------


def derivative_by_autograd(moving: Tensor, matrix: np.ndarray, values: Tensor) -> np.ndarray:
    leaf = torch.from_numpy(matrix).requires_grad_()
    positions = voxel_points(*values.shape[2:]) @ leaf[:, :3].T + leaf[:, 3]
    sampled = reference.sample_linear(moving.double(), positions.movedim(-1, 0)[None], None)
    (gradient,) = torch.autograd.grad((values.double() * sampled).sum(), leaf)
    return gradient.numpy()


def test_the_affine_derivative_is_that_of_the_interpolant():
    moving, values = noise(1, 1, 20, 21, 22), noise(1, 1, 7, 8, 9, seed=1)
    matrix = np.eye(4)[:3] + 0.05 * noise(3, 4, seed=2, dtype=torch.float64).numpy()
    matrix[:, 3] += 6
    expected = derivative_by_autograd(moving, matrix, values)
    np.testing.assert_allclose(affine_derivative(moving, matrix, values), expected, rtol=1e-5, atol=1e-3)


def test_positions_outside_do_not_pull_on_the_matrix():
    moving, values = noise(1, 1, 6, 6, 6), noise(1, 1, 6, 6, 6, seed=1)
    far = np.eye(4)[:3].copy()
    far[0, 3] = 50
    assert not affine_derivative(moving, far, values).any()
    half_out = np.eye(4)[:3] + 0.01
    half_out[2, 3] = 2.3
    positions = voxel_points(6, 6, 6).numpy() @ half_out[:, :3].T + half_out[:, 3]
    inside = torch.from_numpy(((positions >= 0) & (positions <= 5)).all(axis=-1))
    expected = derivative_by_autograd(moving, half_out, values * inside)
    np.testing.assert_allclose(affine_derivative(moving, half_out, values), expected, rtol=1e-5, atol=1e-4)
