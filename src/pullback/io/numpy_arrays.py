"""Arrays in ``.npz`` files, without ever unpickling."""

import zipfile
from pathlib import Path

import numpy as np

TROUBLE = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile)


def key_of(path: Path) -> str | None:
    """The name of the only array in an npz; None if there are several or it is none. Never raises."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except TROUBLE:
        return None
    return names[0].removesuffix(".npy") if len(names) == 1 and names[0].endswith(".npy") else None


def shape_of(path: Path) -> tuple[int, ...]:
    """The shape of the only array in an npz, without reading its numbers; empty if there is none. Never raises."""
    try:
        with zipfile.ZipFile(path) as file, file.open(file.namelist()[0]) as array:
            version = np.lib.format.read_magic(array)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return tuple(read(array)[0])
    except (*TROUBLE, IndexError):
        return ()


def read_array(path: Path, key: str) -> np.ndarray:
    """A floating-point array from an npz.

    Raises:
        ValueError: If the file is damaged, has no such array, or one that is not finite floating-point numbers.
    """
    try:
        with path.open("rb") as contents, np.load(contents, allow_pickle=False) as file:
            array = file[key]
    except TROUBLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"'{path}' is damaged or has no array '{key}': {reason}.") from error
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"'{path}' holds {array.dtype} or numbers that are not finite; finite floats are needed.")
    return array
