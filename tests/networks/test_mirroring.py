"""Answers averaged over mirrored pairs."""

import pytest
import torch

from pullback.networks import Mirrored, build, measure_cost, run_padded


def _network(num_dims: int) -> Mirrored:
    torch.manual_seed(0)
    network = build("fourier-net", num_dims=num_dims, start_channels=2)
    for parameter in network.parameters():
        parameter.data.normal_(std=0.3)
    return Mirrored(network.eval(), range(num_dims)).eval()


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_mirrored_pair_gets_the_mirrored_answer(num_dims: int):
    network = _network(num_dims)
    fixed, moving = torch.rand(2, 1, 1, *(16,) * num_dims)
    with torch.no_grad():
        answer = network(fixed, moving)["displacement"]
        alone = network.network(fixed, moving)["displacement"]
        for axis in range(num_dims):
            mirrored = network(fixed.flip(2 + axis), moving.flip(2 + axis))["displacement"].flip(2 + axis)
            mirrored[:, axis] *= -1
            torch.testing.assert_close(mirrored, answer, rtol=1e-4, atol=1e-5)
    assert (answer - alone).abs().max() > 1e-3
    assert run_padded(network, fixed[..., :-1], moving[..., :-1])["displacement"].shape[-1] == 15


def test_it_costs_as_many_answers_as_there_are_mirrors():
    network = _network(2)
    alone, mirrored = (measure_cost(one, (16, 16)) for one in (network.network, network))
    assert mirrored.parameters == alone.parameters
    assert mirrored.multiply_adds == 4 * alone.multiply_adds


def test_what_cannot_be_averaged_is_refused():
    network = _network(2).network
    for axes in ([], [0, 0], [2], [-1]):
        with pytest.raises(ValueError, match="axes"):
            Mirrored(network, axes)
    images = torch.rand(1, 1, 64, 64, 64)
    with pytest.raises(ValueError, match="gives a matrix"):
        Mirrored(build("airnet").eval(), [0])(images, images)
