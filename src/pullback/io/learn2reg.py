"""Displacements of the Learn2Reg challenges, in voxels and without a trustworthy header.

The step stands in voxels, component d along array axis d: ``warped[i] = moving[i + step(i)]``; both images have one
shape, and the header of a file is ignored. Since 2022 (v2) a file ``disp_FFFF_MMMM.nii.gz`` is ``(X, Y, Z, 3)`` at full
resolution. In 2020 and 2021 (v1) it was an ``.npz`` of float16, ``(3, X/2, Y/2, Z/2)``, still counting full voxels; the
evaluation enlarges each component with quadratic splines (``scipy.ndimage.zoom``).

Reference:
    Hering et al., IEEE TMI 42 (2023), doi:10.1109/TMI.2022.3213983; github.com/MDL-UzL/L2R, ``evaluation.py``.
"""

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback.functional import sample
from pullback.io import nifti, nifti_vectors
from pullback.io.atomic import replacing, suffix_of
from pullback.io.formats import AbstractFormat, Written, field_for, grid_for
from pullback.io.frames import field_from_voxels, vectors_in_voxels
from pullback.io.nifti_vectors import Intent, components_last, intent_of, numbers_of, to_tensor
from pullback.io.numpy_arrays import key_of, read_array, shape_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, DisplacementField

FULL = (".nii.gz", ".nii")
HALF = (".npz",)
KEY = "arr_0"
ZOOM_ORDER = 2
WHY = "Learn2Reg's displacements count the voxels of both images"


class Learn2RegFormat(AbstractFormat):
    """Displacements as submitted to Learn2Reg."""

    name = "learn2reg"
    title = "Learn2Reg: displacements in voxels, v2 as NIfTI, v1 as half-resolution npz"
    suffixes = (*FULL, *HALF)

    def recognises(self, path: Path) -> bool:
        """An npz whose one array is called as numpy calls it and has three components."""
        shape = shape_of(path) if suffix_of(path) in HALF and key_of(path) == KEY else ()
        return len(shape) == 4 and 3 in (shape[0], shape[-1])

    def could_be(self, path: Path) -> bool:
        """A NIfTI of three volumes without intent."""
        header = nifti.read_header(path)
        return header is not None and header.get_data_shape()[3:] == (3,) and intent_of(header).code == 0

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> DisplacementField:
        """Read either version; both images are needed."""
        fixed, moving = _grids(fixed, moving, path)
        if suffix_of(path) in HALF:
            vectors = _full(_components_first(read_array(path, KEY), fixed, path), fixed, path)
        else:
            vectors = to_tensor(numbers_of(nifti.load(path), path), -1)
        if tuple(vectors.shape) != (3, *fixed.shape):
            raise ValueError(
                f"'{path}' has vectors of shape {tuple(vectors.shape)}, but (3, {', '.join(map(str, fixed.shape))}) "
                "belongs to the fixed image; give the image that it was made for."
            )
        return field_from_voxels(vectors, fixed, moving)

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write v2 (float32, full resolution) as NIfTI, or v1 (float16, every other voxel) as npz."""
        self.check_kind(kind)
        fixed, moving = _grids(fixed, moving, path)
        field, written = field_for(transform, fixed, path)
        vectors = vectors_in_voxels(field, moving)
        if suffix_of(path) in FULL:
            nifti_vectors.write(path, components_last(vectors, 4), fixed, Intent())
            return written
        half = _half(vectors, path)
        with replacing(path) as temporary:
            np.savez_compressed(temporary, half)
        stored = field_from_voxels(_full(torch.from_numpy(half), fixed, path), fixed, moving)
        return Written(stored, (*written.notes, _loss(field, stored)))


def _grids(fixed: Grid | None, moving: Grid | None, path: Path) -> tuple[Grid, Grid]:
    fixed, moving = grid_for(fixed, "fixed", path, WHY), grid_for(moving, "moving", path, WHY)
    if fixed.num_dims != 3 or moving.num_dims != 3:
        raise ValueError(f"'{path}' is for 3-D images, as all of Learn2Reg's are, but an image is 2-D.")
    if fixed.shape != moving.shape:
        raise ValueError(
            f"The fixed image has {fixed.shape} voxels and the moving {moving.shape}, but Learn2Reg's images have one "
            "shape; resample one onto the other first."
        )
    return fixed, moving


def _components_first(vectors: np.ndarray, fixed: Grid, path: Path) -> Tensor:
    """The array with its three components first, of the fixed image's size or half of it.

    Raises:
        ValueError: If the array fits neither.
    """
    sizes = (fixed.shape, tuple(n // 2 for n in fixed.shape))
    for axis in (0, -1):
        moved = np.moveaxis(vectors, axis, 0) if vectors.ndim == 4 else vectors
        if moved.ndim == 4 and moved.shape[0] == 3 and moved.shape[1:] in sizes:
            return torch.from_numpy(np.ascontiguousarray(moved))
    raise ValueError(
        f"'{path}' has an array of shape {vectors.shape}, but three components at the {fixed.shape} voxels of the "
        "fixed image, or at half as many along each axis, are needed."
    )


def _full(vectors: Tensor, fixed: Grid, path: Path) -> Tensor:
    """Vectors at full resolution; enlarged as the evaluation does it if they are not, values unscaled."""
    vectors = vectors.to(torch.float64 if vectors.dtype == torch.float64 else torch.float32)
    if tuple(vectors.shape[1:]) == fixed.shape:
        return vectors
    _check_even(fixed.shape, path)
    enlarged = [ndimage.zoom(component.numpy(), 2, order=ZOOM_ORDER) for component in vectors]
    return torch.from_numpy(np.stack(enlarged))


def _half(vectors: Tensor, path: Path) -> np.ndarray:
    """The float16 array ``(3, X/2, Y/2, Z/2)`` that enlarging turns back into nearly `vectors`.

    Enlarging puts the outer samples of both arrays on each other, so sample i stands at ``i (N - 1) / (N/2 - 1)``.
    """
    shape = tuple(vectors.shape[1:])
    _check_even(shape, path)
    axes = [torch.linspace(0, n - 1, n // 2, dtype=torch.float64) for n in shape]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return sample(vectors, positions, fill=None).to(torch.float16).numpy()


def _check_even(shape: tuple[int, ...], path: Path) -> None:
    if any(n % 2 or n < 4 for n in shape):
        raise ValueError(
            f"'{path}' would have half of {shape} voxels, which are not even (and 4 or more) along all axes; "
            "Learn2Reg's first version cannot hold it, use .nii.gz."
        )


def _loss(field: DisplacementField, stored: DisplacementField) -> str:
    gap = torch.linalg.vector_norm(field.displacement.cpu() - stored.displacement, dim=0)
    return (
        f"Half the resolution and 16 bits moved the displacements by {float(gap.mean()):.3g} mm on average and "
        f"{float(gap.max()):.3g} mm at most; .nii.gz keeps them."
    )


FORMAT = Learn2RegFormat()
