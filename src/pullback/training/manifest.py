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
LEARN2REG_SIDES = (("fixed", "moving"), ("0", "1"))
"""Keys under which a pair's two images stand: by their parts, or by their modalities."""
LEARN2REG_NAME = re.compile(r"^(?P<subject>.+_\d{4})_\d{4}$")
"""Names of scans there: task and subject, then four digits of the modality."""


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
        """The same scans, where the scans of each group count as one person's.

        Whoever shares a scan with another group, or a subject with a scan of one, is of that person too.

        Raises:
            ValueError: If a group has fewer than two scans, or names one that is none.
        """
        owner = {scan.name: scan.subject for scan in self.scans}
        for group in groups:
            if len(group) < 2:
                raise ValueError(f"`same_person` has the group {list(group)}, but two scans or more make one.")
            united = [owner[self.find(name).name] for name in group]
            owner = {name: united[0] if person in united else person for name, person in owner.items()}
        scans = [Scan(s.name, s.image, s.labels, owner[s.name], s.split) for s in self.scans]
        return Manifest(tuple(scans), self.pairs)


def read_manifest(path: Path) -> Manifest:
    """A table of scans with the columns of `COLUMNS`, of which image is required.

    File names are relative to the table's folder.

    Args:
        path: Tab-separated, comma-separated (``.csv``) or JSON (``.json``: a list of objects).

    Raises:
        ValueError: If it is no such table, or a column is unknown or missing.
    """
    if path.suffix == ".json":
        rows = read_json(path)
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise ValueError(f"'{path}' is no table: a list of objects is needed, each with the key 'image'.")
    else:
        rows = _table(path)
    return Manifest(tuple(_scan_of(row, number, path) for number, row in enumerate(rows, start=1)))


def _table(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t")
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a text file: {error}.") from error
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise ValueError(f"'{path}' has the column '{twice[0]}' twice.")
    return rows


def _scan_of(row: Mapping[str, Any], number: int, path: Path) -> Scan:
    if None in row:  # the reader's key for what no column holds
        raise ValueError(f"Row {number} of '{path}' has more values than there are columns.")
    for column in row:
        check_choice(f"column of '{path}'", str(column), COLUMNS)
    row = {column: "" if value is None else str(value) for column, value in row.items()}
    if not row.get("image"):
        raise ValueError(f"Row {number} of '{path}' names no image; the column 'image' is needed.")
    image = path.parent / row["image"]
    labels = path.parent / row["labels"] if row.get("labels") else None
    return Scan(row.get("name") or name_of(image), image, labels, row.get("subject", ""), row.get("split", ""))


def read_learn2reg(path: Path) -> Manifest:
    """The data set json of a Learn2Reg challenge: images, labels, and the pairs it gives.

    Scans of one subject, which bear its number in their names, are one person's. Images may be listed by modality.

    Raises:
        ValueError: If it is no such json, or lists no images.
    """
    described = read_json(path)
    if not isinstance(described, Mapping):
        raise ValueError(f"'{path}' is no data set of Learn2Reg: an object with 'training' is needed.")
    scans: dict[str, Scan] = {}
    pairs: dict[str, tuple[tuple[str, str], ...]] = {}
    for key, split in (("training", "training"), ("test", "test")):
        for entry in _listed(described.get(key, []), path):
            scan = _learn2reg_scan(entry, path, split)
            scans[scan.name] = scan
    for key, split in LEARN2REG_PAIRS.items():
        given = described.get(key, [])
        if not isinstance(given, list):
            raise ValueError(f"'{path}' has '{key}' {given!r}, but a list of pairs is needed.")
        found = [_learn2reg_pair(pair, path) for pair in given]
        if found:
            pairs[split] = (*pairs.get(split, ()), *found)
    taken = {name: split for split in ("test", "validation") for pair in pairs.get(split, ()) for name in pair}
    for name, split in taken.items():
        if name in scans:
            scan = scans[name]
            scans[name] = Scan(name, scan.image, scan.labels, scan.subject, split)
    return Manifest(tuple(scans.values()), pairs)


def _listed(entries: Any, path: Path) -> list[Any]:
    """The entries of a list, or of one list per modality."""
    lists = list(entries.values()) if isinstance(entries, Mapping) else [entries]
    if not all(isinstance(one, list) for one in lists):
        raise ValueError(f"'{path}' lists images otherwise than as a list, or as one list per modality.")
    return [entry for one in lists for entry in one]


def _learn2reg_scan(entry: Any, path: Path, split: str) -> Scan:
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
        raise ValueError(f"'{path}' lists {entry!r}, which names no image.")
    if not isinstance(entry.get("label") or "", str):
        raise ValueError(f"'{path}' lists {entry!r}, whose label is no file name.")
    image = path.parent / entry["image"]
    labels = path.parent / entry["label"] if entry.get("label") else None
    known = LEARN2REG_NAME.match(name_of(image))
    return Scan(name_of(image), image, labels, known["subject"] if known else "", split)


def _learn2reg_pair(pair: Any, path: Path) -> tuple[str, str]:
    for sides in LEARN2REG_SIDES:
        if isinstance(pair, Mapping) and all(isinstance(pair.get(side), str) for side in sides):
            fixed, moving = (name_of(Path(pair[side])) for side in sides)
            return fixed, moving
    raise ValueError(f"'{path}' has the pair {pair!r}, but 'fixed' and 'moving' are needed.")


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
        found = [file for file in found if "_space-" in name or "_space-" not in file.name]  # another space: no labels
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
        ValueError: If a pattern has not exactly one star, a labels file is missing, or `subject` is no such expression.
    """
    try:
        person = re.compile(subject)
    except re.error as error:
        raise ValueError(f"`subject` is '{subject}', which is no regular expression: {error}.") from None
    if subject and not person.groups:
        raise ValueError(f"`subject` is '{subject}', which has no group; put the person in brackets: '({subject})'.")
    for pattern in (images, labels):
        if Path(pattern).is_absolute():
            raise ValueError(
                f"The pattern '{pattern}' begins at the root, but it is looked for within the data folder."
            )
        if pattern and pattern.count("*") != 1:
            raise ValueError(f"The pattern '{pattern}' has {pattern.count('*')} stars, but exactly one is needed.")
    before, after = images.split("*")
    scans = []
    for image in sorted(folder.glob(images)):
        name = image.relative_to(folder).as_posix().removeprefix(before).removesuffix(after)
        found = folder / labels.replace("*", name) if labels else None
        if found is not None and not found.is_file():
            raise ValueError(f"'{image}' has no labels: '{found}' does not exist.")
        match = person.search(name) if subject else None
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


def read_json(path: Path) -> Any:
    """The values of a JSON file.

    Raises:
        ValueError: If it is none; names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not JSON: {error}.") from None


def content_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
