"""Volumes as sprites: every voxel in its place, in any storage order, and small."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from pullback.data import Image, LabelMap
from pullback.reports import sprites
from pullback.reports.drawings import Drawings
from pullback.reports.explorer import volumes
from pullback.space import Reorientation


def decode(uri):
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def unfold(mosaic, layout):
    """What the page's script does: the volume (I, J, K[, 3]) of a sprite."""
    (width, height), (nx, ny, nz) = layout.tile, layout.grid.shape
    tiles = [
        mosaic[z // layout.columns * height :, z % layout.columns * width :][:ny, :nx].swapaxes(0, 1) for z in range(nz)
    ]
    return np.stack(tiles, axis=2)


def test_a_sprite_unfolds_to_the_volume(make_view):
    layout = sprites.layout_of(make_view((9, 7, 11)).fixed)
    volume = np.arange(9 * 7 * 11).reshape(9, 7, 11)
    assert np.array_equal(unfold(layout.mosaic(volume), layout), volume)


def test_grey_levels_survive(make_view):
    drawings = Drawings(make_view((24, 30, 20)))
    layout = sprites.layout_of(drawings.view.fixed)
    volume = sprites.grey_volume(drawings, "fixed", layout)
    found = unfold(decode(sprites.grey_sprite(volume, layout)), layout) / 255
    assert np.abs(found - volume).mean() < 0.02


def test_storage_order_is_undone(make_view):
    view = make_view((8, 10, 6))
    other = Reorientation((2, 0, 1), (True, False, True))
    labels = LabelMap((view.fixed.tensor * 3).int(), view.fixed.grid)
    order = labels.labels
    stored = labels.reorient(other)
    first, second = (
        sprites.label_sprite(one, order, sprites.layout_of(Image(one.tensor.float(), one.grid)))
        for one in (labels, stored)
    )
    assert first == second


@pytest.mark.parametrize("count", [3, 700])
def test_labels_are_exact_however_many(make_view, count):
    view = make_view((10, 12, 9))
    generator = np.random.default_rng(0)
    known = np.sort(generator.choice(100_000, count, replace=False)) + 1
    values = np.concatenate([[0], known])[generator.integers(0, count + 1, (10, 12, 9))]
    labels, layout = LabelMap(torch.from_numpy(values)[None], view.fixed.grid), sprites.layout_of(view.fixed)
    found = unfold(decode(sprites.label_sprite(labels, known.tolist(), layout)), layout).astype(int)
    indices = found[..., 0] + 256 * found[..., 1] if count > 255 else found
    assert np.array_equal(np.concatenate([[0], known])[indices], values)


def test_the_slices_that_move_know_where_differences_count(make_view):
    view = make_view((9, 10, 5))
    seen = torch.ones(9, 10, 5, dtype=torch.bool)
    view = replace(view, before_seen=seen, warped_seen=seen.clone())
    view.warped_seen[:4] = False
    pictures = json.loads(volumes(Drawings(view), []))["pictures"]
    assert "before_seen" not in pictures
    layout = sprites.layout_of(view.fixed)
    assert (unfold(decode(pictures["warped_seen"]), layout) == 255 * view.warped_seen.numpy()).all()


def test_the_jacobian_keeps_its_folds(make_view):
    view = make_view((12, 10, 8))
    jacobian = torch.full((12, 10, 8), 2.0)
    jacobian[3, 4, 5] = -1.0
    layout = sprites.layout_of(view.fixed)
    levels = unfold(decode(sprites.jacobian_sprite(jacobian, layout)), layout).astype(float)
    assert np.argwhere(levels == 0).tolist() == [[3, 4, 5]]
    half = sprites.JACOBIAN_LEVELS / 2
    factor = sprites.JACOBIAN_LIMIT ** ((levels[0, 0, 0] - half) / (half - 1))
    assert factor == pytest.approx(2.0, rel=0.03)


def test_large_images_are_averaged_where_voxels_are_finest(make_grid):
    fixed = Image(torch.zeros(1, 40, 40, 20), make_grid((40, 40, 20), (0.5, 1.0, 2.0)))
    layout = sprites.layout_of(fixed, most_voxels=9000)
    assert layout.factors == (3, 2, 1)
    assert layout.grid.num_voxels <= 9000
    assert sprites.layout_of(fixed).factors == (1, 1, 1)
