"""Pairs: what does not belong together is refused, with the reason."""

from typing import Any

import pytest
import torch

from examples import GRIDS
from pullback.data import Image, LabelMap, Pair, Points
from pullback.space import Grid

GRID = GRIDS["oblique"]
OTHER_GRID = GRIDS["LPS"]


def image(grid: Grid = GRID, num_channels: int = 1) -> Image:
    return Image(torch.zeros(num_channels, *grid.shape), grid)


def labels(grid: Grid = GRID, value: int = 1) -> LabelMap:
    return LabelMap(torch.full((1, *grid.shape), value, dtype=torch.int32), grid)


def points(num: int = 3, num_dims: int = 3) -> Points:
    return Points(torch.zeros(num, num_dims))


def test_a_full_pair_is_taken():
    pair = Pair(
        image(), image(OTHER_GRID), labels(), labels(OTHER_GRID), labels(), labels(OTHER_GRID), points(), points()
    )
    assert pair.fixed.grid is GRID


@pytest.mark.parametrize(
    ("moving", "extra", "message"),
    [
        (image(GRIDS["2-D"]), {}, "both must be 2-D or both 3-D"),
        (image(num_channels=2), {}, "channels are compared one to one"),
        (image(), {"fixed_mask": labels(OTHER_GRID)}, "fixed mask and the fixed image are on different grids"),
        (image(OTHER_GRID), {"moving_mask": labels()}, "moving mask and the moving image are on different grids"),
        (image(), {"fixed_mask": labels(value=0)}, "fixed mask is empty"),
        (image(), {"moving_mask": labels(value=0)}, "moving mask is empty"),
        (image(), {"fixed_labels": labels()}, "Fixed labels came without moving labels"),
        (image(), {"moving_points": points()}, "Moving points came without fixed points"),
        (image(), {"fixed_points": points(3), "moving_points": points(4)}, "must correspond"),
        (image(), {"fixed_points": points(0), "moving_points": points(0)}, "The fixed points hold no point"),
        (image(), {"fixed_points": points(3, 2), "moving_points": points(3, 2)}, "2 coordinates"),
    ],
)
def test_what_does_not_fit_is_refused(moving: Image, extra: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Pair(image(), moving, **extra)
