"""Convolution, ReLU and pooling in one: what three layers give, values and derivatives."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from examples import noise
from pullback.functional import pooled_convolution


def object_in_zeros(*shape: int) -> Tensor:
    """Noise in a part of images that are zero elsewhere, ``(2, 1, *shape)``."""
    image = torch.zeros(2, 1, *shape)
    inside = tuple(slice(n // 3, n // 2 + 1) for n in shape)
    image[(slice(None), slice(None), *inside)] = noise(2, 1, *(s.stop - s.start for s in inside))
    return image


def layers(num_inputs: int, num_outputs: int, num_dims: int = 3) -> tuple[Tensor, Tensor]:
    weight = 0.3 * noise(num_outputs, num_inputs, *[3] * num_dims, seed=5)
    return weight, torch.linspace(-0.5, 0.5, num_outputs)


def in_three_steps(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return nnf.max_pool3d(nnf.relu(nnf.conv3d(image, weight, bias, padding=1)), 2)


IMAGES = {
    "noise": noise(2, 1, 8, 6, 10),
    "three channels": noise(2, 3, 4, 6, 20, seed=1),
    "object in zeros": object_in_zeros(12, 8, 40),
    "zeros": torch.zeros(1, 1, 4, 4, 4),
    "two voxels": noise(1, 1, 2, 2, 2, seed=2),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
def test_it_is_three_layers_and_so_are_its_derivatives(image):
    leaves = [image.clone(), *layers(image.shape[1], 4)]
    for leaf in leaves:
        leaf.requires_grad_()
    found, expected = pooled_convolution(*leaves), in_three_steps(*leaves)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    upstream = noise(*found.shape, seed=7)
    derivatives = torch.autograd.grad(found, leaves, upstream)
    for one, other in zip(derivatives, torch.autograd.grad(expected, leaves, upstream), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_an_image_without_derivative_gets_none():
    weight, bias = (leaf.requires_grad_() for leaf in layers(1, 2))
    pooled_convolution(IMAGES["noise"], weight, bias).sum().backward()
    assert weight.grad is not None
    assert IMAGES["noise"].grad is None


def test_two_dimensions_and_double_precision_take_the_layers_of_torch():
    plane, (weight, bias) = noise(2, 1, 6, 8), layers(1, 3, num_dims=2)
    assert pooled_convolution(plane, weight, bias).shape == (2, 3, 3, 4)
    wide = [tensor.double() for tensor in (IMAGES["noise"], *layers(1, 3))]
    torch.testing.assert_close(pooled_convolution(*wide), in_three_steps(*wide))


def test_nan_is_not_hidden():
    image = noise(1, 1, 4, 4, 4)
    image[0, 0, 1, 1, 1] = torch.nan
    assert pooled_convolution(image, *layers(1, 2))[:, :, 0, 0, 0].isnan().all()


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match=r"`image` has spatial shape \(4, 5, 4\).*even sizes"):
        pooled_convolution(torch.zeros(1, 1, 4, 5, 4), *layers(1, 2))
