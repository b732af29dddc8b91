"""Checks: what comes through, and messages that help."""

import numpy as np
import pytest
import torch

from pullback.checks import as_points, check_at_least, check_choice, check_positive


@pytest.mark.parametrize("points", [[[1, 2]], np.array([[1, 2]], dtype=np.int16), torch.tensor([[1.0, 2.0]])])
def test_points_become_float64(points):
    assert torch.equal(as_points(points, 2), torch.tensor([[1.0, 2.0]], dtype=torch.float64))


@pytest.mark.parametrize("points", [3.0, [1.0, 2.0, 3.0], torch.zeros(2, 1)])
def test_points_of_other_dimensions_are_refused(points):
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\) is needed"):
        as_points(points, 2)


def test_a_choice_names_its_neighbour():
    assert check_choice("interpolation", "linear", ("linear", "cubic")) == "linear"
    with pytest.raises(ValueError, match=r"`interpolation` is 'linaer'.*linear, cubic.*Did you mean 'linear'"):
        check_choice("interpolation", "linaer", ("linear", "cubic"))


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_only_finite_numbers_above_zero_are_positive(value):
    assert check_positive("sigma_mm", 0.5) == 0.5
    with pytest.raises(ValueError, match="`sigma_mm`"):
        check_positive("sigma_mm", value)


@pytest.mark.parametrize("value", [0, 0.999, float("nan"), float("inf")])
def test_a_least_number_is_itself_enough(value):
    assert check_at_least("num_stages", 1, 1) == 1
    with pytest.raises(ValueError, match=r"`num_stages` is .* of 1 or more"):
        check_at_least("num_stages", value, 1)


def test_whole_numbers_of_any_size_are_finite():
    assert check_at_least("seed", 10**30, 0) == check_positive("seed", 10**30) == 10**30
