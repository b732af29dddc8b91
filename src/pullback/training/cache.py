"""Prepared scans on disk: a folder of arrays and one list of them, all that a training needs.

Nothing here reads an image file, so that a training can go on where no image library is.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.training.manifest import Manifest, Scan, content_of
from pullback.training.parsing import plain
from pullback.training.preprocessing import Prepared, Preparer
from pullback.training.recipe import Preprocessing
from pullback.training.splits import Split

LIST = "cache.json"
FORMAT = 1
"""Raised when the step of preprocessing changes what it makes."""


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
    """

    folder: Path
    entries: tuple[Entry, ...]
    preprocessing: Mapping[str, Any]
    split: Split
    pairs: Mapping[str, tuple[tuple[str, str], ...]]
    fingerprint: str

    def load(self, entry: Entry) -> tuple[Tensor, Tensor | None]:
        """Image ``(C, *S)`` as stored, and labels ``(*S)``."""
        with np.load(self.folder / entry.file, allow_pickle=False) as arrays:
            labels = torch.from_numpy(arrays["labels"].astype(np.int32)) if "labels" in arrays else None
            return torch.from_numpy(arrays["image"]), labels


def fill(
    folder: Path,
    manifest: Manifest,
    split: Split,
    plan: Preprocessing,
    on_scan: Callable[[int, int, str], None] | None = None,
) -> Cache:
    """Prepare every scan of the split that the folder does not hold yet, and write the list.

    A scan's key is the content of its files (and the reference's), the plan, and the version of the step: a changed
    file or number is prepared anew, an unchanged one is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name for part in (split.training, split.validation, split.test) for name in part}
    scans = [scan for scan in manifest.scans if scan.name in wanted]
    reference = manifest.find(plan.reference) if plan.reference else scans[0]
    contents = {scan.name: _content(scan) for scan in {*scans, reference}}
    known = _known(folder)
    entries: list[dict[str, Any]] = []
    preparer: Preparer | None = None
    for number, scan in enumerate(scans):
        if on_scan is not None:
            on_scan(number, len(scans), scan.name)
        key = _key(plan, contents[scan.name], contents[reference.name])
        found = [entry for entry in known if entry["key"] == key and (folder / entry["file"]).is_file()]
        if not found:
            preparer = preparer or Preparer(plan, reference)
            found = [_keep(folder, prepared, key, plan.storage) for prepared in preparer(scan)]
        entries += [entry | {"scan": scan.name, "name": _entry_name(scan, entry)} for entry in found]
    described = {
        "format": FORMAT,
        "preprocessing": plain(plan),
        "split": plain(split),
        "pairs": plain(dict(manifest.pairs)),
        "fingerprint": _hash(*(contents[scan.name] for scan in scans)),
        "entries": entries,
    }
    with whole(folder / LIST) as path:
        path.write_text(json.dumps(described), encoding="utf-8")
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
    described = json.loads(path.read_text(encoding="utf-8"))
    if described.get("format") != FORMAT:
        raise ValueError(f"'{folder}' was filled by another version; fill a new folder.")
    entries = tuple(
        Entry(e["name"], e["scan"], e["file"], e["position"], tuple(e["labels"]), e["record"])
        for e in described["entries"]
    )
    pairs = {part: tuple((a, b) for a, b in found) for part, found in described["pairs"].items()}
    split = Split(**{part: tuple(names) for part, names in described["split"].items()})
    return Cache(folder, entries, described["preprocessing"], split, pairs, described["fingerprint"])


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
    arrays = {"image": prepared.image.tensor.numpy().astype(storage)}
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
    path = folder / LIST
    if not path.is_file():
        return []
    described = json.loads(path.read_text(encoding="utf-8"))
    return described["entries"] if described.get("format") == FORMAT else []


def _content(scan: Scan) -> str:
    return _hash(content_of(scan.image), content_of(scan.labels) if scan.labels is not None else "")


def _key(plan: Preprocessing, content: str, reference: str) -> str:
    shares_lattice = plan.alignment in ("header", "rigid", "affine")
    return _hash(str(FORMAT), json.dumps(plain(plan), sort_keys=True), content, reference if shares_lattice else "")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
