"""What the report of one pair is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pullback.data import Image, LabelMap, Points

ON_THE_FIXED_GRID = ("before", "warped", "fixed_labels", "before_labels", "warped_labels")
MASKS = ("fixed_object", "before_seen", "warped_seen")
POINT_SETS = ("fixed_points", "before_points", "warped_points")


@dataclass(frozen=True)
class RegistrationView:
    """One registered pair, ready to be looked at.

    Attributes:
        fixed: The fixed image.
        moving: The moving image, on its own grid.
        before: The moving image on the fixed grid by the starting alignment.
        warped: The moving image on the fixed grid by the result.
        displacement: ``(D, *fixed.shape)`` in mm, components along R, A, S: the deformable part of the result, zero if
            it is linear.
        jacobian: ``fixed.shape``: the factor by which the result changes volume at each fixed voxel.
        summary: The content of ``result.json``. Whatever is missing there is left out of the report.
        fixed_labels: Labels of the fixed image.
        before_labels: The moving labels on the fixed grid by the starting alignment.
        warped_labels: The moving labels on the fixed grid by the result.
        fixed_points: Landmarks of the fixed image, world mm.
        before_points: The moving landmarks in the fixed world by the starting alignment.
        warped_points: The moving landmarks in the fixed world by the result.
        point_errors_mm: ``(N,)``: distances of the mapped fixed landmarks from the moving ones, in the moving world, as
            in `summary`; None takes those in the fixed world.
        fixed_object: ``fixed.shape``, bool: over which the Jacobian in `summary` is told; None takes what is bright.
        before_seen: ``fixed.shape``, bool: voxels whose brightness can be compared before, being valid and within the
            moving image; None takes all.
        warped_seen: The same by the result.
        label_names: What labels are called.

    Raises:
        ValueError: If something does not lie on the fixed grid or points do not correspond.
    """

    fixed: Image
    moving: Image
    before: Image
    warped: Image
    displacement: Tensor
    jacobian: Tensor
    summary: Mapping[str, Any] = field(default_factory=dict)
    fixed_labels: LabelMap | None = None
    before_labels: LabelMap | None = None
    warped_labels: LabelMap | None = None
    fixed_points: Points | None = None
    before_points: Points | None = None
    warped_points: Points | None = None
    point_errors_mm: Tensor | None = None
    fixed_object: Tensor | None = None
    before_seen: Tensor | None = None
    warped_seen: Tensor | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)

    def label_name(self, label: int) -> str:
        """The number of a label with its name, if it has one."""
        name = self.label_names.get(label)
        return str(label) if name is None else f"{label} {name}"

    def __post_init__(self) -> None:
        for name in ON_THE_FIXED_GRID:
            self._check_grid(name)
        shape = self.fixed.grid.shape
        self._check_shape("displacement", (len(shape), *shape))
        self._check_shape("jacobian", shape)
        for name in MASKS:
            if getattr(self, name) is not None:
                self._check_shape(name, shape)
        for name in POINT_SETS:
            self._check_points(name)

    def _check_grid(self, name: str) -> None:
        voxels = getattr(self, name)
        if voxels is not None and not voxels.grid.same_as(self.fixed.grid, tolerance_voxels=0.01):
            raise ValueError(
                f"`{name}` lies on {voxels.grid}, but the fixed image on {self.fixed.grid}; "
                "resample it onto that first."
            )

    def _check_shape(self, name: str, expected: tuple[int, ...]) -> None:
        shape = tuple(getattr(self, name).shape)
        if shape != expected:
            raise ValueError(f"`{name}` has shape {shape}, but {expected} is needed to fit the fixed grid.")

    def _check_points(self, name: str) -> None:
        points = getattr(self, name)
        if points is None:
            return
        if self.fixed_points is None or len(points) != len(self.fixed_points):
            raise ValueError(f"`{name}` holds {len(points)} points, but as many `fixed_points` are needed.")
        if points.coordinates.shape[1] != self.fixed.grid.num_dims:
            raise ValueError(
                f"`{name}` has {points.coordinates.shape[1]} coordinates a point, but {self.fixed.grid.num_dims} are "
                "needed."
            )
