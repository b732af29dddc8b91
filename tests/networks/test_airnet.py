"""AIRNet: the published sizes, three ways to an affine map, and what its settings do."""

import pytest
import torch

from examples import noise
from pullback import networks
from pullback.networks import affine

FAMILIES = ["airnet", "airnet-matches"]


def pair(num_dims: int, batch: int = 2, size: int = 16):
    return tuple(noise(batch, 1, *[size] * num_dims, seed=seed) for seed in (0, 1))


def awake(name: str = "airnet", **settings) -> networks.AbstractNetwork:
    torch.manual_seed(0)
    return networks.build(name, **{"head_std": 0.05} | settings).eval()


def test_the_pathway_has_the_published_size():
    network = networks.build("airnet")
    assert networks.num_parameters(network.pathway) == 4_620
    image = torch.zeros(1, 1, 64, 64, 64)
    assert network.pathway.pool(network.pathway(image)).shape == (1, 16, 4, 4, 4)
    assert network.regression[0].in_features == 2048
    assert network.regression[-1].out_features == 12
    assert [layer.p for layer in network.regression if isinstance(layer, torch.nn.Dropout)] == [0.2]


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"parametrisation": "factors"}, {"origin": "corner"}])
def test_the_displacement_is_the_matrix_s(num_dims, settings):
    with torch.no_grad():
        state = awake(num_dims=num_dims, **settings)(*pair(num_dims))
    assert state["matrix"].shape == (2, num_dims + 1, num_dims + 1)
    expected = affine.displacement_of(state["matrix"], (16,) * num_dims)
    assert torch.equal(state["displacement"], expected)
    assert state["displacement"].abs().max() > 0.1


@pytest.mark.parametrize("parametrisation", ["matrix", "factors"])
def test_the_numbers_of_the_matrix(parametrisation):
    network = awake(num_dims=2, parametrisation=parametrisation, origin="corner", translation_scale_voxels=8.0)
    numbers = torch.tensor([0.1, 0.2, 0.5, -0.3, 0.4, -0.25])
    with torch.no_grad():
        network.regression[-1].weight.zero_()
        network.regression[-1].bias.copy_(numbers)
        matrix = network(*pair(2, 1))["matrix"][0]
    if parametrisation == "matrix":
        expected = torch.tensor([[1.1, 0.2, 4.0], [-0.3, 1.4, -2.0], [0, 0, 1]])
    else:
        linear = affine.linear_of_factors(numbers[None, :1], numbers[None, 3:5].exp(), numbers[None, 5:])[0]
        rows = torch.cat([linear, 8 * numbers[1:3, None]], dim=1)
        expected = torch.cat([rows, torch.tensor([[0.0, 0.0, 1.0]])])
    torch.testing.assert_close(matrix, expected)


def test_the_origin_is_what_stays_in_place():
    network = awake(num_dims=2, translation_scale_voxels=1.0)
    with torch.no_grad():
        network.regression[-1].weight.zero_()
        network.regression[-1].bias.copy_(torch.tensor([0.5, 0, 0, 0, 0, 0]))
        middle = network(*pair(2, 1))["displacement"][0, 0, :, 0]
        network.origin = "corner"
        corner = network(*pair(2, 1))["displacement"][0, 0, :, 0]
    torch.testing.assert_close(middle, 0.5 * (torch.arange(16) - 7.5))
    torch.testing.assert_close(corner, 0.5 * torch.arange(16))


def test_matches_of_a_shifted_image_lead_the_right_way():
    network = awake("airnet-matches", num_dims=2, start_channels=4)
    image = torch.nn.functional.avg_pool2d(noise(1, 1, 80, 80, seed=3), 9, 1, 4)
    fixed, moving = 20 * image[..., 16:64, 8:56], 20 * image[..., 8:56, 8:56]  # moving(x + (8, 0)) = fixed(x)
    with torch.no_grad():
        network.compare.weight.copy_(20 * torch.eye(network.compare.weight.shape[0])[:, :, None, None])
        ahead = network(fixed, moving)["displacement"].mean(dim=(0, 2, 3))
        back = network(moving, fixed)["displacement"].mean(dim=(0, 2, 3))
    assert ahead[0] > 2
    assert back[0] < -2
    assert ahead[1].abs() < ahead[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_mixed_precision_does_not_round_the_map(name):
    network = awake(name, num_dims=2)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        state = network(*pair(2, size=64))
    assert state["displacement"].dtype == torch.float32
    assert torch.equal(state["displacement"], affine.displacement_of(state["matrix"], (64, 64)))


@pytest.mark.parametrize("name", FAMILIES)
def test_it_learns_one_translation(name):
    torch.manual_seed(0)
    network = networks.build(name, num_dims=2, **({"dropout": 0.0} if name == "airnet" else {}))
    image = torch.nn.functional.avg_pool2d(noise(1, 1, 48, 48, seed=3), 5, 1, 2)
    fixed, moving = 5 * image[..., 6:38, 6:38], 5 * image[..., 4:36, 7:39]
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    true = torch.tensor([2.0, -1.0])[:, None, None]
    losses = []
    for _ in range(60):
        loss = (network(fixed, moving)["displacement"] - true).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(2.5, rel=0.01)
    assert min(losses) < 0.6


@pytest.mark.parametrize("name", FAMILIES)
def test_a_template_expanded_to_a_batch_is_as_good_as_its_copies(name: str):
    network, (template, moving) = awake(name), pair(3, batch=3)
    once = network(template[:1].expand_as(moving), moving)["matrix"]
    copies = network(template[:1].repeat(3, 1, 1, 1, 1), moving)["matrix"]
    torch.testing.assert_close(once, copies, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, "c2fvit"])
def test_the_matrix_alone_is_the_matrix_of_the_state(name: str):
    network = awake(name, num_dims=2, **({"start_channels": 8} if name == "c2fvit" else {}))
    with torch.no_grad():
        assert torch.equal(network.matrix_of(*pair(2)), network(*pair(2))["matrix"])


def test_standardised_features_have_no_common_part():
    network = awake(is_standardised=True).train()
    seen = []
    network.regression.register_forward_pre_hook(lambda _, given: seen.append(given[0].unflatten(1, (2, -1))))
    network(*pair(3, batch=8, size=32))
    moments = seen[0].detach().flatten(0, 1)
    torch.testing.assert_close(moments.mean(0), torch.zeros(1024), atol=1e-4, rtol=0)
    assert moments.var(0, correction=0).median() == pytest.approx(1, abs=0.01)


def test_a_standardised_network_answers_for_one_pair_as_for_many():
    network = awake(is_standardised=True)
    fixed, moving = pair(3, batch=3)
    with torch.no_grad():
        together = network(fixed, moving)["matrix"]
        alone = network(fixed[:1], moving[:1])["matrix"]
    torch.testing.assert_close(alone, together[:1], atol=1e-5, rtol=1e-5)
