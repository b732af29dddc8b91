"""The prior's divergence against its matrix form, and what samples and the uncertainty are."""

import itertools

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import networks
from pullback.networks import graph_laplacian_kl
from pullback.networks.voxelmorph_probabilistic import draw


def laplacian_matrix(shape: tuple[int, ...]) -> Tensor:
    """Degree minus adjacency of the face neighbours of a lattice."""
    points = list(itertools.product(*(range(n) for n in shape)))
    matrix = torch.zeros(len(points), len(points), dtype=torch.float64)
    for (a, first), (b, second) in itertools.combinations(enumerate(points), 2):
        if sum(abs(p - q) for p, q in zip(first, second, strict=True)) == 1:
            matrix[a, b] = matrix[b, a] = -1
    return matrix - torch.diag(matrix.sum(dim=1))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 3), (1, 4)])
def test_the_divergence_is_its_matrix_form(shape):
    mean = noise(2, len(shape), *shape, dtype=torch.float64)
    log_variance = noise(2, len(shape), *shape, seed=1, dtype=torch.float64)
    precision = 3.0 * laplacian_matrix(shape)
    expected = torch.zeros(2, dtype=torch.float64)
    for b, c in itertools.product(range(2), range(len(shape))):
        mu, s = mean[b, c].flatten(), log_variance[b, c].flatten()
        expected[b] += 0.5 * (torch.trace(precision @ torch.diag(s.exp())) - s.sum() + mu @ precision @ mu)
    torch.testing.assert_close(graph_laplacian_kl(mean, log_variance, precision=3.0), expected / mean[0, 0].numel())


def test_without_images_the_variance_falls_to_the_inverse_of_the_neighbours():
    mean, log_variance = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3, requires_grad=True)
    optimiser = torch.optim.Adam([log_variance], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        graph_laplacian_kl(mean, log_variance, precision=5.0).sum().backward()
        optimiser.step()
    neighbours = torch.tensor([[2.0, 3, 2], [3, 4, 3], [2, 3, 2]])
    torch.testing.assert_close(log_variance.detach()[0, 0].exp(), 1 / (5 * neighbours), rtol=1e-3, atol=0)


def test_a_shift_of_the_mean_costs_nothing():
    mean, log_variance = noise(1, 2, 4, 4), noise(1, 2, 4, 4, seed=1)
    first = graph_laplacian_kl(mean, log_variance, precision=2.0)
    torch.testing.assert_close(graph_laplacian_kl(mean + 7, log_variance, precision=2.0), first)


def test_the_precision_is_positive():
    with pytest.raises(ValueError, match="precision"):
        graph_laplacian_kl(noise(1, 2, 4, 4), noise(1, 2, 4, 4), precision=0)


def test_samples_have_the_mean_and_the_variance():
    mean, log_variance = torch.full((1, 1, 100, 100), 3.0), torch.full((1, 1, 100, 100), 2.0).log()
    sample = draw(mean, log_variance, torch.Generator().manual_seed(0))
    assert abs(float(sample.mean()) - 3) < 0.05
    assert abs(float(sample.var()) - 2) < 0.1


def network() -> networks.AbstractNetwork:
    torch.manual_seed(0)
    return networks.build("voxelmorph-probabilistic", num_dims=2, encoder=[4, 4], decoder=[4, 4, 4], head_std=0.05)


def test_training_draws_samples_by_the_generator_and_evaluation_takes_the_mean():
    net, fixed, moving = network(), noise(1, 1, 16, 16), noise(1, 1, 16, 16, seed=1)
    with torch.no_grad():
        one, same, other = (
            net(fixed, moving, generator=torch.Generator().manual_seed(seed))["displacement"] for seed in (0, 0, 1)
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        net.eval()
        assert torch.equal(net(fixed, moving)["displacement"], net(fixed, moving)["displacement"])


def test_the_uncertainty_grows_with_the_variance():
    net, fixed, moving = network().eval(), noise(1, 1, 16, 16), noise(1, 1, 16, 16, seed=1)
    stated = []
    for log_variance in (-6.0, -2.0):
        torch.nn.init.zeros_(net.head_log_variance.weight)
        torch.nn.init.constant_(net.head_log_variance.bias, log_variance)
        generator = torch.Generator().manual_seed(0)
        stated.append(net.uncertainty(fixed, moving, num_samples=30, generator=generator))
    assert stated[0].shape == (1, 2, 16, 16)
    assert 4 < float(stated[1].mean() / stated[0].mean()) < 12  # e^2 where fields are small
    with pytest.raises(ValueError, match="2 or more"):
        net.uncertainty(fixed, moving, num_samples=1)
