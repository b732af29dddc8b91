"""What every format of transforms offers, and the words in which all of them refuse.

One module per tool, ``io/<tool>.py``, with one public object ``FORMAT`` of a subclass of `AbstractFormat`; the list of
all of them is :data:`pullback.io.registry.FORMATS`. A format turns a file into a map from the fixed world to the moving
world, RAS+ mm, and back; frames, units, order and direction of the tool stay inside its module. What a file cannot hold
is refused with the reason; what a file does not say is asked for, never guessed.
"""

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pullback.checks import check_choice
from pullback.space import Grid
from pullback.transforms import AbstractLinear, AbstractTransform, Affine, Chain, DisplacementField, StationaryVelocity


@dataclass(frozen=True)
class Written:
    """What a file holds after writing.

    Attributes:
        transform: What reading the file back must give, up to rounding; the very transform that was handed in, unless
            it had to be evaluated.
        notes: Plain sentences about what was done beyond storing numbers, such as an evaluation on a grid.
    """

    transform: AbstractTransform
    notes: tuple[str, ...] = field(default=())


class AbstractFormat(ABC):
    """The transforms of one tool."""

    name: str
    """One word for ``--from`` and ``--to``."""

    title: str
    """The tool and its files in words, for lists and messages."""

    suffixes: tuple[str, ...]
    """What it writes, lower case, the usual one first; reading goes by content."""

    kinds: Mapping[str, str] = {}
    """Kinds of file that the suffix does not tell apart, each with a line that says what it is; for ``--kind``."""

    tolerance_mm: float = 1e-3
    """How far a point may move, at most, when a file is written and read back."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether the content of an existing file says, without doubt, that it is of this format; never raises."""

    def could_be(self, path: Path) -> bool:
        """Whether the content fits although nothing in it says so (a bare matrix, vectors without intent)."""
        return False

    @abstractmethod
    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> AbstractTransform:
        """Read a map from the fixed to the moving world, RAS+ mm.

        Args:
            path: An existing file.
            fixed: The grid of the fixed image, where the file cannot be understood without it.
            moving: The grid of the moving image, likewise.

        Raises:
            ValueError: If the file is damaged, holds something else, or needs a grid that is None.
        """

    @abstractmethod
    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write a map from the fixed to the moving world, whole or not at all.

        Args:
            path: The file; its suffix is one of `suffixes`.
            transform: RAS+ mm.
            fixed: The grid of the fixed image: needed by some formats, and to evaluate what is not one field.
            moving: The grid of the moving image, where the format needs it.
            kind: One of `kinds`; None chooses by the suffix and the transform.

        Raises:
            ValueError: If the format cannot hold the transform, or needs a grid that is None.
            OSError: If the place cannot be written to or the disk is full.
        """

    def to_read_back(self, kind: str | None) -> "AbstractFormat":
        """The format that reads what was just written as `kind`: itself, unless files do not say their kind."""
        return self

    def told(self, kind: str) -> "AbstractFormat":
        """The format for a file that is of this kind but does not say so, as in ``--from name:kind``.

        Raises:
            ValueError: If the format has no such kind, or its files say of which kind they are.
        """
        raise ValueError(f"`format` is '{self.name}:{kind}', but files of {self.name} say themselves of which kind.")

    def check_kind(self, kind: str | None) -> str | None:
        """Return `kind` if the format has it.

        Raises:
            ValueError: If not.
        """
        if kind is not None and not self.kinds:
            raise ValueError(f"`kind` is '{kind}', but the format {self.name} has no kinds; the suffix says it all.")
        return None if kind is None else check_choice("kind", kind, tuple(self.kinds))


@contextlib.contextmanager
def damaged(path: Path, kind: str, trouble: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn whatever a reader raises for a damaged file into one ValueError that names it.

    Args:
        path: The file.
        kind: What it may not be at all, such as "X5 file".
        trouble: What the reader raises.
    """
    try:
        yield
    except (PermissionError, IsADirectoryError):
        raise
    except trouble as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ValueError(f"'{path}' is truncated or corrupt, or no {kind}: {reason}.") from error


def affine_from(matrix: Tensor, where: str | Path) -> Affine:
    """The affine map of a matrix that a file holds.

    Raises:
        ValueError: If it is singular, not finite or not homogeneous; the message names the file.
    """
    try:
        return Affine(matrix)
    except ValueError as error:
        raise ValueError(f"'{where}' holds a matrix that is no transform: {error}") from error


def flatten(transform: AbstractTransform) -> list[AbstractTransform]:
    """The parts of a chain, also of chains in chains, outermost first; a velocity as its dense field."""
    if isinstance(transform, Chain):
        return [part for inner in transform.parts for part in flatten(inner)]
    return [transform.displacement_field if isinstance(transform, StationaryVelocity) else transform]


def matrix_of(transform: AbstractTransform) -> Tensor | None:
    """The float64 matrix of a linear transform or of a chain of nothing but linear ones; None for anything else."""
    parts = flatten(transform)
    if not all(isinstance(part, AbstractLinear) for part in parts):
        return None
    product = torch.eye(transform.num_dims + 1, dtype=torch.float64)
    for part in parts:
        product = product @ part.matrix.detach().cpu().to(torch.float64)
    return product


def matrix_for(transform: AbstractTransform, path: Path) -> Tensor:
    """The ``(D+1, D+1)`` matrix of a transform for a file that holds nothing else, RAS mm, fixed to moving.

    Raises:
        ValueError: If the transform is not linear.
    """
    matrix = matrix_of(transform)
    if matrix is None:
        raise ValueError(
            f"'{path}' cannot hold a {in_words(transform)}: this file is for one matrix, and a deformation would be "
            "lost; use a format for fields or chains, such as .h5."
        )
    return matrix


def field_for(transform: AbstractTransform, fixed: Grid | None, path: Path) -> tuple[DisplacementField, Written]:
    """One displacement field for a file that holds nothing else, and the report about it.

    A single field passes as it is (on `fixed`, if that is given); anything else is evaluated at the voxels of `fixed`.

    Raises:
        ValueError: If it has to be evaluated and `fixed` is None.
    """
    parts = flatten(transform)
    alone = parts[0] if len(parts) == 1 and isinstance(parts[0], DisplacementField) else None
    if alone is not None and (fixed is None or alone.grid.same_as(fixed)):
        return alone, Written(alone)
    if fixed is None:
        raise ValueError(
            f"'{path}' cannot hold a {in_words(transform)}: this file is for one displacement field; use .h5, or give "
            "the fixed image (--fixed), to evaluate it at its voxels."
        )
    dense = DisplacementField(transform.displacement_on(fixed), fixed)
    shape = " x ".join(map(str, fixed.shape))
    note = (
        f"The {in_words(transform)} was evaluated at the {shape} voxels of the fixed grid; between them it is linear."
    )
    return dense, Written(dense, (note,))


def grid_for(grid: Grid | None, which: str, path: Path, why: str) -> Grid:
    """A grid that a format cannot do without.

    Args:
        grid: What was given.
        which: ``fixed`` or ``moving``, as the option is called.
        path: The file, for the message.
        why: The reason, a clause such as "FLIRT's matrices are in mm of the voxels of both images".

    Raises:
        ValueError: If it is None.
    """
    if grid is None:
        raise ValueError(f"'{path}' needs the {which} image: {why}; give it with --{which}.")
    return grid


def in_words(transform: AbstractTransform) -> str:
    """A transform for a sentence, such as ``chain of an affine and a displacement field``."""
    names = [_name(part) for part in flatten(transform)]
    if len(names) == 1:
        return names[0]
    return f"chain of {len(names)} ({', '.join(names)})"


def _name(part: AbstractTransform) -> str:
    words = re.findall(r"BSpline|[A-Z][a-z]+|[a-z]+", type(part).__name__)
    return " ".join("B-spline" if word == "BSpline" else word.lower() for word in words)
