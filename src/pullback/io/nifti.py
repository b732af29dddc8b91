"""NIfTI, Analyze and FreeSurfer volumes through nibabel, whose world is RAS+ mm like ours.

Shapes: ``(X, Y)`` and ``(X, Y, 1)`` are 2-D images, as NIfTI has no other way to say so; any other volume with a
one-voxel axis stays 3-D. ``(X, Y, Z, 1, C)`` and RGB values are channels. A time series is refused.
"""

import contextlib
import gzip
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError, HeaderTypeError, SpatialImage

from pullback.io.atomic import replacing, suffix_of
from pullback.io.nifti_geometry import check_pixdim, geometry_of, header_for, set_shape
from pullback.io.values import NARROW_TYPES, Raw
from pullback.space import Grid

logging.getLogger("nibabel").addHandler(logging.NullHandler())
"""While nibabel's own output is off (`damaged`), Python's last resort would print what it logs."""

READABLE = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
WRITABLE = (".nii", ".nii.gz")
VECTOR_INTENT = 1007
GZIP_MAGIC = b"\x1f\x8b"
NUM_HEADER_BYTES = 540
"""Length of the longer of the two NIfTI headers."""

TROUBLE = (
    OSError,
    EOFError,
    zlib.error,
    struct.error,
    ValueError,
    IndexError,
    OverflowError,
    MemoryError,
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
)
"""All that nibabel raises for a damaged file, some of it only when the data are asked for."""


@contextlib.contextmanager
def damaged(path: str | Path) -> Iterator[None]:
    """Turn whatever a reader raises for a damaged file into one ValueError that names it."""
    try:
        with LoggingOutputSuppressor():
            yield
    except (PermissionError, FileNotFoundError, IsADirectoryError):
        raise
    except TROUBLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"'{path}' is truncated or corrupt: {reason.removesuffix('.')}. Copy or export it again."
        ) from error


def read(path: Path, num_dims: int | None = None) -> Raw:
    """Read a file as channels on a grid.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.hdr``/``.img``, ``.mgz`` or ``.mgh``.
        num_dims: 3 keeps ``(X, Y, 1)`` a volume of one slice.

    Raises:
        ValueError: If the file is damaged, a time series, or its header gives no grid.
    """
    return from_nibabel(load(path), str(path), num_dims)


def load(path: Path) -> SpatialImage:
    """Open a file with nibabel.

    What is compressed, whether its name says so or not, is decompressed in one piece: faster than in a stream, and its
    checksum is verified.

    Raises:
        ValueError: If the file is damaged, or its voxel sizes are zero, negative or NaN and nothing else gives them.
    """
    with damaged(path):
        with path.open("rb") as file:
            is_packed = file.read(2) == GZIP_MAGIC
        if suffix_of(path) in WRITABLE and (is_packed or suffix_of(path) == ".nii.gz"):
            contents = gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes()
            image = _image_class(contents).from_bytes(contents)
            start = contents[:NUM_HEADER_BYTES]
        else:
            image = nibabel.load(path)
            with path.with_suffix(".hdr" if path.suffix.lower() == ".img" else path.suffix).open("rb") as file:
                start = file.read(NUM_HEADER_BYTES)
    if isinstance(image.header, nibabel.Nifti1Header):
        check_pixdim(_unchecked(image.header, start), str(path))
    return image


def read_header(path: Path) -> nibabel.Nifti1Header | None:
    """The header alone, without unpacking the voxels; None if the file is no NIfTI. Never raises for what it holds."""
    with path.open("rb") as file:
        is_packed = file.read(2) == GZIP_MAGIC
    try:
        with gzip.open(path) if is_packed else path.open("rb") as file:
            start = file.read(NUM_HEADER_BYTES)
        header_class = _image_class(start).header_class
        return header_class(start[: header_class.template_dtype.itemsize], check=False)
    except TROUBLE:
        return None


def from_nibabel(image: SpatialImage, where: str, num_dims: int | None = None) -> Raw:
    """Take over an image opened or made with nibabel; see `read`.

    The header keeps ``dtype``, ``format`` and, for NIfTI, a copy of nibabel's header as ``nifti``.
    """
    if 0 in image.shape:
        raise ValueError(f"'{where}' is empty: its shape is {image.shape}, but at least one voxel is needed.")
    values = _channels_last(_numbers(image, where), where)
    flat = values.shape[2] == 1 and num_dims != 3
    matrix, notes = geometry_of(image, values.shape[:3], flat, where)
    shape = values.shape[:2] if flat else values.shape[:3]
    try:
        grid = Grid(shape, matrix)
    except ValueError as error:
        raise ValueError(f"'{where}' does not say where its voxels are: {error}") from error
    header = {"dtype": _type_on_disk(image), "format": "nifti"}
    if isinstance(image.header, nibabel.Nifti1Header):
        header["nifti"] = image.header.copy()
    return Raw(np.moveaxis(values[:, :, 0] if flat else values, -1, 0), grid, header, notes)


def write(
    path: Path, array: np.ndarray, grid: Grid, like: nibabel.Nifti1Header | None, *, vectors: bool = False
) -> None:
    """Write channels on a grid.

    On the grid of `like`, its qform, sform, codes and units are repeated bit by bit; on another grid, its codes and
    units stay. Without it the codes are 1 and the units mm. A sheared grid has no qform (code 0). Header extensions,
    display window and intent of `like` are not repeated, since they describe other values.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        array: ``(C, *shape)``, stored in its own type; several channels become ``(X, Y, Z, 1, C)`` with the vector
            intent.
        grid: Where the voxels are.
        like: Header to follow.
        vectors: Mark as vectors, whatever the number of channels.

    Raises:
        ValueError: If the suffix cannot be written.
        OSError: If the place cannot be written to or the disk is full.
    """
    if suffix_of(path) not in WRITABLE:
        raise ValueError(f"'{path}' cannot be written: {suffix_of(path)} is read only; use .nii.gz.")
    has_channels = vectors or array.shape[0] > 1
    header = header_for(grid, like, has_channels=has_channels)
    shape = header.get_data_shape()
    stored = np.moveaxis(array, 0, -1).reshape(*shape, 1, array.shape[0]) if has_channels else array.reshape(shape)
    header.set_data_dtype(stored.dtype)
    set_shape(header, stored.shape)
    header.set_intent(VECTOR_INTENT if has_channels else 0, allow_unknown=True)
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = image_class(stored, header.get_best_affine(), header, dtype=stored.dtype)
    with replacing(path) as temporary:
        image.to_filename(temporary)


def _image_class(contents: bytes) -> type[nibabel.Nifti1Image]:
    for image_class in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if image_class.header_class.may_contain_header(contents):
            return image_class
    raise ImageFileError("it has no NIfTI header")


def _unchecked(header: nibabel.Nifti1Header, start: bytes) -> nibabel.Nifti1Header:
    """The header as it stands in the file, without nibabel's repairs."""
    return type(header)(start[: header.template_dtype.itemsize], check=False)


def _type_on_disk(image: SpatialImage) -> str:
    dtype = image.get_data_dtype()
    return dtype[0].name if dtype.fields else dtype.name


def _numbers(image: SpatialImage, where: str) -> np.ndarray:
    """The values, scaled. Small integers scale to float32 (nibabel would give float64 at twice the memory)."""
    with damaged(where):
        proxy = image.dataobj
        is_small_integer = type(proxy) is ArrayProxy and proxy.dtype.name in NARROW_TYPES - {"float32"}
        slope, intercept = (float(proxy.slope), float(proxy.inter)) if is_small_integer else (1.0, 0.0)
        if (slope, intercept) == (1.0, 0.0) or np.spacing(np.float32(abs(intercept))) > abs(slope) / 2:
            return np.asanyarray(proxy)  # also where float32 would take neighbouring integers for one
        values = proxy.get_unscaled().astype(np.float32)
        values *= np.float32(slope)
        values += np.float32(intercept)
        return values


def _channels_last(values: np.ndarray, where: str) -> np.ndarray:
    """Any supported shape as ``(X, Y, Z, C)``."""
    if values.dtype.fields:  # RGB or RGBA; alpha is dropped
        values = np.stack([values[name] for name in ("R", "G", "B")], axis=-1)
        return _spatial(values.shape[:-1], values, where)
    if values.ndim == 5 and values.shape[3] == 1:
        return values[:, :, :, 0]
    return _spatial(values.shape, values[..., None], where)


def _spatial(shape: tuple[int, ...], values: np.ndarray, where: str) -> np.ndarray:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise ValueError(
            f"'{where}' has shape {shape} (x, y, z, time): {np.prod(shape[3:])} volumes, but one is needed; extract "
            "it, for "
            "instance with nibabel: image.slicer[..., 0]."
        )
    if len(shape) < 2:
        raise ValueError(f"'{where}' has shape {shape}, but two or three axes are needed.")
    return values.reshape(*(*shape, 1)[:3], values.shape[-1])
