"""Partial views: a few thick slices of a head or brain, turned and shifted, with points whose true places are known."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

TILT_DEGREES, TURN_DEGREES, SHIFT_MM = 6.0, 5.0, 8.0
"""Standard deviation, about or along each axis, of the slab's obliquity, and of how the person moved."""
MARGIN_MM = 4.0
"""Room around the object within the slices."""
NUM_POINTS = 2000


@dataclass(frozen=True)
class Slab:
    """What a scan covers.

    Attributes:
        axis: Across the slices: 0 sagittal, 1 coronal, 2 axial.
        thickness_mm: Of a slice.
        spacing_mm: Within slices.
        extent_mm: Of all slices together, about the brain's middle.
    """

    axis: int
    thickness_mm: float
    spacing_mm: float
    extent_mm: float


SLABS = {
    "axial 60 mm": Slab(2, 3.0, 2.0, 60.0),
    "axial 40 mm": Slab(2, 4.0, 2.0, 40.0),
    "axial 24 mm": Slab(2, 2.0, 2.0, 24.0),
    "coronal 60 mm": Slab(1, 2.0, 2.0, 60.0),
}


class MadeSlabs:
    """A folder of made scans, removed with this object."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="pullback-slabs-")

    def make(self, kind: str, image: Path, brain_mask: Path | None = None) -> tuple[Path, Path, Path]:
        """The file of a slab of an image, and CSV files (LPS) of points of the brain: in the image and in the slab.

        Args:
            kind: One of `SLABS`.
            image: A head with its brain mask, or a brain in background of 0; its axes about those of the world.
            brain_mask: Of a head.
        """
        slab, source = SLABS[kind], nibabel.load(image)
        values, affine = np.asarray(source.dataobj, np.float32), source.affine
        brain = values > 0 if brain_mask is None else np.asarray(nibabel.load(brain_mask).dataobj) > 0
        random = np.random.default_rng([*kind.encode(), *image.name.encode()])
        tilt, turn = (_rotation(random, degrees) for degrees in (TILT_DEGREES, TURN_DEGREES))
        points = _in_world(affine, np.argwhere(brain))
        centre = points.mean(axis=0)
        shown = values > 0.05 * np.percentile(values[brain], 90)
        turned = [(world - centre) @ tilt for world in (points, _in_world(affine, np.argwhere(shown)))]
        matrix, shape = _grid_of(slab, *turned)
        matrix = _affine(tilt, centre) @ matrix
        moved = _affine(turn, centre + random.normal(0, SHIFT_MM, 3)) @ _affine(np.eye(3), -centre)
        scan = _sample(values, np.linalg.inv(affine) @ matrix, shape, slab.axis)
        stem = f"{kind.replace(' ', '-')}_{image.parent.name}_{image.name.removesuffix('.nii.gz')}"
        path = Path(self._folder.name) / f"{stem}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(scan, moved @ matrix), path)
        place = _in_world(np.linalg.inv(matrix), points)[:, slab.axis]
        inside = points[(place > -0.5) & (place < shape[slab.axis] - 0.5)]
        inside = inside[random.permutation(len(inside))[:NUM_POINTS]]
        files = [path.with_name(f"{stem}_{end}.csv") for end in ("image", "slab")]
        for file, world in zip(files, (inside, _in_world(moved, inside)), strict=True):
            np.savetxt(file, world * [-1, -1, 1], fmt="%.4f", delimiter=",", header="x,y,z", comments="")
        return path, *files


def _grid_of(slab: Slab, brain: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Affine and shape of a slab in a world turned with it: all that is shown in a slice, part of the brain across."""
    low, high = shown.min(axis=0) - MARGIN_MM, shown.max(axis=0) + MARGIN_MM
    middle = (brain[:, slab.axis].min() + brain[:, slab.axis].max()) / 2
    low[slab.axis], high[slab.axis] = middle - slab.extent_mm / 2, middle + slab.extent_mm / 2
    spacing = np.full(3, slab.spacing_mm)
    spacing[slab.axis] = slab.thickness_mm
    shape = tuple(int(n) for n in np.round((high - low) / spacing))
    return _affine(np.diag(spacing), low + spacing / 2), shape


def _sample(values: np.ndarray, voxel_map: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Each slice the mean of planes across its thickness, half a source voxel apart."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    num = max(1, round(2 * float(np.linalg.norm(voxel_map[:3, axis]))))
    total = np.zeros(shape)
    for n in range(num):
        planes = places.copy()
        planes[:, axis] += (n + 0.5) / num - 0.5
        total += ndimage.map_coordinates(values, _in_world(voxel_map, planes).T, order=1).reshape(shape)
    return (total / num).astype(np.float32)


def _rotation(random: np.random.Generator, degrees: float) -> np.ndarray:
    return Rotation.from_rotvec(np.radians(random.normal(0, degrees, 3))).as_matrix()


def _affine(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, shift
    return matrix


def _in_world(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]
