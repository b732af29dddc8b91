"""Linear transforms of AFNI: ``.aff12.1D``, the first three rows of a matrix from base (fixed) to source (moving).

AFNI's world is "DICOM order", LPS mm. Unless told otherwise (``-realaxes``), 3dAllineate replaces the axes of an
*oblique* image by the nearest ones along the world, about the centre of voxel 0, so a matrix between oblique images has
no meaning without both of them.

Reference:
    Cox, Computers and Biomedical Research 29 (1996), doi:10.1006/cbmr.1996.0014; AFNI's 3dAllineate.c and
    thd_niftiread.c.
"""

from pathlib import Path

import torch
from torch import Tensor

from pullback.io.atomic import replacing
from pullback.io.formats import AbstractFormat, Written, affine_from, grid_for, matrix_for
from pullback.io.itk import swap_lps_matrix
from pullback.io.text_matrix import read_rows
from pullback.space import Grid, closest_to_ras
from pullback.transforms import AbstractTransform, Affine

HEADER = "# 3dvolreg matrices (DICOM-to-DICOM, row-by-row):"
WHY = "AFNI straightens the axes of oblique images before it applies a matrix, so it must be known whether they are"


class AFNIFormat(AbstractFormat):
    """Matrices of 3dAllineate and 3dvolreg."""

    name = "afni"
    title = "AFNI: .aff12.1D matrices, base to source, LPS mm"
    suffixes = (".1d",)

    def recognises(self, path: Path) -> bool:
        """By AFNI's first line or its suffix, above twelve numbers."""
        if _rows(path) is None:
            return False
        start = path.read_text(encoding="utf-8", errors="replace")[:100]
        return "DICOM-to-DICOM" in start or path.name.lower().endswith(".aff12.1d")

    def could_be(self, path: Path) -> bool:
        """Twelve bare numbers."""
        return _rows(path) is not None

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> Affine:
        """Read one matrix; both images are needed."""
        rows = _rows(path)
        if rows is None:
            raise ValueError(
                f"'{path}' is no matrix of AFNI: one line of 12 numbers, or 3 lines of 4, are needed; a file of more "
                "lines is a time series, of which one line must be taken out first."
            )
        fixed, moving = _solids(fixed, moving, path)
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3] = torch.tensor(rows, dtype=torch.float64).reshape(3, 4)
        return affine_from(_to_true(moving) @ swap_lps_matrix(matrix) @ torch.linalg.inv(_to_true(fixed)), path)

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write one matrix with all its digits; both images are needed."""
        self.check_kind(kind)
        fixed, moving = _solids(fixed, moving, path)
        matrix = matrix_for(transform, path)
        lps = swap_lps_matrix(torch.linalg.inv(_to_true(moving)) @ matrix @ _to_true(fixed))
        numbers = "  ".join(repr(float(number)) for number in lps[:3].flatten())
        with replacing(path) as temporary:
            temporary.write_text(f"{HEADER}\n{numbers}\n", encoding="ascii")
        return Written(Affine(matrix))


def straightened(grid: Grid) -> Grid:
    """The grid as AFNI takes it: voxel 0 and the voxel sizes stay, each axis becomes the nearest one of the world."""
    reorientation = closest_to_ras(grid)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = 0
    matrix[:3, 3] = grid.origin
    for row, (axis, flip) in enumerate(zip(reorientation.order, reorientation.flips, strict=True)):
        matrix[row, axis] = grid.spacing_mm[axis] * (-1.0 if flip else 1.0)
    return Grid(grid.shape, matrix)


def _to_true(grid: Grid) -> Tensor:
    """From AFNI's world of an image to where its voxels truly are, RAS mm; the identity unless it is oblique."""
    return grid.voxel_to_world @ straightened(grid).world_to_voxel


def _rows(path: Path) -> list[float] | None:
    """Twelve numbers on one line or on three; None for anything else."""
    rows = read_rows(path)
    if rows is None or [len(row) for row in rows] not in ([12], [4, 4, 4]):
        return None
    return [number for row in rows for number in row]


def _solids(fixed: Grid | None, moving: Grid | None, path: Path) -> tuple[Grid, Grid]:
    fixed, moving = grid_for(fixed, "fixed", path, WHY), grid_for(moving, "moving", path, WHY)
    if fixed.num_dims != 3 or moving.num_dims != 3:
        raise ValueError(f"'{path}' is for 3-D transforms, as all of AFNI's are, but an image is 2-D.")
    return fixed, moving


FORMAT = AFNIFormat()
