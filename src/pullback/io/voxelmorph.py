"""Displacements of VoxelMorph: steps in voxels, component d along array axis d, ``warped[i] = moving[i + step(i)]``.

TensorFlow's version has the components last, PyTorch's first, because its tensors are saved as they are; both save
them as NIfTI without an intent, or as npz under the name ``vol``. Both images have one shape.

Reference:
    Balakrishnan et al., IEEE TMI 38 (2019), doi:10.1109/TMI.2019.2897538; ``voxelmorph/py/utils.py`` and the scripts
    ``register.py``, 2024-03.
"""

from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from pullback.io import nifti, nifti_vectors
from pullback.io.atomic import replacing, suffix_of
from pullback.io.formats import AbstractFormat, Written, field_for, grid_for
from pullback.io.frames import field_from_voxels, vectors_in_voxels
from pullback.io.nifti_vectors import Intent, intent_of, numbers_of
from pullback.io.numpy_arrays import key_of, read_array, shape_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, DisplacementField

ARRAY = (".npz",)
WARP = (".nii.gz", ".nii")
KEY = "vol"
LAST, FIRST = "channels-last", "channels-first"
WHY = "VoxelMorph's displacements count the voxels of both images"


class VoxelMorphFormat(AbstractFormat):
    """Displacements that VoxelMorph's scripts write and read."""

    name = "voxelmorph"
    title = "VoxelMorph: displacements in voxels, as npz or NIfTI"
    suffixes = (*ARRAY, *WARP)
    kinds = MappingProxyType({LAST: "components last, as of TensorFlow", FIRST: "components first, as of PyTorch"})

    def __init__(self, kind_to_read: str | None = None) -> None:
        """Read every file as of this kind, or (None) tell it by the fixed image's shape."""
        self.kind_to_read = kind_to_read

    def told(self, kind: str) -> "VoxelMorphFormat":
        """For an array in which the components could come first or last."""
        self.check_kind(kind)
        return VoxelMorphFormat(kind)

    def to_read_back(self, kind: str | None) -> "VoxelMorphFormat":
        """For an array that was just written as of this kind."""
        return VoxelMorphFormat(kind or LAST)

    def recognises(self, path: Path) -> bool:
        """An npz of one array ``vol`` of vectors."""
        return suffix_of(path) in ARRAY and key_of(path) == KEY and _holds_vectors(shape_of(path))

    def could_be(self, path: Path) -> bool:
        """A NIfTI of vectors without intent, components first or last."""
        header = nifti.read_header(path)
        return header is not None and intent_of(header).code == 0 and _holds_vectors(header.get_data_shape())

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> DisplacementField:
        """Read components first or last, told apart by the fixed image's shape; both images are needed."""
        fixed, moving = _grids(fixed, moving, path)
        is_array = suffix_of(path) in ARRAY
        values = read_array(path, KEY) if is_array else numbers_of(nifti.load(path), path)
        return field_from_voxels(_components_first(values, fixed, self.kind_to_read, path), fixed, moving)

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write float32 vectors, components last unless `kind` says otherwise."""
        self.check_kind(kind)
        fixed, moving = _grids(fixed, moving, path)
        field, written = field_for(transform, fixed, path)
        vectors = vectors_in_voxels(field, moving).to(torch.float32).numpy()
        stored = vectors if kind == FIRST else np.moveaxis(vectors, 0, -1)
        if suffix_of(path) in WARP:
            nifti_vectors.write(path, stored, fixed, Intent())
        else:
            with replacing(path) as temporary:
                np.savez_compressed(temporary, **{KEY: stored})
        return written


def _grids(fixed: Grid | None, moving: Grid | None, path: Path) -> tuple[Grid, Grid]:
    fixed, moving = grid_for(fixed, "fixed", path, WHY), grid_for(moving, "moving", path, WHY)
    if fixed.shape != moving.shape:
        raise ValueError(
            f"The fixed image has {fixed.shape} voxels and the moving {moving.shape}, but VoxelMorph's images have one "
            "shape; resample one onto the other first."
        )
    return fixed, moving


def _holds_vectors(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape has as many components, first or last, as axes without them."""
    return len(shape) in (3, 4) and len(shape) - 1 in (shape[0], shape[-1])


def _components_first(values: np.ndarray, fixed: Grid, kind: str | None, path: Path) -> Tensor:
    wanted = {FIRST: (fixed.num_dims, *fixed.shape), LAST: (*fixed.shape, fixed.num_dims)}
    fits = [name for name, shape in wanted.items() if values.shape == shape and kind in (None, name)]
    if not fits:
        expected = " or ".join(str(shape) for name, shape in wanted.items() if kind in (None, name))
        raise ValueError(
            f"'{path}' has shape {values.shape}, but {expected} "
            "belongs to the fixed image; give the image that it was made for."
        )
    if len(fits) == 2:
        raise ValueError(
            f"'{path}' has shape {values.shape}, in which the components may come first or last; say which with "
            f"--from voxelmorph:{FIRST} or --from voxelmorph:{LAST}."
        )
    moved = values if fits[0] == FIRST else np.moveaxis(values, -1, 0)
    dtype = np.float64 if moved.dtype == np.float64 else np.float32
    return torch.from_numpy(np.ascontiguousarray(moved, dtype=dtype))


FORMAT = VoxelMorphFormat()
