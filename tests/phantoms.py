"""Small synthetic anatomy with known maps, and registrations of it that many tests share.

Everything here runs on one thread: results do not depend on it (a test says so), and small grids are no faster on more.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from unittest import mock

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

import pullback as pb
from examples import oblique_axes, turn
from pullback.data import Image, LabelMap
from pullback.pairwise.other_scanner import OtherScanner, simulate
from pullback.registration import alignment, conclusion
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, warp

SPACING_MM = 3.0
SHAPE_3D, SHAPE_2D = (40, 48, 36), (72, 84)
SCANNER = OtherScanner(
    spacing_mm=(3.2, 2.8, 3.5), noise=0.005, bias=0.1, deformation_mm=30.0, deformation_width_mm=18.0
)

# centre, radii (mm) and intensity of the parts, painted in order; no axis of symmetry
PARTS_3D = [
    ((0, 0, 0), (42, 56, 38), 60),
    ((20, -34, -22), (20, 22, 22), 80),
    ((-4, 6, 4), (32, 42, 26), 100),
    ((-16, 22, 6), (11, 15, 9), 170),
    ((18, -22, -8), (14, 10, 12), 30),
    ((14, 26, -12), (8, 12, 8), 190),
    ((-14, -28, 12), (9, 13, 10), 15),
    ((24, 4, 14), (7, 9, 8), 150),
    ((-26, -6, -10), (7, 12, 8), 180),
]


def _paint(grid: Grid, parts: Sequence[tuple]) -> np.ndarray:
    points, values = grid.centres().numpy(), np.zeros(grid.shape)
    for centre, radii, value in parts:
        scaled = (points - np.array(centre[: grid.num_dims])) / np.array(radii[: grid.num_dims])
        values[(scaled**2).sum(axis=-1) < 1] = value
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(grid.shape), 1.6)
    values = np.where(values > 0, values + 40 * texture / np.abs(texture).max(), 0)
    values = ndimage.gaussian_filter(values, 0.7)
    values[values < 2] = 0
    return values.astype(np.float32)


@cache
def head() -> Image:
    """An object of many parts within constant background, 3 mm, RAS."""
    grid = Grid.from_spacing(SHAPE_3D, SPACING_MM, origin=[-s * SPACING_MM / 2 for s in SHAPE_3D])
    return Image(torch.from_numpy(_paint(grid, PARTS_3D)[None]), grid, {"name": "head"})


@cache
def slice_of_head() -> Image:
    """The like in 2-D, 2 mm."""
    grid = Grid.from_spacing(SHAPE_2D, 2.0, origin=[-s for s in SHAPE_2D])
    return Image(torch.from_numpy(_paint(grid, PARTS_3D)[None]), grid, {"name": "slice"})


def texture(offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Image:
    """Tissue without a background, off the blocks that are counted from the world's origin, moved exactly."""
    grid = Grid.from_spacing((37, 46, 41), 1.0, origin=(1.0, 3.0, -2.0))
    places = grid.centres() - torch.tensor(offset_mm, dtype=torch.float64)
    waves = torch.Generator().manual_seed(1)
    directions = torch.randn(40, 3, generator=waves, dtype=torch.float64) * 0.35
    phases = torch.rand(40, generator=waves, dtype=torch.float64) * 2 * math.pi
    values = torch.sin(places @ directions.T + phases).sum(dim=-1).to(torch.float32)
    return Image((100 + 10 * values)[None], grid)


def labels_of(image: Image) -> LabelMap:
    """The parts of an image by intensity: 1 dark, 2 middle, 3 bright."""
    bounds = torch.tensor([2.0, 50.0, 130.0])
    return LabelMap(torch.bucketize(image.tensor, bounds, right=True).to(torch.int32), image.grid)


def points_in(image: Image) -> Tensor:
    """World points of the voxels of the object, ``(N, D)``."""
    return image.grid.to_world(torch.nonzero(image.tensor[0] > 10).to(torch.float64))


def gaps_mm(a: AbstractTransform, b: AbstractTransform, image: Image) -> Tensor:
    """How far two maps disagree at each point of the object, mm."""
    points = points_in(image)
    return torch.linalg.vector_norm(a(points) - b(points), dim=1)


def seen_by(image: Image, truth: AbstractTransform, spacing_mm: float = 2.8) -> Image:
    """The moving image, on an oblique grid of its own, whose true map from `image` is `truth` (any dimensions)."""
    num_dims = image.grid.num_dims
    axes = oblique_axes() if num_dims == 3 else turn(12)
    direction = torch.from_numpy(axes @ np.diag([-1.0, 1, -1][:num_dims])).flip(-1)
    along = truth(image.grid.corners()) @ direction / spacing_mm
    low, high = along.min(dim=0).values - 2, along.max(dim=0).values + 2
    shape = [int(n) + 1 for n in (high - low).tolist()]
    grid = Grid.from_spacing(shape, spacing_mm, origin=(direction @ low * spacing_mm).tolist(), direction=direction)
    return warp(image, ~truth, onto=grid)


def truth_of(kind: str, num_dims: int = 3) -> AbstractTransform:
    """A known linear map: ``rigid``, ``similarity`` or ``affine``."""
    angles = (0.15, -0.1, 0.2) if num_dims == 3 else (0.25,)
    scaling = {"rigid": 1.0, "similarity": 1.08}.get(kind)
    parts = {
        "rotation": angles,
        "translation_mm": (9.0, -14.0, 6.0)[:num_dims],
        "scaling": [scaling] * num_dims if scaling else (1.06, 0.95, 1.03)[:num_dims],
        "shear": None if scaling else (0.03, -0.04, 0.02)[: len(angles)],
    }
    return Affine.from_parts(**parts, num_dims=num_dims)


@cache
def other_scan() -> tuple[Image, AbstractTransform]:
    """The head with another scanner: oblique, permuted, deformed, biased and noisy; and the true map to it."""
    return simulate(head(), SCANNER)


@cache
def plain_scan() -> tuple[Image, AbstractTransform]:
    """The head after a known affine, and that affine."""
    truth = truth_of("affine")
    return seen_by(head(), truth), truth


@cache
def deformable() -> pb.Registration:
    """The full registration of the head and the other scan, with labels and points to score."""
    (moving, truth), points = other_scan(), points_in(head())[::997]
    return register(
        head(),
        moving,
        fixed_labels=labels_of(head()),
        moving_labels=labels_of(moving),
        fixed_points=pb.Points(points),
        moving_points=pb.Points(truth(points)),
    )


@cache
def quick() -> pb.Registration:
    """A cheap one: affine from the headers."""
    return register(head(), plain_scan()[0], model="affine", initial="header")


def register(fixed, moving, *, judged: bool = False, **options) -> pb.Registration:
    """`pullback.register` on one thread; unless `judged`, without the search for rivals of a start that was given."""
    with contextlib.ExitStack() as stack:
        if not judged:
            stack.enter_context(no_rivals())
        return pb.register(fixed, moving, **{"threads": 1, **options})


@contextlib.contextmanager
def no_rivals() -> Iterator[None]:
    """Leave out the search for other poses that the verdict makes (seconds), for tests that are not about it."""
    with contextlib.ExitStack() as stack:
        for module in (conclusion, alignment):
            stack.enter_context(mock.patch.object(module, "margin_over_rivals", return_value=1.0))
        yield


def with_values(image: Image, tensor: Tensor) -> Image:
    """The same grid with other voxels."""
    return replace(image, tensor=tensor)
