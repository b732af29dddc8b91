"""Transforms of greedy: matrices as bare text, RAS mm, fixed to moving; warps as ITK writes them, LPS mm.

greedy's documentation speaks of RAS for warps too, but what it stores and reads are ITK's physical vectors. By default
it rounds warps to a tenth of a voxel of the moving image (``-wp``); what it lost stays lost, what we write is not
rounded.

Reference:
    Yushkevich et al., Alzheimer's & Dementia 12 (2016); greedy 1.4.0, ``WriteAffineMatrix`` and ``WarpFunctors.h``.
"""

from pathlib import Path

from pullback.io import nifti, warps
from pullback.io.atomic import suffix_of
from pullback.io.formats import AbstractFormat, Written, affine_from, field_for, matrix_for
from pullback.io.text_matrix import matrix_from, read_matrix, write_matrix
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, DisplacementField

MATRIX = (".mat",)
WARP = (".nii.gz", ".nii", ".mha", ".nrrd")
SIZES = (3, 4)
"""Rows of a matrix in 2-D and 3-D."""


class GreedyFormat(AbstractFormat):
    """Matrices and warps of greedy."""

    name = "greedy"
    title = "greedy: matrices as text in RAS mm, warps as ITK's"
    suffixes = (*MATRIX, *WARP)

    def recognises(self, path: Path) -> bool:
        """Never: its matrices are bare numbers, and its warps are ITK's and are read as those."""
        return False

    def could_be(self, path: Path) -> bool:
        """A bare matrix of 3 or 4 rows."""
        return read_matrix(path, SIZES) is not None

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> Affine | DisplacementField:
        """Read a matrix or a warp; the grids are not needed."""
        if suffix_of(path) in (*nifti.READABLE, *warps.READABLE):
            return warps.read(path)
        return affine_from(matrix_from(path, "greedy", SIZES), path)

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write a matrix with all its digits, or a warp as float32 without rounding it further."""
        self.check_kind(kind)
        if suffix_of(path) in WARP:
            field, written = field_for(transform, fixed, path)
            warps.write(path, field)
            return written
        matrix = matrix_for(transform, path)
        write_matrix(path, matrix)
        return Written(Affine(matrix))


FORMAT = GreedyFormat()
