"""Prepared scans on disk: a folder of arrays and one list of them, all that a training needs.

Nothing here reads an image file, so that a training can go on where no image library is.
"""

import hashlib
import json
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.training.manifest import Manifest, Scan, content_of
from pullback.training.parsing import plain
from pullback.training.preprocessing import Prepared, Preparer
from pullback.training.recipe import Preprocessing, Recipe, Teacher
from pullback.training.splits import Split

LIST = "cache.json"
UNFINISHED = "unfinished.json"
"""What was prepared before something ended the work."""
FORMAT = 1
"""Raised when the step of preprocessing changes what it makes."""
MAPS_FORMAT = 1
"""The same for what a teacher finds."""
THERE, BACK = "there", "back"
"""Displacements from the fixed lattice to the moving one, and the inverse."""


@dataclass(frozen=True)
class Entry:
    """One prepared scan or slice.

    Attributes:
        name: Unique.
        scan: The scan's name.
        file: In the folder.
        position: Of a slice.
        labels: Label values it holds; empty without labels.
        record: What leads back (see :class:`pullback.training.preprocessing.Prepared`).
    """

    name: str
    scan: str
    file: str
    position: int
    labels: tuple[int, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Cache:
    """A folder of prepared scans.

    Attributes:
        folder: Where.
        entries: In order.
        preprocessing: The plan that made them.
        split: Names of scans by part.
        pairs: Pairs of scans that the source gave, by part.
        fingerprint: Of all files that went in.
        scans_from: The recipe's `source` and `split` that chose the scans; empty where that is not known.
        teacher: The plan of what registered the pairs of `maps`; empty without.
        maps: Of a fixed and a moving entry: the file of their displacements, and which of its arrays it is; no file
            where their registration failed.
    """

    folder: Path
    entries: tuple[Entry, ...]
    preprocessing: Mapping[str, Any]
    split: Split
    pairs: Mapping[str, tuple[tuple[str, str], ...]]
    fingerprint: str
    scans_from: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def failed(self, pair: tuple[str, str]) -> bool:
        """Whether the teacher tried a pair and failed."""
        return pair in self.maps and not self.maps[pair][0]

    def displacement(self, pair: tuple[str, str]) -> Tensor:
        """What the teacher found for a fixed and a moving entry, ``(D, *S)`` float32 in voxels."""
        file, way = self.maps[pair]
        with self._opened(file, " and ".join(pair)) as arrays:
            return torch.from_numpy(arrays[way].astype(np.float32))

    def load(self, entry: Entry) -> tuple[Tensor, Tensor | None]:
        """Image ``(C, *S)`` as stored, and labels ``(*S)``."""
        with self._opened(entry.file, entry.scan) as arrays:
            labels = torch.from_numpy(arrays["labels"].astype(np.int32)) if "labels" in arrays else None
            return torch.from_numpy(arrays["image"]), labels

    @contextmanager
    def _opened(self, file: str, of: str) -> Iterator[Any]:
        try:
            with (self.folder / file).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                yield arrays
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"'{self.folder / file}' is missing or damaged ({error}); remove it, and prepare '{of}' "
                "again with `--prepare-only`."
            ) from error


def fill(
    folder: Path,
    manifest: Manifest,
    split: Split,
    plan: Preprocessing,
    on_scan: Callable[[int, int, str], None] | None = None,
    *,
    scans_from: Mapping[str, Any] | None = None,
) -> Cache:
    """Prepare every scan of the split that the folder does not hold yet, and write the list.

    A scan's key is the content of its files (and the reference's), the plan, and the version of the step: a changed
    file or number is prepared anew, an unchanged one is not. If anything ends the work, what is prepared is kept.

    Args:
        folder: Made if it is not there.
        manifest: All scans.
        split: Which of them are wanted, and for what.
        plan: How they are prepared.
        on_scan: Told the number of each scan, how many there are, and its name.
        scans_from: What chose them, for `check_scans`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name for part in (split.training, split.validation, split.test) for name in part}
    scans = [scan for scan in manifest.scans if scan.name in wanted]
    reference = manifest.find(plan.reference) if plan.reference else scans[0]
    contents = {scan.name: _content(scan) for scan in {*scans, reference}}
    known = _known(folder)
    entries: list[dict[str, Any]] = []
    preparer: Preparer | None = None
    try:
        for number, scan in enumerate(scans):
            if on_scan is not None:
                on_scan(number, len(scans), scan.name)
            key = _key(plan, contents[scan.name], contents[reference.name])
            found = list({entry["position"]: entry for entry in known if entry["key"] == key}.values())
            if not found or not all((folder / entry["file"]).is_file() for entry in found):
                preparer = preparer or Preparer(plan, reference)
                found = [_keep(folder, prepared, key, plan.storage) for prepared in preparer(scan)]
            entries += [entry | {"scan": scan.name, "name": _entry_name(scan, entry)} for entry in found]
    except BaseException:
        kept = {(entry["key"], entry["position"]): entry for entry in [*known, *entries]}
        if kept:
            _write(folder / UNFINISHED, {"format": FORMAT, "entries": list(kept.values())})
        raise
    described = {
        "format": FORMAT,
        "preprocessing": plain(plan),
        "split": plain(split),
        "pairs": plain(dict(manifest.pairs)),
        "fingerprint": _hash(*(contents[scan.name] for scan in scans)),
        "scans_from": plain(dict(scans_from or {})),
        "entries": entries,
    }
    _write(folder / LIST, described)
    (folder / UNFINISHED).unlink(missing_ok=True)
    return open_cache(folder)


def open_cache(folder: Path) -> Cache:
    """The cache in a folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it was made by another version.
    """
    path = folder / LIST
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no prepared scans; fill it with `pullback train --prepare-only`.")
    described = _described(path)
    if described.get("format") != FORMAT:
        raise ValueError(f"'{folder}' was filled by another version; fill a new folder.")
    try:
        entries = tuple(
            Entry(e["name"], e["scan"], e["file"], e["position"], tuple(e["labels"]), e["record"])
            for e in described["entries"]
        )
        pairs = {part: tuple((a, b) for a, b in found) for part, found in described["pairs"].items()}
        split = Split(**{part: tuple(names) for part, names in described["split"].items()})
        rest = described["preprocessing"], split, pairs, described["fingerprint"], described.get("scans_from", {})
        both = {pair: (file, way) for a, b, file in described.get("maps", ()) for pair, way in _ways(a, b)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"'{path}' is damaged ({error!r}); remove it, and prepare the scans again.") from error
    return Cache(folder, entries, *rest, teacher=described.get("teacher", {}), maps=both)


def _ways(fixed: str, moving: str) -> tuple[tuple[tuple[str, str], str], ...]:
    return ((fixed, moving), THERE), ((moving, fixed), BACK)


def with_maps(cache: Cache, teacher: Teacher, maps: Iterable[tuple[str, str, str]]) -> Cache:
    """The cache after it was told of the maps that a teacher found: fixed and moving entry, and their file."""
    described = _described(cache.folder / LIST) | {"teacher": plain(teacher), "maps": plain(list(maps))}
    _write(cache.folder / LIST, described)
    return open_cache(cache.folder)


def key_of_maps(fixed: Entry, moving: Entry, weights: str, refine: int) -> str:
    """Name of the file of a pair's maps: it depends on both prepared scans, and on the teacher's weights and steps."""
    return f"maps-{_hash(str(MAPS_FORMAT), fixed.file, moving.file, weights, str(refine))[:24]}"


def _write(path: Path, described: Mapping[str, Any]) -> None:
    with whole(path) as temporary:
        temporary.write_text(json.dumps(described), encoding="utf-8")


def _described(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}); remove it, and prepare the scans again.") from error
    if not isinstance(described, dict):
        raise ValueError(f"'{path}' is no list of prepared scans; remove it, and prepare them again.")
    return described


def check_scans(cache: Cache, recipe: Recipe) -> None:
    """Raise ValueError if the recipe's `source` or `split` would choose other scans than those in the cache."""
    for name, wanted in (("source", recipe.source), ("split", recipe.split)):
        wanted, there = json.loads(json.dumps(plain(wanted))), cache.scans_from.get(name)
        if there is not None and there != wanted:
            key = sorted(key for key in wanted if wanted[key] != there.get(key))[0]
            raise ValueError(
                f"'{cache.folder}' was prepared with {name}.{key} {there.get(key)}, but the recipe says {wanted[key]}; "
                "give --data too: what is prepared already is kept."
            )


def check_fits(cache: Cache, plan: Preprocessing) -> None:
    """Raise ValueError if the cache was made by another plan than the recipe's."""
    wanted = json.loads(json.dumps(plain(plan)))
    different = sorted(key for key in wanted if wanted[key] != cache.preprocessing.get(key))
    if different:
        key = different[0]
        raise ValueError(
            f"'{cache.folder}' was prepared with {key} {cache.preprocessing.get(key)}, but the recipe says "
            f"{wanted[key]}; prepare it again with `--prepare-only`."
        )


def check_taught(cache: Cache, recipe: Recipe) -> None:
    """Raise ValueError if the recipe has a teacher and the cache not the maps that it found."""
    wanted = {} if recipe.teacher is None else json.loads(json.dumps(plain(recipe.teacher)))
    if wanted and wanted != cache.teacher:
        there = f"those of the teacher {dict(cache.teacher)}" if cache.teacher else "no maps of a teacher"
        raise ValueError(
            f"'{cache.folder}' holds {there}, but the recipe's teacher is {wanted}; give --data too: what is prepared "
            "already is kept."
        )


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes its place at the end, or vanishes.

    As :func:`pullback.io.atomic.replacing`, which cannot be had without the libraries that read images.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _entry_name(scan: Scan, entry: Mapping[str, Any]) -> str:
    return scan.name if entry["position"] < 0 else f"{scan.name}@{entry['position']}"


def _keep(folder: Path, prepared: Prepared, key: str, storage: str) -> dict[str, Any]:
    file = f"{key[:24]}{'' if prepared.position < 0 else f'-{prepared.position}'}.npz"
    with np.errstate(over="ignore"):
        arrays = {"image": prepared.image.tensor.numpy().astype(storage)}
    if not np.isfinite(arrays["image"]).all():
        largest = float(prepared.image.tensor.abs().max())
        raise ValueError(
            f"'{prepared.name}' holds intensities up to {largest:g} after normalisation, too large for "
            f"`preprocessing.storage` '{storage}'; take float32, or another normalisation."
        )
    labels: list[int] = []
    if prepared.labels is not None:
        labels = prepared.labels.labels
        arrays["labels"] = _smallest(prepared.labels.tensor[0].numpy())
    with whole(folder / file) as path:
        np.savez_compressed(path, **arrays)
    return {"key": key, "file": file, "position": prepared.position, "labels": labels, "record": prepared.record}


def _smallest(labels: np.ndarray) -> np.ndarray:
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    return labels.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))


def _known(folder: Path) -> list[dict[str, Any]]:
    lists = [_described(folder / name) for name in (UNFINISHED, LIST) if (folder / name).is_file()]
    return [entry for one in lists if one.get("format") == FORMAT for entry in one["entries"]]


def _content(scan: Scan) -> str:
    return _hash(content_of(scan.image), content_of(scan.labels) if scan.labels is not None else "")


def _key(plan: Preprocessing, content: str, reference: str) -> str:
    shares_lattice = plan.alignment in ("header", "rigid", "affine")
    return _hash(str(FORMAT), json.dumps(plain(plan), sort_keys=True), content, reference if shares_lattice else "")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
