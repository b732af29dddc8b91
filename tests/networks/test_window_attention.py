"""Window attention: windows, walls, bonuses by relative place, and parts that are left out by chance."""

import pytest
import torch

from examples import noise
from pullback.networks import window_attention
from pullback.networks.window_attention import WindowAttention, WindowBlock


@pytest.mark.parametrize(("shape", "window"), [((10, 15), (5, 5)), ((10, 5, 3), (5, 5, 3))])
def test_windows_are_split_and_joined(shape, window):
    x = noise(2, *shape, 4)
    windows = window_attention.split(x, window)
    assert windows.shape[2] == torch.tensor(window).prod()
    assert torch.equal(window_attention.join(windows, shape, window), x)
    first = tuple(slice(n) for n in window)
    assert torch.equal(windows[0, 0], x[(0, *first)].flatten(0, -2))


@pytest.mark.parametrize("shift", [0, 2])
def test_attention_does_not_look_over_the_edge(shift):
    """What one voxel holds reaches no voxel more than a window away, and none across the roll or the filling."""
    torch.manual_seed(0)
    layer = WindowAttention(8, 1, (5, 5), (shift, shift))
    x = noise(1, 13, 12, 8)
    other = x.clone()
    other[0, 0, 0] += 1
    with torch.no_grad():
        changed = (layer(x) - layer(other)).abs().amax(-1)[0] > 1e-7
    own = shift or 5
    reached = torch.zeros(13, 12, dtype=torch.bool)
    reached[:own, :own] = True
    assert torch.equal(changed, reached)


def test_relative_places_share_their_bonus():
    layer = WindowAttention(8, 1, (5, 5), (0, 0))
    bonus = layer._bonuses((2, 3))[0]
    assert bonus.shape == (6, 6)
    assert len(bonus.unique()) == 3 * 5
    torch.testing.assert_close(bonus.diagonal(), bonus[0, 0].expand(6))
    whole = layer._bonuses((5, 5))[0].reshape(5, 5, 5, 5)
    torch.testing.assert_close(whole[:2, :3, :2, :3].reshape(6, 6), bonus)


def test_attention_within_one_window_by_hand():
    torch.manual_seed(0)
    layer = WindowAttention(4, 2, (2, 3), (0, 0), is_biased=False)
    x = noise(1, 2, 3, 4)
    tokens = x.reshape(6, 4)
    query, key, value = (tokens @ layer.query_key_value.weight.T).chunk(3, dim=1)
    bonuses = layer._bonuses((2, 3))
    parts = []
    for number in range(2):
        own = slice(2 * number, 2 * number + 2)
        shares = (query[:, own] @ key[:, own].T / 2**0.5 + bonuses[number]).softmax(1)
        parts.append(shares @ value[:, own])
    expected = layer.project(torch.cat(parts, dim=1)).reshape(1, 2, 3, 4)
    torch.testing.assert_close(layer(x), expected)


def test_a_window_as_long_as_the_lattice_is_shifted_where_asked_for():
    x = noise(1, 4, 4, 8)
    for shifts_whole in (False, True):
        torch.manual_seed(0)
        layer = WindowAttention(8, 1, (4, 4), (2, 2), shifts_whole=shifts_whole)
        other = x.clone()
        other[0, 0, 0] += 1
        changed = (layer(x) - layer(other)).abs().amax(-1)[0] > 1e-7
        assert changed.all() == (not shifts_whole)
        assert changed[:2, :2].all()


def test_what_is_left_out_by_chance_keeps_the_mean():
    torch.manual_seed(0)
    block = WindowBlock(4, WindowAttention(4, 1, (2,), (0,)), drop_path=0.25)
    added = torch.ones(4000, 2, 4)
    kept = block._kept(added)
    torch.testing.assert_close(kept.unique(), torch.tensor([0, 4 / 3]))
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(block.eval()._kept(added), added)
