"""Transforms of ITK, SimpleITK, ANTs and 3D Slicer.

``.h5 .hdf5`` hold anything linear, B-splines, displacement fields and chains of them; ``.txt .tfm`` hold matrices,
B-splines and chains of them; ``.mat`` holds a matrix;
``.nii .nii.gz .mha .nrrd`` hold one displacement field. All of them map points of the fixed world to points of the
moving world, as ours do, in LPS mm.
"""

import re
from pathlib import Path

import h5py

from pullback.io import itk_files, nifti, warps
from pullback.io.atomic import suffix_of
from pullback.io.formats import AbstractFormat, Written, field_for, flatten, matrix_for
from pullback.io.itk import affine_record, records_of, transform_of
from pullback.space import Grid
from pullback.transforms import AbstractLinear, AbstractTransform, Affine, BSpline

HDF5 = (".h5", ".hdf5")
TEXT = (".txt", ".tfm")
MATLAB = (".mat",)
WARP = (".nii.gz", ".nii", ".mha", ".nrrd")

TEXT_START = b"#Insight Transform File"
HDF5_START = b"\x89HDF\r\n\x1a\n"
MATLAB_NAME = re.compile(rb"\w+_(double|float)_[23]_[23](_\d)?\0")
NUM_MATLAB_BYTES = 4096
"""A linear transform is far shorter, with any order of its two variables."""


class ITKFormat(AbstractFormat):
    """Files that ITK reads and writes."""

    name = "itk"
    title = "ITK, ANTs and 3D Slicer: composites, linear transforms, displacement fields in LPS mm"
    suffixes = (*HDF5, *TEXT, *MATLAB, *WARP)

    def recognises(self, path: Path) -> bool:
        """By the first bytes, and for a NIfTI by its vector intent, for MHA and NRRD by the number of components."""
        with path.open("rb") as file:
            start = file.read(NUM_MATLAB_BYTES)
        if start.startswith(HDF5_START):
            return _is_itk_hdf5(path)
        if start.startswith(TEXT_START):
            return True
        return MATLAB_NAME.search(start) is not None or warps.is_field(path)

    def could_be(self, path: Path) -> bool:
        """A NIfTI of the right shape without intent."""
        return warps.could_be_field(path)

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> AbstractTransform:
        """Read any of the files; the grids are not needed."""
        with path.open("rb") as file:
            start = file.read(len(TEXT_START))
        if start.startswith(HDF5_START) or suffix_of(path) in HDF5:
            return transform_of(itk_files.read_hdf5(path), str(path))
        if start == TEXT_START or suffix_of(path) in TEXT:
            return transform_of(itk_files.read_text(path), str(path))
        if suffix_of(path) in (*nifti.READABLE, *warps.READABLE):
            return warps.read(path)
        return transform_of(itk_files.read_matlab(path), str(path))

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write by suffix; matrices are exact (double), displacements float32, about 1e-5 mm."""
        self.check_kind(kind)
        suffix = suffix_of(path)
        if suffix in HDF5:
            itk_files.write_hdf5(path, records_of(transform, str(path)))
            return Written(transform)
        if suffix in WARP:
            field, written = field_for(transform, fixed, path)
            warps.write(path, field)
            return written
        if suffix in TEXT and _is_parametric(transform):
            itk_files.write_text(path, records_of(transform, str(path)))
            return Written(transform)
        matrix = matrix_for(transform, path)
        if suffix in TEXT:
            itk_files.write_text(path, [affine_record(matrix)])
        else:
            itk_files.write_matlab(path, affine_record(matrix))
        return Written(Affine(matrix))


def _is_parametric(transform: AbstractTransform) -> bool:
    """Whether it is made of B-splines and matrices, with at least one B-spline: what text holds besides a matrix."""
    parts = flatten(transform)
    is_small = all(isinstance(part, BSpline | AbstractLinear) for part in parts)
    return is_small and any(isinstance(part, BSpline) for part in parts)


def _is_itk_hdf5(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return itk_files.GROUP in file and any("TransformType" in group for group in file[itk_files.GROUP].values())
    except (OSError, TypeError, AttributeError):
        return False


FORMAT = ITKFormat()
