"""Data sets of Learn2Reg: the json, the folders, submissions, and their score by the challenge's arithmetic."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pullback.checks import check_choice
from pullback.evaluation import learn2reg_script as script
from pullback.evaluation.case import Case, Files, without_missing

SPLITS = {"val": "registration_val", "test": "registration_test", "training": "training_paired_images"}
PATTERN = re.compile(r"^(?P<task>.+)_(?P<subject>\d{4})_(?P<modality>\d{4})\.nii\.gz$")
"""File names: task, four digits of the subject, four of the modality."""

SUFFIXES = (".nii.gz", ".npz")


@dataclass(frozen=True)
class Learn2RegPair:
    """One pair of a data set.

    Attributes:
        fixed, moving: Paths of the images, relative to the data set's folder.
    """

    fixed: Path
    moving: Path

    @property
    def name(self) -> str:
        """As the challenge's script names cases: ``0001_0000<--0002_0000``."""
        return "<--".join("_".join(_numbers(path)) for path in (self.fixed, self.moving))

    @property
    def long_name(self) -> str:
        """Of a displacement without suffix: ``disp_0001_0000_0002_0000``; always right."""
        return "_".join(["disp", *_numbers(self.fixed), *_numbers(self.moving)])

    @property
    def short_name(self) -> str:
        """``disp_0001_0002``; the script at hand takes it for modalities 0000 and 0001 only."""
        return f"disp_{_numbers(self.fixed)[0]}_{_numbers(self.moving)[0]}"

    @property
    def is_short_name_allowed(self) -> bool:
        """Whether the challenge's script takes the short name."""
        return (_numbers(self.fixed)[1], _numbers(self.moving)[1]) == ("0000", "0001")


@dataclass(frozen=True)
class Learn2RegDataset:
    """What a ``<TASK>_dataset.json`` or an evaluation configuration of the challenge says.

    Attributes:
        name: Of the task.
        folder: Where the json lies; paths of pairs are relative to it.
        splits: ``val``, ``test`` and ``training`` (or ``pairs`` of a configuration), each a list of pairs.
        labels: Which labels count; None where the json does not say.
        is_masked: Whether SDlogJ counts inside the mask only.
        landmarks: Folders of keypoints to look into, best first, without ``Tr`` or ``Ts``.
        label_names: Label to structure, where the json says.
    """

    name: str
    folder: Path
    splits: Mapping[str, tuple[Learn2RegPair, ...]]
    labels: tuple[int, ...] | None = None
    is_masked: bool = False
    landmarks: tuple[str, ...] = ("landmarks", "keypoints")
    label_names: Mapping[int, str] | None = None

    def pairs(self, split: str) -> tuple[Learn2RegPair, ...]:
        """The pairs of a split.

        Raises:
            ValueError: If there is no such split here, or a pair stands in it twice.
        """
        pairs = self.splits[check_choice("split", split, tuple(self.splits))]
        for name, count in Counter(pair.name for pair in pairs).items():
            if count > 1:
                raise ValueError(f"The json of '{self.name}' lists the pair '{name}' {count} times under '{split}'.")
        return pairs

    def path_of(self, image: Path, kind: str) -> Path:
        """The file of an image's ``labels``, ``masks``, ``keypoints`` or ``landmarks``: the folder's name changes."""
        relative = Path(*(part.replace("images", kind) if part.startswith("images") else part for part in image.parts))
        name = relative.name.replace(".nii.gz", ".csv") if kind in self.landmarks else relative.name
        return self.folder / relative.with_name(name)

    def case(self, pair: Learn2RegPair, submission: Path | None) -> Case:
        """What is there to score a pair with; `submission` None scores the images where they are.

        Raises:
            FileNotFoundError: If the submission has no displacement of the pair.
        """
        there = without_missing(
            {
                "fixed": self.folder / pair.fixed,
                "moving": self.folder / pair.moving,
                "fixed_labels": self.path_of(pair.fixed, "labels"),
                "moving_labels": self.path_of(pair.moving, "labels"),
                "mask": self.path_of(pair.fixed, "masks"),
            }
        )
        for kind in self.landmarks:
            points = without_missing(
                {"fixed_points": self.path_of(pair.fixed, kind), "moving_points": self.path_of(pair.moving, kind)}
            )
            if len(points) == 2:
                there |= points
                break
        if submission is None:
            return Case(pair.name, **there, transform=("identity",), points_in="voxels")
        return Case(pair.name, **there, displacement=find_displacement(submission, pair), points_in="voxels")


def read_dataset(path: str | Path) -> Learn2RegDataset:
    """Read a data set json, or an ``evaluation_config.json`` of the challenge.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such json.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist or is a folder.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not JSON: {error}.") from error
    if not isinstance(data, dict) or not ({"eval_pairs", *SPLITS.values()} & set(data)):
        raise ValueError(
            f"'{path}' is no data set of Learn2Reg: it has none of {', '.join([*SPLITS.values(), 'eval_pairs'])}."
        )
    if "eval_pairs" in data:
        return _from_configuration(data, path)
    splits = {split: _pairs(data[key], path) for split, key in SPLITS.items() if data.get(key)}
    if not splits:
        raise ValueError(f"'{path}' lists no pair.")
    names = _label_names(data)
    labels = tuple(k for k in names or () if k != 0) or None
    return Learn2RegDataset(str(data.get("name", path.stem)), path.parent, splits, labels, label_names=names)


def find_displacement(folder: Path, pair: Learn2RegPair) -> Path:
    """The file of a submission for a pair, by its long or short name.

    Raises:
        FileNotFoundError: If neither is there.
    """
    for name in (pair.long_name, pair.short_name):
        for suffix in SUFFIXES:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    raise FileNotFoundError(f"'{folder}' holds no {pair.long_name}{SUFFIXES[0]} (nor {pair.short_name}{SUFFIXES[0]}).")


def script_scores(case: Case, dataset: Learn2RegDataset) -> dict[str, float]:
    """A pair's numbers by the arithmetic of the challenge's script, as columns ``l2r_...``.

    Args:
        case: With a displacement.
        dataset: Says which labels count and whether masks do.
    """
    files, present = Files(case), case.present()
    displacement = files.voxel_displacement
    region = files.region if dataset.is_masked and "mask" in present else None
    values = {"l2r_sdlogj": script.sd_log_jacobian(displacement, region)}
    if {"fixed_labels", "moving_labels"} <= present:
        fixed, moving = files.fixed_labels.tensor[0], files.moving_labels.tensor[0]
        warped = script.warp_labels(moving, displacement)
        labels = dataset.labels or sorted(set(files.fixed_labels.labels) | set(files.moving_labels.labels))
        values["l2r_dice"] = script.dice(fixed, moving, warped, labels)
        values["l2r_hd95"] = script.hausdorff95_voxels(fixed, moving, warped, labels)
    if {"fixed_points", "moving_points"} <= present:
        keypoints = (
            files.grid.to_voxel(files.fixed_points.coordinates).numpy(),
            files.moving_grid.to_voxel(files.moving_points.coordinates).numpy(),
        )
        spacing = files.moving_grid.spacing_mm.tolist()
        values["l2r_tre"] = script.target_registration_error(*keypoints, displacement, spacing)
    return values


def script_aggregates(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The script's aggregates of the columns ``l2r_...`` over pairs."""
    names = [name for name in script.WORST_SHARE if any(name in row for row in rows)]
    return script.aggregate({name: [row.get(name, np.nan) for row in rows] for name in names})


def _numbers(path: Path) -> tuple[str, str]:
    found = PATTERN.match(path.name)
    if found is None:
        raise ValueError(f"'{path}' is not named like TASK_0001_0000.nii.gz, so that its subject is not known.")
    return found["subject"], found["modality"]


def _pairs(entries: Any, path: Path) -> tuple[Learn2RegPair, ...]:
    try:
        pairs = tuple(Learn2RegPair(Path(entry["fixed"]), Path(entry["moving"])) for entry in entries)
    except (TypeError, KeyError) as error:
        raise ValueError(f"'{path}' lists pairs without 'fixed' and 'moving'.") from error
    for pair in pairs:
        _numbers(pair.fixed), _numbers(pair.moving)
        if any(image.is_absolute() or ".." in image.parts for image in (pair.fixed, pair.moving)):
            raise ValueError(f"'{path}' names '{pair.fixed}' outside of its own folder.")
    return pairs


def _label_names(data: Mapping[str, Any]) -> dict[int, str] | None:
    """Names of structures, from ``labels`` of the first modality; the jsons write it in more than one way."""
    labels = data.get("labels")
    if isinstance(labels, dict) and labels and all(isinstance(v, dict) for v in labels.values()):
        labels = next(iter(labels.values()))
    try:
        return {int(k): str(v) for k, v in labels.items()} if labels else None
    except (AttributeError, ValueError, TypeError):
        return None


def _from_configuration(data: Mapping[str, Any], path: Path) -> Learn2RegDataset:
    methods = data.get("evaluation_methods", [])
    try:
        labels = next((m["labels"] for m in methods if m.get("metric") in ("dice", "hd95") and "labels" in m), None)
        labels = None if labels is None else tuple(int(k) for k in labels)
        kinds = tuple(re.sub(r"(Tr|Ts)$", "", m["dest"]) for m in methods if m.get("metric") == "tre" and "dest" in m)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{path}' has evaluation_methods other than a list of objects, with numbers as labels and a folder as "
            f"dest: {error}."
        ) from error
    return Learn2RegDataset(
        name=str(data.get("task_name", path.stem)),
        folder=path.parent,
        splits={"pairs": _pairs(data["eval_pairs"], path)},
        labels=labels,
        is_masked=bool(data.get("masked_evaluation", False)),
        landmarks=kinds or ("landmarks", "keypoints"),
    )
