"""Who is for training, validation and test: by person, and the same every time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pullback.checks import check_choice
from pullback.training.manifest import SPLITS, Manifest, read_json


@dataclass(frozen=True)
class Split:
    """Names of scans, no person in two parts."""

    training: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def part(self, name: str) -> tuple[str, ...]:
        """The names of one part."""
        return getattr(self, name)


def by_fractions(manifest: Manifest, fractions: Sequence[float], *, seed: int = 0) -> Split:
    """Shares of the persons for training, validation and test.

    Raises:
        ValueError: If the fractions are not three numbers that sum to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"`fractions` is {list(fractions)}, but three numbers that sum to 1 are needed.")
    people = _shuffled(manifest, seed)
    first = round(fractions[0] * len(people))
    second = first + round(fractions[1] * len(people))
    return _split_of(manifest, (people[:first], people[first:second], people[second:]))


def by_folds(manifest: Manifest, num_folds: int, fold: int, *, seed: int = 0) -> Split:
    """One of `num_folds` folds as the test part, the next one for validation, the rest for training.

    With two folds there is no part for validation.

    Raises:
        ValueError: If there are too few persons, or no such fold.
    """
    people = _shuffled(manifest, seed)
    if not 2 <= num_folds <= len(people):
        raise ValueError(f"`num_folds` is {num_folds}, but 2 to {len(people)} are possible with {len(people)} persons.")
    if not 0 <= fold < num_folds:
        raise ValueError(f"`fold` is {fold}, but 0 to {num_folds - 1} are possible.")
    parts = [people[n::num_folds] for n in range(num_folds)]
    test, next_fold = parts[fold], (fold + 1) % num_folds
    validation = parts[next_fold] if num_folds > 2 else []
    training = [person for person in people if person not in test and person not in validation]
    return _split_of(manifest, (training, validation, test))


def from_file(manifest: Manifest, path: Path) -> Split:
    """The split of a json file with lists of names under training, validation and test.

    Raises:
        ValueError: If it is no such file, a name is no scan, or a person stands in two parts.
    """
    lists = read_json(path)
    if not isinstance(lists, Mapping) or not set(lists) & set(SPLITS):
        raise ValueError(f"'{path}' is no split: lists of names under {', '.join(SPLITS)} are needed.")
    for key, names in lists.items():
        check_choice(f"part of '{path}'", str(key), SPLITS)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"'{path}' has {names!r} under '{key}', but a list of names is needed.")
    split = Split(*(tuple(sorted(lists.get(part, ()))) for part in SPLITS))
    return checked(manifest, split)


def from_manifest(manifest: Manifest) -> Split:
    """The split that the manifest's own column says."""
    return checked(manifest, Split(*(tuple(s.name for s in manifest.scans if s.split == part) for part in SPLITS)))


def checked(manifest: Manifest, split: Split) -> Split:
    """The split, if it is sound.

    Raises:
        ValueError: If a name is no scan, a person stands in two parts, or nobody is left to train on.
    """
    where: dict[str, str] = {}
    for part in SPLITS:
        for name in split.part(part):
            person = manifest.find(name).subject
            if where.setdefault(person, part) != part:
                raise ValueError(f"'{person}' stands in {where[person]} and in {part}; a person belongs to one part.")
    if not split.training:
        raise ValueError("The split leaves nobody to train on.")
    return split


def _shuffled(manifest: Manifest, seed: int) -> list[str]:
    people = sorted({scan.subject for scan in manifest.scans})
    order = np.random.default_rng(seed).permutation(len(people))
    return [people[n] for n in order]


def _split_of(manifest: Manifest, people: Sequence[Sequence[str]]) -> Split:
    parts = [tuple(scan.name for scan in manifest.scans if scan.subject in part) for part in people]
    return checked(manifest, Split(*parts))
