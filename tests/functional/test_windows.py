"""Local correlation: against loops over windows, and the kernel against the plain PyTorch path."""

import itertools

import pytest
import torch
from torch import Tensor

from examples import SHAPES, noise
from pullback.functional import local_correlation

NOISE = 1e-2


def soft_mask(*shape: int, seed: int = 9) -> Tensor:
    """Weights of which a third are 0 and a third 1."""
    return (noise(*shape, seed=seed) + 0.5).clamp(0, 1)


def by_windows(
    fixed: Tensor, warped: Tensor, weights: Tensor, radius: int, noise: float, squared: bool, contrast: float
) -> Tensor:
    """The definition, window by window, for volumes ``(I, J, K)`` in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for centre in itertools.product(*(range(n) for n in fixed.shape)):
        box = tuple(slice(max(c - radius, 0), c + radius + 1) for c in centre)
        f, w, m = fixed[box], warped[box], weights[box]
        count = m.sum().clamp(min=1.0)
        mean_f, mean_w = (m * f).sum() / count, (m * w).sum() / count
        clean_var_f = ((m * f * f).sum() / count - mean_f**2).clamp(min=0)
        var_f = clean_var_f + noise
        var_w = ((m * w * w).sum() / count - mean_w**2).clamp(min=0) + noise
        covariance = (m * f * w).sum() / count - mean_f * mean_w + (noise if contrast else 0)
        correlation = covariance**2 / (var_f * var_w) if squared else covariance / (var_f * var_w).sqrt()
        counts = clean_var_f / (clean_var_f + contrast) if contrast else 1.0
        total = total + weights[centre] * correlation * counts
    return total / weights.sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("radius", "squared", "contrast"),
    [(1, True, 0.0), (2, True, 0.0), (2, False, 0.0), (3, True, 0.0), (2, True, 0.7), (2, False, 0.3), (1, True, 2.0)],
)
def test_value_and_gradient_are_those_of_a_loop_over_windows(radius, squared, contrast, weighted):
    """With windows that count by contrast the noise is shared too."""
    fixed, warped = noise(7, 8, 9), noise(7, 8, 9, seed=1)
    warped = 0.6 * fixed + 0.8 * warped
    weights = soft_mask(7, 8, 9) if weighted else torch.ones(7, 8, 9)
    leaf = warped.double().requires_grad_()
    expected = by_windows(fixed.double(), leaf, weights.double(), radius, NOISE, squared, contrast)
    (slope,) = torch.autograd.grad(expected, leaf)
    value, gradient = local_correlation(
        fixed[None, None],
        warped[None, None],
        weights[None, None] if weighted else None,
        radius_voxels=radius,
        noise=NOISE,
        noise_is_shared=contrast > 0,
        contrast=contrast,
        squared=squared,
    )
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(gradient[0, 0].double(), slope, rtol=0, atol=1e-6 * float(slope.abs().max()) + 1e-9)


@pytest.mark.parametrize("contrast", [0.0, 0.3])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("radius", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(shape, radius, weighted, squared, contrast):
    fixed, warped = noise(2, 2, *shape), noise(2, 2, *shape, seed=1)
    weights = soft_mask(2, 1, *shape) if weighted else None
    settings = {"radius_voxels": radius, "noise": NOISE, "squared": squared, "contrast": contrast}
    value, gradient = local_correlation(fixed, warped, weights, **settings)
    exact_value, exact = local_correlation(
        fixed.double(), warped.double(), None if weights is None else weights.double(), **settings
    )
    assert gradient.shape == warped.shape
    torch.testing.assert_close(value, exact_value, rtol=0, atol=1e-5)
    tolerance = 2e-5 * float(exact.abs().max()) + 1e-5 / fixed[0].numel()
    torch.testing.assert_close(gradient.double(), exact, rtol=0, atol=tolerance)


def test_weights_of_one_are_no_weights():
    fixed, warped = noise(1, 2, 6, 7, 8), noise(1, 2, 6, 7, 8, seed=1)
    plain = local_correlation(fixed, warped)
    weighted = local_correlation(fixed, warped, torch.ones(1, 1, 6, 7, 8))
    for a, b in zip(plain, weighted, strict=True):
        torch.testing.assert_close(a, b)


def test_a_batch_of_two_is_twice_a_batch_of_one():
    fixed, warped, weights = noise(2, 2, 6, 7, 8), noise(2, 2, 6, 7, 8, seed=1), soft_mask(2, 1, 6, 7, 8)
    single = [local_correlation(fixed[b : b + 1], warped[b : b + 1], weights[b : b + 1]) for b in range(2)]
    value, gradient = local_correlation(fixed, warped, weights)
    assert torch.equal(value, torch.cat([v for v, _ in single]))
    assert torch.equal(gradient, torch.cat([g for _, g in single]))


def test_memory_layout_and_out_do_not_matter():
    fixed, warped = noise(1, 8, 7, 6, 1).movedim(-1, 1).transpose(2, 4), noise(1, 1, 6, 7, 8, seed=1).flip(3)
    value, gradient = local_correlation(fixed.contiguous(), warped.contiguous())
    out = torch.empty(1, 1, 6, 7, 8)
    again, written = local_correlation(fixed, warped, out=out)
    assert written is out
    assert torch.equal(again, value)
    assert torch.equal(written, gradient)


def test_tasks_of_many_planes_meet_without_a_seam():
    """The kernel cuts the first axis into tasks; turning the axes around must give the same numbers."""
    fixed, warped = noise(1, 1, 70, 5, 6), noise(1, 1, 70, 5, 6, seed=1)
    value, gradient = local_correlation(fixed, warped, radius_voxels=3)
    turned_value, turned = local_correlation(fixed.transpose(2, 4), warped.transpose(2, 4), radius_voxels=3)
    torch.testing.assert_close(value, turned_value)
    torch.testing.assert_close(gradient, turned.transpose(2, 4), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("shared", [False, True])
def test_windows_without_the_fixed_image_that_do_not_count_are_left_out_exactly(shared):
    """Whatever the moving image shows there."""
    fixed, warped = noise(1, 1, 20, 21, 40), noise(1, 1, 20, 21, 40, seed=1)
    fixed[:, :, :, :12] = 0
    fixed[..., 25:] = 0
    settings = {"noise_is_shared": shared, "contrast": 0.3}
    value, gradient = local_correlation(fixed, warped, **settings)
    exact_value, exact = local_correlation(fixed.double(), warped.double(), **settings)
    torch.testing.assert_close(value, exact_value, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), exact, rtol=0, atol=2e-5 * float(exact.abs().max()))
    assert torch.equal(gradient[:, :, :, :8], torch.zeros_like(gradient[:, :, :, :8]))


def test_windows_without_the_fixed_image_count_where_the_noise_is_shared():
    """There the moving image should show nothing either."""
    fixed, warped = noise(1, 1, 20, 21, 40), noise(1, 1, 20, 21, 40, seed=1)
    fixed[:, :, :, :12] = 0
    value, gradient = local_correlation(fixed, warped, noise_is_shared=True, noise=NOISE)
    exact_value, exact = local_correlation(fixed.double(), warped.double(), noise_is_shared=True, noise=NOISE)
    torch.testing.assert_close(value, exact_value, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact, rtol=0, atol=2e-5 * float(exact.abs().max()))
    assert float(gradient[:, :, :, :8].abs().max()) > 0
