"""What was erased from a noisy image, such as a face, or never measured: it is unknown, neither air nor anatomy."""

from unittest import mock

import pytest
import torch

import phantoms
from examples import noise
from pullback.data import Image, LabelMap
from pullback.registration import volume
from pullback.registration.volume import prepare

FACE = (slice(None), slice(4, 32), slice(30, 48), slice(2, 20))
"""A block at the front of the phantom that holds some of its surface, and air."""


def with_air(image: Image, level: float = 3.0, seed: int = 0) -> Image:
    """The image with noise everywhere, as a magnitude."""
    real, imaginary = (level * noise(*image.tensor.shape, seed=seed + n) for n in range(2))
    return phantoms.with_values(image, torch.hypot(image.tensor + real, imaginary))


def without(image: Image, block: tuple[slice, ...] = FACE, value: float = 0.0) -> Image:
    tensor = image.tensor.clone()
    tensor[block] = value
    return phantoms.with_values(image, tensor)


@pytest.mark.parametrize("offset", [0.0, -1024.0, -2.0])
def test_what_was_erased_is_unknown_and_leaves_no_edge(offset: float):
    """With 0, or with the lowest value; where values go below 0, with a 0 amid the air."""
    whole = with_air(phantoms.head())
    shifted = phantoms.with_values(whole, whole.tensor + offset)
    prepared = prepare(without(shifted, value=0.0 if offset == -2.0 else offset))
    known = torch.ones(whole.grid.shape)
    known[FACE[1:]] = 0
    weights = prepared.weights[0, 0]
    assert not weights[FACE[1:]].any()
    rim = torch.nonzero((weights == 0) & (known == 1))
    low, high = torch.tensor([s.start for s in FACE[1:]]), torch.tensor([s.stop for s in FACE[1:]])
    assert ((rim >= low - 1) & (rim <= high)).all()  # a rim of one voxel goes with it
    assert not (prepared.foreground & (weights == 0)).any()
    assert not prepared.has_background
    values = prepared.tensor[0, 0]
    assert torch.isin(values[weights == 0], values[weights > 0]).all()  # of the nearest that is known


def test_what_is_not_erased_stays_known():
    head = phantoms.head()
    air = with_air(head)
    bright = without(air, value=float(air.tensor.max()))  # saturated
    scattered = phantoms.with_values(air, (air.tensor - 4).clamp(min=0))  # noise cut off at zero
    small = without(air, (slice(None), slice(4, 9), slice(40, 45), slice(2, 7)))
    for image in (head, air, bright, scattered, small, phantoms.other_scan()[0], phantoms.texture()):
        assert prepare(image).weights is None
    flat = with_air(phantoms.slice_of_head())
    assert prepare(without(flat, (slice(None), slice(0, 30), slice(0, 30)))).weights is None


def test_a_mask_says_what_counts():
    image = without(with_air(phantoms.head()))
    mask = LabelMap(torch.ones(1, *image.grid.shape, dtype=torch.uint8), image.grid)
    assert prepare(image, mask).weights.all()


@pytest.mark.parametrize("is_fixed", [True, False])
def test_an_erased_face_pulls_at_nothing(is_fixed: bool):
    """A head onto itself with other noise: without a face it moves as it does with one, where it is known."""
    wholes = [with_air(phantoms.head(), level=1.0, seed=seed) for seed in (5, 0)]
    parts = [without(whole) if n != is_fixed else whole for n, whole in enumerate(wholes)]
    points = phantoms.points_in(phantoms.head())
    voxels = wholes[0].grid.to_voxel(points)
    away = [((voxels[:, n] < s.start - 2) | (voxels[:, n] > s.stop + 1)) for n, s in enumerate(FACE[1:])]
    points = points[torch.stack(away).any(dim=0)]

    def error_mm(pair: list[Image]) -> float:
        found = phantoms.register(*pair, initial="header").result
        return float(torch.linalg.vector_norm(found.fixed_to_moving(points) - points, dim=1).quantile(0.99))

    known = error_mm(parts)
    assert known < 1.2 * error_mm(wholes)
    with mock.patch.object(volume, "_erased", return_value=None):
        assert error_mm(parts) > 3 * known
