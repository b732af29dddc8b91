"""Transforms of NiftyReg: matrices as text, and five kinds of field that the header tells apart.

NiftyReg's world is RAS mm and its transforms map the reference (fixed) to the floating (moving) image, as ours do. A
field is a 5-D NIfTI with intent 1007, like ITK's, but with the intent name NREG_TRANS and its kind in ``intent_p1``:
positions instead of steps, velocities, or the control points of a cubic B-spline (positions too). Velocities have the
number of squarings in ``intent_p2``, negative for the way back. Header extensions of 4 x 4 float32 numbers, where there
are any, are matrices: the first acts before the field, the second after it.

Reference:
    Modat et al., Computer Methods and Programs in Biomedicine 98 (2010), doi:10.1016/j.cmpb.2009.09.002; the
    velocities: Modat et al., SPIE 8314 (2012). NiftyReg 2.1.2, commit d518b8ac.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from torch import Tensor

from pullback.io import nifti, nifti_vectors
from pullback.io.atomic import suffix_of
from pullback.io.formats import AbstractFormat, Written, affine_from, field_for, grid_for, in_words, matrix_for
from pullback.io.nifti_vectors import Intent, components_last, intent_of, numbers_of, to_tensor
from pullback.io.text_matrix import matrix_from, read_matrix, write_matrix
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, BSpline, Chain, DisplacementField, StationaryVelocity

MATRIX = (".txt",)
FIELD = (".nii.gz", ".nii")
NAME = "NREG_TRANS"
VECTOR_INTENT = 1007
DEFORMATION, DISPLACEMENT, SPLINE, DEFORMATION_VELOCITY, DISPLACEMENT_VELOCITY, SPLINE_VELOCITY, LINEAR_SPLINE = range(
    7
)
"""Values of ``intent_p1``."""

POSITIONS = (DEFORMATION, SPLINE, DEFORMATION_VELOCITY, SPLINE_VELOCITY, LINEAR_SPLINE)
CONTROL_POINTS = (SPLINE, SPLINE_VELOCITY, LINEAR_SPLINE)
VELOCITIES = (DEFORMATION_VELOCITY, DISPLACEMENT_VELOCITY, SPLINE_VELOCITY)
LEAST_STEPS = 6
LARGEST_STEP_MM = 0.28
"""Where the file does not say how many squarings, there are at least six, and the first step is no longer than this."""

NUM_LAYERS = 2
"""Control points repeated beyond each face: NiftyReg goes on with the outermost steps, and its lattice begins so
exactly at the image that rounding would leave the first voxels out."""

NUM_MATRIX_BYTES = 64
LARGEST_MISFIT_VOXELS = 1e-3
"""How far control points that NiftyReg takes to lie along the voxels may be off them."""

LARGEST_TILT = 1e-4
"""mm by which a slice's plane may leave the world's x-y plane, in which NiftyReg's 2-D vectors lie, per voxel."""


@dataclass(frozen=True)
class Field:
    """One of NiftyReg's NIfTI files.

    Attributes:
        kind: ``intent_p1``.
        num_steps: ``intent_p2``: squarings, negative for the way back.
        vectors: Steps in mm, whatever the file holds, ``(D, *grid.shape)``.
        grid: Where they are.
        before: Matrix that acts before the field, or None.
        after: Matrix that acts after it, or None.
    """

    kind: int
    num_steps: int
    vectors: Tensor
    grid: Grid
    before: Tensor | None
    after: Tensor | None


class NiftyRegFormat(AbstractFormat):
    """Matrices and fields of NiftyReg."""

    name = "niftyreg"
    title = "NiftyReg: matrices as text in RAS mm, fields and control points with the intent name NREG_TRANS"
    suffixes = (*MATRIX, *FIELD)
    kinds = MappingProxyType(
        {
            "deformation": "a field of positions",
            "displacement": "a field of steps",
            "velocity": "a stationary velocity, as it is",
            "control-points": "a cubic B-spline whose control points fit the fixed image, as it is",
        }
    )

    def recognises(self, path: Path) -> bool:
        """A NIfTI with the intent name of NiftyReg."""
        header = nifti.read_header(path)
        return header is not None and intent_of(header).name == NAME

    def could_be(self, path: Path) -> bool:
        """A bare 4 x 4 matrix."""
        return read_matrix(path) is not None

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None, kind: str | None = None) -> AbstractTransform:
        """Read a matrix (2-D if the fixed image is), a field, or control points; spline velocities need `fixed`."""
        if suffix_of(path) not in FIELD:
            return _affine(matrix_from(path, "NiftyReg"), fixed, path)
        field = _read(path)
        if field.kind in VELOCITIES:
            return _exponential(field, fixed, path)
        spline = BSpline if field.kind == SPLINE else DisplacementField
        parts = (_matrix(field.after), spline(field.vectors, field.grid), _matrix(field.before))
        parts = tuple(part for part in parts if part is not None)
        return parts[0] if len(parts) == 1 else Chain(parts)

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write a matrix with all its digits (NiftyReg computes with 7), or a field as float32."""
        self.check_kind(kind)
        if suffix_of(path) in FIELD:
            kind = "deformation" if kind is None else kind
            return WRITERS.get(kind, partial(_write, kind=kind))(path, transform, fixed)
        if kind is not None:
            raise ValueError(f"`kind` is '{kind}', but '{path}' is for a matrix; kinds are for fields (.nii.gz).")
        matrix = matrix_for(transform, path)
        write_matrix(path, _embedded(matrix))
        return Written(Affine(matrix))


def _affine(matrix: Tensor, fixed: Grid | None, path: Path) -> Affine:
    if fixed is not None and fixed.num_dims == 2:
        flat = matrix[[0, 1, 3]][:, [0, 1, 3]]
        if not torch.allclose(_embedded(flat), matrix, atol=1e-5):
            raise ValueError(f"'{path}' moves points along z, but the fixed image is 2-D.")
        matrix = flat
    return affine_from(matrix, path)


def _embedded(matrix: Tensor) -> Tensor:
    """A 2-D matrix as NiftyReg writes it: 4 x 4, with z left alone."""
    if len(matrix) == 4:
        return matrix
    solid = torch.eye(4, dtype=torch.float64)
    rows = torch.tensor([0, 1, 3])
    solid[rows[:, None], rows] = matrix
    return solid


def _matrix(matrix: Tensor | None) -> Affine | None:
    return None if matrix is None else Affine(matrix)


def _read(path: Path) -> Field:
    image = nifti.load(path)
    intent, shape = intent_of(image.header), image.shape
    if intent.name != NAME or len(shape) != 5 or shape[3] != 1 or shape[4] not in (2, 3):
        raise ValueError(
            f"'{path}' has shape {shape} and intent name '{intent.name}', but a field of NiftyReg is (X, Y, Z, 1, 3) "
            f"or (X, Y, 1, 1, 2) with the name {NAME}."
        )
    kind, num_steps = round(intent.parameters[0]), round(intent.parameters[1])
    if kind not in range(7):
        raise ValueError(f"'{path}' has the kind {kind} (intent_p1), but NiftyReg has 0 to 6; is the file damaged?")
    numbers = numbers_of(image, path)
    grid = nifti.from_nibabel(image, str(path), num_dims=shape[4]).grid
    _check_plane(image, grid, path)
    vectors = to_tensor(numbers[:, :, :, 0] if shape[4] == 3 else numbers[:, :, 0, 0], -1)
    if kind in POSITIONS:
        vectors = (vectors.to(torch.float64) - grid.centres().movedim(-1, 0)).to(vectors.dtype)
    if kind in CONTROL_POINTS:
        vectors, grid = _widened(vectors, grid)
    matrices = _matrices(image, grid.num_dims) if kind not in (DEFORMATION, DISPLACEMENT) else (None, None)
    return Field(kind, num_steps, vectors, grid, *matrices)


def _widened(vectors: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    """The lattice with its outermost steps repeated around it."""
    width = [(0, 0)] + [(NUM_LAYERS, NUM_LAYERS)] * grid.num_dims
    stop = [n + NUM_LAYERS for n in grid.shape]
    return torch.from_numpy(np.pad(vectors.numpy(), width, mode="edge")), grid.crop([-NUM_LAYERS] * grid.num_dims, stop)


def _check_plane(image: SpatialImage, grid: Grid, path: Path) -> None:
    """Refuse a slice that is not in the world's x-y plane: NiftyReg leaves its z where it is, we turn it."""
    if grid.num_dims == 3:
        return
    rows = image.affine[:2][:, [0, 1, 3]]
    if np.abs(rows - grid.voxel_to_world[:2].numpy()).max() > LARGEST_TILT:
        raise ValueError(
            f"'{path}' is a 2-D field on a slice outside the world's x-y plane, where NiftyReg's vectors are only a "
            "shadow of ours; convert it with 3-D images of one slice."
        )


def _matrices(image: SpatialImage, num_dims: int) -> tuple[Tensor | None, Tensor | None]:
    """The matrices in the header extensions, of which float32 bytes come without their trailing zeros."""
    contents = [bytes(extension.content) for extension in image.header.extensions if extension.get_code() == 0]
    found: list[Tensor | None] = [None, None]
    for n, content in enumerate(contents[:2]):
        numbers = np.frombuffer(content[:NUM_MATRIX_BYTES].ljust(NUM_MATRIX_BYTES, b"\0"), dtype="<f4")
        matrix = torch.from_numpy(numbers.reshape(4, 4).astype(np.float64))
        found[n] = matrix if num_dims == 3 else matrix[[0, 1, 3]][:, [0, 1, 3]]
    return found[0], found[1]


def _exponential(field: Field, fixed: Grid | None, path: Path) -> AbstractTransform:
    """The flow of a velocity, as NiftyReg integrates it: on the voxels of the reference image."""
    grid = field.grid
    if field.kind == SPLINE_VELOCITY:
        why = "NiftyReg integrates the velocity of control points on the voxels of the reference image"
        grid = grid_for(fixed, "fixed", path, why)
    velocity = _velocity_on(field, grid) * (-1.0 if field.num_steps < 0 else 1.0)
    flow = StationaryVelocity(velocity, grid, abs(field.num_steps) or _num_steps(velocity))
    if field.before is None:
        return flow if field.after is None else Chain((Affine(field.after), flow))
    linear = Affine(field.before).displacement_on(grid)
    sum_of_both = DisplacementField(flow.displacement_field.displacement + linear, grid)
    return sum_of_both if field.after is None else Chain((Affine(field.after), sum_of_both))


def _num_steps(velocity: Tensor) -> int:
    """NiftyReg's own number of squarings where the file states none."""
    largest = float(velocity.abs().max())
    return max(LEAST_STEPS, math.ceil(math.log2(largest / LARGEST_STEP_MM)) if largest > 0 else 0)


def _velocity_on(field: Field, grid: Grid) -> Tensor:
    """Velocity at the voxels; where a matrix acts first, that of control points is taken where it leads."""
    if field.kind != SPLINE_VELOCITY:
        if field.before is None:
            return field.vectors
        return field.vectors - Affine(field.before).displacement_on(grid)
    spline = BSpline(field.vectors, field.grid)
    if field.before is None:
        return spline.displacement_on(grid)
    before = Affine(field.before)
    return Chain((spline, before)).displacement_on(grid) - before.displacement_on(grid)


def _write(path: Path, transform: AbstractTransform, fixed: Grid | None, kind: str) -> Written:
    field, written = field_for(transform, fixed, path)
    vectors = field.displacement.detach().cpu().to(torch.float64)
    if kind == "deformation":
        vectors = vectors + field.grid.centres().movedim(-1, 0)
    parameter = DEFORMATION if kind == "deformation" else DISPLACEMENT
    _save(path, vectors, field.grid, parameter)
    return written


def _write_velocity(path: Path, transform: AbstractTransform, fixed: Grid | None) -> Written:
    """A velocity on the fixed voxels, as positions, with its number of squarings."""
    if not isinstance(transform, StationaryVelocity) or transform.num_steps < 1:
        raise ValueError(
            f"'{path}' cannot hold a {in_words(transform)} as a velocity: a stationary velocity of at least one "
            "squaring is needed; write it with --kind displacement."
        )
    if fixed is not None and not transform.grid.same_as(fixed):
        raise ValueError(f"'{path}' needs a velocity on the voxels of the fixed image; write it as a displacement.")
    positions = transform.velocity.detach().cpu().to(torch.float64) + transform.grid.centres().movedim(-1, 0)
    _save(path, positions, transform.grid, DEFORMATION_VELOCITY, transform.num_steps)
    return Written(transform)


def _write_control_points(path: Path, transform: AbstractTransform, fixed: Grid | None) -> Written:
    """A cubic B-spline by its own coefficients, as positions of its control points."""
    if not isinstance(transform, BSpline) or transform.order != 3:
        raise ValueError(
            f"'{path}' cannot hold a {in_words(transform)} as control points: a cubic B-spline is needed; write it "
            "with --kind deformation."
        )
    fixed = grid_for(fixed, "fixed", path, "NiftyReg counts control points from its first voxel")
    index, grid = _nodes(transform.grid, fixed, path)
    coefficients = transform.coefficients.detach().cpu().to(torch.float64)
    for axis, nodes in enumerate(index, start=1):
        coefficients = coefficients.index_select(axis, nodes.clamp(max=coefficients.shape[axis] - 1))
    _save(path, coefficients + grid.centres().movedim(-1, 0), grid, SPLINE)
    return Written(transform)


def _nodes(lattice: Grid, fixed: Grid, path: Path) -> tuple[list[Tensor], Grid]:
    """Which nodes of a lattice NiftyReg needs along each axis, and their grid.

    It reads nodes one step before the first voxel to two steps beyond the last, and one more whose weight is nothing
    where a node falls upon that voxel.

    Raises:
        ValueError: If the nodes are not along the voxels, one step before the first one, or do not reach the last.
    """
    matrix = lattice.voxel_to_voxel(fixed)
    steps, last = matrix.diagonal()[:-1], torch.tensor(fixed.shape, dtype=torch.float64) - 1
    first = -1 - matrix[:-1, -1] / steps
    is_straight = bool((matrix[:-1, :-1] - torch.diag(steps)).abs().max() < LARGEST_MISFIT_VOXELS and (steps > 0).all())
    start, spans = first.round(), last / steps
    is_there = bool(((first - start) * steps).abs().max() < LARGEST_MISFIT_VOXELS and (start >= 0).all())
    reach = start + torch.ceil(spans - LARGEST_MISFIT_VOXELS) + 2
    if not (is_straight and is_there and (reach <= torch.tensor(lattice.shape) - 1).all()):
        raise ValueError(
            f"'{path}' cannot hold this B-spline: NiftyReg's control points lie along the voxels of the fixed image, "
            "one of them one step before its first voxel, and cover it; write it with --kind deformation."
        )
    stop = start + torch.floor(spans + LARGEST_MISFIT_VOXELS) + 4
    begin, end = start.to(torch.int64).tolist(), stop.to(torch.int64).tolist()
    return [torch.arange(a, b) for a, b in zip(begin, end, strict=True)], lattice.crop(begin, end)


def _save(path: Path, vectors: Tensor, grid: Grid, kind: int, num_steps: int = 0) -> None:
    intent = Intent(VECTOR_INTENT, NAME, (float(kind), float(num_steps), 0.0))
    nifti_vectors.write(path, components_last(vectors, 5), grid, intent)


WRITERS = {"velocity": _write_velocity, "control-points": _write_control_points}

FORMAT = NiftyRegFormat()
