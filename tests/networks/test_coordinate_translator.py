"""The Coordinate Translator: planted shifts, the identity at the start, and one softmax computed in two ways."""

import itertools

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from examples import noise
from pullback.functional import match_window
from pullback.networks.coordinate_translator import (
    CoordinateTranslator,
    PositionalEncoding,
    match_everywhere,
)

SHAPES = {2: (9, 8), 3: (7, 6, 8)}
both_dimensions = pytest.mark.parametrize("num_dims", [2, 3])


def distinct(*shape: int, seed: int = 0) -> Tensor:
    """Tokens of one length, of which no two are alike, so that the softmax picks one candidate."""
    return 30 * nnf.normalize(noise(1, 12, *shape, seed=seed), dim=1)


def padded(tokens: Tensor, radii: tuple[int, ...]) -> Tensor:
    return nnf.pad(tokens, [r for radius in reversed(radii) for r in (radius, radius)])


def around(shape: tuple[int, ...], radii: tuple[int, ...]) -> list[int]:
    return [n + 2 * r for n, r in zip(shape, radii, strict=True)]


def inner(field: Tensor, margin: int) -> Tensor:
    for axis in range(2, field.ndim):
        field = field.narrow(axis, margin, field.shape[axis] - 2 * margin)
    return field


@pytest.mark.parametrize("shift", [(1, -1, 0), (0, 1, 1), (-1, 0), (1, 1)])
def test_a_planted_shift_is_recovered_by_a_window(shift: tuple[int, ...]):
    num_dims = len(shift)
    fixed = distinct(*SHAPES[num_dims])
    moving = torch.roll(fixed, shift, dims=tuple(range(2, 2 + num_dims)))
    radii = (1,) * num_dims
    found = inner(match_window(fixed, padded(moving, radii), radii), 1)
    expected = torch.tensor(shift, dtype=torch.float32).reshape(1, -1, *[1] * num_dims).expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_a_wide_window_and_all_voxels_find_what_is_far():
    fixed, shift = distinct(9, 10, 8), (3, -2, 1)
    moving = torch.roll(fixed, shift, dims=(2, 3, 4))
    expected = torch.tensor(shift, dtype=torch.float32).reshape(1, 3, 1, 1, 1)
    window = match_window(fixed, padded(moving, (3, 2, 1)), (3, 2, 1))
    for found in (window, match_everywhere(fixed, moving)):
        middle = inner(found, 3)
        torch.testing.assert_close(middle, expected.expand_as(middle), atol=1e-3, rtol=0)


@both_dimensions
def test_the_running_softmax_is_the_plain_one(num_dims: int):
    shape, radii = SHAPES[num_dims], (2, 1, 1)[:num_dims]
    tokens, candidates = noise(2, 5, *shape), noise(2, 5, *around(shape, radii), seed=1)
    offsets = list(itertools.product(*(range(-r, r + 1) for r in radii)))
    scores = []
    for offset in offsets:
        place = tuple(slice(r + o, r + o + n) for r, o, n in zip(radii, offset, shape, strict=True))
        scores.append((tokens * candidates[(..., *place)]).sum(1))
    shares = torch.softmax(torch.stack(scores, dim=1), dim=1)
    expected = torch.einsum("bk...,kd->bd...", shares, torch.tensor(offsets, dtype=torch.float32))
    torch.testing.assert_close(match_window(tokens, candidates, radii), expected, atol=1e-5, rtol=1e-5)


@both_dimensions
def test_derivatives(num_dims: int):
    shape, radii = (2, 3, 2)[:num_dims], (1, 1, 0)[:num_dims]
    tokens = noise(1, 2, *shape, dtype=torch.float64).requires_grad_()
    same = noise(1, 2, *shape, seed=1, dtype=torch.float64).requires_grad_()
    wider = noise(1, 2, *around(shape, radii), seed=2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: match_window(a, b, radii), (tokens, wider))
    assert torch.autograd.gradcheck(match_everywhere, (tokens, same))


@pytest.mark.parametrize("shape", [(7, 8), (1, 6), (2, 2), (5, 6, 7), (1, 1, 1), (2, 1, 9)])
def test_the_start_is_the_identity_up_to_the_border(shape: tuple[int, ...]):
    num_dims = len(shape)
    translator = CoordinateTranslator(num_dims, 4, 8, (1,) * num_dims).double()
    found = translator(noise(2, 4, *shape, dtype=torch.float64), noise(2, 4, *shape, seed=1, dtype=torch.float64))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-13, rtol=0)


def test_with_all_voxels_it_is_not():
    translator = CoordinateTranslator(2, 4, 8, None)
    found = translator(noise(1, 4, 12, 12), noise(1, 4, 12, 12, seed=1)).detach()
    assert [float(found[0, 0, 0, 5]), float(found[0, 1, 3, 11]) + 11] == pytest.approx([3.27, 7.73], abs=0.005)


def test_an_axial_window_leaves_the_third_axis():
    translator = CoordinateTranslator(3, 4, 8, (1, 1, 0), weight_std=1.0)
    found = translator(noise(1, 4, 4, 5, 6), noise(1, 4, 4, 5, 6, seed=1))
    assert (found[:, 2] == 0).all()
    assert found[:, :2].abs().max() <= 1
    assert found[:, :2].abs().max() > 0.1


def test_features_decide_once_the_projection_knows_them():
    translator = CoordinateTranslator(2, 12, 12, (1, 1))
    with torch.no_grad():
        translator.encoding.projection.weight.copy_(torch.eye(12)[:, :, None, None])
    fixed = distinct(8, 9)
    found = inner(translator(fixed, torch.roll(fixed, (0, 1), dims=(2, 3))), 1)
    assert found[:, 0].abs().max() < 1e-3
    assert (found[:, 1] - 1).abs().max() < 1e-3


def test_nothing_is_kept_per_candidate():
    tokens, candidates = noise(1, 8, 6, 6, 6).requires_grad_(), noise(1, 8, 8, 8, 8, seed=1).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        match_window(tokens, candidates, (1, 1, 1))
    assert sum(kept) == tokens.numel() + candidates.numel() + 27 + 4 * 6 * 6 * 8  # lines as long as the candidates


def test_half_precision_ends_before_the_scores():
    translator = CoordinateTranslator(2, 4, 8, (1, 1), weight_std=0.5)
    images = noise(1, 4, 6, 6), noise(1, 4, 6, 6, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = translator(*images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, translator(*images), atol=0.05, rtol=0)


def test_it_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`radii` is \(1, 1\), but a window needs 3"):
        CoordinateTranslator(3, 4, 8, (1, 1))
    with pytest.raises(ValueError, match=r"`radii` is \(0, 0\)"):
        CoordinateTranslator(2, 4, 8, (0, 0))
    with pytest.raises(ValueError, match="`num_tokens` is 5, but positions need 6"):
        PositionalEncoding(3, 4, 5)
    with pytest.raises(ValueError, match="`weight_std` is -1"):
        PositionalEncoding(3, 4, 6, weight_std=-1)


def test_bonuses_of_places_have_a_derivative():
    tokens, candidates = noise(2, 4, 2, 3, dtype=torch.float64), noise(2, 4, 4, 5, seed=1, dtype=torch.float64)
    given = [part.requires_grad_() for part in (tokens, candidates, noise(2, 9, seed=2, dtype=torch.float64))]
    assert torch.autograd.gradcheck(lambda t, c, b: match_window(t, c, (1, 1), b), given)


def test_a_large_bonus_decides():
    tokens, candidates = noise(1, 4, 3, 3), noise(1, 4, 5, 5, seed=1)
    bonuses = torch.zeros(1, 9)
    bonuses[0, 2] = 1000.0  # the offset (-1, 1)
    found = match_window(tokens, candidates, (1, 1), bonuses)
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3))
