"""NIfTI's ways of saying where voxels are, and our grid: sform, qform, codes, units, and 2-D slices in a 3-D world."""

import nibabel
import numpy as np
import torch
from nibabel.analyze import AnalyzeHeader
from nibabel.spatialimages import SpatialImage

from pullback.io.slices import matrix_in_plane, matrix_in_world
from pullback.space import Grid

MM_PER_UNIT = {"meter": 1000.0, "micron": 1e-3}
LARGEST_DISAGREEMENT_VOXELS = 0.1
"""Distance at a corner from which sform and qform are said to contradict each other."""

LARGEST_SHEAR = 1e-4
"""Cosine between axes above which a qform is not written."""

SAME_GRID_VOXELS = 1e-4
LARGEST_NIFTI1_AXIS = 32767


def geometry_of(
    image: SpatialImage, shape: tuple[int, ...], flat: bool, where: str
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The voxel-to-world matrix in RAS mm (2-D if `flat`) and notes about what had to be assumed.

    Args:
        image: From nibabel.
        shape: Voxels along the three axes.
        flat: Whether the one slice is a 2-D image; its coordinates are then world x and y, or lie in its plane.
        where: For messages.

    Raises:
        ValueError: If a slice has no plane.
    """
    header = image.header
    affine = image.header.get_best_affine() if image.affine is None else image.affine
    affine, notes = np.array(affine, dtype=np.float64), []
    if isinstance(header, nibabel.Nifti1Header):
        notes += _unit_notes(header) + _code_notes(header, shape)
        affine[:3] *= _mm_per_unit(header)
    elif isinstance(header, AnalyzeHeader):
        notes.append("An Analyze header does not say which way the axes point; left and right may be exchanged.")
    if not flat:
        return torch.from_numpy(affine), tuple(notes)
    matrix, tilt = matrix_in_plane(affine, where)
    return torch.from_numpy(matrix), (*notes, *tilt)


def check_pixdim(header: nibabel.Nifti1Header, where: str) -> None:
    """Refuse voxel sizes that nibabel would silently repair, where no sform stands in for them.

    Raises:
        ValueError: If one is zero, negative or NaN.
    """
    if int(header["sform_code"]) > 0:
        return
    num_axes = min(max(int(header["dim"][0]), 0), 3)
    sizes = [float(size) for size, n in zip(header["pixdim"][1:4], header["dim"][1:4], strict=True) if n > 1][:num_axes]
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(
            f"'{where}' has voxel sizes {sizes} in its header, but finite numbers above zero are needed; correct "
            "pixdim first."
        )


def header_for(grid: Grid, like: nibabel.Nifti1Header | None, *, has_channels: bool) -> nibabel.Nifti1Header:
    """A header with the shape (without channels), matrices, codes and units to write `grid` with; see `nifti.write`."""
    header = _new_header(grid, like)
    embedded = _embed(grid, like)
    has_three_axes = has_channels or grid.num_dims == 3 or _is_one_slice(like)
    set_shape(header, (*grid.shape, 1)[:3] if has_three_axes else grid.shape)
    if like is not None and _says(like, grid):
        return header
    embedded[:3] /= _mm_per_unit(header)
    codes = [int(header[name]) for name in ("sform_code", "qform_code")]
    sform_code, qform_code = codes[0] or codes[1] or 1, codes[1] or codes[0] or 1
    header.set_qform(embedded, qform_code if _fits_qform(grid, embedded) else 0, strip_shears=True)
    header.set_sform(embedded, sform_code)
    return header


def set_shape(header: nibabel.Nifti1Header, shape: tuple[int, ...]) -> None:
    """Set the shape and leave the voxel sizes alone (nibabel resets those of a 2-D image's third axis)."""
    sizes = header["pixdim"][:4].copy()
    header.set_data_shape(shape)
    header["pixdim"][:4] = sizes


def _new_header(grid: Grid, like: nibabel.Nifti1Header | None) -> nibabel.Nifti1Header:
    needs_wide = max(grid.shape) > LARGEST_NIFTI1_AXIS or isinstance(like, nibabel.Nifti2Header)
    header_class = nibabel.Nifti2Header if needs_wide else nibabel.Nifti1Header
    if like is None:
        header = header_class()
        header.set_xyzt_units("mm")
        return header
    is_same_kind = like.template_dtype == header_class.template_dtype  # also of a .hdr/.img pair
    header = header_class(like.as_byteswapped("<").binaryblock, check=False) if is_same_kind else header_class()
    header["magic"], header["vox_offset"] = header_class.single_magic, 0
    header["cal_min"] = header["cal_max"] = 0
    return header


def _says(header: nibabel.Nifti1Header, grid: Grid) -> bool:
    """Whether the header describes this very grid."""
    shape = (*header.get_data_shape(), 1, 1, 1)[:3]
    affine = _best_affine_mm(header)
    if grid.num_dims == 2:
        if shape[2] != 1:
            return False
        affine, _ = matrix_in_plane(affine, "like")
    return shape[: grid.num_dims] == grid.shape and Grid(grid.shape, affine).same_as(grid, SAME_GRID_VOXELS)


def _is_one_slice(header: nibabel.Nifti1Header | None) -> bool:
    return header is not None and len(header.get_data_shape()) > 2


def _embed(grid: Grid, like: nibabel.Nifti1Header | None) -> np.ndarray:
    """The 4 x 4 matrix of a grid in mm; a 2-D one goes into the plane of `like`, else into the world's x-y plane."""
    matrix = grid.voxel_to_world.numpy().copy()
    if grid.num_dims == 3:
        return matrix
    return matrix_in_world(matrix, np.eye(4) if like is None else _best_affine_mm(like))


def _best_affine_mm(header: nibabel.Nifti1Header) -> np.ndarray:
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= _mm_per_unit(header)
    return affine


def _mm_per_unit(header: nibabel.Nifti1Header) -> float:
    return MM_PER_UNIT.get(_space_unit(header), 1.0)


def _space_unit(header: nibabel.Nifti1Header) -> str:
    try:
        return header.get_xyzt_units()[0]
    except KeyError:  # a code that NIfTI does not define
        return "unknown"


def _unit_notes(header: nibabel.Nifti1Header) -> list[str]:
    unit = _space_unit(header)
    if unit not in MM_PER_UNIT:
        return []
    return [f"The header counts in {unit}s; positions were converted to millimetres."]


def _code_notes(header: nibabel.Nifti1Header, shape: tuple[int, ...]) -> list[str]:
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    if sform_code <= 0 and qform_code <= 0:
        return [
            "The header has neither sform nor qform; the middle of the image was put at the world's origin with x "
            "running "
            "to the left (nibabel's rule, other software may differ)."
        ]
    if sform_code <= 0 or qform_code <= 0:
        return []
    gap = _disagreement_voxels(header, shape)
    if gap <= LARGEST_DISAGREEMENT_VOXELS:
        return []
    return [f"The sform and the qform of the header differ by up to {gap:.3g} voxels; the sform was used."]


def _disagreement_voxels(header: nibabel.Nifti1Header, shape: tuple[int, ...]) -> float:
    """How far apart sform and qform put a corner voxel, in voxels; infinite if one of them is broken."""
    try:
        between = np.linalg.solve(header.get_sform(), header.get_qform())
    except (np.linalg.LinAlgError, nibabel.spatialimages.HeaderDataError):
        return np.inf
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    gaps = np.abs(nibabel.affines.apply_affine(between, corners) - corners)
    return float(gaps.max()) if np.isfinite(gaps).all() else np.inf


def _fits_qform(grid: Grid, affine: np.ndarray) -> bool:
    if not grid.is_orthonormal(LARGEST_SHEAR):
        return False
    header = nibabel.Nifti1Header()
    header.set_qform(affine, 1)
    header.set_sform(affine, 1)
    return _disagreement_voxels(header, (*grid.shape, 1)[:3]) <= LARGEST_DISAGREEMENT_VOXELS
