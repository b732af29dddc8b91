"""Displacement fields as NIfTI, the way ITK and ANTs read and write them: 5-D, vector intent, LPS millimetres."""

from pathlib import Path

import nibabel
import numpy as np
import torch

from pullback.io import nifti
from pullback.io.itk import grid_to_itk, swap_lps
from pullback.transforms import DisplacementField

VECTOR_INTENT = nifti.VECTOR_INTENT
DISPLACEMENT_INTENT = 1006
"""Components along the world of the file, RAS; rare, but ITK reads it since 5.4."""


def read(path: Path) -> DisplacementField:
    """Read a field whose components are LPS mm (intent 1007, ITK and ANTs) or RAS mm (intent 1006).

    Raises:
        ValueError: If the file is damaged or does not say that it is such a field.
    """
    image = nifti.load(path)
    _check_kind(image, path)
    raw = nifti.from_nibabel(image, str(path), num_dims=image.shape[4])
    if not np.isfinite(raw.array).all():
        raise ValueError(f"'{path}' holds NaN or infinite displacements; mend it where it was made.")
    values = np.array(raw.array, dtype=np.float64 if raw.array.dtype == np.float64 else np.float32, order="C")
    displacement = torch.from_numpy(values)
    if int(image.header["intent_code"]) == VECTOR_INTENT:
        displacement = swap_lps(displacement.movedim(0, -1)).movedim(-1, 0).contiguous()
    return DisplacementField(displacement, raw.grid)


def write(path: Path, field: DisplacementField) -> None:
    """Write a field as float32, intent 1007, LPS mm; sform and qform with code 1, as every reader understands them.

    Raises:
        ValueError: If its grid is sheared.
        OSError: If the place cannot be written to or the disk is full.
    """
    grid_to_itk(field.grid, str(path))  # refuses shear
    displacement = field.displacement.detach().cpu().to(torch.float32)
    lps = swap_lps(displacement.movedim(0, -1)).movedim(-1, 0)
    nifti.write(path, lps.numpy(), field.grid, None, vectors=True)


def _check_kind(image: nibabel.spatialimages.SpatialImage, path: Path) -> None:
    header, shape = image.header, image.shape
    if len(shape) != 5 or shape[3] != 1 or shape[4] not in (2, 3) or (shape[4] == 2 and shape[2] != 1):
        raise ValueError(
            f"'{path}' has shape {shape}, but a displacement field is (X, Y, Z, 1, 3) or, in 2-D, (X, Y, 1, 1, 2); "
            "fields of FSL "
            "and voxel units need converting first."
        )
    if bytes(header["intent_name"].tobytes()).startswith(b"NREG"):
        raise ValueError(
            f"'{path}' was written by NiftyReg, whose vectors mean something else; convert it with reg_transform "
            "-disp and "
            "negate x and y."
        )
    intent = int(header["intent_code"])
    if intent not in (VECTOR_INTENT, DISPLACEMENT_INTENT):
        raise ValueError(
            f"'{path}' has intent code {intent}, but {VECTOR_INTENT} (vectors, as ITK and ANTs write) or "
            f"{DISPLACEMENT_INTENT} "
            "is needed to know the meaning of its numbers; set it if you know it."
        )
