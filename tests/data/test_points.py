"""Points: float64 world coordinates and nothing broken."""

import numpy as np
import pytest
import torch

from pullback.data import Points


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
