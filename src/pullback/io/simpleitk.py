"""NRRD and MetaImage through SimpleITK.

These formats say themselves whether an image is 2-D, so ``(X, Y, 1)`` is a volume of one slice.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK

from pullback.io.atomic import replacing, suffix_of
from pullback.io.itk import grid_from_itk, grid_to_itk
from pullback.io.values import Raw
from pullback.space import Grid

READABLE = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE = (".nrrd", ".mha")


@contextlib.contextmanager
def damaged(path: str | Path) -> Iterator[None]:
    """Turn ITK's long report about an unreadable file into one ValueError that names it; keep ITK off the screen."""
    speaks = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"'{path}' is truncated or corrupt: {_reason(error)}. Copy or export it again.") from error
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(speaks)


def read(path: Path) -> Raw:
    """Read an image as channels on a grid.

    Raises:
        ValueError: If the file is damaged, or not a 2-D or 3-D image of real numbers.
    """
    with damaged(path):
        image = SimpleITK.ReadImage(str(path))
    return from_simpleitk(image, str(path))


def holds_vectors(path: Path) -> bool:
    """Whether the header says floating-point vectors, with a component per axis of a 2-D or 3-D image."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with damaged(path):
            reader.ReadImageInformation()
    except ValueError:
        return False
    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    return "vector" in kind and "float" in kind and reader.GetNumberOfComponents() == reader.GetDimension() in (2, 3)


def from_simpleitk(image: SimpleITK.Image, where: str) -> Raw:
    """Take over an image of SimpleITK.

    Raises:
        ValueError: If it is not a 2-D or 3-D image of real numbers.
    """
    num_dims = image.GetDimension()
    if num_dims not in (2, 3):
        raise ValueError(
            f"'{where}' has size {image.GetSize()} (x, y, z, time), but a 2-D or 3-D image is needed; extract a "
            "volume, for "
            "instance with SimpleITK: image[..., 0]."
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"'{where}' holds complex numbers, but real ones are needed; save the magnitude.")
    if 0 in image.GetSize():
        raise ValueError(f"'{where}' is empty: its size is {image.GetSize()}, but at least one voxel is needed.")
    try:
        grid = grid_from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    except ValueError as error:
        raise ValueError(f"'{where}' does not say where its voxels are: {error}") from error
    values = SimpleITK.GetArrayFromImage(
        image
    )  # axes K, J, I and then channels, if any; a view would not outlive `image`
    axes = (*range(num_dims, values.ndim), *reversed(range(num_dims)))
    array = values.transpose(axes) if values.ndim > num_dims else values.transpose(axes)[None]
    return Raw(array, grid, {"dtype": values.dtype.name, "format": "itk"})


def to_simpleitk(array: np.ndarray, grid: Grid, where: str) -> SimpleITK.Image:
    """An image of SimpleITK from channels ``(C, *shape)`` on a grid.

    Raises:
        ValueError: If the grid is sheared.
    """
    spacing, origin, direction = grid_to_itk(grid, where)
    has_channels = array.shape[0] > 1
    values = np.ascontiguousarray(array.transpose(*reversed(range(array.ndim))) if has_channels else array[0].T)
    image = SimpleITK.GetImageFromArray(values, isVector=has_channels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def write(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write channels ``(C, *shape)`` on a grid, compressed, in the type of the array.

    Raises:
        ValueError: If the grid is sheared, or the format spreads over two files.
        OSError: If the place cannot be written to or the disk is full.
    """
    if suffix_of(path) not in WRITABLE:
        raise ValueError(f"'{path}' cannot be written: {suffix_of(path)} is two files; use .nrrd or .mha.")
    image = to_simpleitk(array, grid, str(path))
    with replacing(path) as temporary:
        write_simpleitk(image, temporary)


def write_simpleitk(image: SimpleITK.Image, path: Path) -> None:
    """Let SimpleITK write, with one line if it cannot."""
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise RuntimeError(f"SimpleITK could not write '{path}': {_reason(error)}.") from error


def _reason(error: RuntimeError) -> str:
    """What ITK says after its source lines and addresses."""
    text = re.split(r"ERROR: ", str(error))[-1]
    text = re.sub(r"^\w+\(0x[0-9a-f]+\): ", "", text)
    text = text.replace("Reason: No such file or directory", "")  # said for every trouble with a MetaImage
    return " ".join(text.split()).removesuffix(".") or "SimpleITK cannot read it"
