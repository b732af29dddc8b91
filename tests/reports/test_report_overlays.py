"""Two pictures in one."""

import numpy as np
import pytest
import torch

from pullback.data import Image
from pullback.reports import overlays
from pullback.reports.colours import DIVERGING, colour_map
from pullback.reports.intensities import window_of


def disc(shape=(60, 80), centre=(30, 40), radius=15):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2).astype(np.float32)


def test_agreement_is_grey_and_disagreement_is_not():
    one, other = disc(), disc(centre=(30, 46))
    same = overlays.colour_overlay(one, one)
    assert np.array_equal(same[..., 0], same[..., 1])
    mixed = overlays.colour_overlay(one, other)
    only_fixed, only_moving = (one > other), (other > one)
    assert (mixed[only_fixed] == [0, 1, 0]).all()
    assert (mixed[only_moving] == [1, 0, 1]).all()


def test_squares_alternate():
    board = overlays.checkerboard(np.zeros((40, 80)), np.ones((40, 80)), squares=8)
    assert board[0, 0] == 0
    assert board[0, 10] == board[10, 0] == 1
    assert board[10, 10] == 0
    assert board.mean() == pytest.approx(0.5)


def test_colour_pictures_can_be_checkered():
    assert overlays.checkerboard(np.zeros((9, 7, 3)), np.ones((9, 7, 3))).shape == (9, 7, 3)


@pytest.mark.parametrize("shapes", [((9, 7, 3), (9, 7)), ((9, 7), (9, 7, 3))])
def test_a_checkerboard_of_a_photograph_and_grey_levels_has_colours(shapes: tuple[tuple[int, ...], tuple[int, ...]]):
    board = overlays.checkerboard(np.zeros(shapes[0]), np.ones(shapes[1]), squares=1)
    assert board.shape == (9, 7, 3)
    assert not board.any()


def test_edges_lie_on_the_rim_and_are_thin():
    edges = overlays.edges_of(disc(), 2.0)
    rows, columns = np.nonzero(edges)
    assert np.abs(np.hypot(rows - 30, columns - 40) - 15).max() < 2.5
    assert edges.sum() < 3 * 2 * np.pi * 15
    assert not overlays.edges_of(np.full((20, 20), 0.3), 2.0).any()


def test_texture_is_smoothed_until_edges_can_be_read():
    noise = np.random.default_rng(0).random((200, 200))
    assert overlays.legible_sigma(noise) > overlays.legible_sigma(disc((200, 200), (100, 100), 60))


def test_label_outlines_are_smooth_and_in_place():
    labels = disc((20, 30), (10, 15), 6).astype(int) * 700
    edges = overlays.label_edges(labels, (200, 300))
    rows, columns = np.nonzero(edges)
    assert np.abs(np.hypot(rows - 104.5, columns - 154.5) - 60).max() < 10
    assert not overlays.label_edges(np.zeros((20, 30), int), (200, 300)).any()
    assert overlays.label_edges(labels, (7, 11)).shape == (7, 11)


def test_large_labels_have_outlines_too():
    labels = np.zeros((30, 40), dtype=np.int64)
    labels[10:20, 12:28] = 1 << 32
    assert (overlays.label_edges(labels, (60, 80)) == overlays.label_edges(labels >> 32, (60, 80))).all()
    assert overlays.label_edges(labels, (60, 80)).any()


def test_coinciding_lines_have_their_own_colour():
    fixed, moving = (overlays.label_edges(disc(centre=at).astype(int), (60, 80)) for at in ((30, 40), (30, 50)))
    assert set(np.unique(overlays.classify_lines(fixed, fixed))) == {0, 3}
    assert set(np.unique(overlays.classify_lines(fixed, moving))) == {0, 1, 2, 3}
    assert set(np.unique(overlays.classify_lines(None, moving))) == {0, 2}


def test_the_difference_scale_is_symmetric():
    dark, bright = np.zeros((4, 4)), np.full((4, 4), 0.2)
    assert np.allclose(overlays.signed_difference(dark, dark, 0.2), colour_map(DIVERGING, np.zeros(1))[0])
    assert np.allclose(overlays.signed_difference(bright, dark, 0.2), colour_map(DIVERGING, -np.ones(1))[0])
    assert overlays.difference_limit([(dark, bright), (bright, dark)]) == pytest.approx(0.2)
    assert overlays.difference_limit([(dark, dark)]) == 0.05


def test_windows_are_robust(make_grid):
    tensor = torch.rand(1, 30, 30, 30)
    tensor[0, 0, 0, 0] = 1e6
    window = window_of(Image(tensor, make_grid((30, 30, 30))))
    assert window.high < 1.1
    assert window_of(Image(2 * tensor, make_grid((30, 30, 30)))).high == pytest.approx(2 * window.high)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e30])
def test_constant_images_have_a_picture(make_grid, value):
    image = Image(torch.full((1, 6, 6), value), make_grid((6, 6)))
    assert not window_of(image).scale(image.tensor.numpy()).any()


def test_a_single_bright_voxel_is_seen(make_grid):
    tensor = torch.zeros(1, 40, 40, 40)
    tensor[0, 20, 20, 20] = 5.0
    window = window_of(Image(tensor, make_grid((40, 40, 40))))
    assert (window.low, window.high) == (0.0, 5.0)
