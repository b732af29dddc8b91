"""From the numbers of a file to the tensors of an image or a label map, and back to a data type on disk."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pullback.data import Image, LabelMap
from pullback.space import Grid

LARGEST_EXACT_IN_FLOAT32 = 1 << 24
NARROW_TYPES = frozenset({"float16", "float32", "bool", "int8", "uint8", "int16", "uint16"})
"""Types that float32 holds exactly, whatever the values."""

LABEL_TYPES = ("uint8", "int16", "uint16", "int32", "int64")
"""Integer types for label files, in order of preference."""


@dataclass(frozen=True)
class Raw:
    """What a reader of one format hands over, before it is known whether it is an image or a label map.

    Attributes:
        array: ``(C, *shape)``, any real type and memory order; usually a view of what was read.
        grid: Where the voxels are, RAS+ mm.
        header: What else to remember; ``dtype`` is the type on disk.
        notes: Plain sentences about what had to be assumed.
    """

    array: np.ndarray
    grid: Grid
    header: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def image_of(raw: Raw, where: str) -> Image:
    """Make an image: float32, or float64 where float32 would change a value; NaN and infinite voxels become 0.

    The header gains ``notes`` and, if voxels were replaced, ``invalid``: a boolean tensor of the grid's shape.

    Args:
        raw: From a reader.
        where: The file or object, for messages.

    Raises:
        ValueError: If the values are complex, none, or none of them finite.
    """
    _check_numbers(raw.array, where)
    values, bad = _finite(raw.array, where)
    tensor = torch.from_numpy(_floating(values))
    header, notes = dict(raw.header), list(raw.notes)
    if bad is not None:
        header["invalid"] = torch.from_numpy(np.ascontiguousarray(bad.any(axis=0)))
        notes.append(
            f"{int(header['invalid'].sum())} voxels hold NaN or infinity; they were set to 0 and marked invalid."
        )
    if bool(tensor.min() == tensor.max()):
        notes.append(f"The image is constant: every voxel holds {float(tensor.min()):g}.")
    return Image(tensor, raw.grid, header | {"notes": tuple(notes)})


def labels_of(raw: Raw, where: str) -> LabelMap:
    """Make a label map: int32, or int64 where a label needs it.

    Raises:
        ValueError: If there is more than one channel, or the values are not whole numbers.
    """
    _check_numbers(raw.array, where)
    if raw.array.shape[0] != 1:
        raise ValueError(f"'{where}' has {raw.array.shape[0]} channels, but a label map has one; is it an image?")
    values = _whole(raw.array, where)
    low, high = int(values.min()), int(values.max())
    limits = np.iinfo(np.int64)
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"'{where}' holds the label {high}, but labels up to {limits.max} are supported; renumber them."
        )
    small = np.iinfo(np.int32)
    wanted = np.int32 if low >= small.min and high <= small.max else np.int64
    tensor = torch.from_numpy(np.array(values, dtype=wanted, order="C"))
    return LabelMap(tensor, raw.grid, raw.header | {"notes": tuple(raw.notes)})


def numbers_for_disk(voxels: Image | LabelMap) -> np.ndarray:
    """The ``(C, *shape)`` array to store: labels in an integer type, images in float32, or float64 if they are that."""
    tensor = voxels.tensor.detach().cpu()
    if isinstance(voxels, LabelMap):
        return tensor.numpy().astype(_label_type(tensor, voxels.header.get("dtype")))
    return tensor.numpy() if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32).numpy()


def _label_type(tensor: torch.Tensor, wanted: str | None) -> str:
    """The type the labels came in if it is an integer type and still fits, else the first that does."""
    low, high = int(tensor.min()), int(tensor.max())
    first = [wanted] if wanted is not None and np.dtype(wanted).kind in "iu" else []
    fits = (name for name in (*first, *LABEL_TYPES) if np.iinfo(name).min <= low and high <= np.iinfo(name).max)
    return next(fits)


def _check_numbers(array: np.ndarray, where: str) -> None:
    if array.size == 0:
        raise ValueError(f"'{where}' is empty: its shape is {array.shape[1:]}, but at least one voxel is needed.")
    if array.dtype.kind == "c":
        raise ValueError(
            f"'{where}' holds complex numbers ({array.dtype}), but real ones are needed; save the magnitude."
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(f"'{where}' holds values of type {array.dtype}, but numbers are needed.")


def _finite(array: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    if array.dtype.kind != "f":
        return array, None
    good = np.isfinite(array)
    if good.all():
        return array, None
    if not good.any():
        raise ValueError(f"'{where}' holds no finite value: every voxel is NaN or infinite; check how it was made.")
    return np.where(good, array, array.dtype.type(0)), ~good


def _floating(array: np.ndarray) -> np.ndarray:
    """A contiguous float32 copy, or float64 where float32 would change a value."""
    if array.dtype.name in NARROW_TYPES or (array.dtype.kind in "iu" and _is_small(array)):
        return np.array(array, dtype=np.float32, order="C")
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.array(array, dtype=np.float32, order="C")
    return narrow if np.array_equal(narrow, array) else np.array(array, dtype=np.float64, order="C")


def _is_small(array: np.ndarray) -> bool:
    return int(array.min()) >= -LARGEST_EXACT_IN_FLOAT32 and int(array.max()) <= LARGEST_EXACT_IN_FLOAT32


def _whole(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind != "f":
        return array.astype(np.uint8) if array.dtype.kind == "b" else array
    fractions = array[(np.rint(array) != array) | np.isinf(array)]
    if fractions.size:
        raise ValueError(
            f"'{where}' holds {float(fractions[0]):.6g}, but a label map holds whole numbers; "
            "is it an image, or were labels interpolated linearly?"
        )
    return array
