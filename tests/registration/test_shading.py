"""Slow shading: what takes it out, when it is taken out, and what is gained by that."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.registration import Plan, alignment, shading
from pullback.registration.choice import build
from pullback.registration.volume import Volume, prepare
from pullback.registration.work import Work
from pullback.space import Grid

STILL = np.eye(4)
BLIND = 1.6
"""Natural logarithm of the ratio of a shaded image's bright end to its dark one."""


def shaded(image: Image, towards: int, amount: float = 1.0, axis: int = 0) -> Image:
    """Brighter to one side along an axis of the array, by a factor of e to the `amount` from end to end."""
    size = image.grid.shape[axis]
    ramp = torch.exp(towards * amount * (torch.linspace(-0.5, 0.5, size)))
    return image.with_tensor(image.tensor * ramp.reshape([-1 if a == axis else 1 for a in range(image.grid.num_dims)]))


def work_of(fixed: Image, moving: Image) -> Work:
    return Work(Plan(), prepare(fixed), prepare(moving), lambda *told: None)


def brightness_of_eighths(volume: Volume) -> np.ndarray:
    """Mean of the object in each eighth of its first axis but the outermost."""
    parts = np.linspace(0, volume.grid.shape[0], 9).astype(int)[1:-1]
    values, inside = volume.tensor[0, 0], volume.foreground
    return np.array([float(values[a:b][inside[a:b]].mean()) for a, b in pairwise(parts)])


@pytest.mark.parametrize("towards", [-1, 1])
def test_the_object_is_as_bright_everywhere_and_the_background_stays(towards: int):
    volume = prepare(shaded(phantoms.head(), towards, 2.0))
    evened, _ = shading.without_shading(volume, volume)
    before, after = brightness_of_eighths(volume), brightness_of_eighths(evened)
    assert before.max() / before.min() > 1.8
    assert after.max() / after.min() < 1.25
    assert not evened.tensor[volume.tensor == 0].any()


def test_a_factor_that_changes_slowly_makes_no_difference():
    plain, other = (shading.without_shading(v, v)[0].tensor for v in map(prepare, (phantoms.head(), dim_side())))
    inside = plain > 0.2
    ratio = other[inside] / plain[inside]
    assert float(ratio.std() / ratio.mean()) < 0.1  # of the ramp itself: 0.3


def dim_side() -> Image:
    return shaded(phantoms.head(), 1, BLIND)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_voxels_of_weight_0_tell_nothing(num_dims: int):
    image = phantoms.head() if num_dims == 3 else phantoms.slice_of_head()
    tensor = image.tensor.clone()
    tensor[..., :9] = float("nan")
    with_holes = prepare(Image(tensor, image.grid))
    assert with_holes.weights is not None
    evened, _ = shading.without_shading(with_holes, with_holes)
    assert evened.tensor.isfinite().all()
    assert evened.tensor.shape == with_holes.tensor.shape


def test_the_same_bits_with_any_number_of_threads():
    before, volume = torch.get_num_threads(), prepare(dim_side())
    try:
        found = []
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            found.append(shading.without_shading(volume, volume)[0].tensor)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_channel_that_shows_nothing_stays():
    tensor = torch.zeros(2, 16, 18, 20)
    tensor[0, 4:12, 4:12, 4:12] = phantoms.head().tensor[0, 14:22, 14:22, 14:22] + 50
    tensor[1, 0, 0, 0] = 1.0
    volume = prepare(Image(tensor, Grid.from_spacing((16, 18, 20), 1.0)))
    volume = Volume(volume.tensor, volume.grid, volume.tensor[0, 0] > 0, None, True, False)
    volume.tensor[:, 1] = 0
    assert not shading.without_shading(volume, volume)[0].tensor[:, 1].any()


def test_one_contrast_is_known_where_shading_hides_it():
    bright_left, bright_right = (shaded(phantoms.head(), towards, 2 * BLIND) for towards in (-1, 1))
    choice = alignment._choose(work_of(bright_left, bright_right), STILL)
    assert choice.name == "lncc"
    assert "do without slow shading" in choice.why


def test_two_contrasts_stay_two():
    head = phantoms.head()
    inverted = head.with_tensor(torch.where(head.tensor > 0, 250 - head.tensor, head.tensor))
    assert alignment._choose(work_of(head, shaded(inverted, 1)), STILL).name == "mi"


def test_the_difference_in_shading_grows_with_the_ramp_between_both_images():
    plain, weak, strong = map(prepare, (phantoms.head(), shaded(phantoms.head(), 1), shaded(phantoms.head(), 1, 3.0)))
    ramp = torch.linspace(-0.5, 0.5, plain.grid.shape[0])[:, None, None].expand(plain.grid.shape)
    spread, found = float(ramp[plain.foreground].std()), shading.shading_between(plain, weak, STILL)
    assert shading.shading_between(plain, plain, STILL) == pytest.approx(0, abs=1e-6)
    assert 0.5 * spread < found < spread  # neighbourhoods even some of it out
    assert shading.shading_between(plain, strong, STILL) == pytest.approx(3 * found, rel=0.03)
    assert shading.shading_between(strong, plain, STILL) == pytest.approx(3 * found, rel=0.03)


def test_objects_that_do_not_meet_do_not_differ():
    apart, head = np.eye(4), prepare(phantoms.head())
    apart[0, 3] = 1e3
    assert shading.shading_between(head, prepare(dim_side()), apart) == 0


@pytest.mark.parametrize(("lost", "is_evened"), [(0.07, True), (0.09, False)], ids=["shading", "anatomy"])
def test_slow_differences_by_which_images_correlate_are_anatomy_and_stay(
    lost: float, is_evened: bool, monkeypatch: pytest.MonkeyPatch
):
    work, told = work_of(phantoms.head(), dim_side()), iter((0.9, 0.9 - lost))
    monkeypatch.setattr(alignment, "correlation_inside", lambda *_volumes: next(told))
    choice, fixed, _ = alignment.settle_shading(work, build("lncc", work.fixed, work.moving, "asked for"), STILL)
    assert (fixed is not work.fixed) == is_evened
    assert ("slow shading was taken out" in choice.why) == is_evened


def test_images_without_shading_are_deformed_as_they_are():
    work = work_of(phantoms.head(), phantoms.head())
    choice = build("lncc", work.fixed, work.moving, "asked for")
    assert alignment.settle_shading(work, choice, STILL) == (choice, work.fixed, work.moving)
    assert work.margin is None


def test_other_similarities_see_what_there_is():
    work = work_of(phantoms.head(), dim_side())
    choice = build("mse", work.fixed, work.moving, "asked for")
    assert alignment.settle_shading(work, choice, STILL) == (choice, work.fixed, work.moving)


def test_shading_is_taken_out_before_deforming_and_that_is_said():
    work = work_of(phantoms.head(), dim_side())
    choice, fixed, moving = alignment.settle_shading(work, build("lncc", work.fixed, work.moving, "asked for"), STILL)
    assert "asked for; slow shading was taken out before deforming" in choice.why
    assert not torch.equal(moving.tensor, work.moving.tensor)
    assert work.margin is not None  # other poses were compared without shading, too
    assert work.margin > 0.1
    assert moving.grid is work.moving.grid
    assert fixed.foreground is work.fixed.foreground


def test_strong_shading_is_not_deformed_for():
    moving, truth = phantoms.other_scan()
    fixed, moving = shaded(phantoms.head(), 1, BLIND), shaded(moving, -1, BLIND, axis=1)
    found = phantoms.register(fixed, moving, initial="header")
    gaps = phantoms.gaps_mm(found.result.fixed_to_moving, truth, phantoms.head())
    assert found.result.similarity.name == "lncc"
    assert float(gaps.mean()) < 1.6  # 2.4 mm with the shading, 0.8 mm where there is none
