"""What the engine works on: an image made comparable, always in three dimensions.

A 2-D image becomes a volume with a first axis of one voxel, in a world with a first coordinate that nothing changes.
The axes are reordered to be as near to RAS as they get, so that the storage order of a file cannot change a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback import functional
from pullback.data import Image, LabelMap
from pullback.registration.planes import lift_grid, lower_grid
from pullback.space import Grid, closest_to_ras

BACKGROUND_SHARE = 0.05
"""An image has a constant background if this share of its voxels holds its most frequent extreme value."""
SAME_SHARE = 0.7
"""An object of which this share has one value is a silhouette; the rim of a mask that was resampled has others."""
LEAST_ERASED, LEAST_AIR, LEAST_AIR_FOR_ERASED, DARK = 0.005, 0.12, 0.4, 0.03
"""Voxels of one dark value side by side were erased, such as a face, or never measured, if they are at least the first
of these shares of the image, and other dark ones, as air is that is not constant, at least the second of the image and
the third of them. They are 0.19 to 0.37 of heads, and 0.45 to 1.3 of what was erased; of brains in background 0.05 at
most, of 16 of 18 ultrasound fans 0.09. What is below the fourth of the range is dark."""
WINSORISE_PERCENTILES = (0.1, 99.9)
LEAST_CORE = 0.25
"""An object of which less than this share is left without its rim keeps it."""
CUT_FACE, CUT_STEEPNESS, STEEP_PLANES = 0.3, 0.65, 3
"""An object is cut by a face of its field of view if it covers the first of these shares of its largest cross-section
there, and the second of what it covers so many planes deeper. Whole brains, cropped to their outlines, cover 0.07 at
most and mice 0.18, small phantoms 0.29, 0.54 of what lies deeper; slabs nearly all. In 2-D these are squares."""
FAINT_SHARE = 0.02
"""Voxels within this share of the intensity range above a constant background belong to it, after a light smoothing:
ringing of resampling, or noise that was cut off at zero."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A normalised image in three dimensions.

    Attributes:
        tensor: ``(1, C, I, J, K)`` float32; background near 0, standard deviation of the foreground 1.
        grid: 3-D grid of the voxels.
        foreground: ``(I, J, K)`` bool: where the object is, as far as intensities tell.
        weights: ``(1, 1, I, J, K)`` float32, voxels to compare; None when all count.
        has_background: Whether the object is surrounded by a constant background, so that outside of the field of view
            can be taken for background too, unless `is_cut`.
        is_flat: Whether this is a 2-D image.
        is_cut: Whether the field of view cuts the object, so that what lies beyond is unknown although there is
            background.
    """

    tensor: Tensor
    grid: Grid
    foreground: Tensor
    weights: Tensor | None
    has_background: bool
    is_flat: bool
    is_cut: bool = False

    @property
    def is_empty_beyond(self) -> bool:
        """Whether outside of the field of view can be taken for background."""
        return self.has_background and not self.is_cut

    @property
    def is_silhouette(self) -> bool:
        """Whether the object is of one value, as a mask's is, so that its outline is all there is."""
        inside = self.tensor[0][:, self.foreground & (self.tensor[0] > 0).all(dim=0)]
        if not inside.shape[1]:
            return False
        usual = inside[:, ::8].median(dim=1, keepdim=True).values
        return bool(((inside == usual).float().mean(dim=1) >= SAME_SHARE).all())

    @property
    def image_grid(self) -> Grid:
        """The grid in the dimensions of the image."""
        return lower_grid(self.grid, self.is_flat)

    def coarsen(self, factors: Sequence[int], *, is_dense: bool = False) -> "Volume":
        """A copy with blocks of voxels averaged; dense, so that they overlap, where it will be sampled between them."""
        if all(f == 1 for f in factors):
            return self
        whole = self._with_room_for(factors)
        strides = functional.dense_strides(factors) if is_dense else None
        foreground = functional.block_mean(whole.foreground[None, None].to(torch.float32), factors, strides)[0, 0]
        return replace(
            whole,
            tensor=functional.coarsen(whole.tensor, factors, strides),
            grid=whole.grid.coarsen(factors, strides),
            foreground=foreground >= 0.5,
            weights=None if whole.weights is None else functional.block_mean(whole.weights, factors, strides),
        )

    def _with_room_for(self, factors: Sequence[int]) -> "Volume":
        """With a block more on each side where background surrounds an object that reaches the edge.

        Averages repeat the edge, and an object that is cropped to its outline would go on beyond it.
        """
        room = [factor if 1 < factor < n else 0 for factor, n in zip(factors, self.grid.shape, strict=True)]
        planes = (self.tensor.select(axis + 2, end) for axis in range(3) if room[axis] for end in (0, -1))
        if not self.is_empty_beyond or not any(bool(plane.any()) for plane in planes):
            return self
        return self.crop([-r for r in room], [n + r for n, r in zip(self.grid.shape, room, strict=True)])

    def smooth(self, sigma_mm: np.ndarray) -> "Volume":
        """A copy smoothed by Gaussians along the axes, of standard deviations ``(3,)``."""
        if not sigma_mm.any():
            return self
        sigma_voxels = sigma_mm / self.grid.spacing_mm.numpy()
        return replace(self, tensor=functional.gaussian_smooth(self.tensor.contiguous(), sigma_voxels.tolist()))

    def thin(self, steps: Sequence[int]) -> "Volume":
        """A copy of the first and then every so many-th voxel along each axis."""
        every = (..., *(slice(None, None, step) for step in steps))
        return replace(
            self,
            tensor=self.tensor[every].contiguous(),
            grid=self.grid.thin(steps),
            foreground=self.foreground[every],
            weights=None if self.weights is None else self.weights[every].contiguous(),
        )

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Volume":
        """Voxels `start` to `stop`; beyond the field of view background if the image has one, else weight 0.

        Of unknown voxels nothing may leak into a coarser copy, so they hold what the nearest known one does.
        """
        if not any(start) and tuple(stop) == self.grid.shape:
            return self
        outside = any(a < 0 or b > n for a, b, n in zip(start, stop, self.grid.shape, strict=True))
        weights = self.weights
        if outside and weights is None and not self.is_empty_beyond:
            weights = torch.ones_like(self.tensor[:, :1])
        return replace(
            self,
            tensor=(_crop_or_pad if self.is_empty_beyond else _crop_or_extend)(self.tensor, start, stop),
            grid=self.grid.crop(start, stop),
            foreground=_crop_or_pad(self.foreground, start, stop),
            weights=None if weights is None else _crop_or_pad(weights, start, stop),
        )

    def without_background(self) -> "Volume":
        """A copy in which the constant background is unknown, such as what lies outside an ultrasound's fan."""
        if not self.has_background:
            return self
        seen = self.foreground[None, None].to(torch.float32)
        return replace(self, weights=seen if self.weights is None else self.weights * seen, has_background=False)

    def with_object_alone(self) -> "Volume":
        """A copy in which only the object is known, as within a mask: nothing of the background leaks anywhere.

        Without its rim, which holds some of the background where the image was resampled after the object was cut out.
        """
        inside = (self.foreground & (self.tensor[0] > 0).any(dim=0)).numpy()
        spacing = self.spacing_mm()
        core = _without_outermost(inside, np.isfinite(spacing))
        core = _without_outermost(core, spacing < 1.5 * spacing.min())
        inside = core if core.sum() >= LEAST_CORE * inside.sum() else inside
        seen = torch.from_numpy(inside)[None, None].to(torch.float32)
        weights = seen if self.weights is None else self.weights * seen
        return replace(self, tensor=_extend(self.tensor, weights), weights=weights, has_background=False)

    def emphasise(self, centre: np.ndarray, width_mm: float, *, has_tail: bool = True) -> "Volume":
        """A copy whose weights fall off with the distance d from a world point ``(3,)``.

        As 1 / (1 + (d / width)^2)^2, or without a tail as a Gaussian of that standard deviation.
        """
        matrix = self.grid.voxel_to_world.numpy()
        offsets = (matrix[:3, 3] - np.asarray(centre))[:, None, None, None] / width_mm
        axes = [np.arange(size) * (matrix[:3, n, None] / width_mm) for n, size in enumerate(self.grid.shape)]
        away = offsets + axes[0][:, :, None, None] + axes[1][:, None, :, None] + axes[2][:, None, None, :]
        squares = np.sum(away**2, axis=0)
        curve = (1 + squares) ** -2 if has_tail else np.exp(-squares / 2)
        falling = torch.from_numpy(curve.astype(np.float32))[None, None]
        return replace(self, weights=falling if self.weights is None else self.weights * falling)

    def spacing_mm(self) -> np.ndarray:
        """Spacing along the three axes; infinite along the first of a flat volume, so that it is never divided."""
        spacing = self.grid.spacing_mm.numpy().copy()
        if self.is_flat:
            spacing[0] = np.inf
        return spacing


def prepare(image: Image, mask: LabelMap | None = None, channels: Sequence[bool] | None = None) -> Volume:
    """Make an image comparable: lift to 3-D, reorder the axes, find the foreground, normalise each channel.

    Voxels outside the mask, invalid and erased ones are replaced by the nearest that count, so that nothing they hold
    can leak into a coarser copy or an interpolation, and no edge stands where the mask ends.

    Args:
        image: The image.
        mask: Voxels to compare, on the same grid. What lies outside is unknown, so there is no background then.
        channels: Which channels to take (default: all).

    Raises:
        ValueError: If a channel of the image does not vary, or has no number, where it counts.
    """
    image, mask = _on_right_angles(image.with_numbers_only(), mask)
    reorientation = closest_to_ras(image.grid)
    is_flat = image.grid.num_dims == 2
    grid = lift_grid(reorientation.apply_to_grid(image.grid))
    tensor = reorientation.apply(image.tensor).to(torch.float32).reshape(1, -1, *grid.shape)
    tensor = tensor if channels is None else tensor[:, list(channels)]
    weights = _weights(image, mask, reorientation, grid)
    tensor = tensor if weights is None else _extend(tensor, weights)
    start, stop = _content_box(tensor)
    tensor, grid = _crop_or_pad(tensor, start, stop), grid.crop(start, stop)
    weights = None if weights is None else _crop_or_pad(weights, start, stop)
    erased = _erased(tensor[0, 0].numpy()) if weights is None and tensor.shape[1] == 1 and not is_flat else None
    if erased is not None:
        weights = torch.from_numpy(~erased)[None, None].to(torch.float32)
        tensor = _extend(tensor, weights)
    valid = np.ones(grid.shape, dtype=bool) if weights is None else weights[0, 0].numpy() > 0
    foreground, normalised, has_background = np.zeros(grid.shape, dtype=bool), [], mask is None
    for channel in tensor[0]:
        where = f"'{image.name}'" if mask is None else f"'{image.name}', within its mask,"
        values, inside, constant = _normalise(channel.contiguous().numpy(), valid, where)
        normalised.append(torch.from_numpy(values))
        foreground |= inside & valid
        has_background = has_background and constant
    is_cut = has_background and reaches_a_face(foreground)
    values = torch.stack(normalised)[None]
    return Volume(values, grid, torch.from_numpy(foreground), weights, has_background, is_flat, is_cut)


def reaches_a_face(foreground: np.ndarray) -> bool:
    """Whether an object goes on beyond its field of view: as much of it lies in a face as in a cut of its inside.

    Args:
        foreground: ``(I, J, K)`` bool, ``(1, J, K)`` in 2-D.
    """
    is_flat = foreground.shape[0] == 1
    for axis in range(1 if is_flat else 0, 3):
        areas = foreground.sum(axis=tuple(a for a in range(3) if a != axis)).astype(np.float64) ** (2 if is_flat else 1)
        inner = min(STEEP_PLANES, len(areas) - 1)
        for face, below in ((areas[0], areas[inner]), (areas[-1], areas[-1 - inner])):
            if face >= CUT_FACE * areas.max() and face >= CUT_STEEPNESS * below:
                return True
    return False


def _erased(values: np.ndarray) -> np.ndarray | None:
    """Voxels ``(I, J, K)`` that were erased or never measured, and a rim: None if there are none to speak of.

    They hold the lowest value, or 0, side by side, in an image with other air: a background of one value is no such
    thing.
    """
    low, high = float(values.min()), float(np.percentile(values[::2, ::2, ::2], WINSORISE_PERCENTILES[1]))
    dark = values < low + DARK * (high - low)
    for value in {low, 0.0}:
        same = values == value
        if np.count_nonzero(same & dark) < LEAST_ERASED * values.size:
            continue
        core = ndimage.binary_erosion(same, iterations=2)
        whole = ndimage.binary_dilation(core, iterations=6, mask=same)  # with the corners of a block
        num_erased = np.count_nonzero(whole)
        least_air = max(LEAST_AIR * values.size, LEAST_AIR_FOR_ERASED * num_erased)
        if num_erased >= LEAST_ERASED * values.size and np.count_nonzero(dark & ~same) >= least_air:
            return ndimage.binary_dilation(whole, np.ones((3, 3, 3)))
    return None


def _extend(tensor: Tensor, weights: Tensor) -> Tensor:
    """Replace voxels of weight 0 by the nearest voxel that counts."""
    missing = weights[0, 0].numpy() == 0
    if not missing.any() or missing.all():
        return tensor
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return torch.from_numpy(tensor.numpy()[:, :, nearest[0], nearest[1], nearest[2]])


def _without_outermost(inside: np.ndarray, along: np.ndarray) -> np.ndarray:
    """A mask without its outermost voxels along some axes; it goes on beyond the edges of the volume."""
    around = np.zeros((3, 3, 3), dtype=bool)
    around[1, 1, 1] = True
    for axis in np.flatnonzero(along):
        around[tuple(slice(None) if a == axis else 1 for a in range(3))] = True
    return ndimage.binary_erosion(inside, around, border_value=1)


def _on_right_angles(image: Image, mask: LabelMap | None) -> tuple[Image, LabelMap | None]:
    """Resample a sheared image, and its mask, onto right angles (ITK's files can hold no other displacement field)."""
    if image.grid.is_orthonormal(1e-4):
        return image, mask
    from pullback.transforms import identity, warp

    grid = orthonormal_cover(image.grid)

    def nearest(labels: LabelMap) -> LabelMap:
        return warp(labels, identity(grid.num_dims), onto=grid, interpolation="nearest")

    invalid = nearest(LabelMap(torch.ones((1, *image.grid.shape), dtype=torch.uint8), image.grid)).tensor[0] == 0
    if "invalid" in image.header:
        invalid |= nearest(LabelMap(image.header["invalid"][None].to(torch.uint8), image.grid)).tensor[0] > 0
    resampled = warp(image, identity(grid.num_dims), onto=grid)
    upright = Image(resampled.tensor, grid, {**image.header, "invalid": invalid})
    return upright, None if mask is None else nearest(mask)


def orthonormal_cover(grid: Grid) -> Grid:
    """A grid with right angles, the same spacing and nearly the same axes, that covers a sheared one."""
    u, _, vt = np.linalg.svd(grid.direction.numpy())
    axes = torch.from_numpy(u @ vt)
    along = (grid.corners() - grid.centre) @ axes / grid.spacing_mm
    low, high = along.min(dim=0).values.floor(), along.max(dim=0).values.ceil()
    origin = grid.centre + axes @ (low * grid.spacing_mm)
    shape = (high - low).to(torch.int64) + 1
    return Grid.from_spacing(shape.tolist(), grid.spacing_mm, origin=origin.tolist(), direction=axes)


def _content_box(tensor: Tensor) -> tuple[list[int], list[int]]:
    """First and last (exclusive) index along each axis of what is not padding (outer planes of one value per channel).

    Trimming it makes a result independent of how much empty space a file has around the object. A box of one value has
    nothing but its outline: there nothing is trimmed.
    """
    start, stop = [0, 0, 0], list(tensor.shape[2:])
    for axis in range(3):
        planes = tensor[0].movedim(axis + 1, 0).flatten(2)
        seen = np.flatnonzero((planes.amin(dim=2) != planes.amax(dim=2)).any(dim=1).numpy())
        if len(seen) and tensor.shape[axis + 2] > 1:
            start[axis], stop[axis] = int(seen[0]), int(seen[-1]) + 1
    content = tensor[0, :, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]].flatten(1)
    is_box = not bool((content.amin(dim=1) != content.amax(dim=1)).any())
    return ([0, 0, 0], list(tensor.shape[2:])) if is_box else (start, stop)


def _weights(image: Image, mask: LabelMap | None, reorientation, grid: Grid) -> Tensor | None:
    keep = None if mask is None else mask.tensor > 0
    if "invalid" in image.header:
        valid = ~image.header["invalid"][None]
        keep = valid if keep is None else keep & valid
    if keep is None:
        return None
    return reorientation.apply(keep).to(torch.float32).reshape(1, 1, *grid.shape).contiguous()


def _normalise(channel: np.ndarray, valid: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Normalised voxels, the foreground, and whether the background is constant; judged by the valid voxels."""
    known = channel[valid]
    if not known.size:
        raise ValueError(f"The image {where} holds no finite number: there is nothing to align.")
    low, high = float(known.min()), float(known.max())
    if not high > low:
        raise ValueError(f"The image {where} is constant ({low:g} everywhere): there is nothing to align.")
    is_constant = bool(np.mean(known == low) > BACKGROUND_SHARE)
    threshold = low if is_constant else otsu_threshold(known)
    foreground, inside = channel > threshold, known[known > threshold]
    bottom, top = np.percentile(inside, WINSORISE_PERCENTILES)
    if is_constant:
        smoothed = functional.gaussian_smooth(torch.from_numpy(channel)[None, None], 1.0)[0, 0].numpy()
        foreground = smoothed > low + FAINT_SHARE * (top - low)
    background = low if is_constant else min(float(np.percentile(known, 1.0)), bottom)
    clipped = np.clip(channel, min(background, bottom), top)
    deviation = float(np.clip(inside, bottom, top).std(dtype=np.float64)) or (top - background)
    return ((clipped - np.float32(background)) / np.float32(deviation)).astype(np.float32), foreground, is_constant


def otsu_threshold(values: np.ndarray, num_bins: int = 256) -> float:
    """The threshold that parts voxels into the two classes of least inner variance (Otsu 1979).

    The lowest value is left out, so that padding with it changes nothing.
    """
    low = values.min()
    rest = values[values > low]
    if np.spacing(rest.max()) * num_bins > rest.max() - low:  # far from 0: the bins' edges need more digits
        rest, low = rest.astype(np.float64), np.float64(low)
    counts, edges = np.histogram(rest, bins=num_bins, range=(float(low), float(np.percentile(rest, 99.9))))
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts, dtype=np.float64)
    mass = np.cumsum(counts * centres)
    rest_weight, rest_mass = weight[-1] - weight, mass[-1] - mass
    with np.errstate(divide="ignore", invalid="ignore"):
        between = weight * rest_weight * (mass / weight - rest_mass / rest_weight) ** 2
    return float(edges[1 + int(np.nanargmax(between[:-1]))])


def _crop_or_extend(tensor: Tensor, start: Sequence[int], stop: Sequence[int]) -> Tensor:
    """Voxels `start` to `stop` of the last three axes, the edges repeated beyond them."""
    for axis, a, b in zip((-3, -2, -1), start, stop, strict=True):
        tensor = tensor.index_select(axis, torch.arange(a, b).clamp(0, tensor.shape[axis] - 1))
    return tensor.contiguous()


def _crop_or_pad(tensor: Tensor, start: Sequence[int], stop: Sequence[int]) -> Tensor:
    """Voxels `start` to `stop` of the last three axes, zeros beyond the edges."""
    shape = [b - a for a, b in zip(start, stop, strict=True)]
    result = torch.zeros(*tensor.shape[:-3], *shape, dtype=tensor.dtype)
    source, target = [...], [...]
    for a, b, n in zip(start, stop, tensor.shape[-3:], strict=True):
        source.append(slice(max(a, 0), max(min(b, n), 0)))
        target.append(slice(max(-a, 0), max(-a, 0) + max(min(b, n) - max(a, 0), 0)))
    result[tuple(target)] = tensor[tuple(source)]
    return result
