"""Writing a file whole or not at all."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

SMALLEST_FREE_BYTES = 1 << 16
"""With less than this free, a writer that failed without saying why is taken to have filled the disk."""


def suffix_of(path: Path) -> str:
    """The suffix that decides the format, lower case; ``.nii.gz`` counts as one.

    Example:
        >>> suffix_of(Path("brain.v2.NII.GZ"))
        '.nii.gz'
    """
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def stem_of(path: Path) -> str:
    """The file name without its format suffix, as a name for messages."""
    return path.name[: len(path.name) - len(suffix_of(path))] or path.name


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` if the body succeeds and vanishes if it does not.

    The temporary path has the same suffix, since most writers choose the format by it.

    Args:
        path: The file to write. An existing file is replaced in one step; of a link, the file that it leads to.

    Raises:
        FileExistsError: If `path` is a device or a pipe, which no file may take the place of.
        FileNotFoundError: If the parent folder does not exist.
        IsADirectoryError: If `path` is a folder.
        OSError: If the disk is full.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path).expanduser()
    path = path.resolve() if path.is_symlink() else path
    _check_target(path)
    suffix = path.name[len(stem_of(path)) :]
    temporary = path.with_name(f".pullback-{uuid.uuid4().hex[:12]}{suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        if not _disk_is_full(error, path.parent):
            raise
        raise OSError(errno.ENOSPC, "No space left on the disk; free some or write elsewhere", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder, but the path of a file to write is needed.")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"'{path}' is a device or a pipe, but the path of a file to write is needed.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder '{path.parent}' of '{path.name}' does not exist; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"The folder '{path.parent}' may not be written to; choose another place.")


def _disk_is_full(error: Exception, folder: Path) -> bool:
    """ITK and HDF5 report a full disk without an error number, so the disk is asked too."""
    number = getattr(error, "errno", None)
    return number == errno.ENOSPC or (number is None and shutil.disk_usage(folder).free < SMALLEST_FREE_BYTES)
