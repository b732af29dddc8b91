"""Points: float64 world coordinates and nothing broken."""

import numpy as np
import pytest
import torch

from pullback.data import Points
from pullback.io import write_points
from pullback.landmarks import fit_landmarks
from pullback.transforms import identity, warp_points


def test_coordinates_are_float64():
    points = Points([[1, 2, 3], [4, 5, 6]], ["a", "b"])
    assert points.coordinates.dtype == torch.float64
    assert len(points) == 2


def test_no_points_are_points():
    assert len(Points(torch.zeros(0, 3))) == 0


@pytest.mark.parametrize(
    ("coordinates", "names", "message"),
    [
        (torch.zeros(3), None, r"\(N, 2\) or \(N, 3\)"),
        (torch.zeros(3, 4), None, r"\(N, 2\) or \(N, 3\)"),
        ([[1.0, float("nan")]], None, "NaN or infinite"),
        (np.ma.masked_equal([[1, 9]], 9), None, "NaN or infinite"),
        (torch.zeros(2, 3), ["a"], "1 names came with 2 points"),
    ],
)
def test_broken_points_are_refused(coordinates, names, message):
    with pytest.raises(ValueError, match=message):
        Points(coordinates, names)


def test_what_is_no_points_is_named(tmp_path):
    array = torch.zeros(4, 3)
    for call in (
        lambda: write_points(tmp_path / "a.csv", array),
        lambda: warp_points(array, identity()),
        lambda: fit_landmarks(array, Points(array)),
        lambda: fit_landmarks(Points(array), array),
    ):
        with pytest.raises(TypeError, match="is a Tensor, but `Points` are needed"):
            call()
    assert not list(tmp_path.iterdir())
