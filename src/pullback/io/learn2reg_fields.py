"""Displacement files of Learn2Reg: steps in voxels, component d along array axis d, with a header that means nothing.

Since 2022 a file is ``(X, Y, Z, 3)`` NIfTI, or an ``.npz`` with one array of that shape. In 2020 and 2021 it was an
``.npz`` of ``(3, X/2, Y/2, Z/2)`` that still counts full voxels; the challenge's script enlarges its components with
quadratic splines.

Reference:
    Hering et al., IEEE TMI 42 (2023), doi:10.1109/TMI.2022.3213983; github.com/MDL-UzL/L2R.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback.io.atomic import replacing, suffix_of
from pullback.io.nifti import damaged

SUFFIXES = (".nii.gz", ".nii", ".npz")


def read_voxel_displacement(path: str | Path, shape: Sequence[int]) -> Tensor:
    """Read a displacement in voxels, ``(3, *shape)`` float32 or float64.

    Args:
        path: The file.
        shape: Of the fixed image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of another kind or size, or holds numbers that are not finite.
    """
    path = Path(path)
    if suffix_of(path) not in SUFFIXES:
        raise ValueError(f"'{path}' is no displacement of Learn2Reg: {', '.join(SUFFIXES)} can be read.")
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist.")
    array = _from_npz(path) if suffix_of(path) == ".npz" else _from_nifti(path)
    shape = tuple(shape)
    if array.shape == (*shape, 3):
        array = np.moveaxis(array, -1, 0)
    elif array.shape == (3, *(n // 2 for n in shape)) and all(n % 2 == 0 for n in shape):
        array = np.stack([ndimage.zoom(component, 2, order=2) for component in array])
    elif array.shape != (3, *shape):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"'{path}' has the shape {array.shape}, but ({wanted}, 3) belongs to the fixed image.")
    if not np.isfinite(array).all():
        raise ValueError(f"'{path}' holds NaN or infinite vectors.")
    return torch.from_numpy(np.ascontiguousarray(array))


def write_voxel_displacement(path: str | Path, displacement: Tensor) -> None:
    """Write steps ``(3, X, Y, Z)`` in voxels as a float32 NIfTI of ``(X, Y, Z, 3)``, whole or not at all.

    Raises:
        ValueError: If the suffix or the shape is another.
        FileNotFoundError: If the folder does not exist.
    """
    path = Path(path)
    if suffix_of(path) not in (".nii.gz", ".nii"):
        raise ValueError(f"'{path}' has the suffix '{suffix_of(path)}', but .nii.gz is what Learn2Reg takes.")
    if displacement.ndim != 4 or displacement.shape[0] != 3:
        raise ValueError(f"`displacement` has shape {tuple(displacement.shape)}, but (3, X, Y, Z) is needed.")
    array = displacement.movedim(0, -1).to(torch.float32).numpy()
    with replacing(path) as temporary:
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(temporary)


def _from_nifti(path: Path) -> np.ndarray:
    with damaged(path):
        return np.asanyarray(nibabel.load(path).dataobj, dtype=np.float32)


def _from_npz(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            if len(file.files) != 1:
                raise ValueError(f"it holds {len(file.files)} arrays, but one is expected")
            return file[file.files[0]].astype(np.float32)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"'{path}' is damaged or no displacement: {' '.join(str(error).split())}.") from error
