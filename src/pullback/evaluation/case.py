"""One pair to be scored: which files there are, and how the files of a pair are read."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from pullback.checks import check_choice
from pullback.data import Image, LabelMap, Points
from pullback.io import (
    read_image,
    read_keypoints,
    read_labels,
    read_points,
    read_transform,
    read_voxel_displacement,
)
from pullback.io.frames import field_from_voxels, vectors_in_voxels
from pullback.landmarks import pair_by_name
from pullback.space import Grid
from pullback.transforms import AbstractTransform, DisplacementField, chain, identity

IDENTITY = "identity"
"""Where a transform is asked for: leave everything where the headers put it."""

POINT_FRAMES = ("ras", "lps", "voxels")
GRID_FILES = ("fixed", "fixed_labels", "mask")


@dataclass(frozen=True)
class Case:
    """The files of one pair; what is not there is not scored.

    Attributes:
        pair: A name, unique in its table.
        fixed, moving: Images.
        warped: The moving image already resampled onto the fixed grid.
        fixed_labels, moving_labels, warped_labels: Label maps, likewise.
        transform: Fixed to moving world; several are applied to points of the fixed image in the order given, as with
            antsApplyTransforms. The word ``identity`` scores the headers' alignment.
        displacement: A displacement of Learn2Reg, in voxels, instead of a transform.
        inverse: The map back, to score inverse consistency; same order as `transform`.
        reference: The true map, to score the deformation error.
        mask: Voxels of the fixed grid that count for intensities and the deformation (above 0).
        fixed_points, moving_points: Corresponding landmarks.
        points_in: ``ras`` or ``lps`` mm, or ``voxels`` of their images (Learn2Reg's keypoints).
        seconds: What the registration took.
    """

    pair: str
    fixed: Path | None = None
    moving: Path | None = None
    warped: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    warped_labels: Path | None = None
    transform: tuple[str | Path, ...] = ()
    displacement: Path | None = None
    inverse: tuple[str | Path, ...] = ()
    reference: tuple[str | Path, ...] = ()
    mask: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    points_in: str = "ras"
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_choice("points_in", self.points_in, POINT_FRAMES)
        if self.displacement is not None and self.transform:
            raise ValueError(f"Pair '{self.pair}' has a transform and a displacement; give one of them.")

    def present(self) -> frozenset[str]:
        """Names of what is given."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) not in (None, ()))


class Files:
    """The files of a case, each read when it is first asked for and kept until this object goes.

    Args:
        case: What to read.

    Raises:
        ValueError, FileNotFoundError: From any attribute, if its file is missing or cannot be read.
    """

    def __init__(self, case: Case) -> None:
        self.case = case

    @cached_property
    def fixed(self) -> Image:
        """The fixed image."""
        return read_image(self._path("fixed"))

    @cached_property
    def moving(self) -> Image:
        """The moving image."""
        return read_image(self._path("moving"))

    @cached_property
    def warped(self) -> Image:
        """The warped image, on the fixed grid."""
        return self._on_fixed_grid(read_image(self._path("warped")), "warped")

    @cached_property
    def fixed_labels(self) -> LabelMap:
        """Labels of the fixed image."""
        return read_labels(self._path("fixed_labels"))

    @cached_property
    def moving_labels(self) -> LabelMap:
        """Labels of the moving image."""
        return read_labels(self._path("moving_labels"))

    @cached_property
    def warped_labels(self) -> LabelMap:
        """Labels that somebody else warped onto the fixed grid."""
        labels = read_labels(self._path("warped_labels"))
        if not labels.grid.same_as(self.fixed_labels.grid, tolerance_voxels=0.01):
            raise ValueError(f"The warped labels of pair '{self.case.pair}' are not on the grid of the fixed labels.")
        return LabelMap(labels.tensor, self.fixed_labels.grid)

    @property
    def has_grid(self) -> bool:
        """Whether there is a file that says what the fixed grid is."""
        return any(getattr(self.case, name) is not None for name in GRID_FILES)

    @cached_property
    def grid(self) -> Grid:
        """The fixed grid: of the image, the labels or the mask, whichever is there."""
        for name in GRID_FILES:
            if getattr(self.case, name) is not None:
                return self.fixed.grid if name == "fixed" else self._labels(name).grid
        raise ValueError(f"Pair '{self.case.pair}' has no fixed image, labels or mask, so that its grid is not known.")

    @cached_property
    def moving_grid(self) -> Grid:
        """The moving grid: of the image or the labels."""
        if self.case.moving is None and self.case.moving_labels is None:
            raise ValueError(f"Pair '{self.case.pair}' has no moving image or labels, so that its grid is not known.")
        return self.moving.grid if self.case.moving is not None else self.moving_labels.grid

    @cached_property
    def region(self) -> Tensor | None:
        """Where the mask is above 0, bool ``(*shape,)``; None without a mask."""
        if self.case.mask is None:
            return None
        mask = self._labels("mask")
        if not mask.grid.same_as(self.grid, tolerance_voxels=0.01):
            raise ValueError(f"The mask of pair '{self.case.pair}' is not on the fixed grid.")
        region = mask.tensor[0] > 0
        if not bool(region.any()):
            raise ValueError(f"The mask of pair '{self.case.pair}' is empty.")
        return region

    @cached_property
    def transform(self) -> AbstractTransform:
        """Fixed to moving world."""
        if self.case.displacement is not None:
            return field_from_voxels(self.voxel_displacement, self.grid, self.moving_grid)
        return self.chain_of("transform")

    @cached_property
    def voxel_displacement(self) -> Tensor:
        """Learn2Reg's displacement in voxels, ``(3, *shape)``."""
        return read_voxel_displacement(self._path("displacement"), self.grid.shape)

    def chain_of(self, name: str) -> AbstractTransform:
        """The transforms of ``transform``, ``inverse`` or ``reference`` as one."""
        paths = getattr(self.case, name)
        parts = [identity(self.num_dims) if str(p) == IDENTITY else read_transform(p) for p in reversed(paths)]
        return chain(*parts)

    @cached_property
    def num_dims(self) -> int:
        """2 or 3: of the fixed grid, else of a transform; 3 where neither says."""
        if self.has_grid:
            return self.grid.num_dims
        files = [path for path in self.case.transform if str(path) != IDENTITY]
        return read_transform(files[0]).num_dims if files else 3

    @cached_property
    def fixed_points(self) -> Points:
        """Landmarks of the fixed image; paired with the moving ones by name where there are those."""
        return self._landmarks[0]

    @cached_property
    def moving_points(self) -> Points:
        """Landmarks of the moving image, in the order of the fixed ones."""
        return self._landmarks[1]

    @cached_property
    def _landmarks(self) -> tuple[Points, Points]:
        return pair_by_name(self._points("fixed_points"), self._points("moving_points"))

    def _points(self, name: str) -> Points:
        path, frame = self._path(name), self.case.points_in
        if frame == "voxels":
            return read_keypoints(path, self.grid if name == "fixed_points" else self.moving_grid)
        return read_points(path, lps=frame == "lps", num_dims=self.num_dims)

    def _labels(self, name: str) -> LabelMap:
        if name == "fixed_labels":
            return self.fixed_labels
        return read_labels(self._path(name))

    def _path(self, name: str) -> Path:
        path = getattr(self.case, name)
        if path is None:
            raise ValueError(f"Pair '{self.case.pair}' has no {name.replace('_', ' ')}.")
        return path

    def _on_fixed_grid(self, image: Image, name: str) -> Image:
        if not image.grid.same_as(self.fixed.grid, tolerance_voxels=0.01):
            raise ValueError(f"The {name} image of pair '{self.case.pair}' is not on the grid of the fixed image.")
        return image


def to_voxel_displacement(transform: AbstractTransform, fixed: Grid, moving: Grid) -> Tensor:
    """The steps ``(D, *fixed.shape)`` float32 in Learn2Reg's convention of any map; `io.frames` has the way back.

    Raises:
        ValueError: If the grids have different shapes, which the convention cannot hold.
    """
    if fixed.shape != moving.shape:
        raise ValueError(
            f"The fixed image has {fixed.shape} voxels and the moving {moving.shape}, but Learn2Reg's images of one "
            "task have one shape; resample them first."
        )
    field = DisplacementField(transform.displacement_on(fixed), fixed)
    return vectors_in_voxels(field, moving).to(torch.float32)


def without_missing(paths: Mapping[str, Path]) -> dict[str, Path]:
    """The paths that exist: what a data set keeps secret is not scored."""
    return {name: path for name, path in paths.items() if path.exists()}
