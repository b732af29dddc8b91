"""NICE-Trans: levels that compose, and the affine map alone."""

import pytest
import torch

from examples import noise
from pullback import networks
from pullback.networks import affine, composition
from pullback.networks.parametrisation import resize_field


def build(**settings) -> networks.AbstractNetwork:
    torch.manual_seed(0)
    return networks.build("nice-trans", **{"start_channels": 4, "head_std": 0.05} | settings).eval()


@pytest.mark.parametrize("num_dims", [2, 3])
def test_two_levels_are_the_affine_map_and_what_is_added(num_dims):
    shape = (16, 8, 8)[:num_dims]
    with torch.no_grad():
        state = build(num_dims=num_dims, num_stages=2)(noise(1, 1, *shape), noise(1, 1, *shape, seed=1))
    (added,) = state["levels"]
    expected = composition.compose(affine.displacement_of(state["matrix"], shape), added)
    torch.testing.assert_close(state["displacement"], expected)


def test_three_levels_compose_coarse_to_fine():
    shape = (32, 24)
    network = build(num_dims=2, num_stages=3)
    found = []
    for level in network.levels:
        level.register_forward_hook(lambda layer, inputs, outputs: found.append(outputs[1]))
    with torch.no_grad():
        state = network(noise(2, 1, *shape), noise(2, 1, *shape, seed=1))
    half = affine.displacement_of(affine.on_coarse(state["matrix"], 2), (16, 12))
    known = resize_field(composition.compose(half, found[0]), shape)
    torch.testing.assert_close(state["displacement"], composition.compose(known, found[1]))
    assert [level.shape for level in state["levels"]] == [(2, 2, *shape)] * 2


def test_every_parameter_of_three_levels_gets_a_gradient():
    network = build(num_dims=2, num_stages=3).train()
    network(noise(1, 1, 48, 32), noise(1, 1, 48, 32, seed=1))["displacement"].sin().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_the_affine_map_alone():
    network = build(num_dims=2, is_deformable=False, num_stages=3)
    with torch.no_grad():
        state = network(noise(2, 1, 16, 16), noise(2, 1, 16, 16, seed=1))
    assert set(state) == {"matrix", "displacement"}
    assert torch.equal(state["displacement"], affine.displacement_of(state["matrix"], (16, 16)))


def test_the_heads_of_the_paper():
    with torch.device("meta"):
        network = networks.build("nice-trans")
    parts = [network.coarse, *(level.look for level in network.levels[:-1])]
    assert [part.blocks[0].attention.num_heads for part in parts] == [16, 8, 4, 2]
    assert network.affine_head[0].in_features == 256
