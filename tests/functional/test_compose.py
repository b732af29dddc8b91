"""Composing, exponentiating and inverting displacements."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from examples import SHAPES, SHAPES_3D, noise, smooth_noise, voxel_points
from pullback.functional import Inversion, balance_inverse, compose, exponential, gap, invert, jacobian_determinant


def linear_field(matrix: np.ndarray, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """``matrix (x - c)`` on a cube (square) of voxels with centre c, ``(1, D, ...)``."""
    shape = (size,) * len(matrix)
    from_centre = voxel_points(*shape) - (size - 1) / 2
    return (from_centre @ torch.from_numpy(matrix).T).movedim(-1, 0)[None].to(dtype)


def inside(field: Tensor, margin: int) -> Tensor:
    for axis in range(2, field.ndim):
        field = field.narrow(axis, margin, field.shape[axis] - 2 * margin)
    return field


def measured_residual(displacement: Tensor, inverse: Tensor) -> Tensor:
    return torch.linalg.vector_norm(compose(displacement.double(), inverse.double()), dim=1)


# --- composition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_composing_with_zero_changes_no_bit(shape):
    field = 100 * noise(2, len(shape), *shape)
    zero = torch.zeros_like(field)
    assert torch.equal(compose(field, zero), field)
    assert torch.equal(compose(zero, field), field)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(shape):
    outer, inner = noise(2, len(shape), *shape), 1.5 * noise(2, len(shape), *shape, seed=1)
    exact = compose(outer.double(), inner.double())
    torch.testing.assert_close(compose(outer, inner).double(), exact, rtol=0, atol=3e-5)


@pytest.mark.parametrize("shape", [(35, 70, 19), (1, 67, 33), (33, 1, 5), (3, 65, 2), (4, 5, 1)])
@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_small_shifts_agree_with_the_reference_across_tiles_and_at_edges(shape, scale):
    outer, inner = (
        noise(1, 3, *shape),
        (noise(1, 3, *shape, seed=1) / abs(scale)).clamp(-1 / abs(scale), 1 / abs(scale)),
    )
    inner[..., : shape[2] // 2] = 0  # half lines, and whole lines below
    inner[:, :, :, ::3] = 0
    exact = compose(outer.double(), inner.double(), scale=scale)
    torch.testing.assert_close(compose(outer, inner, scale=scale).double(), exact, rtol=0, atol=3e-5)
    torch.testing.assert_close(exact, compose(outer.double(), scale * inner.double()), rtol=0, atol=0)
    large = compose(outer, 40 * inner, scale=scale / 10).double()
    torch.testing.assert_close(large, compose(outer.double(), 4 * scale * inner.double()), rtol=0, atol=3e-5)


def test_what_is_not_a_number_stays_where_it_is():
    outer, inner = noise(1, 3, 6, 7, 8), 0.1 * noise(1, 3, 6, 7, 8, seed=1)
    inner[0, 1, 3, 3, 3] = math.nan
    is_nan = compose(outer, inner).isnan()
    assert is_nan[0, 1, 3, 3, 3]
    assert is_nan.sum() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_linear_fields_compose_as_matrices_the_inner_first(num_dims, dtype):
    first, second = (0.1 * noise(num_dims, num_dims, seed=s, dtype=torch.float64).numpy() for s in (1, 2))
    eye = np.eye(num_dims)
    expected = linear_field((eye + second) @ (eye + first) - eye, 21)
    composed = compose(linear_field(second, 21, dtype), linear_field(first, 21, dtype))
    torch.testing.assert_close(inside(composed, 6).double(), inside(expected, 6), rtol=0, atol=1e-5)


def test_out_is_written():
    outer, inner = noise(1, 3, 4, 5, 6), noise(1, 3, 4, 5, 6, seed=1)
    out = torch.empty_like(inner)
    assert compose(outer, inner, out=out) is out
    assert torch.equal(out, compose(outer, inner))


def test_a_batch_of_two_is_twice_a_batch_of_one():
    outer, inner = noise(2, 3, 4, 5, 6), noise(2, 3, 4, 5, 6, seed=1)
    single = [compose(outer[b : b + 1], inner[b : b + 1]) for b in range(2)]
    assert torch.equal(compose(outer, inner), torch.cat(single))


def test_memory_layout_does_not_matter():
    outer, inner = noise(1, 6, 5, 4, 3).movedim(-1, 1), noise(1, 6, 5, 4, 3, seed=1).movedim(-1, 1)
    assert torch.equal(compose(outer, inner), compose(outer.contiguous(), inner.contiguous()))


def test_gradients_agree_with_the_reference():
    fields = [noise(1, 3, 4, 5, 6), 0.7 * noise(1, 3, 4, 5, 6, seed=1)]
    upstream = noise(1, 3, 4, 5, 6, seed=2)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [f.to(dtype).requires_grad_() for f in fields]
        results.append(torch.autograd.grad((compose(*leaves) * upstream).sum(), leaves))
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 4)])
def test_gradcheck_of_the_reference(shape):
    fields = [0.4 * noise(1, len(shape), *shape, seed=s, dtype=torch.float64).requires_grad_() for s in (1, 2)]
    assert torch.autograd.gradcheck(compose, fields)


# --- exponential -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 7, 8), (6, 7)])
def test_a_constant_velocity_is_a_translation(shape, dtype):
    vector = torch.tensor([1.5, -2.25, 0.7], dtype=dtype)[: len(shape)]
    velocity = vector.reshape(1, -1, *[1] * len(shape)).expand(1, len(shape), *shape)
    torch.testing.assert_close(exponential(velocity), velocity.contiguous(), rtol=0, atol=1e-5)


def error_of_linear_exponential(num_dims: int, num_steps: int, dtype: torch.dtype = torch.float64) -> float:
    generator = 0.3 * noise(num_dims, num_dims, seed=1, dtype=torch.float64).numpy()
    expected = linear_field(linalg.expm(generator) - np.eye(num_dims), 25)
    ours = exponential(linear_field(generator, 25, dtype), num_steps=num_steps)
    return float(inside(ours.double() - expected, 10).abs().max())


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_linear_velocity_is_the_matrix_exponential_with_an_error_of_order_one(num_dims):
    errors = [error_of_linear_exponential(num_dims, num_steps) for num_steps in (4, 5, 6, 7)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2.0, abs=0.1)
    assert errors[-1] < 0.01
    assert error_of_linear_exponential(num_dims, 7, torch.float32) == pytest.approx(errors[-1], abs=2e-5)


@pytest.mark.parametrize("shape", [(24, 24, 24), (36, 36)])
def test_the_exponential_of_minus_v_undoes_it_better_with_every_step(shape):
    velocity = smooth_noise(len(shape), *shape, largest=4.0, sigma=6.0)[None]
    residuals = []
    for num_steps in (1, 2, 3, 4, 7):
        there = exponential(velocity, num_steps=num_steps)
        back = exponential(-velocity, num_steps=num_steps)
        residuals.append(float(inside(compose(there, back), 6).abs().max()))
    assert residuals[1] < 0.6 * residuals[0]
    assert residuals[2] < 0.6 * residuals[1]
    assert residuals[-1] < 0.01  # what linear interpolation leaves


@pytest.mark.parametrize("num_dims", [2, 3])
def test_exp_v_after_exp_minus_v_is_the_identity_to_order_one(num_dims):
    velocity = linear_field(0.3 * noise(num_dims, num_dims, seed=1, dtype=torch.float64).numpy(), 25)
    errors = []
    for num_steps in (4, 5, 6, 7):
        there, back = exponential(velocity, num_steps=num_steps), exponential(-velocity, num_steps=num_steps)
        errors.append(float(inside(compose(there, back), 10).abs().max()))
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2.0, abs=0.1)


def test_no_steps_return_the_velocity():
    velocity = noise(1, 3, 4, 5, 6)
    assert torch.equal(exponential(velocity, num_steps=0), velocity)


def test_a_smooth_velocity_never_folds():
    # As a plain displacement this field folds; its flow does not.
    velocity = smooth_noise(3, 20, 20, 20, largest=7.0, sigma=2.5)[None]
    assert jacobian_determinant(velocity).min() < 0
    assert jacobian_determinant(exponential(velocity))[:, 2:-2, 2:-2, 2:-2].min() > 0


def test_the_exponential_is_differentiable():
    velocity = smooth_noise(2, 5, 6, largest=0.5, dtype=torch.float64)[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: exponential(v, num_steps=2), velocity)


# --- inversion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_is_its_own_inverse(shape):
    zero = torch.zeros(1, len(shape), *shape)
    inverse, inversion = invert(zero)
    assert torch.equal(inverse, zero)
    assert inversion == Inversion(0.0, 0.0)


@pytest.mark.parametrize("shape", [(20, 18, 16), (24, 20), (1, 24, 20)])
def test_smooth_fields_invert_both_ways(shape):
    displacement = smooth_noise(len(shape), *shape, largest=2.0, sigma=3.0)[None]
    inverse, inversion = invert(displacement)
    assert inversion.maximum < 2e-3
    assert inversion.mean <= inversion.maximum
    assert measured_residual(displacement, inverse).max() < 3e-3
    axes = tuple(i for i, n in enumerate(shape) if n > 1)
    round_trip = compose(inverse, displacement)
    for axis in axes:
        round_trip = round_trip.narrow(axis + 2, 4, shape[axis] - 8)
    assert round_trip.abs().max() < 0.1


@pytest.mark.parametrize("largest", [2.0, 9.0])
@pytest.mark.parametrize("shape", [(14, 12, 13), (20, 18)])
def test_the_residual_that_is_reported_is_the_one_measured(shape, largest):
    displacement = smooth_noise(len(shape), *shape, largest=largest, sigma=2.0)[None]
    inverse, inversion = invert(displacement)
    lengths = measured_residual(displacement, inverse)
    assert inversion.maximum == pytest.approx(float(lengths.max()), rel=1e-3, abs=1e-5)
    assert inversion.mean == pytest.approx(float(lengths.mean()), rel=1e-3, abs=1e-5)


def test_a_fold_is_said_and_not_hidden():
    folded = smooth_noise(2, 20, 20, largest=12.0, sigma=2.0)[None]
    assert jacobian_determinant(folded).min() < 0
    assert invert(folded)[1].maximum > 0.05


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_linear_field_has_the_inverse_matrix(num_dims):
    matrix = 0.15 * noise(num_dims, num_dims, seed=2, dtype=torch.float64).numpy()
    eye = np.eye(num_dims)
    inverse, _ = invert(linear_field(matrix, 15, torch.float32), tolerance_voxels=1e-4)
    expected = linear_field(np.linalg.inv(eye + matrix) - eye, 15)
    torch.testing.assert_close(inside(inverse, 4).double(), inside(expected, 4), rtol=0, atol=1e-3)


def test_steep_fields_invert_where_substitution_diverges():
    # x + u = 3 x - c has slope 2: the plain iteration v <- -u(x + v) runs away, the inverse is simply x / 3.
    inverse, inversion = invert(linear_field(2.0 * np.eye(2), 31, torch.float32))
    assert inversion.maximum < 2e-3
    torch.testing.assert_close(inverse.double(), linear_field(-2 / 3 * np.eye(2), 31), rtol=0, atol=2e-3)


def test_a_batch_is_inverted_one_by_one():
    displacement = smooth_noise(6, 9, 10, 11, largest=1.5).reshape(2, 3, 9, 10, 11)
    both, quality = invert(displacement)
    singles = [invert(displacement[b : b + 1]) for b in range(2)]
    assert torch.equal(both, torch.cat([inverse for inverse, _ in singles]))
    assert quality.maximum == max(q.maximum for _, q in singles)
    assert math.isclose(quality.mean, sum(q.mean for _, q in singles) / 2, rel_tol=1e-6)


@pytest.mark.parametrize("shape", SHAPES_3D[:4])
def test_memory_layout_does_not_matter_to_the_inverse(shape):
    displacement = 0.2 * noise(1, *shape, 3).movedim(-1, 1)
    assert torch.equal(invert(displacement)[0], invert(displacement.contiguous())[0])


# --- how well an inverse undoes --------------------------------------------------------------------------------------


def test_the_gap_is_the_length_of_the_composition():
    outer, inner = noise(2, 3, 5, 6, 7), 1.5 * noise(2, 3, 5, 6, 7, seed=1)
    expected = torch.linalg.vector_norm(compose(outer, inner), dim=1, keepdim=True)
    torch.testing.assert_close(gap(outer, inner), expected)
    torch.testing.assert_close(gap(outer.double(), inner.double()).float(), expected, rtol=0, atol=1e-4)


def test_inverting_goes_on_from_a_start():
    field = smooth_noise(1, 3, 20, 21, 22, largest=2.0)
    exact, _ = invert(field)
    assert torch.equal(invert(field, start=exact)[0], exact)
    other, quality = invert(1.02 * field, start=exact)
    torch.testing.assert_close(other, invert(1.02 * field)[0], rtol=0, atol=3e-3)
    assert quality.maximum < 1e-3


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_balanced_inverse_errs_less_on_the_whole(num_dims):
    field = smooth_noise(num_dims, *(30,) * num_dims, largest=1.0, sigma=2.5)[None]
    for axis in range(2, 2 + num_dims):
        for end in (0, -1):
            field.select(axis, end).zero_()
    exact, _ = invert(field)
    balanced = balance_inverse(field, exact)
    errors = [[float(gap(v, field).mean()), float(gap(field, v).mean())] for v in (exact, balanced)]
    assert max(errors[1]) < 0.75 * max(errors[0])
    assert sum(errors[1]) < 1.25 * sum(errors[0])
