"""Multiply-adds against counts by hand."""

import pytest
import torch
from torch import Tensor, nn

from pullback import networks
from pullback.networks import AbstractNetwork, State


class Counted(AbstractNetwork):
    """A strided convolution, a transposed one, and a linear layer over channels."""

    def __init__(self) -> None:
        super().__init__(num_dims=2, num_channels=1, multiple=2)
        self.down = nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.last = nn.Linear(5, 2)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        features = self.up(self.down(torch.cat([fixed, moving], dim=1)))
        return {"displacement": self.last(features.movedim(1, -1)).movedim(-1, 1)}


@pytest.mark.parametrize("shape", [(8, 10), (7, 9)])
def test_counts_by_hand(shape):
    cost = networks.measure_cost(Counted(), shape)
    assert cost.multiply_adds == 4 * 5 * 6 * 9 * 1 + 4 * 5 * 6 * 5 * 4 + 8 * 10 * 5 * 2
    assert cost.parameters == (6 * 9 + 6) + (6 * 5 * 4 + 5) + (10 + 2)
    assert cost.shape == shape


def test_measuring_leaves_the_network_as_it_is():
    network = networks.build("voxelmorph", num_dims=2, encoder=[2, 2], decoder=[2, 2])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    networks.measure_cost(network, (16, 16))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match="2-D"):
        networks.measure_cost(network, (16, 16, 16))


def test_fourier_net_computes_at_most_a_third_of_its_control():
    costs = {}
    for name in ("fourier-net", "unet-control"):
        with torch.device("meta"):
            costs[name] = networks.measure_cost(networks.build(name), (160, 192, 224)).multiply_adds
    assert costs["fourier-net"] < costs["unet-control"] / 3


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_lattice_of_one_token_has_costs_and_trains(num_dims: int):
    small = {"start_channels": 1, "width": 4, "depth": 1, "num_heads": 2, "hidden": 4}
    network = networks.build("vit-v-net", num_dims=num_dims, **small)
    assert networks.measure_cost(network, (32,) * num_dims).multiply_adds > 0
    assert all(module.training for module in network.modules())
    pair = torch.rand(2, 1, 1, *[32] * num_dims)
    assert bool(network(*pair)["displacement"].isfinite().all())
