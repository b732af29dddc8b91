"""Which scans there are: from a table, a Learn2Reg data set, a BIDS folder, or two patterns of file names."""

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pullback.checks import check_choice

SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".mgz", ".png", ".tif", ".tiff", ".jpg")
COLUMNS = ("name", "image", "labels", "subject", "split")
SPLITS = ("training", "validation", "test")
LEARN2REG_PAIRS = {
    "training_paired_images": "training",
    "registration_train": "training",
    "registration_val": "validation",
    "registration_test": "test",
}


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes:
        name: Unique.
        image: Its file.
        labels: File of its labels, on the same grid, or None.
        subject: The person; scans of one person stay on one side of every split.
        split: Where the source puts it: ``training``, ``validation``, ``test`` or nothing.
    """

    name: str
    image: Path
    labels: Path | None = None
    subject: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", self.subject or self.name)
        if self.split:
            check_choice(f"split of '{self.name}'", self.split, SPLITS)


@dataclass(frozen=True)
class Manifest:
    """Scans, and pairs where the source gives them.

    Attributes:
        scans: In order of their names.
        pairs: By split: (fixed, moving) names.

    Raises:
        ValueError: If it is empty, a name stands twice, or a pair names no scan.
    """

    scans: tuple[Scan, ...]
    pairs: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.scans, key=lambda scan: scan.name))
        names = [scan.name for scan in ordered]
        if not names:
            raise ValueError("There is no scan: the source is empty, or its pattern fits no file.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"The name '{twice[0]}' stands for several scans; give each its own.")
        for fixed, moving in (pair for pairs in self.pairs.values() for pair in pairs):
            for name in (fixed, moving):
                if name not in names:
                    raise ValueError(f"The pair {fixed}, {moving} names '{name}', which is no scan.")
        object.__setattr__(self, "scans", ordered)

    def find(self, name: str) -> Scan:
        """The scan of a name."""
        check_choice("scan", name, [scan.name for scan in self.scans])
        return next(scan for scan in self.scans if scan.name == name)

    def same_person(self, groups: Sequence[Sequence[str]]) -> "Manifest":
        """The same scans, where the scans of each group count as one person's."""
        owner = {name: group[0] for group in groups for name in group}
        for name in owner:
            self.find(name)
        scans = [Scan(s.name, s.image, s.labels, owner.get(s.name, s.subject), s.split) for s in self.scans]
        return Manifest(tuple(scans), self.pairs)


def read_manifest(path: Path) -> Manifest:
    """A table of scans, tab-separated or JSON (a list of objects), with the columns of `COLUMNS`; image is required.

    File names are relative to the table's folder.

    Raises:
        ValueError: If a column is unknown or missing.
    """
    if path.suffix == ".json":
        rows = json.loads(path.read_text(encoding="utf-8"))
    else:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    return Manifest(tuple(_scan_of(row, number, path) for number, row in enumerate(rows, start=1)))


def _scan_of(row: Mapping[str, Any], number: int, path: Path) -> Scan:
    for column in row:
        check_choice(f"column of '{path}'", str(column), COLUMNS)
    if not row.get("image"):
        raise ValueError(f"Row {number} of '{path}' names no image; the column 'image' is needed.")
    image = path.parent / row["image"]
    labels = path.parent / row["labels"] if row.get("labels") else None
    return Scan(row.get("name") or name_of(image), image, labels, row.get("subject") or "", row.get("split") or "")


def read_learn2reg(path: Path) -> Manifest:
    """The data set json of a Learn2Reg challenge: images, labels, and its validation and test pairs.

    Raises:
        ValueError: If it lists no images.
    """
    described = json.loads(path.read_text(encoding="utf-8"))
    scans: dict[str, Scan] = {}
    pairs: dict[str, tuple[tuple[str, str], ...]] = {}
    for key, split in (("training", "training"), ("test", "test")):
        for entry in described.get(key, []):
            entry = {"image": entry} if isinstance(entry, str) else entry
            image = path.parent / entry["image"]
            labels = path.parent / entry["label"] if entry.get("label") else None
            scans[name_of(image)] = Scan(name_of(image), image, labels, split=split)
    for key, split in LEARN2REG_PAIRS.items():
        found = [tuple(name_of(Path(pair[side])) for side in ("fixed", "moving")) for pair in described.get(key, [])]
        if found:
            pairs[split] = (*pairs.get(split, ()), *found)
    taken = {name: split for split in ("test", "validation") for pair in pairs.get(split, ()) for name in pair}
    for name, split in taken.items():
        if name in scans:
            scan = scans[name]
            scans[name] = Scan(name, scan.image, scan.labels, scan.subject, split)
    return Manifest(tuple(scans.values()), pairs)


def read_bids(folder: Path, *, suffix: str = "T1w", labels_suffix: str = "dseg") -> Manifest:
    """The images of one kind in a BIDS folder, with segmentations from its derivatives if there are any.

    Args:
        folder: Holds ``sub-*`` folders, and perhaps ``derivatives``.
        suffix: Of the images, such as ``T1w``.
        labels_suffix: Of the segmentations.
    """
    scans = []
    for image in sorted(folder.glob(f"sub-*/**/*_{suffix}.nii*")):
        name = name_of(image).removesuffix(f"_{suffix}")
        inside = image.relative_to(folder).parent
        found = sorted(folder.glob(f"derivatives/*/{inside}/{name}_*{labels_suffix}.nii*"))
        scans.append(Scan(name, image, found[0] if found else None, image.relative_to(folder).parts[0]))
    return Manifest(tuple(scans))


def read_globs(folder: Path, images: str, labels: str = "", subject: str = "") -> Manifest:
    """Files that two patterns fit; the images' and labels' names are paired by what the star stands for.

    Args:
        folder: The patterns are relative to it.
        images: Such as ``images/*.nii.gz``, with one star.
        labels: Such as ``labels/*.nii.gz``; none if empty.
        subject: Regular expression whose first group, found in a name, is the person (default: the name).

    Raises:
        ValueError: If a pattern has not exactly one star, or a labels file is missing.
    """
    for pattern in (images, labels):
        if pattern and pattern.count("*") != 1:
            raise ValueError(f"The pattern '{pattern}' has {pattern.count('*')} stars, but exactly one is needed.")
    before, after = images.split("*")
    scans = []
    for image in sorted(folder.glob(images)):
        name = image.relative_to(folder).as_posix().removeprefix(before).removesuffix(after)
        found = folder / labels.replace("*", name) if labels else None
        if found is not None and not found.is_file():
            raise ValueError(f"'{image}' has no labels: '{found}' does not exist.")
        match = re.search(subject, name) if subject else None
        scans.append(Scan(name, image, found, match.group(1) if match else ""))
    return Manifest(tuple(scans))


def name_of(path: Path) -> str:
    """A file's name without its suffix.

    Example:
        >>> name_of(Path("images/brain.v2.nii.gz"))
        'brain.v2'
    """
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def content_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
