"""Displacement files of Learn2Reg as arrays: steps in voxels, component d along array axis d, whatever a header says.

Since 2022 (v2) a file is ``(X, Y, Z, 3)`` NIfTI, or an ``.npz`` with one array of that shape. In 2020 and 2021 (v1) it
was an ``.npz`` of float16, ``(3, X/2, Y/2, Z/2)``, that still counts full voxels; the challenge's script enlarges each
component with quadratic splines (``scipy.ndimage.zoom``). As maps between worlds: :mod:`pullback.io.learn2reg`.

Reference:
    Hering et al., IEEE TMI 42 (2023), doi:10.1109/TMI.2022.3213983; github.com/MDL-UzL/L2R, ``evaluation.py``.
"""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback.io import nifti
from pullback.io.atomic import replacing, suffix_of
from pullback.io.nifti_vectors import components_last, numbers_of
from pullback.io.numpy_arrays import key_of, read_array

FULL = (".nii.gz", ".nii")
ARRAYS = (".npz",)
SUFFIXES = (*FULL, *ARRAYS)
ZOOM_ORDER = 2


def read_voxel_displacement(path: str | Path, shape: Sequence[int]) -> Tensor:
    """Read a displacement in voxels, ``(3, *shape)`` float32 or float64.

    Args:
        path: The file.
        shape: Of the fixed image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of another kind or size, or holds numbers that are not finite.
    """
    path, shape = Path(path), tuple(shape)
    if suffix_of(path) not in SUFFIXES:
        raise ValueError(f"'{path}' is no displacement of Learn2Reg: {', '.join(SUFFIXES)} can be read.")
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist.")
    values = _from_npz(path) if suffix_of(path) in ARRAYS else numbers_of(nifti.load(path), path)
    return at_full_resolution(_components_first(values, shape, path), shape, path)


def write_voxel_displacement(path: str | Path, displacement: Tensor) -> None:
    """Write steps ``(3, X, Y, Z)`` in voxels as a float32 NIfTI of ``(X, Y, Z, 3)``, whole or not at all.

    Raises:
        ValueError: If the suffix or the shape is another.
        FileNotFoundError: If the folder does not exist.
    """
    path = Path(path)
    if suffix_of(path) not in FULL:
        raise ValueError(f"'{path}' has the suffix '{suffix_of(path)}', but .nii.gz is what Learn2Reg takes.")
    if displacement.ndim != 4 or displacement.shape[0] != 3:
        raise ValueError(f"`displacement` has shape {tuple(displacement.shape)}, but (3, X, Y, Z) is needed.")
    with replacing(path) as temporary:
        nibabel.Nifti1Image(components_last(displacement, 4), np.eye(4)).to_filename(temporary)


def at_full_resolution(vectors: Tensor, shape: tuple[int, ...], path: Path) -> Tensor:
    """Steps ``(3, *shape)``; those of half the resolution enlarged as the challenge's script does it, values unscaled.

    Raises:
        ValueError: If half of `shape` is no whole number.
    """
    vectors = vectors.to(torch.float64 if vectors.dtype == torch.float64 else torch.float32)
    if tuple(vectors.shape[1:]) == shape:
        return vectors
    check_even(shape, path)
    enlarged = [ndimage.zoom(component.numpy(), 2, order=ZOOM_ORDER) for component in vectors]
    return torch.from_numpy(np.stack(enlarged))


def check_even(shape: tuple[int, ...], path: Path) -> None:
    """Raise ValueError if an image of this shape has no displacement of half the resolution."""
    if any(n % 2 or n < 4 for n in shape):
        raise ValueError(
            f"'{path}' would have half of {shape} voxels, which are not even (and 4 or more) along all axes; "
            "Learn2Reg's first version cannot hold it, use .nii.gz."
        )


def _from_npz(path: Path) -> np.ndarray:
    key = key_of(path)
    if key is None:
        raise ValueError(f"'{path}' is damaged or does not hold one array alone, as displacements of Learn2Reg do.")
    return read_array(path, key)


def _components_first(values: np.ndarray, shape: tuple[int, ...], path: Path) -> Tensor:
    """The array with its three components first, of the fixed image's size or half of it.

    Raises:
        ValueError: If the array fits neither.
    """
    sizes = (shape, tuple(n // 2 for n in shape))
    for axis in (-1, 0):
        if values.ndim == 4 and values.shape[axis] == 3:
            moved = np.moveaxis(values, axis, 0)
            if moved.shape[1:] in sizes:
                return torch.from_numpy(np.ascontiguousarray(moved, dtype=moved.dtype.newbyteorder("=")))
    raise ValueError(
        f"'{path}' has an array of shape {values.shape}, but three components at the {shape} voxels of the fixed "
        "image, or at half as many along each axis, are needed; give the image that it was made for."
    )
