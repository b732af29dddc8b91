"""Which scans are registered to which: sources of (fixed, moving) names."""

from collections.abc import Sequence

import numpy as np

NamePair = tuple[str, str]
"""Names of the fixed and the moving scan."""


def all_ordered(names: Sequence[str]) -> list[NamePair]:
    """Every scan to every other, both ways."""
    return [(fixed, moving) for fixed in names for moving in names if fixed != moving]


def random_pairs(names: Sequence[str], num_pairs: int, *, seed: int = 0) -> list[NamePair]:
    """A number of different ordered pairs, drawn at random; all of them if there are fewer."""
    everything = all_ordered(names)
    order = np.random.default_rng(seed).permutation(len(everything))[:num_pairs]
    return [everything[n] for n in sorted(order)]


def atlas_to_subject(names: Sequence[str], atlas: str) -> list[NamePair]:
    """The atlas moves to each other scan.

    Raises:
        ValueError: If the atlas is the only scan.
    """
    pairs = [(name, atlas) for name in names if name != atlas]
    if not pairs:
        raise ValueError(f"There is no scan for the atlas '{atlas}' to move to.")
    return pairs


def to_templates(names: Sequence[str], num_templates: int, *, seed: int = 0) -> list[NamePair]:
    """Some scans, drawn at random, are fixed; the others move to each of them.

    Raises:
        ValueError: If no scan would be left to move.
    """
    if not 1 <= num_templates < len(names):
        raise ValueError(f"`num_templates` is {num_templates}, but 1 to {len(names) - 1} are possible.")
    order = np.random.default_rng(seed).permutation(len(names))
    templates = [names[n] for n in sorted(order[:num_templates])]
    return [(template, name) for template in templates for name in names if name not in templates]


def leave_pairs_out(pairs: Sequence[NamePair], num_folds: int, fold: int, *, seed: int = 0) -> list[list[NamePair]]:
    """The pairs in two parts: those kept, and those of one fold that are left out. Both ways of a pair go together.

    Raises:
        ValueError: If there is no such fold.
    """
    unordered = sorted({tuple(sorted(pair)) for pair in pairs})
    if not 0 <= fold < num_folds <= len(unordered):
        raise ValueError(f"Fold {fold} of {num_folds} is not possible with {len(unordered)} pairs.")
    order = np.random.default_rng(seed).permutation(len(unordered))
    out = {unordered[n] for n in order[fold::num_folds]}
    kept = [pair for pair in pairs if tuple(sorted(pair)) not in out]
    return [kept, [pair for pair in pairs if tuple(sorted(pair)) in out]]
