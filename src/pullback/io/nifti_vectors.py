"""NIfTI files of vectors the way other tools than ITK write them: their shapes, intents and parameters."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from pullback.io import nifti
from pullback.io.atomic import replacing
from pullback.io.nifti_geometry import header_for, set_shape
from pullback.space import Grid


@dataclass(frozen=True)
class Intent:
    """What a NIfTI header says about the meaning of its numbers.

    Attributes:
        code: Intent code.
        name: Up to 15 characters.
        parameters: ``intent_p1`` to ``intent_p3``.
    """

    code: int = 0
    name: str = ""
    parameters: tuple[float, float, float] = (0.0, 0.0, 0.0)


def intent_of(header: nibabel.Nifti1Header) -> Intent:
    """The intent that a header states."""
    name = header["intent_name"].tobytes().split(b"\0")[0].decode("latin-1").strip()
    return Intent(int(header["intent_code"]), name, tuple(float(header[f"intent_p{n}"]) for n in (1, 2, 3)))


def numbers_of(image: SpatialImage, path: Path) -> np.ndarray:
    """The scaled values, float32, or float64 if the file holds that.

    Raises:
        ValueError: If the file is cut short, or a number is NaN or infinite.
    """
    with nifti.damaged(path):
        values = np.asanyarray(image.dataobj)
    values = values if values.dtype == np.float64 and image.get_data_dtype() == np.float64 else np.float32(values)
    if not np.isfinite(values).all():
        raise ValueError(f"'{path}' holds NaN or infinite vectors; mend it where it was made.")
    return values


def to_tensor(values: np.ndarray, axis: int) -> Tensor:
    """An array in native byte order with its components first, ``(D, *shape)``."""
    moved = np.moveaxis(values, axis, 0)
    return torch.from_numpy(np.ascontiguousarray(moved, dtype=moved.dtype.newbyteorder("=")))


def write(path: Path, stored: np.ndarray, grid: Grid, intent: Intent) -> None:
    """Write an array of vectors as it is, whole or not at all.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        stored: In the type and with the axes that the file is to have.
        grid: Where the voxels are.
        intent: What to say in the header.

    Raises:
        OSError: If the place cannot be written to or the disk is full.
    """
    header = header_for(grid, None, has_channels=True)
    header.set_data_dtype(stored.dtype)
    set_shape(header, stored.shape)
    header.set_intent(intent.code, (), intent.name, allow_unknown=True)
    for n, parameter in enumerate(intent.parameters, start=1):
        header[f"intent_p{n}"] = parameter
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = image_class(stored, header.get_best_affine(), header, dtype=stored.dtype)
    with replacing(path) as temporary:
        image.to_filename(temporary)


def components_last(vectors: Tensor, num_axes: int) -> np.ndarray:
    """Vectors ``(D, *shape)`` as float32 ``(X, Y, Z, D)`` (four axes) or ``(X, Y, Z, 1, D)`` (five)."""
    shape = (*vectors.shape[1:], 1)[:3] + (1,) * (num_axes - 4)
    return vectors.to(torch.float32).movedim(0, -1).reshape(*shape, len(vectors)).numpy()
