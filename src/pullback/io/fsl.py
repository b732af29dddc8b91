"""Transforms of FSL: FLIRT's matrices, and the dense warps that applywarp and convertwarp use.

FSL's own mm: the voxel index times the voxel size, along x counted from the other end if the image's voxel-to-world
matrix has a positive determinant. A FLIRT matrix takes such mm of the *moving* image ("in") to those of the fixed
("ref"), the other way than ours, and means nothing without both images. A dense warp holds for each voxel of the fixed
image where it lands in the moving image's mm (absolute) or the step from the fixed image's mm to there (relative); the
file does not say which.

Reference:
    Jenkinson and Smith, Medical Image Analysis 5 (2001), doi:10.1016/S1361-8415(01)00036-6; fslpy's documentation.
"""

from pathlib import Path
from types import MappingProxyType

import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from pullback.checks import check_choice
from pullback.io import nifti, nifti_vectors
from pullback.io.atomic import suffix_of
from pullback.io.formats import AbstractFormat, Written, field_for, grid_for, matrix_for
from pullback.io.frames import field_from_frames, vectors_in_frames
from pullback.io.nifti_vectors import Intent, components_last, intent_of, numbers_of, to_tensor
from pullback.io.text_matrix import matrix_from, read_matrix, write_matrix
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, DisplacementField

RELATIVE, ABSOLUTE = "relative", "absolute"
MATRIX = (".mat",)
WARP = (".nii.gz", ".nii")
FIELD_INTENT = 2006
COEFFICIENT_INTENTS = {
    2007: "cubic spline coefficients of FNIRT",
    2008: "cosine coefficients of FNIRT",
    2009: "quadratic spline coefficients of FNIRT",
    2016: "cubic spline coefficients of TOPUP",
    2017: "quadratic spline coefficients of TOPUP",
    2018: "a field of TOPUP",
}
NUM_TIMES_WIDER = 4.0
"""Taken for the wrong kind, a warp seems to move points by the width of the image; for the right one, by this much
less, or the user is asked."""

WHY = "FSL counts mm along the voxels of both images"
FLAT = "FSL's files hold 3-D transforms, but this one is 2-D; use ITK's or NiftyReg's format."


class FSLFormat(AbstractFormat):
    """FLIRT's matrices and dense warps."""

    name = "fsl"
    title = "FSL: FLIRT matrices, dense warps in FSL's mm"
    suffixes = (*MATRIX, *WARP)
    kinds = MappingProxyType(
        {
            RELATIVE: "a dense warp of steps (applywarp --rel)",
            ABSOLUTE: "a dense warp of positions (applywarp --abs)",
        }
    )

    def __init__(self, kind_to_read: str | None = None, *, refuses_matrices: bool = True) -> None:
        """Read every dense warp as of this kind, or (None) tell it by its numbers where they are clear."""
        self.kind_to_read = kind_to_read
        self.refuses_matrices = refuses_matrices and kind_to_read is not None

    def told(self, kind: str) -> "FSLFormat":
        """For a dense warp whose numbers could be either."""
        self.check_kind(kind)
        return FSLFormat(kind)

    def to_read_back(self, kind: str | None) -> "FSLFormat":
        """For a warp that was just written as of this kind, or a matrix."""
        return FSLFormat(kind or RELATIVE, refuses_matrices=False)

    def recognises(self, path: Path) -> bool:
        """A NIfTI with an intent code of FSL's."""
        header = nifti.read_header(path)
        return header is not None and intent_of(header).code in (FIELD_INTENT, *COEFFICIENT_INTENTS)

    def could_be(self, path: Path) -> bool:
        """A bare matrix, or a NIfTI of three volumes without intent."""
        header = nifti.read_header(path)
        if header is None:
            return read_matrix(path) is not None
        return header.get_data_shape()[3:] == (3,) and intent_of(header).code == 0

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> Affine | DisplacementField:
        """Read a matrix (needs both images) or a dense warp (needs the moving one)."""
        if suffix_of(path) in WARP:
            return _read_warp(path, fixed, moving, self.kind_to_read)
        _refuse_kind_of_matrix(path, self.kind_to_read if self.refuses_matrices else None)
        fixed, moving = (_solid(grid_for(g, w, path, WHY)) for g, w in ((fixed, "fixed"), (moving, "moving")))
        moving_to_fixed = matrix_from(path, "FLIRT")
        try:
            return Affine(_to_world(moving) @ torch.linalg.inv(moving_to_fixed) @ _from_world(fixed))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"'{path}' holds a matrix without an inverse, so it is no transform.") from error

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write a matrix, all digits, or a dense warp, float32."""
        self.check_kind(kind)
        moving = _solid(grid_for(moving, "moving", path, WHY))
        if suffix_of(path) in WARP:
            return _write_warp(path, transform, fixed, moving, kind or RELATIVE)
        _refuse_kind_of_matrix(path, kind)
        fixed = _solid(grid_for(fixed, "fixed", path, WHY))
        matrix = matrix_for(transform, path)
        write_matrix(path, torch.linalg.inv(_from_world(moving) @ matrix @ _to_world(fixed)))
        return Written(Affine(matrix))


def voxel_to_fsl(grid: Grid) -> Tensor:
    """From voxels to FSL's mm: scaled by the voxel size, and x flipped where the determinant is positive."""
    matrix = torch.diag(torch.cat([grid.spacing_mm, torch.ones(1, dtype=torch.float64)]))
    if torch.linalg.det(grid.voxel_to_world[:-1, :-1]) > 0:
        matrix[0, 0] *= -1
        matrix[0, -1] = (grid.shape[0] - 1) * grid.spacing_mm[0]
    return matrix


def _to_world(grid: Grid) -> Tensor:
    return grid.voxel_to_world @ torch.linalg.inv(voxel_to_fsl(grid))


def _from_world(grid: Grid) -> Tensor:
    return voxel_to_fsl(grid) @ grid.world_to_voxel


def _solid(grid: Grid) -> Grid:
    if grid.num_dims != 3:
        raise ValueError(FLAT)
    return grid


def _refuse_kind_of_matrix(path: Path, kind: str | None) -> None:
    if kind is not None:
        raise ValueError(f"`kind` is '{kind}', but '{path}' is a FLIRT matrix; kinds are for dense warps (.nii.gz).")


def _read_warp(path: Path, fixed: Grid | None, moving: Grid | None, kind: str | None) -> DisplacementField:
    image = nifti.load(path)
    _check_warp(image, path)
    moving = _solid(grid_for(moving, "moving", path, WHY))
    grid = _grid_of_warp(image, fixed, path)
    vectors = to_tensor(numbers_of(image, path), -1)
    kind = kind or _kind_of(vectors, grid, moving, path)
    return field_from_frames(vectors, grid, voxel_to_fsl(grid), _to_world(moving), is_absolute=kind == ABSOLUTE)


def _check_warp(image: SpatialImage, path: Path) -> None:
    intent = intent_of(image.header).code
    if intent in COEFFICIENT_INTENTS:
        raise ValueError(
            f"'{path}' holds {COEFFICIENT_INTENTS[intent]}, not a dense warp; make one with FSL: fnirtfileutils "
            "--in=coefficients --ref=fixed --out=warp --withaff."
        )
    if len(image.shape) != 4 or image.shape[3] != 3 or intent not in (0, FIELD_INTENT):
        raise ValueError(
            f"'{path}' has shape {image.shape} and intent code {intent}, but a dense warp of FSL is (X, Y, Z, 3) with "
            f"intent {FIELD_INTENT} or none."
        )


def _grid_of_warp(image: SpatialImage, fixed: Grid | None, path: Path) -> Grid:
    """The field's own grid, which must be the fixed image's; that one's if the header has none (old convertwarp)."""
    header = image.header
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        fixed = _solid(grid_for(fixed, "fixed", path, "its header does not say where its voxels are"))
        grid = fixed if fixed.shape == image.shape[:3] else None
    else:
        own = nifti.from_nibabel(image.slicer[..., 0], str(path), num_dims=3).grid
        grid = own if fixed is None or own.same_as(_solid(fixed)) else None
    if grid is None:
        raise ValueError(
            f"'{path}' has {image.shape[:3]} voxels on another grid than the fixed image, {fixed}, but FSL's warps are "
            "on the fixed image's voxels; give the image that it was made for."
        )
    return grid


def _kind_of(vectors: Tensor, grid: Grid, moving: Grid, path: Path) -> str:
    """Relative or absolute: whichever says that the images are far less apart in the world.

    Raises:
        ValueError: If that is not clear.
    """
    at_rest = DisplacementField(torch.zeros(3, *grid.shape), grid)
    frames = voxel_to_fsl(grid), _from_world(moving)
    steps, positions = (
        _spread(vectors - vectors_in_frames(at_rest, *frames, is_absolute=kind)) for kind in (False, True)
    )
    if steps * NUM_TIMES_WIDER < positions:
        return RELATIVE
    if positions * NUM_TIMES_WIDER < steps:
        return ABSOLUTE
    raise ValueError(
        f"'{path}' does not say whether its vectors are steps or positions, and either could be meant; say which "
        "with --from fsl:relative or --from fsl:absolute."
    )


def _spread(vectors: Tensor) -> float:
    """Standard deviation over the voxels, mm, summed over the components."""
    return float(vectors.flatten(1).std(dim=1, correction=0).sum())


def _write_warp(path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid, kind: str) -> Written:
    check_choice("kind", kind, tuple(FORMAT.kinds))
    field, written = field_for(transform, fixed, path)
    grid = _solid(field.grid)
    vectors = vectors_in_frames(field, voxel_to_fsl(grid), _from_world(moving), is_absolute=kind == ABSOLUTE)
    nifti_vectors.write(path, components_last(vectors, 4), grid, Intent(FIELD_INTENT))
    return written


FORMAT = FSLFormat()
