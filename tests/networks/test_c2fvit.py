"""C2FViT: its map against the product of its factors, centres of mass, stages of one lattice of tokens."""

import math

import numpy as np
import pytest
import torch

from examples import noise
from pullback import functional, networks
from pullback.networks import affine
from pullback.networks.c2fvit import C2FViT, Stage, centre_of_mass, matrix_of


def build(**settings) -> C2FViT:
    torch.manual_seed(0)
    return networks.build("c2fvit", **{"start_channels": 8, "head_std": 0.05} | settings).eval()


def test_the_matrix_is_the_product_of_its_factors():
    numbers = 0.5 * noise(1, 12, seed=1).tanh()
    centre, shape = torch.tensor([[3.0, 5.0, 2.0]]), (16, 24, 32)
    t, angles, stretches, shears = (part[0].double().numpy() for part in numbers.split([3, 3, 3, 3], dim=1))
    move, to, scale, shear = np.eye(4), np.eye(4), np.diag([*(1 + 0.5 * stretches), 1]), np.eye(4)
    move[:3, 3], to[:3, 3] = t * np.array(shape) / 2, centre[0].numpy()
    shear[[0, 0, 1], [1, 2, 2]] = math.pi * shears
    turn = np.eye(4)
    turn[:3, :3] = affine.rotations(math.pi * torch.from_numpy(angles[None]).float(), 3)[0].numpy()
    expected = to @ shear @ scale @ turn @ np.linalg.inv(to) @ move
    np.testing.assert_allclose(matrix_of(numbers, shape, centre)[0].numpy(), expected, atol=1e-4)


def test_centres_of_mass():
    image = torch.full((3, 1, 6, 8, 10), -2.0)
    image[0, 0, 1, 2, 3] = 5.0
    image[1, 0, 0, 0, 0] = image[1, 0, 4, 6, 8] = 1.0
    expected = torch.tensor([[1.0, 2, 3], [2, 3, 4], [2.5, 3.5, 4.5]])
    torch.testing.assert_close(centre_of_mass(image), expected)


def test_centring_brings_a_shifted_image_back():
    moving = torch.zeros(2, 1, 16, 16)
    moving[0, 0, 4:7, 5:9] = 1.0
    moving[1, 0, 9:12, 3:7] = 1.0
    fixed = torch.zeros(2, 1, 16, 16)
    fixed[:, 0, 6:9, 6:10] = 1.0
    network = build(num_dims=2, is_centred=True, head_std=1e-6)
    with torch.no_grad():
        state = network(fixed, moving)
    torch.testing.assert_close(state["matrix"][:, :2, 2], torch.tensor([[-2.0, -1.0], [3.0, -3.0]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(functional.warp(moving, state["displacement"]), fixed, atol=1e-2, rtol=0)


@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_every_stage_has_the_same_tokens(num_stages):
    network = build(num_stages=num_stages)
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda layer, inputs, outputs: seen.append(outputs[0].shape))
    with torch.no_grad():
        network(noise(1, 1, 16, 24, 16), noise(1, 1, 16, 24, 16, seed=1))
    assert seen == [(1, 8, 2, 3, 2)] * num_stages


def test_the_kernels_of_the_paper():
    with torch.device("meta"):
        stages = networks.build("c2fvit").stages
    assert [stage.embed.kernel_size for stage in stages] == [(3,) * 3, (7,) * 3, (15,) * 3]
    assert [stage.embed.stride for stage in stages] == [(2,) * 3, (4,) * 3, (8,) * 3]
    assert all(isinstance(stage, Stage) and stage.embed.out_channels == 256 for stage in stages)


def test_the_displacement_is_the_matrix_s():
    with torch.no_grad():
        state = build()(noise(2, 1, 16, 24, 16), noise(2, 1, 16, 24, 16, seed=1))
    torch.testing.assert_close(state["displacement"], affine.displacement_of(state["matrix"], (16, 24, 16)))
