"""Slices of a volume as pictures, in the order radiologists know.

Patient right is on the left of the picture, anterior up in axial slices, superior up in coronal and sagittal ones,
anterior on the left in sagittal ones: of the two world axes of a slice the first runs to the left, the second up. 2-D
images follow the same rule, so an axial slice looks the same whether its file is 2-D or 3-D; and since `pullback.io`
puts pixel (x, y) of a photograph at (-x, -y) mm, a photograph looks as it does everywhere.

Arrays are turned to RAS by views that copy nothing: all storage orders of an image give the same numbers.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
from torch import Tensor

from pullback.checks import check_choice
from pullback.data import AbstractVoxels, Image
from pullback.space import Grid, Reorientation, closest_to_ras

PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""World axes along the picture's width, along its height, and across the slice."""

MOST_SEEN = 0.5
"""Share of the foreground that the moving image shows below which slices go through what it shows."""
SPREAD = 0.17
"""How far the outer two of three slices lie from the middle one, as a fraction of the foreground's extent."""

MIDDLE = 1
"""The number of the middle one of slices 0, 1 and 2."""

PIXELS_3D = (448, 448)
PIXELS_2D = (512, 800)
"""Smallest and largest number of pixels along the longest side of a picture."""

FOREGROUND_LEVEL = 0.15
SAMPLE_SIZE = 400_000

ENDS = {"Right": ("R", "L"), "Anterior": ("A", "P"), "Superior": ("S", "I")}
AXIS_NAMES = tuple(ENDS)
IN_PLANE_NOTE = re.compile(r"coordinates lie in it, along (\w+) and (\w+)")


@dataclass(frozen=True)
class Plane:
    """One slice through a grid, and how it is drawn.

    Attributes:
        name: ``axial``, ``coronal``, ``sagittal``, or ``image`` for the only one of a 2-D image.
        number: 0, 1 or 2; 1 is the middle slice.
        index: Voxel along the axis across the slice, counted in RAS order.
        axes: World axes along the width, along the height and (3-D) across.
        grid: The grid of the whole image in RAS order.
        reorientation: From the stored order to RAS.
        shape_pixels: Rows and columns of the picture; its pixels are square.
        edges: Letters on the left, right, top and bottom edge, or None without anatomy.
    """

    name: str
    number: int
    index: int
    axes: tuple[int, ...]
    grid: Grid
    reorientation: Reorientation
    shape_pixels: tuple[int, int]
    edges: tuple[str, str, str, str] | None

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the picture."""
        width, height = (self.grid.shape[axis] * float(self.grid.spacing_mm[axis]) for axis in self.axes[:2])
        return width, height

    @property
    def position_mm(self) -> float | None:
        """Where the slice crosses its axis in the world, in the middle of the picture; None in 2-D."""
        if len(self.axes) == 2:
            return None
        voxel = [(n - 1) / 2 for n in self.grid.shape]
        voxel[self.axes[2]] = self.index
        return float(self.grid.to_world([voxel])[0, self.axes[2]])

    @property
    def title(self) -> str:
        """What the slice is, for captions: ``axial, z = -4 mm``."""
        if self.position_mm is None:
            return self.name
        position = f"{round(self.position_mm)}".replace("-", "\N{MINUS SIGN}")
        return f"{self.name}, {'xyz'[self.axes[2]]} = {position} mm"

    def section(self, array: Tensor | np.ndarray) -> np.ndarray:
        """The slice as ``(..., voxels along the width axis, voxels along the height axis)``, in RAS order."""
        volume = ras_array(array, self.reorientation)
        if len(self.axes) == 3:
            behind = (slice(None),) * (2 - self.axes[2])
            volume = volume[(..., self.index, *behind)]
        return volume

    def cut(self, array: Tensor | np.ndarray) -> np.ndarray:
        """The slice as a picture of voxels: ``(..., rows, columns)``, row 0 on top."""
        picture = np.swapaxes(self.section(array), -1, -2)[..., ::-1, ::-1]
        return np.ascontiguousarray(picture)

    def draw(self, array: Tensor | np.ndarray) -> np.ndarray:
        """The slice as a picture of square pixels: float32 ``(..., *shape_pixels)``, interpolated."""
        return self.resize(np.nan_to_num(self.cut(array).astype(np.float32), posinf=0.0, neginf=0.0))

    def resize(self, picture: np.ndarray, *, nearest: bool = False) -> np.ndarray:
        """Bring a picture of voxels ``(..., rows, columns)`` to `shape_pixels`."""
        if picture.shape[-2:] == self.shape_pixels:
            return picture
        rows, columns = self.shape_pixels
        method = PIL.Image.Resampling.NEAREST if nearest else PIL.Image.Resampling.BICUBIC
        flat = picture.reshape(-1, *picture.shape[-2:]).astype(np.float32, copy=False)
        resized = [np.asarray(PIL.Image.fromarray(one).resize((columns, rows), method)) for one in flat]
        return np.stack(resized).reshape(*picture.shape[:-2], rows, columns)

    def to_pixels(self, voxels: np.ndarray) -> np.ndarray:
        """RAS-order voxel coordinates ``(..., 2)`` along width and height to pixel coordinates ``(..., 2)``.

        Pixel coordinates are (x to the right, y down) from the corner of the picture, as in SVG.
        """
        counts = np.array([self.grid.shape[axis] for axis in self.axes[:2]], dtype=np.float64)
        return (counts - 0.5 - voxels) / counts * np.array(self.shape_pixels[::-1], dtype=np.float64)

    def project(self, world_points: Tensor) -> np.ndarray:
        """World points ``(N, D)`` to pixel coordinates ``(N, 2)``, along the axis across the slice."""
        voxels = self.grid.to_voxel(world_points).cpu().numpy()
        return self.to_pixels(voxels[:, list(self.axes[:2])])


def choose_planes(fixed: Image, seen: Tensor | None = None) -> tuple[Plane, ...]:
    """The slices a report shows: three in each plane through the foreground; in 2-D the whole image.

    Of a foreground of which less than half is `seen` (bool, `fixed`'s shape), as where a crop was brought to a whole,
    through that part. Planes in which an axis has a single voxel are left out, unless all have one.
    """
    reorientation = closest_to_ras(fixed.grid)
    grid = reorientation.apply_to_grid(fixed.grid)
    planes = {"image": (0, 1)} if grid.num_dims == 2 else PLANES
    shown = {name: axes for name, axes in planes.items() if min(grid.shape[axis] for axis in axes[:2]) > 1}
    shown = shown or planes
    pixel_mm = _pixel_mm(grid, [axis for axes in shown.values() for axis in axes[:2]])
    names = _axis_names(fixed)
    chosen = []
    for name, axes in shown.items():
        shape_pixels = tuple(_num_pixels(grid, axis, pixel_mm) for axis in (axes[1], axes[0]))
        edges = None if names is None else _edges(names[axes[0]], names[axes[1]])
        for number, index in _slice_indices(fixed, reorientation, axes, seen).items():
            chosen.append(Plane(name, number, index, axes, grid, reorientation, shape_pixels, edges))
    return tuple(chosen)


def plane_at(fixed: Image, name: str = "axial", position_mm: float | None = None) -> Plane:
    """One slice through an image.

    Args:
        fixed: The image.
        name: ``axial``, ``coronal`` or ``sagittal``; for 2-D images it is left as it is.
        position_mm: Where the slice crosses its world axis, in the middle of the picture (default: the middle of the
            foreground).

    Raises:
        ValueError: If there is no such plane, or the position lies outside the image.
    """
    check_choice("plane", name, tuple(PLANES))
    middle = {plane.name: plane for plane in choose_planes(fixed) if plane.number == MIDDLE}
    if fixed.grid.num_dims == 2:
        if name != "axial" or position_mm is not None:
            raise ValueError(f"'{fixed.name}' is 2-D and has one slice: leave `plane` and `position_mm` out.")
        return middle["image"]
    if name not in middle:
        raise ValueError(f"'{fixed.name}' is too thin for {name} slices; there are {', '.join(middle)}.")
    plane = middle[name]
    if position_mm is None:
        return plane
    axis = plane.axes[2]
    first, last = (replace(plane, index=index).position_mm for index in (0, plane.grid.shape[axis] - 1))
    if not min(first, last) <= position_mm <= max(first, last):
        raise ValueError(f"`position_mm` is {position_mm:g}, but {name} slices lie from {first:g} to {last:g} mm.")
    index = round((position_mm - first) / (last - first) * (plane.grid.shape[axis] - 1)) if last != first else 0
    return replace(plane, index=index)


def ras_array(array: Tensor | np.ndarray, reorientation: Reorientation) -> np.ndarray:
    """A view of ``(..., *shape)`` with its last D axes in RAS order."""
    values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
    lead = values.ndim - len(reorientation.order)
    values = values.transpose(*range(lead), *(lead + axis for axis in reorientation.order))
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in reorientation.flips)
    return values[(..., *steps)]


def sample_voxels(image: AbstractVoxels, size: int = SAMPLE_SIZE) -> np.ndarray:
    """A regular sample ``(C, *smaller)`` of the voxels in RAS order, finite and in one piece of memory."""
    steps = _sample_steps(image.grid, size)
    order = closest_to_ras(image.grid)
    values = ras_array(image.tensor, order)[(..., *(slice(None, None, steps[axis]) for axis in order.order))]
    return np.nan_to_num(np.ascontiguousarray(values), posinf=0.0, neginf=0.0)


def _sample_steps(grid: Grid, size: int) -> list[int]:
    """Steps along the stored axes that leave about `size` voxels."""
    step = max(1, round((grid.num_voxels / size) ** (1 / grid.num_dims)))
    return [min(step, n) for n in grid.shape]


def _slice_indices(
    fixed: Image, reorientation: Reorientation, axes: tuple[int, ...], seen: Tensor | None
) -> dict[int, int]:
    """Slice number to voxel index along the axis across; equal neighbours are left out."""
    if len(axes) == 2:
        return {MIDDLE: 0}
    stored = reorientation.order[axes[2]]
    count, step = fixed.grid.shape[stored], _sample_steps(fixed.grid, SAMPLE_SIZE)[stored]
    marks = None if seen is None else sample_voxels(fixed.with_tensor(seen[None].float()))[0] > 0
    centre, extent = _foreground_along(sample_voxels(fixed), axes[2], marks)
    wanted = (centre - SPREAD * extent, centre, centre + SPREAD * extent)
    low, middle, high = (int(np.clip(np.floor(step * at + 0.5), 0, count - 1)) for at in wanted)
    kept = {0: low, MIDDLE: middle, 2: high}
    return {number: index for number, index in kept.items() if number == MIDDLE or index != middle}


def _foreground_along(sample: np.ndarray, axis: int, seen: np.ndarray | None) -> tuple[float, float]:
    """Centre of mass and extent of the foreground along one axis of a sample ``(C, *shape)``, in its voxels.

    Of its part that is seen, ``shape``, where that is some, but less than `MOST_SEEN`.
    """
    values = sample.mean(axis=0)
    low, high = np.percentile(values, (1.0, 99.5))
    mask = values > low + FOREGROUND_LEVEL * (high - low)
    if seen is not None and 0 < (mask & seen).sum() < MOST_SEEN * mask.sum():
        mask = mask & seen
    mass = mask.sum(axis=tuple(other for other in range(values.ndim) if other != axis)).astype(np.float64)
    if mass.sum() == 0:
        mass[:] = 1.0
    share = np.cumsum(mass) / mass.sum()
    first, last = np.searchsorted(share, (0.01, 0.99))
    return float((mass * np.arange(len(mass))).sum() / mass.sum()), float(last - first + 1)


def _pixel_mm(grid: Grid, axes: list[int]) -> float:
    smallest, largest = PIXELS_2D if grid.num_dims == 2 else PIXELS_3D
    longest = max(axes, key=lambda axis: grid.shape[axis] * float(grid.spacing_mm[axis]))
    finest = min(float(grid.spacing_mm[axis]) for axis in axes)
    extent = grid.shape[longest] * float(grid.spacing_mm[longest])
    return extent / float(np.clip(round(extent / finest), smallest, largest))


def _num_pixels(grid: Grid, axis: int, pixel_mm: float) -> int:
    return max(1, round(grid.shape[axis] * float(grid.spacing_mm[axis]) / pixel_mm))


def _axis_names(image: Image) -> tuple[str, ...] | None:
    """Names of the world's axes; None for photographs, which know no anatomy."""
    if image.grid.num_dims == 3:
        return AXIS_NAMES
    if image.header.get("format") == "raster":
        return None
    for note in image.header.get("notes", ()):
        if found := IN_PLANE_NOTE.search(str(note)):
            return found.groups() if set(found.groups()) <= set(AXIS_NAMES) else None
    return AXIS_NAMES[:2]


def _edges(across: str, up: str) -> tuple[str, str, str, str]:
    return (*ENDS[across], *ENDS[up])
