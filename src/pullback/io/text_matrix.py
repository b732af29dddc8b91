"""Matrices as bare text, rows of numbers: FLIRT, NiftyReg, greedy and AFNI share it and mean different things by it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pullback.io.atomic import replacing

NUM_BYTES = 1 << 16
"""A file of one matrix is far shorter than this; a longer one is something else."""


def read_rows(path: Path) -> list[list[float]] | None:
    """The numbers of a text file line by line, without empty lines and comments (#); None if it holds anything else.

    Never raises for an existing file that may be read.
    """
    with path.open("rb") as file:
        contents = file.read(NUM_BYTES + 1)
    if not contents or len(contents) > NUM_BYTES or b"\0" in contents:
        return None
    try:
        lines = [line.split("#")[0].split() for line in contents.decode("utf-8").splitlines()]
        return [[float(word) for word in line] for line in lines if line]
    except ValueError:  # no text, or a word among the numbers
        return None


def read_matrix(path: Path, sizes: Sequence[int] = (4,)) -> Tensor | None:
    """A homogeneous matrix of one of the `sizes`, float64; None if the file holds anything else."""
    rows = read_rows(path)
    if rows is None or len(rows) not in sizes or any(len(row) != len(rows) for row in rows):
        return None
    matrix = torch.tensor(rows, dtype=torch.float64)
    last = torch.zeros(len(rows), dtype=torch.float64)
    last[-1] = 1.0
    return matrix if torch.isfinite(matrix).all() and torch.allclose(matrix[-1], last) else None


def matrix_from(path: Path, whose: str, sizes: Sequence[int] = (4,)) -> Tensor:
    """As `read_matrix`.

    Args:
        path: The file.
        whose: The tool, for the message.
        sizes: Numbers of rows to accept.

    Raises:
        ValueError: If the file holds anything else.
    """
    matrix = read_matrix(path, sizes)
    if matrix is None:
        shapes = " or ".join(f"{n} rows of {n} numbers" for n in sizes)
        raise ValueError(
            f"'{path}' is no matrix of {whose}: {shapes}, the last row 0 ... 0 1, are needed; is it another tool's "
            "file, or cut short?"
        )
    return matrix


def write_matrix(path: Path, matrix: Tensor) -> None:
    """Write rows of numbers with all their digits, whole or not at all."""
    lines = ["  ".join(repr(float(number)) for number in row) for row in matrix.tolist()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")
