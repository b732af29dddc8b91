"""Words on the command line that need more than the parser offers."""

from pathlib import Path

from pullback.io.atomic import suffix_of
from pullback.io.images import READABLE
from pullback.io.registry import FORMATS
from pullback.pairwise import INITIALS
from pullback.pairwise.words import WEIGHTS

TRANSFORM_SUFFIXES = frozenset(suffix for form in FORMATS for suffix in form.suffixes) - frozenset(READABLE)
"""Suffixes of transforms that no image has, so that an image after ``--initial header`` is not taken for a start."""


def spread_initial(arguments: list[str]) -> list[str]:
    """Let ``--initial`` take several words: ``--initial a b`` becomes ``--initial a --initial b``.

    A further word counts if it names a start or a file of a linear transform.

    Example:
        >>> spread_initial(["--initial", "header", "centre", "--out", "x"])
        ['--initial', 'header', '--initial', 'centre', '--out', 'x']
    """
    result: list[str] = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        result.append(word)
        position += 1
        if word != "--initial" or position == len(arguments):
            continue
        result.append(arguments[position])
        position += 1
        while position < len(arguments) and _is_start(arguments[position]):
            result += ["--initial", arguments[position]]
            position += 1
    return result


def _is_start(word: str) -> bool:
    return word in INITIALS or suffix_of(Path(word)) in TRANSFORM_SUFFIXES or Path(word).suffix == WEIGHTS
