"""ITK's conventions, and the only place where LPS exists.

ITK's world is LPS+ mm (x to the Left, y to Posterior, z to Superior), pullback's is RAS+ mm. Both kinds of transform
map points of the fixed world to points of the moving world, so a transform only changes its frame: ``LPS @ matrix @
LPS`` for matrices, a change of sign of x and y for displacements. In 2-D both axes change sign.

A linear ITK transform is ``T(x) = A (x - c) + t + c``. A composite applies its last part first, so its parts stand in
the order of a `Chain`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK
import torch
from torch import Tensor

from pullback.io.formats import affine_from, flatten, in_words, matrix_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, BSpline, Chain, DisplacementField

LPS = (-1.0, -1.0, 1.0)
"""Signs that turn the components of a RAS point or vector into LPS and back."""

LARGEST_SHEAR = 1e-3
"""Cosine between axes above which a grid is called sheared; headers with rounded numbers stay below."""

AFFINE_KINDS = ("AffineTransform", "MatrixOffsetTransformBase")
FIELD_KIND = "DisplacementFieldTransform"
SPLINE_KIND = "BSplineTransform"
KIND_END = re.compile(r"_(?P<num_dims>[23])_(?P=num_dims)(_(?P<order>\d))?$")
"""How ITK ends the name of a kind: dimensions in, dimensions out, and the order of a B-spline that is not cubic."""


@dataclass(frozen=True)
class Record:
    """One transform as ITK stores it.

    Attributes:
        kind: Name with number type and dimensions, such as ``AffineTransform_double_3_3``.
        fixed: Fixed parameters (the centre, or the geometry of a field).
        parameters: Parameters.
    """

    kind: str
    fixed: np.ndarray
    parameters: np.ndarray

    @property
    def name(self) -> str:
        """The kind without number type and dimensions."""
        return self.kind.split("_")[0]

    def num_dims(self, where: str) -> int:
        """2 or 3.

        Raises:
            ValueError: If the kind does not map 2-D to 2-D or 3-D to 3-D.
        """
        if found := KIND_END.search(self.kind):
            return int(found["num_dims"])
        raise ValueError(f"'{where}' holds a transform '{self.kind}', but one of 2-D or 3-D points is needed.")


def swap_lps(points: Tensor) -> Tensor:
    """Turn points or vectors ``(..., D)`` from RAS to LPS or from LPS to RAS; no zero becomes -0."""
    return points * torch.tensor(LPS[: points.shape[-1]], dtype=points.dtype) + 0.0


def swap_lps_matrix(matrix: Tensor) -> Tensor:
    """Turn a ``(D+1, D+1)`` matrix between RAS worlds into one between LPS worlds, or back."""
    signs = torch.tensor((*LPS[: matrix.shape[0] - 1], 1.0), dtype=torch.float64)
    return signs[:, None] * matrix.to(torch.float64) * signs + 0.0


def grid_from_itk(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """The grid of an ITK image.

    Args:
        size: Voxels along each axis.
        spacing: mm.
        origin: LPS mm of voxel 0.
        direction: Row-major ``D*D`` cosines, LPS.

    Raises:
        ValueError: If they do not describe a grid.
    """
    num_dims = len(size)
    signs = np.array(LPS[:num_dims])
    matrix = np.eye(num_dims + 1)
    matrix[:-1, :-1] = signs[:, None] * np.reshape(direction, (num_dims, num_dims)) * np.asarray(spacing)
    matrix[:-1, -1] = signs * np.asarray(origin)
    return Grid(tuple(int(n) for n in size), torch.from_numpy(matrix + 0.0))


def grid_to_itk(grid: Grid, where: str) -> tuple[list[float], list[float], list[float]]:
    """Spacing (mm), origin (LPS mm) and row-major direction (LPS) of a grid, as ITK wants them.

    Raises:
        ValueError: If the grid is sheared, which ITK cannot hold.
    """
    if not grid.is_orthonormal(LARGEST_SHEAR):
        raise ValueError(
            f"'{where}' cannot be written: its grid is sheared, but ITK's formats hold only grids with axes at right "
            "angles; write an image as NIfTI, or resample onto a grid without shear first."
        )
    direction = swap_lps(grid.direction.T).T
    return grid.spacing_mm.tolist(), swap_lps(grid.origin).tolist(), direction.flatten().tolist()


def records_of(transform: AbstractTransform, where: str) -> list[Record]:
    """Write a transform as ITK records in ITK's order, outermost first. Fields become float32, matrices stay double.

    Raises:
        ValueError: If a field's grid is sheared.
        TypeError: If a part is neither linear, a B-spline nor a displacement field.
    """
    return [_record_of(part, where) for part in flatten(transform)]


def transform_of(records: Sequence[Record], where: str) -> AbstractTransform:
    """Read ITK records, outermost first, as one transform: a `Chain` if there are several.

    Raises:
        ValueError: If a record is of a kind that is neither linear, a B-spline nor a field, or is damaged.
    """
    if not records:
        raise ValueError(f"'{where}' holds no transform.")
    parts = [_transform_of(record, where) for record in records]
    return parts[0] if len(parts) == 1 else Chain(tuple(parts))


def affine_record(matrix: Tensor) -> Record:
    """A RAS matrix, fixed to moving, as an ITK affine with its centre at the origin (exact, in double)."""
    lps = swap_lps_matrix(matrix.detach().cpu()).numpy()
    num_dims = lps.shape[0] - 1
    parameters = np.concatenate([lps[:-1, :-1].ravel(), lps[:-1, -1]])
    return Record(f"AffineTransform_double_{num_dims}_{num_dims}", np.zeros(num_dims), parameters)


def _record_of(part: AbstractTransform, where: str) -> Record:
    if isinstance(part, DisplacementField):
        return _field_record(part, where)
    if isinstance(part, BSpline):
        return _spline_record(part, where)
    matrix = matrix_of(part)
    if matrix is None:
        raise TypeError(
            f"'{where}' cannot hold a {in_words(part)}: ITK's files hold linear transforms, B-splines and displacement "
            "fields; turn it into a DisplacementField first."
        )
    return affine_record(matrix)


def _field_record(field: DisplacementField, where: str) -> Record:
    grid = field.grid
    spacing, origin, direction = grid_to_itk(grid, where)
    fixed = np.array([*grid.shape, *origin, *spacing, *direction], dtype=np.float64)
    planes = field.displacement.detach().cpu().numpy()
    values = np.empty((*grid.shape[::-1], grid.num_dims), dtype=np.float32)
    for axis, plane in enumerate(planes):  # component fastest, then x, y, z
        np.multiply(plane.T, LPS[axis], out=values[..., axis], casting="same_kind")
    return Record(f"{FIELD_KIND}_float_{grid.num_dims}_{grid.num_dims}", fixed, values.reshape(-1))


def _spline_record(spline: BSpline, where: str) -> Record:
    grid = spline.grid
    spacing, origin, direction = grid_to_itk(grid, where)
    fixed = np.array([*grid.shape, *origin, *spacing, *direction], dtype=np.float64)
    planes = spline.coefficients.detach().cpu().to(torch.float64).numpy()
    parameters = np.concatenate([sign * plane.T.ravel() for sign, plane in zip(LPS, planes, strict=False)])  # x fastest
    order = "" if spline.order == 3 else f"_{spline.order}"
    return Record(f"{SPLINE_KIND}_double_{grid.num_dims}_{grid.num_dims}{order}", fixed, parameters + 0.0)


def _transform_of(record: Record, where: str) -> Affine | BSpline | DisplacementField:
    num_dims = record.num_dims(where)
    _check_finite(record, where)
    if record.name == FIELD_KIND:
        return _field_of(record, num_dims, where)
    if record.name == SPLINE_KIND:
        return _spline_of(record, num_dims, where)
    if record.name not in AFFINE_KINDS:
        return affine_from(_matrix_by_simpleitk(record, num_dims, where), where)
    _check_lengths(record, num_dims, num_dims * (num_dims + 1), where)
    linear, translation = np.split(record.parameters.astype(np.float64), [num_dims * num_dims])
    return affine_from(_matrix_from_itk(linear.reshape(num_dims, num_dims), record.fixed, translation), where)


def _matrix_from_itk(linear: np.ndarray, centre: np.ndarray, translation: np.ndarray) -> Tensor:
    matrix = np.eye(len(centre) + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = translation + centre - linear @ centre
    return swap_lps_matrix(torch.from_numpy(matrix))


def _matrix_by_simpleitk(record: Record, num_dims: int, where: str) -> Tensor:
    """Let ITK itself say where a rarer linear transform (Euler, versor, similarity, ...) takes the axes."""
    transform = _in_simpleitk(record, num_dims)
    if transform is None or not transform.IsLinear():
        raise ValueError(
            f"'{where}' holds a transform '{record.kind}' that cannot be read: it is damaged, or neither linear nor a "
            "displacement field; turn it into a field (SimpleITK.TransformToDisplacementField) first."
        )
    points = np.vstack([np.zeros(num_dims), np.eye(num_dims)])
    images = np.array([transform.TransformPoint(point.tolist()) for point in points])
    return _matrix_from_itk((images[1:] - images[0]).T, np.zeros(num_dims), images[0])


def _in_simpleitk(record: Record, num_dims: int) -> SimpleITK.Transform | None:
    """The record as a transform of SimpleITK, through a text file; None if ITK does not know it.

    It is wrapped into a composite because SimpleITK 2.5 fails on bare transforms of a class that it has no name for.
    """
    numbers, fixed = (" ".join(map(repr, x.astype(float).tolist())) for x in (record.parameters, record.fixed))
    lines = ["#Insight Transform File V1.0", f"Transform: CompositeTransform_double_{num_dims}_{num_dims}"]
    lines += [f"Transform: {record.kind}", f"Parameters: {numbers}", f"FixedParameters: {fixed}", ""]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one.tfm"
        path.write_text("\n".join(lines))
        try:
            return SimpleITK.ReadTransform(str(path))
        except RuntimeError:
            return None


def _field_of(record: Record, num_dims: int, where: str) -> DisplacementField:
    grid = _lattice(record, num_dims, where)
    values = record.parameters.reshape(*grid.shape[::-1], num_dims)
    displacement = np.empty((num_dims, *grid.shape), dtype=values.dtype)
    for axis in range(num_dims):
        np.multiply(values[..., axis].T, LPS[axis], out=displacement[axis])
    return DisplacementField(torch.from_numpy(displacement), grid)


def _spline_of(record: Record, num_dims: int, where: str) -> BSpline:
    grid = _lattice(record, num_dims, where)
    planes = record.parameters.astype(np.float64).reshape(num_dims, *grid.shape[::-1])
    coefficients = np.stack([sign * plane.T for sign, plane in zip(LPS, planes, strict=False)])
    order = KIND_END.search(record.kind)["order"]
    try:
        return BSpline(torch.from_numpy(coefficients + 0.0), grid, 3 if order is None else int(order))
    except ValueError as error:
        raise ValueError(f"'{where}' holds a B-spline that cannot be read: {error}") from error


def _lattice(record: Record, num_dims: int, where: str) -> Grid:
    """The grid of a field or of the control points of a B-spline, which ITK stores alike."""
    size = record.fixed[:num_dims].astype(int).clip(0)
    _check_lengths(record, num_dims * (3 + num_dims), int(np.prod(size)) * num_dims, where)
    origin, spacing, direction = np.split(record.fixed[num_dims:].astype(np.float64), [num_dims, 2 * num_dims])
    try:
        return grid_from_itk(size.tolist(), spacing, origin, direction)
    except ValueError as error:
        raise ValueError(f"'{where}' does not say where its vectors are: {error}") from error


def _check_lengths(record: Record, num_fixed: int, num_parameters: int, where: str) -> None:
    if record.fixed.size != num_fixed or record.parameters.size != num_parameters:
        raise ValueError(
            f"'{where}' is truncated or corrupt: its {record.kind} has {record.fixed.size} fixed and "
            f"{record.parameters.size} other parameters, not {num_fixed} and {num_parameters}."
        )


def _check_finite(record: Record, where: str) -> None:
    if not (np.isfinite(record.parameters).all() and np.isfinite(record.fixed).all()):
        raise ValueError(f"'{where}' holds NaN or infinite numbers in its {record.kind}; write it again.")
