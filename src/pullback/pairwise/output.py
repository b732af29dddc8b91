"""Writing the results of one pair: all files together, or none."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pullback.io import write_image, write_transform
from pullback.io.verify import read_back_mm
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


def save(registration: "Registration", directory: str | Path, *, overwrite: bool = False, verify: bool = True) -> Path:
    """Write the warped image, both transforms (read back and compared, unless told not to), numbers and report."""
    directory = check_directory(directory, overwrite=overwrite)
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".pullback-", dir=directory))
    try:
        _write_all(registration, staging, verify)
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


def _write_all(registration: "Registration", folder: Path, verify: bool) -> None:
    result, pair = registration.result, registration.pair
    start = time.perf_counter()
    warped = registration.warp()
    write_image(folder / "warped.nii.gz", warped, like=pair.fixed)
    if pair.moving_labels is not None:
        labels = warp(pair.moving_labels, result.fixed_to_moving, onto=pair.fixed.grid)
        write_image(folder / "warped_labels.nii.gz", labels, like=pair.fixed)
    read_back = _write_transforms(registration, folder, verify)
    result.seconds["write"] = round(time.perf_counter() - start, 3)
    summary = summarise(registration) | read_back
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


def _write_transforms(registration: "Registration", folder: Path, verify: bool) -> dict[str, float]:
    """Write both transforms; how exactly they read back, unless that was not asked for."""
    result, pair = registration.result, registration.pair
    ways = {
        "fixed_to_moving.h5": (result.fixed_to_moving, pair.fixed.grid, pair.moving.grid),
        "moving_to_fixed.h5": (result.moving_to_fixed, pair.moving.grid, pair.fixed.grid),
    }
    gaps = []
    for name, (transform, fixed, moving) in ways.items():
        written = write_transform(folder / name, transform)
        if verify:
            gaps.append(read_back_mm(folder / name, written, fixed=fixed, moving=moving))
    return {"read_back_mm": max(gaps)} if gaps else {}
