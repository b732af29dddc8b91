"""The compiled loops against plain tensors, and the same for any number of threads."""

import math

import numba
import pytest
import torch
from torch import Tensor

from examples import noise
from pullback.functional import match_window

CASES = [((11, 6, 9), (1, 1, 1)), ((5, 40, 30), (1, 2, 0)), ((1, 3, 1), (2, 1, 1)), ((7, 20), (1, 1)), ((3, 4), (0, 2))]


def given_of(shape: tuple[int, ...], radii: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    wide = [n + 2 * r for n, r in zip(shape, radii, strict=True)]
    bonuses = noise(2, math.prod(2 * r + 1 for r in radii), seed=2)
    given = [noise(2, 5, *shape), noise(2, 5, *wide, seed=1), bonuses]
    return [(3 * tensor).to(dtype).requires_grad_() for tensor in given]


def results_of(shape: tuple[int, ...], radii: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """What is found, and the derivatives of some sum of it."""
    tokens, candidates, bonuses = given = given_of(shape, radii, dtype)
    found = match_window(tokens, candidates, radii, bonuses)
    return [found.detach(), *torch.autograd.grad(found, given, noise(*found.shape, seed=3).to(dtype))]


@pytest.mark.parametrize(("shape", "radii"), CASES)
def test_the_compiled_loops_do_what_plain_tensors_do(shape: tuple[int, ...], radii: tuple[int, ...]):
    compiled, plain = results_of(shape, radii, torch.float32), results_of(shape, radii, torch.float64)
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
def test_threads_change_nothing():
    before = numba.get_num_threads()
    found = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        found.append(results_of((23, 20, 14), (1, 1, 1), torch.float32))
    numba.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_what_is_not_finite_stays_so():
    tokens, candidates, _ = (tensor.detach() for tensor in given_of((4, 5, 6), (1, 1, 1), torch.float32))
    tokens[0, 2, 1, 2, 3] = torch.nan
    lost = match_window(tokens, candidates, (1, 1, 1)).isnan()
    assert lost[0, :, 1, 2, 3].all()
    assert lost.sum() == 3


def test_far_scores_are_far():
    tokens = torch.full((1, 1, 1, 1, 1), 100.0)
    candidates = torch.tensor([-1e4, 0.0, 1e4]).reshape(1, 1, 1, 1, 3)
    assert match_window(tokens, candidates, (0, 0, 1)).flatten().tolist() == [0.0, 0.0, 1.0]
