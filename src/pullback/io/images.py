"""Images and label maps, from files and from other libraries' objects, and back to files.

Supported suffixes: NIfTI ``.nii .nii.gz .hdr .img``, FreeSurfer ``.mgz .mgh``, ``.nrrd .nhdr``, ``.mha .mhd``, DICOM (a
folder, or one file of a series), and 2-D ``.png .jpg .jpeg .tif .tiff``. Written are ``.nii .nii.gz .nrrd .mha .png
.jpg .jpeg .tif .tiff``.

What a reader had to assume stands as plain sentences in ``header["notes"]``.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch
from nibabel.spatialimages import SpatialImage

from pullback.data import AbstractVoxels, Image, LabelMap
from pullback.io import dicom, nifti, raster, simpleitk
from pullback.io.atomic import stem_of, suffix_of
from pullback.io.values import Raw, image_of, labels_of, numbers_for_disk
from pullback.space import Grid

READABLE = (*nifti.READABLE, *simpleitk.READABLE, *raster.READABLE, *dicom.SUFFIXES)
WRITABLE = (*nifti.WRITABLE, *simpleitk.WRITABLE, *raster.WRITABLE)


def read_image(path: str | Path, *, name: str | None = None) -> Image:
    """Read an image: float32 (float64 if float32 would change a value), ``(C, *shape)``, world RAS+ mm.

    Args:
        path: A file, or a folder with one DICOM series.
        name: For messages and reports (default: the file's name without its suffix).

    Returns:
        The image. Its header holds ``name``, ``path``, ``dtype`` (on disk), ``format``, ``notes``, for NIfTI ``nifti``
        (nibabel's header), and, if voxels were NaN or infinite and set to 0, ``invalid`` (boolean, the grid's shape).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, a time series, complex, empty, without a usable grid, or of an unknown kind.
    """
    path = _existing(path)
    return _named(image_of(_read(path), str(path)), path, name)


def read_labels(path: str | Path) -> LabelMap:
    """Read a label map: int32 (int64 if a label needs it), ``(1, *shape)``, world RAS+ mm.

    The header is as in `read_image`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As for `read_image`, or if there are several channels or fractions.
    """
    path = _existing(path)
    return _named(labels_of(_read(path, as_labels=True), str(path)), path, None)


def write_image(path: str | Path, image_or_labels: Image | LabelMap, *, like: AbstractVoxels | None = None) -> None:
    """Write an image or a label map, whole or not at all.

    Images are stored as float32 (float64 if their tensor is). PNG, JPEG and colour TIFF hold unsigned integers: there,
    values are rounded and clipped to 0..255, or to 0..65535 for images that came from a 16-bit file (PNG, TIFF). Labels
    are stored in the integer type they came in, or the smallest that holds them.

    Args:
        path: The file to write; its suffix decides the format.
        image_or_labels: What to write.
        like: An image read from NIfTI (default: `image_or_labels`). On its grid its qform, sform, codes and units are
            repeated; on another grid its codes and units.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the suffix is unknown, or the format cannot hold the grid or the channels.
        OSError: If the place cannot be written to or the disk is full.
    """
    path, voxels = Path(path).expanduser(), image_or_labels
    if not isinstance(voxels, (Image, LabelMap)):
        raise TypeError(f"`image_or_labels` is a {type(voxels).__name__}, but an Image or a LabelMap is needed.")
    suffix, array = suffix_of(path), numbers_for_disk(voxels)
    if suffix in nifti.READABLE:
        header = (voxels if like is None else like).header.get("nifti")
        nifti.write(path, array, voxels.grid, header)
    elif suffix in simpleitk.READABLE:
        simpleitk.write(path, array, voxels.grid)
    elif suffix in raster.WRITABLE:
        _write_raster(path, array, voxels)
    else:
        raise ValueError(f"'{path}' has the suffix '{suffix}', but these can be written: {' '.join(WRITABLE)}.")


def image_from(obj: Any) -> Image:
    """Make an image of what users have.

    Args:
        obj: A path; an `Image`; an image of nibabel or SimpleITK (their grids are kept); or a 2-D or 3-D NumPy array or
            torch tensor, which gets one channel, 1 mm voxels, axes along R, A, S and voxel 0 at the world's origin;
            masked voxels count as NaN. For anything else about an array, build ``Image(tensor, grid)``.

    Raises:
        TypeError: If it is none of these.
        ValueError: As for `read_image`.

    Example:
        >>> image_from(np.ones((4, 5, 6), dtype=np.int16)).grid
        Grid(4 x 5 x 6 voxels of 1 x 1 x 1 mm, voxel 0 at (0, 0, 0))
    """
    if isinstance(obj, Image):
        return obj.with_numbers_only()
    if isinstance(obj, (str, os.PathLike)):
        return read_image(obj)
    raw, where = _raw_from(obj, "an Image")
    return image_of(raw, where)


def labels_from(obj: Any) -> LabelMap:
    """Make a label map of what users have: as `image_from`, with a `LabelMap` in place of an `Image`.

    Raises:
        TypeError: If it is none of these.
        ValueError: As for `read_labels`, or if voxels are masked, since those have no label.
    """
    if isinstance(obj, LabelMap):
        return obj
    if isinstance(obj, (str, os.PathLike)):
        return read_labels(obj)
    if np.ma.is_masked(obj):
        raise ValueError("The label map has masked voxels, which have no label; fill them first: array.filled(0).")
    raw, where = _raw_from(obj, "a LabelMap")
    return labels_of(raw, where)


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist.")
    return path


def _read(path: Path, *, as_labels: bool = False) -> Raw:
    suffix = suffix_of(path)
    if path.is_dir() or suffix in dicom.SUFFIXES:
        return dicom.read(path)
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is truncated or corrupt: it has no bytes. Copy or export it again.")
    if suffix in nifti.READABLE:
        return nifti.read(path)
    if suffix in simpleitk.READABLE:
        return simpleitk.read(path)
    if suffix in raster.READABLE:
        return raster.read(path, as_labels=as_labels)
    if dicom.is_dicom(path):
        return dicom.read(path)
    raise ValueError(
        f"'{path}' has the suffix '{suffix}', but these can be read: {' '.join(READABLE)}, or a DICOM folder."
    )


def _named(voxels: Any, path: Path, name: str | None) -> Any:
    return replace(voxels, header={**voxels.header, "name": name or stem_of(path), "path": str(path)})


def _write_raster(path: Path, array: np.ndarray, voxels: Image | LabelMap) -> None:
    is_labels = isinstance(voxels, LabelMap)
    is_deep = voxels.header.get("dtype") == "uint16"
    if is_labels:
        _check_label_range(path, int(array.min()), int(array.max()))
        is_deep = int(array.max()) > 255
    raster.write(path, array, voxels.grid, bits=16 if is_deep else 8)


def _check_label_range(path: Path, low: int, high: int) -> None:
    if suffix_of(path) in raster.LOSSY:
        raise ValueError(f"'{path}' cannot hold labels: JPEG changes values; use .png, .tif or .nii.gz.")
    first, last = (0, (1 << 16) - 1) if suffix_of(path) == ".png" else (-(1 << 31), (1 << 31) - 1)
    if low < first or high > last:
        raise ValueError(f"'{path}' cannot hold the labels {low} to {high}, only {first} to {last}; use .nii.gz.")


def _raw_from(obj: Any, wanted: str) -> tuple[Raw, str]:
    if isinstance(obj, SpatialImage):
        return nifti.from_nibabel(obj, "the nibabel image"), "the nibabel image"
    if isinstance(obj, SimpleITK.Image):
        return simpleitk.from_simpleitk(obj, "the SimpleITK image"), "the SimpleITK image"
    if isinstance(obj, (np.ndarray, torch.Tensor)):
        return _raw_from_array(obj), "the array"
    raise TypeError(
        f"A {type(obj).__name__} came, but {wanted}, a path, a nibabel or SimpleITK image, an array or a tensor is "
        "needed."
    )


def _raw_from_array(values: np.ndarray | torch.Tensor) -> Raw:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(
            f"The array has shape {values.shape}, but (I, J) or (I, J, K) with at least one voxel is needed; for "
            "channels "
            "build `Image(tensor, grid)`."
        )
    header = {"dtype": values.dtype.name, "format": "array"}
    if np.ma.is_masked(values):
        values = values.astype(np.result_type(values.dtype, np.float32)).filled(np.nan)
    return Raw(np.asarray(values)[None], Grid.from_spacing(values.shape), header)
