"""Thick slices do not show what lies between them: what shows it is blurred before it is compared with them."""

from unittest import mock

import numpy as np
import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.registration import deformable
from pullback.registration.deformable import SEEN_AT_VOXELS, SEEN_BETWEEN_VOXELS, _blur_mm, _matching_factors
from pullback.registration.volume import prepare
from pullback.space import Grid


def in_slices(image: Image, axis: int, count: int) -> Image:
    """Every `count` voxels along an axis averaged into a slice."""
    factors = [count if a == axis else 1 for a in range(3)]
    sizes = [n // f * f for n, f in zip(image.grid.shape, factors, strict=True)]
    blocks = image.tensor[0][tuple(slice(n) for n in sizes)]
    parts = [n for size, f in zip(sizes, factors, strict=True) for n in (size // f, f)]
    return Image(blocks.reshape(parts).mean(dim=(1, 3, 5))[None], image.grid.crop([0, 0, 0], sizes).coarsen(factors))


def test_blur_makes_an_image_as_coarse_as_the_other_along_its_own_axes():
    own, still = Grid.from_spacing((9, 9, 9), 2.0), np.eye(3)
    assert not _blur_mm(own, own, still, SEEN_BETWEEN_VOXELS).any()
    assert not _blur_mm(own, Grid.from_spacing((9, 9, 9), 4.0), still, SEEN_BETWEEN_VOXELS).any()  # not worth it
    thick = Grid.from_spacing((9, 9, 9), (2.0, 2.0, 10.0))
    expected = np.sqrt(SEEN_AT_VOXELS * (10**2 - 2**2))
    np.testing.assert_allclose(_blur_mm(own, thick, still, SEEN_AT_VOXELS), [0, 0, expected])
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_allclose(_blur_mm(own, thick, quarter, SEEN_AT_VOXELS), [0, expected, 0], atol=1e-6)
    turned = Grid.from_spacing((9, 9, 9), (2.0, 2.0, 10.0), direction=np.roll(np.eye(3), 1, axis=1))
    np.testing.assert_allclose(_blur_mm(own, turned, quarter, SEEN_AT_VOXELS), [0, 0, expected], atol=1e-6)
    assert not _blur_mm(thick, thick, still, SEEN_BETWEEN_VOXELS).any()


def test_what_thick_voxels_are_compared_with_is_averaged_by_their_shortest_side():
    head, still = prepare(phantoms.head()), np.eye(4)
    slices = prepare(in_slices(phantoms.head(), 2, 4))
    assert _matching_factors(head, head, (2, 2, 2), still) == (2, 2, 2)
    assert _matching_factors(head, slices, (1, 1, 1), still) == (1, 1, 1)
    assert _matching_factors(head, slices, (4, 4, 1), still) == (4, 4, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("is_fixed", [True, False])
def test_slices_of_a_head_stay_where_they_are_on_it(axis: int, is_fixed: bool):
    head, slices = phantoms.head(), in_slices(phantoms.head(), axis, 4)
    points = phantoms.points_in(head)

    def error_mm() -> float:
        pair = (slices, head) if is_fixed else (head, slices)
        found = phantoms.register(*pair, initial="header").result
        return float(torch.linalg.vector_norm(found.fixed_to_moving(points) - points, dim=1).mean())

    blurred = error_mm()
    with mock.patch.object(deformable, "_blur_mm", return_value=np.zeros(3)):
        assert blurred < 0.8 * error_mm()
