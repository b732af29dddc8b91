"""Displacement fields as images, the way ITK and ANTs read and write them: vectors in LPS millimetres.

NIfTI is 5-D with the vector intent; MHA and NRRD hold a vector of floating-point numbers per voxel.
"""

from pathlib import Path

import nibabel
import numpy as np
import torch

from pullback.io import nifti, simpleitk
from pullback.io.atomic import suffix_of
from pullback.io.itk import grid_to_itk, swap_lps
from pullback.io.values import Raw
from pullback.transforms import DisplacementField

VECTOR_INTENT = nifti.VECTOR_INTENT
DISPLACEMENT_INTENT = 1006
"""Components along the world of the file, RAS; rare, but ITK reads it since 5.4."""

INTENTS = (VECTOR_INTENT, DISPLACEMENT_INTENT)
NO_INTENT = 0


READABLE = simpleitk.READABLE


def is_field(path: Path) -> bool:
    """Whether a file says that it holds displacement vectors as ITK does."""
    if suffix_of(path) in READABLE:
        return simpleitk.holds_vectors(path)
    return _intent_or_none(path) in INTENTS


def could_be_field(path: Path) -> bool:
    """Whether a NIfTI has the shape of ITK's fields but does not say that it holds vectors."""
    return _intent_or_none(path) == NO_INTENT


def read(path: Path) -> DisplacementField:
    """Read a field whose components are LPS mm (NIfTI of intent 1007, MHA, NRRD) or RAS mm (NIfTI of intent 1006).

    Raises:
        ValueError: If the file is damaged or does not say that it is such a field.
    """
    raw, is_lps = _vectors_of_itk(path) if suffix_of(path) in READABLE else _vectors_of_nifti(path)
    if not np.isfinite(raw.array).all():
        raise ValueError(f"'{path}' holds NaN or infinite displacements; mend it where it was made.")
    values = np.array(raw.array, dtype=np.float64 if raw.array.dtype == np.float64 else np.float32, order="C")
    displacement = torch.from_numpy(values)
    if is_lps:
        displacement = swap_lps(displacement.movedim(0, -1)).movedim(-1, 0).contiguous()
    return DisplacementField(displacement, raw.grid)


def write(path: Path, field: DisplacementField) -> None:
    """Write a field as float32 vectors, LPS mm; NIfTI with intent 1007 and sform and qform with code 1.

    Raises:
        ValueError: If its grid is sheared.
        OSError: If the place cannot be written to or the disk is full.
    """
    grid_to_itk(field.grid, str(path))  # refuses shear
    displacement = field.displacement.detach().cpu().to(torch.float32)
    lps = swap_lps(displacement.movedim(0, -1)).movedim(-1, 0).numpy()
    if suffix_of(path) in READABLE:
        simpleitk.write(path, lps, field.grid)
    else:
        nifti.write(path, lps, field.grid, None, vectors=True)


def _vectors_of_nifti(path: Path) -> tuple[Raw, bool]:
    image = nifti.load(path)
    intent = _intent_of(image.header, path)
    if intent not in (*INTENTS, NO_INTENT):
        raise ValueError(
            f"'{path}' has intent code {intent}, but {VECTOR_INTENT} (vectors, as ITK and ANTs write) or "
            f"{DISPLACEMENT_INTENT} is needed to know the meaning of its numbers; set it if you know it."
        )
    return nifti.from_nibabel(image, str(path), num_dims=image.shape[4]), intent != DISPLACEMENT_INTENT


def _vectors_of_itk(path: Path) -> tuple[Raw, bool]:
    if not simpleitk.holds_vectors(path):
        raise ValueError(
            f"'{path}' does not hold one floating-point vector of 2 or 3 components per voxel, as many as it has axes, "
            "so it is no displacement field."
        )
    return simpleitk.read(path), True


def _intent_or_none(path: Path) -> int | None:
    header = nifti.read_header(path)
    try:
        return None if header is None else _intent_of(header, path)
    except ValueError:
        return None


def _intent_of(header: nibabel.Nifti1Header, path: Path) -> int:
    """The intent code of an image of vectors.

    Raises:
        ValueError: If it has another shape, or says that the vectors are NiftyReg's.
    """
    shape = header.get_data_shape()
    if len(shape) != 5 or shape[3] != 1 or shape[4] not in (2, 3) or (shape[4] == 2 and shape[2] != 1):
        raise ValueError(
            f"'{path}' has shape {shape}, but a displacement field of ITK is (X, Y, Z, 1, 3) or, in 2-D, "
            "(X, Y, 1, 1, 2)."
        )
    if bytes(header["intent_name"].tobytes()).startswith(b"NREG"):
        raise ValueError(f"'{path}' was written by NiftyReg, whose vectors mean something else than ITK's.")
    return int(header["intent_code"])
