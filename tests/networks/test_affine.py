"""Affine maps of networks: matrices, displacements and the closed-form fit against numbers known beforehand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from examples import noise
from pullback.networks import affine

SHAPES = [(5, 7), (5, 6, 7)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])


def matrices(num_dims: int, batch: int = 3, seed: int = 0) -> Tensor:
    """Voxel matrices far from the identity."""
    result = torch.eye(num_dims + 1).repeat(batch, 1, 1)
    result[:, :-1] += 0.3 * noise(batch, num_dims, num_dims + 1, seed=seed)
    return result


def voxels(shape: tuple[int, ...]) -> Tensor:
    """``(D, *shape)``."""
    return torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij"))


@every_shape
def test_displacements_are_the_matrices(shape):
    given = matrices(len(shape))
    points = torch.cat([voxels(shape).flatten(1), torch.ones(1, math.prod(shape))])
    expected = (given @ points)[:, :-1].unflatten(2, shape) - voxels(shape)
    torch.testing.assert_close(affine.displacement_of(given, shape), expected, rtol=1e-5, atol=1e-5)


@every_shape
def test_the_identity_moves_nothing_to_the_bit(shape):
    d = len(shape)
    still = affine.matrix_about(torch.eye(d)[None], torch.zeros(1, d), torch.full((d,), 100.3))
    assert torch.equal(still, torch.eye(d + 1)[None])
    assert not affine.displacement_of(still, shape).any()


@every_shape
def test_a_map_about_a_point_keeps_that_point(shape):
    d = len(shape)
    centre, linear = noise(2, d, seed=1), matrices(d, 2)[:, :-1, :-1]
    matrix = affine.matrix_about(linear, torch.zeros(2, d), centre)
    moved = (matrix[:, :-1, :-1] @ centre[:, :, None])[..., 0] + matrix[:, :-1, -1]
    torch.testing.assert_close(moved, centre)
    torch.testing.assert_close(affine.product(linear, linear), linear @ linear)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_factors_are_what_they_say(num_dims):
    planes = num_dims * (num_dims - 1) // 2
    angles, scales = noise(4, planes, seed=2), noise(4, num_dims, seed=3).exp()
    shears = noise(4, planes, seed=4)
    still, ones, none = torch.zeros_like(angles), torch.ones_like(scales), torch.zeros_like(shears)
    turn = affine.linear_of_factors(angles, ones, none)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(num_dims).expand(4, -1, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(affine.linear_of_factors(still, scales, none), torch.diag_embed(scales))
    shear = affine.linear_of_factors(still, ones, shears)
    torch.testing.assert_close(shear[:, 0, 1], shears[:, 0])
    assert torch.equal(shear.tril(-1), torch.zeros_like(shear))
    whole = affine.linear_of_factors(angles, scales, shears)
    torch.testing.assert_close(whole, shear @ torch.diag_embed(scales) @ turn)
    torch.testing.assert_close(torch.linalg.det(whole), scales.prod(1))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_map_in_voxels_of_a_coarser_lattice(factor):
    matrix = matrices(3, 1)
    scale = np.diag([factor] * 3 + [1.0])
    scale[:-1, -1] = (factor - 1) / 2
    expected = np.linalg.inv(scale) @ matrix[0].double().numpy() @ scale
    np.testing.assert_allclose(affine.on_coarse(matrix, factor)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_fit_finds_the_map_of_exact_matches(num_dims):
    true = matrices(num_dims, 2)
    points = 8 * noise(40, num_dims, seed=5)
    homogeneous = torch.cat([points, torch.ones(40, 1)], dim=1)
    offsets = (true @ homogeneous.T)[:, :-1] - points.T
    weights = noise(2, 40, seed=6).abs()
    found = affine.fit(points, offsets, weights / weights.sum(1, keepdim=True), ridge=1e-6)
    torch.testing.assert_close(found, true, atol=1e-4, rtol=1e-4)


def test_matches_in_a_plane_leave_the_rest_as_it_is():
    points = noise(20, 3, seed=7)
    points[:, 2] = 4.0
    offsets = torch.stack([torch.full((1, 20), value) for value in (2.0, 0.0, -1.0)], dim=1)
    found = affine.fit(points, offsets, torch.full((1, 20), 1 / 20), ridge=1.0)
    expected = torch.eye(4)[None].clone()
    expected[0, :3, 3] = torch.tensor([2.0, 0.0, -1.0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_points_about_another_origin(num_dims):
    matrix, centre = matrices(num_dims, 2), noise(num_dims, seed=8)
    there = torch.eye(num_dims + 1)
    there[:-1, -1] = centre
    torch.testing.assert_close(affine.translated(matrix, centre), torch.linalg.inv(there) @ matrix @ there)
    assert affine.origin_of((5, 8), "middle", centre).tolist() == [2, 3.5]
    assert affine.origin_of((5, 8), "corner", centre).tolist() == [0, 0]
