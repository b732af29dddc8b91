"""Photographs and microscopy: 2-D PNG, JPEG and TIFF through Pillow.

Array axes are (x, y) = (column, row), so ``grid.shape == (width, height)``. These files know no anatomy: one pixel
counts as one millimetre, whatever resolution for print they give, and pixel (x, y) lies where ITK puts it: at LPS (x,
y) mm, which is (-x, -y) in our world. Landmarks in pixels are therefore read with ``read_points(path, lps=True,
num_dims=2)``.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import SimpleITK

from pullback.io import simpleitk
from pullback.io.atomic import replacing, suffix_of
from pullback.io.itk import grid_from_itk
from pullback.io.values import Raw
from pullback.space import Grid

LOSSLESS = (".png", ".tif", ".tiff")
LOSSY = (".jpg", ".jpeg")
READABLE = (*LOSSLESS, *LOSSY)
WRITABLE = READABLE
ORIENTATION_TAG = 0x0112
NOTE = "The file has no physical spacing: one pixel counts as one millimetre."


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises for a file it cannot decode into one ValueError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large slides are no attack here, odd tags no matter
            yield
    except (PermissionError, FileNotFoundError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise ValueError(f"'{path}' is too large ({error}); save it at a lower resolution.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ValueError(f"'{path}' is truncated or corrupt: {str(error).removesuffix('.')}. Save it again.") from error


def read(path: Path, *, as_labels: bool = False) -> Raw:
    """Read pixels as channels: grey 1, colour 3; alpha is dropped and 16 bits are kept.

    Args:
        path: The file.
        as_labels: Take the indices of a palette, not its colours.

    Raises:
        ValueError: If the file is damaged or has several pages.
    """
    with damaged(path):
        values, pages, notes = _open(path, as_labels)
    if pages > 1:
        raise ValueError(f"'{path}' has {pages} pages, but one image is needed; save the wanted page alone.")
    if values is None:
        values = _pixels_by_itk(path)
    array = np.moveaxis(values, (0, 1, 2), (2, 1, 0))  # rows, columns, channels -> channels, columns, rows
    return Raw(array, pixel_grid(array.shape[1:]), {"dtype": values.dtype.name, "format": "raster"}, notes)


def write(path: Path, array: np.ndarray, grid: Grid, *, bits: int = 8) -> None:
    """Write channels ``(C, width, height)`` as pixels.

    PNG, JPEG and colour TIFF hold unsigned integers: values are rounded and clipped to 0..255, or to 0..65535 with
    ``bits=16`` (PNG and TIFF only). Grey TIFF keeps float32 and integer values as they are.

    Raises:
        ValueError: If the grid is not that of pixels (the place of the voxels would be lost) or there are not 1 or 3
            channels.
        OSError: If the place cannot be written to or the disk is full.
    """
    if grid.num_dims != 2 or not grid.same_as(pixel_grid(grid.shape)):
        raise ValueError(
            f"'{path}' cannot be written: {suffix_of(path)} cannot hold where {grid} lies; use .nii.gz or .nrrd."
        )
    if array.shape[0] not in (1, 3):
        raise ValueError(f"'{path}' cannot hold {array.shape[0]} channels, only 1 or 3; use .nii.gz or .nrrd.")
    rows = np.moveaxis(array, (0, 1, 2), (2, 1, 0))
    is_grey_tiff = suffix_of(path) in (".tif", ".tiff") and array.shape[0] == 1
    pixels = (
        _tiff_values(rows) if is_grey_tiff else _clipped(rows, 16 if bits == 16 and suffix_of(path) in LOSSLESS else 8)
    )
    with replacing(path) as temporary:
        _save(pixels, temporary)


def pixel_grid(shape: tuple[int, ...]) -> Grid:
    """The grid of pixels without anatomy: ITK's default, one mm each."""
    return grid_from_itk(shape, (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))


def _open(path: Path, as_labels: bool) -> tuple[np.ndarray | None, int, tuple[str, ...]]:
    """Rows x columns x channels, number of pages and notes; None for pixels that Pillow cannot give unchanged."""
    try:
        with PIL.Image.open(path) as image:
            pages, notes = getattr(image, "n_frames", 1), (NOTE,)
            values = None if _pillow_would_lose_bits(image) else _pixels(image, as_labels)
            if image.getexif().get(ORIENTATION_TAG, 1) != 1:
                notes = (NOTE, "The photograph carries an EXIF rotation, which was not applied: pixels are as stored.")
            return values, pages, notes
    except PIL.UnidentifiedImageError:
        return None, 1, (NOTE,)


def _pillow_would_lose_bits(image: PIL.Image.Image) -> bool:
    """Pillow decodes 16-bit colour to 8 bits without a word."""
    return image.mode not in ("I;16", "I;16B", "I;16L", "I", "F") and any(";16" in str(tile[3]) for tile in image.tile)


def _pixels(image: PIL.Image.Image, as_labels: bool) -> np.ndarray:
    if image.mode == "P" and not as_labels:
        image = image.convert("RGB")
    if image.mode in ("PA", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if image.mode == "1" or (image.mode == "I" and image.format == "PNG"):  # older Pillow widens 16-bit PNG
        values = values.astype(np.uint8 if image.mode == "1" else np.uint16)
    return _without_alpha(values[..., None] if values.ndim == 2 else values)


def _pixels_by_itk(path: Path) -> np.ndarray:
    with simpleitk.damaged(path):
        image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() != 2:
        raise ValueError(
            f"'{path}' has size {image.GetSize()}, but one 2-D image is needed; save the wanted page alone."
        )
    values = SimpleITK.GetArrayFromImage(image)
    return _without_alpha(values if values.ndim == 3 else values[..., None])


def _without_alpha(values: np.ndarray) -> np.ndarray:
    return values[..., :1] if values.shape[-1] in (1, 2) else values[..., :3]


def _clipped(rows: np.ndarray, bits: int) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.clip(np.rint(rows), 0, np.iinfo(dtype).max).astype(dtype)


def _tiff_values(rows: np.ndarray) -> np.ndarray:
    return rows.astype({"float64": np.float32, "int16": np.int32, "int64": np.int32}.get(rows.dtype.name, rows.dtype))


def _save(pixels: np.ndarray, path: Path) -> None:
    if pixels.dtype == np.uint16 and pixels.shape[2] == 3:
        simpleitk.write_simpleitk(SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels), isVector=True), path)
        return
    quality = {"quality": 95, "subsampling": 0} if path.suffix.lower() in LOSSY else {}
    PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)).save(path, **quality)
