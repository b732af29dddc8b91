"""Starts in one pose that score alike: the linear stage runs from two of them, and its finest level decides."""

from unittest import mock

import numpy as np
import pytest

import phantoms
from pullback.data import Pair
from pullback.registration import Plan, alignment, register
from pullback.registration.initialisation import Candidate, Initialisation
from pullback.registration.plan import LinearPlan
from pullback.transforms import Affine

RIGHT = phantoms.truth_of("affine").matrix.numpy()


def registered_from(degrees: float, score: float) -> tuple[float, int]:
    """The error in mm after one step from a turned start of score 1, beside the right one; the levels run."""
    turned = RIGHT @ Affine.from_parts(rotation=(np.radians(degrees), 0.0, 0.0)).matrix.numpy()
    starts = Candidate("turned", turned, 1.0), Candidate("right", RIGHT, score)
    scan, truth = phantoms.plain_scan()
    with phantoms.no_rivals(), mock.patch.object(alignment, "_search", return_value=Initialisation(starts[0], starts)):
        plan = Plan(methods=("header",), linear=LinearPlan(max_steps=1), deformable=None)
        result = register(Pair(phantoms.head(), scan), plan)
    gap = phantoms.gaps_mm(result.fixed_to_moving, truth, phantoms.head()).mean()
    return float(gap), len(result.history)


def test_the_better_end_wins():
    gap, num_levels = registered_from(degrees=12, score=0.95)
    assert gap < 1.0
    assert num_levels == 1


@pytest.mark.parametrize(("degrees", "score"), [(12, 0.85), (40, 0.95)])
def test_what_scores_less_or_is_another_pose_does_not_run(degrees: float, score: float):
    gap, num_levels = registered_from(degrees, score)
    assert gap > 3.0
    assert num_levels == 1
