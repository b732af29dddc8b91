"""Likeness of images, alone and over groups, against NumPy and closed forms."""

import math

import numpy as np
import pytest
import torch

from examples import noise, smooth_noise
from pullback.metrics import (
    Group,
    correlation,
    mean_local_correlation,
    mean_squared_difference,
    normalised_mutual_information,
)

REGION = torch.zeros(6, 7, 8, dtype=torch.bool)
REGION[1:5, 2:6, 1:7] = True


def test_squares_and_correlation_are_numpys():
    a, b = noise(6, 7, 8), noise(6, 7, 8, seed=1)
    assert mean_squared_difference(a, b) == pytest.approx(((a - b) ** 2).double().mean().item())
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    inside = a[REGION], b[REGION]
    assert correlation(a, b, REGION) == pytest.approx(np.corrcoef(*inside)[0, 1])
    assert mean_squared_difference(a, b, REGION) == pytest.approx(((inside[0] - inside[1]) ** 2).double().mean().item())


def test_correlations_of_the_same_with_another_contrast():
    a = smooth_noise(1, 20, 18, 16)[0]
    assert correlation(a, 3 * a + 5) == pytest.approx(1.0)
    assert correlation(a, -a) == pytest.approx(-1.0)
    assert mean_local_correlation(a, 3 * a + 5) == pytest.approx(1.0, abs=0.02)
    assert mean_local_correlation(a, 7 - a) == pytest.approx(1.0, abs=0.02)
    assert mean_local_correlation(a, noise(20, 18, 16)) < 0.1
    assert math.isnan(correlation(a, torch.ones_like(a)))
    assert mean_local_correlation(a, torch.ones_like(a)) == pytest.approx(0.0, abs=1e-6)


def test_local_correlation_counts_in_the_region_only():
    a, b = smooth_noise(1, 12, 12, 12)[0], noise(12, 12, 12)
    b[:6] = a[:6]
    region = torch.zeros(12, 12, 12, dtype=torch.bool)
    region[:6] = True
    assert mean_local_correlation(a, b, region, radius_voxels=2) > 0.9 > mean_local_correlation(a, b, radius_voxels=2)


def test_mutual_information_of_a_permutation_and_of_nothing():
    a = torch.arange(64.0).repeat(100)
    shuffled = torch.tensor(np.random.default_rng(0).permutation(64), dtype=torch.float32)[a.long()]
    assert normalised_mutual_information(a, shuffled) == pytest.approx(2.0)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    assert normalised_mutual_information(rows, columns) == pytest.approx(1.0)
    assert math.isnan(normalised_mutual_information(torch.ones(4), torch.ones(4)))


def test_errors():
    with pytest.raises(ValueError, match="shapes"):
        correlation(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="no voxel"):
        correlation(torch.zeros(3), torch.zeros(3), torch.zeros(3, dtype=torch.bool))


def test_a_group_of_copies_is_perfect():
    target = noise(6, 7, 8)
    group = Group(target, REGION)
    for _ in range(3):
        group.add(target)
    found = group.summary()
    assert (found.num_subjects, found.volume_difference, found.sum_of_squares) == (3, 0.0, 0.0)
    assert found.intensity_variance == pytest.approx(0.0, abs=1e-15)
    assert found.correlation == pytest.approx(1.0)
    assert found.mutual_information > 4


def test_a_group_against_the_whole_stack():
    target, stack = noise(6, 7, 8), torch.stack([noise(6, 7, 8, seed=n) for n in range(1, 6)])
    group = Group(target, REGION)
    for subject in stack:
        group.add(subject)
    found = group.summary()
    inside, t = stack[:, REGION].double(), target[REGION].double()
    assert found.sum_of_squares == pytest.approx(((inside - t) ** 2).sum(dim=1).mean().item())
    assert found.mean_of_squares == pytest.approx(((inside - t) ** 2).mean().item())
    assert found.volume_difference == pytest.approx(((inside.mean(dim=1) - t.mean()) ** 2).mean().item())
    assert torch.allclose(group.variance, stack.double().var(dim=0))
    assert torch.allclose(group.mean, stack.double().mean(dim=0))
    assert found.intensity_variance == pytest.approx(stack.double().var(dim=0)[REGION].mean().item())


def test_group_errors():
    with pytest.raises(ValueError, match="no subject"):
        Group(torch.zeros(3)).summary()
    with pytest.raises(ValueError, match="shape"):
        Group(torch.zeros(3)).add(torch.zeros(4))
    group = Group(torch.arange(3.0))
    group.add(torch.arange(3.0))
    assert math.isnan(group.summary().intensity_variance)
