"""Writing the results of one pair: all files together, or none."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pullback.io import write_image, write_transform
from pullback.pairwise.summary import peak_memory_mb, summarise, view_of
from pullback.reports import write_report, write_thumbnail
from pullback.transforms import warp

if TYPE_CHECKING:
    from pullback.pairwise.main_job import Registration

FILES = (
    "warped.nii.gz",
    "warped_labels.nii.gz",
    "fixed_to_moving.h5",
    "moving_to_fixed.h5",
    "result.json",
    "report.html",
    "thumbnail.jpg",
)


def check_directory(directory: str | Path, *, overwrite: bool) -> Path:
    """The directory, if results can be written there.

    Raises:
        FileExistsError: If it holds results already and `overwrite` is false, or is no directory.
        FileNotFoundError: If its parent does not exist.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"'{directory}' is a file, but a directory for the results is needed.")
    there = [name for name in FILES if (directory / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"'{directory}' holds results already ({', '.join(there)}); use --overwrite or another.")
    if not directory.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder '{directory.absolute().parent}' of '{directory}' does not exist.")
    return directory


def save(registration: "Registration", directory: str | Path, *, overwrite: bool = False) -> Path:
    """Write the warped image, both transforms, the numbers and the report."""
    directory = check_directory(directory, overwrite=overwrite)
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".pullback-", dir=directory))
    try:
        _write_all(registration, staging)
        for name in FILES:
            if (staging / name).exists():
                (staging / name).replace(directory / name)
            else:
                (directory / name).unlink(missing_ok=True)
    except BaseException:
        if made:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return directory


def _write_all(registration: "Registration", folder: Path) -> None:
    result, pair = registration.result, registration.pair
    start = time.perf_counter()
    warped = registration.warp()
    write_image(folder / "warped.nii.gz", warped, like=pair.fixed)
    if pair.moving_labels is not None:
        labels = warp(pair.moving_labels, result.fixed_to_moving, onto=pair.fixed.grid)
        write_image(folder / "warped_labels.nii.gz", labels, like=pair.fixed)
    write_transform(folder / "fixed_to_moving.h5", result.fixed_to_moving)
    write_transform(folder / "moving_to_fixed.h5", result.moving_to_fixed)
    result.seconds["write"] = round(time.perf_counter() - start, 3)
    summary = summarise(registration)
    summary["timings_seconds"]["total"] = round(sum(result.seconds.values()), 3)
    start = time.perf_counter()
    view = view_of(registration, summary, warped)
    write_report(folder / "report.html", view)
    write_thumbnail(folder / "thumbnail.jpg", view)
    timings = summary["timings_seconds"]
    timings["report"] = round(time.perf_counter() - start, 3)
    timings["total"] = round(timings["total"] + timings["report"], 3)
    summary["peak_memory_mb"] = round(peak_memory_mb(), 1)
    (folder / "result.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
