"""Writing the results of one pair: all files together, or none."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullback.data import Image
from pullback.io import write_image, write_transform
from pullback.io.bids import bids_path, inverse_entities, sidecar_path, write_sidecar
from pullback.io.json_text import write_json
from pullback.io.registry import recognise
from pullback.io.verify import read_back_mm
from pullback.metrics.cost import peak_memory_mb
from pullback.pairwise.summary import summarise, view_of
from pullback.registration.memory import give_back
from pullback.reports import write_report, write_thumbnail
from pullback.reports.saved import FIXED_TO_MOVING, MOVING_TO_FIXED, transform_names
from pullback.transforms import warp

if TYPE_CHECKING:
    from pullback.pairwise.main_job import Registration

FILES = (
    "warped.nii.gz",
    "warped_labels.nii.gz",
    FIXED_TO_MOVING,
    MOVING_TO_FIXED,
    "result.json",
    "report.html",
    "thumbnail.jpg",
)
BIDS_ENDING = "_mode-image_xfm.h5"


def check_directory(directory: str | Path, *, overwrite: bool, bids: str | None = None) -> Path:
    """The directory, if results can be written there.

    Raises:
        FileExistsError: If it holds results already and `overwrite` is false, or is no directory.
        FileNotFoundError: If its parent does not exist.
        OSError: If nothing can be written there.
        ValueError: If `bids` is not of the form that BIDS names have.
    """
    directory = Path(directory).expanduser()
    names = dict.fromkeys((*FILES, *transform_files(bids).values(), *_sidecars(bids)))
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"'{directory}' is a file, but a directory for the results is needed.")
    there = [name for name in names if (directory / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"'{directory}' holds results already ({', '.join(there)}); use --overwrite or another.")
    parent = directory.absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(f"The folder '{parent}' of '{directory}' does not exist.")
    if directory.is_symlink() and not directory.exists():
        raise FileNotFoundError(f"'{directory}' is a link to a folder that does not exist.")
    try:
        tempfile.TemporaryDirectory(prefix=".pullback-", dir=directory if directory.exists() else parent).cleanup()
    except OSError as error:
        raise OSError(f"Nothing can be written into '{directory}': {error.strerror}.") from None
    return directory


def transform_files(bids: str | None) -> dict[str, str]:
    """What the files of ``fixed_to_moving`` and ``moving_to_fixed`` are called.

    Args:
        bids: Such as ``sub-01_from-MOVING_to-FIXED``; None for names of our own.
    """
    if bids is None:
        return {"fixed_to_moving": FIXED_TO_MOVING, "moving_to_fixed": MOVING_TO_FIXED}
    ways = {"fixed_to_moving": bids, "moving_to_fixed": inverse_entities(bids)}
    return {way: bids_path(Path(), entities, ".h5").name for way, entities in ways.items()}


def _sidecars(bids: str | None) -> list[str]:
    """What the JSON files beside the transforms are called; without `bids` there are none."""
    return [] if bids is None else [sidecar_path(Path(name)).name for name in transform_files(bids).values()]


def save(
    registration: "Registration",
    directory: str | Path,
    *,
    overwrite: bool = False,
    verify: bool = True,
    bids: str | None = None,
) -> Path:
    """Write the warped image, both transforms (read back and compared, unless told not to), numbers and report."""
    directory = check_directory(directory, overwrite=overwrite, bids=bids)
    made = not directory.exists()
    directory.mkdir(exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".pullback-", dir=directory))
    try:
        _write_all(registration, staging, verify, bids)
        written = {path.name for path in staging.iterdir()}
        for name in {*FILES, *_earlier(directory)} - written:
            (directory / name).unlink(missing_ok=True)
        for name in sorted(written):
            (staging / name).replace(directory / name)
    except BaseException:
        if made:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return directory


def _earlier(directory: Path) -> list[str]:
    """Transforms and their sidecars that earlier results in the directory wrote under other names."""
    try:
        summary = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        names = transform_names(summary).values()
    except (OSError, ValueError, AttributeError):
        return []
    stems = [name.removesuffix(".h5") for name in names if name.endswith(BIDS_ENDING)]
    return [f"{stem}{suffix}" for stem in stems for suffix in (".h5", ".json")]


def _write_all(registration: "Registration", folder: Path, verify: bool, bids: str | None) -> None:
    result, pair = registration.result, registration.pair
    start = time.perf_counter()
    warped = registration.warp()
    write_image(folder / "warped.nii.gz", warped, like=pair.fixed)
    if pair.moving_labels is not None:
        labels = warp(pair.moving_labels, result.fixed_to_moving, onto=pair.fixed.grid)
        write_image(folder / "warped_labels.nii.gz", labels, like=pair.fixed)
    about_transforms = _write_transforms(registration, folder, verify, bids)
    result.seconds["write"] = round(time.perf_counter() - start, 3)
    summary = summarise(registration) | about_transforms
    summary["timings_seconds"]["total"] = round(sum(result.seconds.values()), 3)
    start = time.perf_counter()
    give_back()
    view = view_of(registration, summary, warped)
    write_report(folder / "report.html", view)
    write_thumbnail(folder / "thumbnail.jpg", view)
    timings = summary["timings_seconds"]
    timings["report"] = round(time.perf_counter() - start, 3)
    timings["total"] = round(timings["total"] + timings["report"], 3)
    summary["peak_memory_mb"] = round(peak_memory_mb(), 1)
    write_json(folder / "result.json", summary)


def _write_transforms(registration: "Registration", folder: Path, verify: bool, bids: str | None) -> dict[str, Any]:
    """Write both transforms; their names, and how exactly they read back, unless that was not asked for."""
    result, pair = registration.result, registration.pair
    names = transform_files(bids)
    ways = {
        "fixed_to_moving": (result.fixed_to_moving, pair.fixed, pair.moving),
        "moving_to_fixed": (result.moving_to_fixed, pair.moving, pair.fixed),
    }
    gaps = []
    for way, (transform, fixed, moving) in ways.items():
        path = folder / names[way]
        written = write_transform(path, transform)
        if verify:
            gaps.append(read_back_mm(path, written, fixed=fixed.grid, moving=moving.grid))
        if bids is not None:
            _write_sidecar(path, fixed, moving)
    return {"transforms": names} | ({"read_back_mm": max(gaps)} if gaps else {})


def _write_sidecar(path: Path, fixed: Image, moving: Image) -> None:
    files = [Path(image.header["path"]) if "path" in image.header else None for image in (fixed, moving)]
    names = [image.name if file is None else str(file) for image, file in zip((fixed, moving), files, strict=True)]
    write_sidecar(path, format_title=recognise(path).title, fixed=files[0], moving=files[1], source=" and ".join(names))
