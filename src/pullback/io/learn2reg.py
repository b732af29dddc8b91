"""Displacements of the Learn2Reg challenges as maps between worlds: in voxels, without a trustworthy header.

The step stands in voxels, component d along array axis d: ``warped[i] = moving[i + step(i)]``; both images have one
shape, and the header of a file is ignored. What the files look like: :mod:`pullback.io.learn2reg_fields`.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pullback.functional import sample
from pullback.io import nifti, nifti_vectors
from pullback.io.atomic import replacing, suffix_of
from pullback.io.formats import AbstractFormat, Written, field_for, grid_for
from pullback.io.frames import field_from_voxels, vectors_in_voxels
from pullback.io.learn2reg_fields import ARRAYS, FULL, SUFFIXES, at_full_resolution, check_even, read_voxel_displacement
from pullback.io.nifti_vectors import Intent, components_last, intent_of
from pullback.io.numpy_arrays import key_of, shape_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, DisplacementField

KEY = "arr_0"
WHY = "Learn2Reg's displacements count the voxels of both images"


class Learn2RegFormat(AbstractFormat):
    """Displacements as submitted to Learn2Reg."""

    name = "learn2reg"
    title = "Learn2Reg: displacements in voxels, v2 as NIfTI, v1 as half-resolution npz"
    suffixes = SUFFIXES

    def recognises(self, path: Path) -> bool:
        """An npz whose one array is called as numpy calls it and has three components."""
        shape = shape_of(path) if suffix_of(path) in ARRAYS and key_of(path) == KEY else ()
        return len(shape) == 4 and 3 in (shape[0], shape[-1])

    def could_be(self, path: Path) -> bool:
        """A NIfTI of three volumes without intent."""
        header = nifti.read_header(path)
        return header is not None and header.get_data_shape()[3:] == (3,) and intent_of(header).code == 0

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> DisplacementField:
        """Read either version; both images are needed."""
        fixed, moving = _grids(fixed, moving, path)
        return field_from_voxels(read_voxel_displacement(path, fixed.shape), fixed, moving)

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
        stored = field_from_voxels(at_full_resolution(torch.from_numpy(half), fixed.shape, path), fixed, moving)
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


def _half(vectors: Tensor, path: Path) -> np.ndarray:
    """The float16 array ``(3, X/2, Y/2, Z/2)`` that enlarging turns back into nearly `vectors`.

    Enlarging puts the outer samples of both arrays on each other, so sample i stands at ``i (N - 1) / (N/2 - 1)``.
    """
    shape = tuple(vectors.shape[1:])
    check_even(shape, path)
    axes = [torch.linspace(0, n - 1, n // 2, dtype=torch.float64) for n in shape]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return sample(vectors, positions, fill=None).to(torch.float16).numpy()


def _loss(field: DisplacementField, stored: DisplacementField) -> str:
    gap = torch.linalg.vector_norm(field.displacement.cpu() - stored.displacement, dim=0)
    return (
        f"Half the resolution and 16 bits moved the displacements by {float(gap.mean()):.3g} mm on average and "
        f"{float(gap.max()):.3g} mm at most; .nii.gz keeps them."
    )


FORMAT = Learn2RegFormat()
