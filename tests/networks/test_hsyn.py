"""HSyN: one network in both orders, halves that compose to the whole, and an inverse that learns on its own."""

import pytest
import torch

from examples import noise, smooth_noise
from pullback import functional, networks
from pullback.networks import AbstractNetwork
from pullback.networks.hsyn import DeformationInverse

UNET = {"encoder": (4, 4), "decoder": (4, 4, 4), "downsampling": "stride"}


def small(num_dims: int = 2, *, head_std: float = 0.02, **settings) -> AbstractNetwork:
    torch.manual_seed(0)
    own = {"encoder": [4, 4], "decoder": [4, 4, 4], "head_std": head_std}
    return networks.build("hsyn", num_dims=num_dims, **own | settings)


def images(num_dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return noise(1, 1, *[16] * num_dims), noise(1, 1, *[16] * num_dims, seed=1)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_swapped_images_swap_all_that_comes_out(num_dims: int):
    network, (fixed, moving) = small(num_dims).eval(), images(num_dims)
    one, other = network(fixed, moving), network(moving, fixed)
    pairs = [
        ("displacement", "inverse_displacement"),
        ("half_displacement", "inverse_half_displacement"),
        ("moving_to_half", "fixed_to_half"),
    ]
    for first, second in pairs:
        torch.testing.assert_close(one[first], other[second], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(one[first], one[second], atol=1e-3)


def test_the_whole_way_is_one_half_after_the_inverse_of_the_other():
    state = small(inversion="fixed-point")(*images())
    back = functional.compose(state["inverse_half_displacement"], state["fixed_to_half"])
    assert back.abs().mean() < 0.01
    expected = functional.compose(state["half_displacement"], state["fixed_to_half"])
    assert torch.equal(state["displacement"], expected)
    assert state["displacement"].abs().max() > 0.01


def test_inverses_learn_alone():
    network = small()
    state = network(*images())
    (state["moving_to_half"].sum() + state["fixed_to_half"].sum()).backward()
    learned = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert learned == {"inverse"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_coarse_levels_come_first(count: int):
    network = small()
    state = network(*images(), num_levels=count)
    assert state["half_displacement"].shape == (1, 2, 16, 16)
    state["half_displacement"].sin().mean().backward()
    learned = {int(n.split(".")[1]) for n, p in network.named_parameters() if p.grad is not None}
    assert learned == set(range(count))
    with pytest.raises(ValueError, match="`num_levels` is 4, but this network has 3"):
        network(*images(), num_levels=4)


def test_without_symmetry_moving_goes_all_the_way():
    state = small(is_symmetric=False)(*images())
    assert (state["inverse_half_displacement"] == 0).all()
    assert (state["fixed_to_half"] == 0).all()
    assert torch.equal(state["displacement"], state["half_displacement"])
    assert torch.equal(state["inverse_displacement"], state["moving_to_half"])


def test_one_level_is_one_network():
    assert len(small(num_levels=1).levels) == 1
    assert "displacement" in small(num_levels=1)(*images())


@pytest.mark.parametrize("is_residual", [False, True])
def test_di_net_learns_to_invert(is_residual: bool):
    torch.manual_seed(0)
    network = DeformationInverse(2, UNET, head_std=1e-5, is_residual=is_residual)
    fields = torch.stack([smooth_noise(2, 16, 16, largest=2.0, seed=seed) for seed in range(4)])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    gaps = []
    for _ in range(60):
        gap = functional.compose(fields, network(fields)).square().sum(1).mean()
        optimiser.zero_grad()
        gap.backward()
        optimiser.step()
        gaps.append(float(gap.detach()))
    start = fields if not is_residual else functional.compose(fields, -fields)
    assert gaps[0] == pytest.approx(float(start.square().sum(1).mean()), rel=1e-2)
    assert gaps[-1] < gaps[0] / 2


def test_each_further_pass_leaves_less():
    field = smooth_noise(2, 16, 16, largest=1.0)[None]
    once, twice, thrice = (
        DeformationInverse(2, UNET, head_std=1e-9, is_residual=True, num_passes=passes) for passes in (1, 2, 3)
    )
    gaps = [functional.compose(field, one(field)).detach().abs().max().item() for one in (once, twice, thrice)]
    torch.testing.assert_close(once(field), -field, atol=1e-6, rtol=0)
    assert gaps[1] < gaps[0] / 3
    assert gaps[2] < gaps[1] / 3


def test_parameter_counts_of_the_header():
    with torch.device("meta"):
        network = networks.build("hsyn")
    assert networks.num_parameters(network) == 957_916
    assert networks.num_parameters(network.inverse) == 302_707
    assert network.multiple == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_levels": 0}, "`num_levels` is 0"),
        ({"inversion": "newton"}, "`inversion` is 'newton'"),
        ({"inversion": "fixed-point", "is_inverse_residual": True}, "which has no network"),
        ({"inversion": "fixed-point", "num_inverse_passes": 2}, "`num_inverse_passes` is 2"),
        ({"num_inverse_passes": 0}, "`num_inverse_passes` is 0"),
        ({"head_std": 0.0}, "`head_std` is 0"),
        ({"downsampling": "skip"}, "`downsampling` is 'skip'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        networks.build("hsyn", **settings)
