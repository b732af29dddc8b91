"""Hard starts: an image moved, turned, scaled, stored otherwise, cropped, shaded and made noisy, by a seed.

The map that was done to the world is known, so that what a registration finds can be held against the map it found
before. All of it happens to every start; how much of each is drawn by the seed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pullback.data import Image
from pullback.registration.volume import prepare
from pullback.space import Grid, Reorientation

LARGEST_ANGLE_DEGREES, LARGEST_SHIFT_MM = 180.0, 100.0
SCALES, ANISOTROPY = (0.8, 1.25), 0.03
"""Scale of the whole, and the standard deviation of log scale of each axis beyond it; no axis leaves `SCALES`."""
SMALLEST_SHARE = 0.6
"""Share of the field of view that each axis keeps at least (all three at this share leave 22 % of the volume)."""
LARGEST_BIAS, LARGEST_NOISE = 0.3, 0.05
"""Standard deviation of the log of the bias field at most; that of the noise as a share of the 99th percentile."""
NOISES = ("gaussian", "magnitude", "cut at zero")
"""Added everywhere, background too: as it is; the length of a complex value, as scanners make; negative values to 0."""


@dataclass(frozen=True)
class Start:
    """A perturbed image.

    Attributes:
        image: The image.
        moved: World matrix ``(4, 4)``: from where a point of the anatomy was to where it is now.
        facts: What was drawn, for the table.
    """

    image: Image
    moved: np.ndarray
    facts: dict[str, Any]


def perturb(image: Image, random: np.random.Generator) -> Start:
    """Everything at once to an image.

    Args:
        image: As it is.
        random: What draws.
    """
    foreground = prepare(image)
    centre = foreground.grid.to_world(torch.nonzero(foreground.foreground).double()).mean(dim=0).numpy()
    grid, moved, facts = _move(image.grid, centre, random)
    values = image.tensor[0].numpy().astype(np.float64)
    values, shading = _shade(values, random)
    values, noise = _disturb(values, random)
    start, stop, shares = _window(values.shape, image.grid.to_voxel(torch.from_numpy(centre)[None])[0].numpy(), random)
    cropped = values[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    kept = _share_inside(image, foreground, start, stop)
    changed = Image(torch.from_numpy(cropped.astype(np.float32))[None], grid.crop(start, stop))
    changed, stored = _store(changed, random)
    facts |= {"crop": shares, "kept": kept, "bias": shading, **noise, "stored": stored}
    return Start(changed, moved, facts)


def _move(grid: Grid, centre: np.ndarray, random: np.random.Generator) -> tuple[Grid, np.ndarray, dict[str, Any]]:
    """The grid scaled along its axes and turned, both about a point, and shifted; and the world matrix of that."""
    axis, way = (v / np.linalg.norm(v) for v in random.normal(size=(2, 3)))
    angle, shift = random.uniform(0, LARGEST_ANGLE_DEGREES), random.uniform(0, LARGEST_SHIFT_MM)
    scales = np.exp(random.uniform(*np.log(SCALES)) + random.normal(0, ANISOTROPY, 3)).clip(*SCALES)
    axes = grid.direction.numpy()
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_rotvec(np.radians(angle) * axis).as_matrix() @ axes @ np.diag(scales) @ axes.T
    moved[:3, 3] = centre + shift * way - moved[:3, :3] @ centre
    facts = {"degrees": angle, "shift_mm": shift, "scales": scales.tolist()}
    return Grid(grid.shape, torch.from_numpy(moved) @ grid.voxel_to_world), moved, facts


def _shade(values: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
    spread = random.uniform(0, LARGEST_BIAS)
    return shaded(values, spread, random), spread


def shaded(values: np.ndarray, spread: float, random: np.random.Generator) -> np.ndarray:
    """Times the exponential of a smooth field of that spread, through four random values along each axis."""
    knots = random.normal(size=(4, 4, 4))
    field = ndimage.zoom(knots, [n / 4 for n in values.shape], order=3, mode="nearest", grid_mode=True)
    return values * np.exp(spread * (field - field.mean()) / field.std())


def _disturb(values: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
    share, kind = random.uniform(0, LARGEST_NOISE), NOISES[random.integers(len(NOISES))]
    sigma = share * np.percentile(values[values > values.min()], 99)
    real, imaginary = sigma * random.normal(size=(2, *values.shape))
    if kind == "magnitude":
        values = np.hypot(values + real, imaginary)
    else:
        values = values + real if kind == "gaussian" else np.maximum(values + real, 0)
    return values, {"noise": share, "noise_kind": kind}


def _window(
    shape: tuple[int, ...], centre: np.ndarray, random: np.random.Generator
) -> tuple[list[int], list[int], list[float]]:
    """A random window that keeps the object's centre: first and last (exclusive) voxel, and shares, of each axis."""
    start, stop = [], []
    for n, middle in zip(shape, centre, strict=True):
        size = int(np.ceil(n * random.uniform(SMALLEST_SHARE, 1)))
        low, high = max(0, int(np.ceil(middle)) + 1 - size), min(n - size, int(middle))
        start.append(int(random.integers(low, high + 1)))
        stop.append(start[-1] + size)
    return start, stop, [(b - a) / n for a, b, n in zip(start, stop, shape, strict=True)]


def _share_inside(image: Image, volume, start: list[int], stop: list[int]) -> float:
    """Share of the object that the window keeps."""
    points = image.grid.to_voxel(volume.grid.to_world(torch.nonzero(volume.foreground).double())).numpy()
    return float(((points > np.array(start) - 0.5) & (points < np.array(stop) - 0.5)).all(axis=1).mean())


def _store(image: Image, random: np.random.Generator) -> tuple[Image, str]:
    """Axes in another order and direction; every voxel stays where it is in the world."""
    order, flips = tuple(int(n) for n in random.permutation(3)), tuple(bool(f) for f in random.integers(2, size=3))
    word = "".join(f"{'-' if flip else '+'}{axis}" for axis, flip in zip(order, flips, strict=True))
    return image.reorient(Reorientation(order, flips)), word
