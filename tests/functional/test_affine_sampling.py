"""Images seen through matrices: what the map's displacement gives, and derivatives by the matrix."""

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback.functional import warp, warp_by_matrix
from pullback.networks.affine import displacement_of

SHAPE = (9, 8, 12)


def maps(strength: float, *, num_dims: int = 3) -> Tensor:
    """Two maps near the identity, far from any symmetry, ``(2, D + 1, D + 1)``."""
    matrix = torch.eye(num_dims + 1).repeat(2, 1, 1)
    matrix[:, :-1] += strength * noise(2, num_dims, num_dims + 1, seed=3)
    return matrix


def images(kind: str) -> Tensor:
    """Two images of two channels: noise up to the edges, or an object in the middle of zeros."""
    image = noise(2, 2, *SHAPE)
    if kind == "object":
        around = torch.zeros(SHAPE)
        around[3:6, 2:5, 4:9] = 1
        image = image * around
    return image


@pytest.mark.parametrize("kind", ["noise", "object"])
@pytest.mark.parametrize("strength", [0.0, 0.02, 0.3])
def test_it_is_what_the_displacement_gives(kind, strength):
    found = warp_by_matrix(images(kind), maps(strength))
    expected = warp(images(kind), displacement_of(maps(strength), SHAPE))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_the_identity_changes_no_bit():
    assert torch.equal(warp_by_matrix(images("noise"), maps(0.0)), images("noise"))


@pytest.mark.parametrize("kind", ["noise", "object"])
@pytest.mark.parametrize("strength", [0.02, 0.3])
def test_derivatives_are_those_of_the_plain_path(kind, strength):
    upstream = noise(2, 2, *SHAPE, seed=8)
    matrix, wide = maps(strength).requires_grad_(), maps(strength).double().requires_grad_()
    (found,) = torch.autograd.grad(warp_by_matrix(images(kind), matrix), matrix, upstream)
    (expected,) = torch.autograd.grad(warp_by_matrix(images(kind).double(), wide), wide, upstream.double())
    torch.testing.assert_close(found.double(), expected, atol=1e-2, rtol=1e-3)
    assert not found[:, 3].any()


def test_two_dimensions():
    image, matrix = noise(2, 1, 7, 9), maps(0.1, num_dims=2)
    expected = warp(image, displacement_of(matrix, (7, 9)))
    torch.testing.assert_close(warp_by_matrix(image, matrix), expected, atol=2e-5, rtol=1e-5)


def test_an_empty_image_stays_empty():
    matrix = maps(0.1).requires_grad_()
    warped = warp_by_matrix(torch.zeros(2, 1, *SHAPE), matrix)
    (derivative,) = torch.autograd.grad(warped.sum(), matrix)
    assert not warped.any()
    assert not derivative.any()


def test_a_matrix_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="`matrix` holds NaN"):
        warp_by_matrix(images("noise"), torch.full((2, 4, 4), torch.nan))
