"""im2grid: an encoder that sees one image at a time, five levels or four, and a start that is the identity."""

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import functional, networks
from pullback.networks import AbstractNetwork


def small(name: str = "im2grid", num_dims: int = 2, **settings) -> AbstractNetwork:
    torch.manual_seed(0)
    return networks.build(name, num_dims=num_dims, start_channels=2, **settings)


def watched(network: AbstractNetwork, fixed: Tensor, moving: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
    """What went into the encoder and what came out, call by call."""
    calls = []
    hook = network.encoder.register_forward_hook(lambda _, given, made: calls.append((given[0], made)))
    network(fixed, moving)
    hook.remove()
    return calls


@pytest.mark.parametrize("name", ["im2grid", "im2grid-lite"])
def test_the_encoder_sees_one_image_at_a_time(name: str):
    network = small(name, head_std=0.1)
    fixed, moving, other = (noise(1, 1, 16, 32, seed=s) for s in range(3))
    (seen_fixed, features), (seen_moving, _) = watched(network, fixed, moving)
    assert torch.equal(seen_fixed, fixed)
    assert torch.equal(seen_moving, moving)
    (_, again), _ = watched(network, fixed, other)
    assert len(features) == 5
    assert all(torch.equal(a, b) for a, b in zip(features, again, strict=True))


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize(("name", "count"), [("im2grid", 5), ("im2grid-lite", 4)])
def test_levels_reach_one_voxel_of_their_own_lattice(name: str, count: int, num_dims: int):
    shape = (32, 16, 16)[:num_dims]
    pair = noise(1, 1, *shape), noise(1, 1, *shape, seed=1)
    levels = small(name, num_dims, head_std=1.0)(*pair)["levels"]
    assert len(levels) == count
    for number, level in enumerate(levels):
        assert 0.01 < level.abs().max() <= 2 ** (4 - number) + 1e-4
    if name == "im2grid" and num_dims == 3:
        assert (levels[-1][:, 2] == 0).all()
        cube = small(name, num_dims, head_std=1.0, finest_window="cube")(*pair)["levels"]
        assert cube[-1][:, 2].abs().max() > 0.01


@pytest.mark.parametrize("name", ["im2grid", "im2grid-lite"])
def test_the_paper_s_start_is_the_identity(name: str):
    pair = noise(1, 1, 32, 16, 16), noise(1, 1, 32, 16, 16, seed=1)
    assert small(name, 3)(*pair)["displacement"].abs().max() < 1e-4


def test_parameter_counts_of_the_header():
    with torch.device("meta"):
        assert networks.num_parameters(networks.build("im2grid")) == 552_461
        assert networks.num_parameters(networks.build("im2grid-lite")) == 552_324


def test_it_learns_a_pair():
    axes = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    fixed, moving = (torch.exp(-((axes[0] - c) ** 2 + (axes[1] - 16) ** 2) / 40)[None, None] for c in (14, 18))
    network = small()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(25):
        error = (functional.warp(moving, network(fixed, moving)["displacement"]) - fixed).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finest_window": "coronal"}, "`finest_window` is 'coronal'"),
        ({"matching_channels": 5}, "`matching_channels` is 5, but a finite number of 6"),
        ({"start_channels": 0}, "`start_channels` is 0"),
        ({"head_std": -1.0}, "head_std"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        networks.build("im2grid", **settings)
