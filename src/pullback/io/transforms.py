"""Transforms from and to files that ITK, ANTs, SimpleITK and 3D Slicer share.

``.h5 .hdf5`` hold anything linear, displacement fields and chains of them; ``.txt .tfm .mat`` hold what is linear;
``.nii .nii.gz`` hold one displacement field. All of them map points of the fixed world to points of the moving world,
as ours do.
"""

from pathlib import Path

import torch

from pullback.data import AbstractVoxels
from pullback.io import itk_files, warps
from pullback.io.atomic import suffix_of
from pullback.io.itk import affine_record, flatten, matrix_of, records_of, transform_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, Chain, DisplacementField

HDF5 = (".h5", ".hdf5")
TEXT = (".txt", ".tfm")
MATLAB = (".mat",)
WARP = (".nii", ".nii.gz")
SUFFIXES = (*HDF5, *TEXT, *MATLAB, *WARP)


def read_transform(path: str | Path) -> Affine | DisplacementField | Chain:
    """Read a transform from fixed to moving world, RAS+ mm.

    Args:
        path: ``.h5``, ``.txt``, ``.tfm`` or ``.mat`` of ITK or ANTs, or a displacement field as NIfTI with the vector
            intent.

    Returns:
        The transform; a `Chain` for a composite of several, with its parts in ITK's order (the last is applied first).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is unknown, the file damaged, or a transform neither linear nor a displacement field.
    """
    path = Path(path).expanduser()
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise ValueError(f"'{path}' has the suffix '{suffix}', but a transform is read from {' '.join(SUFFIXES)}.")
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist or is a folder.")
    if suffix in WARP:
        return warps.read(path)
    readers = dict.fromkeys(HDF5, itk_files.read_hdf5) | dict.fromkeys(TEXT, itk_files.read_text)
    return transform_of(readers.get(suffix, itk_files.read_matlab)(path), str(path))


def write_transform(
    path: str | Path,
    transform: AbstractTransform,
    *,
    reference: AbstractVoxels | Grid | None = None,
) -> None:
    """Write a transform from fixed to moving world, whole or not at all.

    Matrices are exact (double), displacements float32: about 1e-5 mm.

    Args:
        path: The file; its suffix decides the format. A linear chain becomes one matrix in ``.txt``, ``.tfm`` and
            ``.mat``.
        transform: What to write; a stationary velocity is written as its displacement field.
        reference: For ``.nii`` and ``.nii.gz``: the fixed image or grid at whose voxels a transform that is not one
            field is evaluated. Other formats hold the transform itself and do not need it.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the suffix is unknown, the format cannot hold the transform, or a grid is sheared.
        TypeError: If a part is neither linear nor a displacement field.
        OSError: If the place cannot be written to or the disk is full.
    """
    path = Path(path).expanduser()
    suffix = suffix_of(path)
    if suffix in HDF5:
        itk_files.write_hdf5(path, records_of(transform, str(path)))
    elif suffix in TEXT or suffix in MATLAB:
        write = itk_files.write_text if suffix in TEXT else itk_files.write_matlab
        write(path, affine_record(_matrix(transform, path)))
    elif suffix in WARP:
        warps.write(path, _one_field(transform, reference, path))
    else:
        raise ValueError(f"'{path}' has the suffix '{suffix}', but a transform is written to {' '.join(SUFFIXES)}.")


def _matrix(transform: AbstractTransform, path: Path) -> torch.Tensor:
    matrix = matrix_of(transform)
    if matrix is None:
        raise ValueError(
            f"'{path}' cannot hold a {type(transform).__name__}: {suffix_of(path)} is for matrices; use .h5."
        )
    return matrix


def _one_field(transform: AbstractTransform, reference: AbstractVoxels | Grid | None, path: Path) -> DisplacementField:
    """The transform if it is one field (on the reference's grid, if that is given), else its displacements there."""
    grid = reference.grid if isinstance(reference, AbstractVoxels) else reference
    parts = flatten(transform)
    if len(parts) == 1 and isinstance(parts[0], DisplacementField) and (grid is None or parts[0].grid.same_as(grid)):
        return parts[0]
    if grid is None:
        raise ValueError(
            f"'{path}' cannot hold a {type(transform).__name__}: NIfTI is for one displacement field; use .h5, or "
            "give `reference`, "
            "the fixed image, to evaluate it there."
        )
    return DisplacementField(transform.displacement_on(grid), grid)
