"""How a file stores an image changes nothing: orientation, cropping, padding, format; nor do threads and repetition."""

from collections.abc import Callable

import numba
import pytest
import torch

import phantoms
import pullback as pb
from pullback.data import Image
from pullback.kernels.threads import use_threads
from pullback.space import Reorientation
from pullback.transforms import AbstractTransform

LIMIT_MM = 0.1
MODELS = ["affine", "deformable"]


def stored(order: tuple[int, ...], flips: tuple[bool, ...]) -> Callable[[Image], Image]:
    return lambda image: image.reorient(Reorientation(order, flips))


def crop(image: Image) -> Image:
    """Background cut off, by another amount on each side."""
    where = torch.nonzero(image.tensor[0] > 0)
    low = (where.min(dim=0).values - torch.arange(1, image.grid.num_dims + 1)).clamp(min=0).tolist()
    size = torch.tensor(image.grid.shape)
    high = torch.minimum(where.max(dim=0).values + 2 + torch.arange(image.grid.num_dims), size).tolist()
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return image.with_tensor(image.tensor[(slice(None), *window)].contiguous(), image.grid.crop(low, high))


def pad(image: Image) -> Image:
    """Zeros around, by another amount on each side."""
    before = list(range(3, 3 + image.grid.num_dims))
    after = list(range(7, 7 + image.grid.num_dims))
    shape = [n + a + b for n, a, b in zip(image.grid.shape, before, after, strict=True)]
    tensor = torch.zeros(image.num_channels, *shape)
    tensor[(slice(None), *(slice(a, a + n) for a, n in zip(before, image.grid.shape, strict=True)))] = image.tensor
    stop = [n + b for n, b in zip(image.grid.shape, after, strict=True)]
    return image.with_tensor(tensor, image.grid.crop([-a for a in before], stop))


STORAGE: dict[str, Callable[[Image], Image]] = {
    "LPS": stored((0, 1, 2), (True, True, False)),
    "PIR": stored((1, 2, 0), (True, True, False)),
    "flipped": stored((0, 1, 2), (True, False, False)),
    "permuted": stored((2, 0, 1), (False, False, False)),
    "cropped": crop,
    "padded": pad,
}


def clean_scan() -> Image:
    """The other scan without noise, so that its background is constant and can be cropped."""
    moving = phantoms.other_scan()[0]
    return phantoms.with_values(moving, torch.where(moving.tensor > 4, moving.tensor, 0.0))


def run(model: str, fixed: Image, moving: Image) -> AbstractTransform:
    return phantoms.register(fixed, moving, model=model, initial="centre", preset="fast").fixed_to_moving


@pytest.fixture(scope="module", params=MODELS)
def plain(request) -> tuple[str, AbstractTransform]:
    return request.param, run(request.param, phantoms.head(), clean_scan())


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("change", STORAGE.values(), ids=STORAGE.keys())
def test_storage_changes_nothing(plain, side: str, change: Callable[[Image], Image]):
    model, reference = plain
    fixed, moving = phantoms.head(), clean_scan()
    fixed, moving = (change(fixed), moving) if side == "fixed" else (fixed, change(moving))
    assert phantoms.gaps_mm(run(model, fixed, moving), reference, phantoms.head()).max() < LIMIT_MM


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_resaving_changes_nothing(plain, suffix: str, tmp_path):
    model, reference = plain
    paths = [tmp_path / f"{name}{suffix}" for name in ("fixed", "moving")]
    for path, image in zip(paths, (phantoms.head(), clean_scan()), strict=True):
        pb.write_image(path, image)
    found = run(model, *(pb.read_image(path) for path in paths))
    assert phantoms.gaps_mm(found, reference, phantoms.head()).max() < LIMIT_MM


@pytest.mark.parametrize(("change", "side"), [(crop, "fixed"), (pad, "moving")])
def test_the_full_search_is_blind_to_storage_too(change: Callable[[Image], Image], side: str):
    images = {"fixed": phantoms.head(), "moving": clean_scan()}
    images[side] = change(images[side])
    found = phantoms.register(*images.values(), model="affine").fixed_to_moving
    reference = phantoms.register(phantoms.head(), clean_scan(), model="affine").fixed_to_moving
    assert phantoms.gaps_mm(found, reference, phantoms.head()).max() < LIMIT_MM


def same_bits(a: pb.Registration, b: pb.Registration) -> bool:
    fields = [(a.result.linear.matrix, b.result.linear.matrix)]
    fields += [(a.result.field.displacement, b.result.field.displacement)]
    fields += [(a.result.field.inverse().displacement, b.result.field.inverse().displacement)]
    return all(torch.equal(x, y) for x, y in fields)


def test_twice_gives_the_same_bits():
    assert same_bits(phantoms.register(phantoms.head(), phantoms.other_scan()[0]), phantoms.deformable())


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two cores")
@pytest.mark.parametrize("similarity", ["lncc", "mi"])
def test_one_thread_and_two_give_the_same_bits(similarity: str):
    options = {"similarity": similarity, "initial": "header", "preset": "fast"}
    try:
        found = [phantoms.register(phantoms.head(), clean_scan(), threads=n, **options) for n in (1, 2)]
    finally:
        use_threads(1)
    assert same_bits(*found)
