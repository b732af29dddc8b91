"""The slices of one view as levels of grey, each drawn once."""

from functools import cached_property

import numpy as np
from torch import Tensor

from pullback.data import Image, LabelMap
from pullback.reports.formats import lookup
from pullback.reports.intensities import grey, is_photograph, window_of
from pullback.reports.overlays import edges_of, label_edges, legible_sigma
from pullback.reports.slices import FOREGROUND_LEVEL, MIDDLE, Plane, choose_planes, ras_array
from pullback.reports.view import RegistrationView
from pullback.space import Grid

DIFFERENT_CONTRAST = ("mi", "nmi", "mutual_information", "mutualinformation", "mind")
SIDES = ("fixed", "before", "warped")


class Drawings:
    """The pictures of a view that several sections of the report need."""

    def __init__(self, view: RegistrationView) -> None:
        self.view = view
        self.planes = choose_planes(view.fixed, view.warped_seen)
        moving = window_of(view.moving)
        if moving.low == moving.high:
            moving = window_of(view.warped)
        self.windows = {"fixed": window_of(view.fixed), "before": moving, "warped": moving}
        self._levels: dict[tuple[str, Plane], np.ndarray] = {}
        self._volumes: dict[str, np.ndarray] = {}
        self._sigmas: dict[Plane, float] = {}
        self._edges: dict[tuple[str, Plane], np.ndarray] = {}

    @property
    def is_2d(self) -> bool:
        """Whether there is one picture of everything instead of slices."""
        return self.view.fixed.grid.num_dims == 2

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which of the slices 0, 1 and 2 there are."""
        return tuple(sorted({plane.number for plane in self.planes}))

    def planes_of(self, number: int) -> list[Plane]:
        """The planes that belong to one number of slice."""
        return [plane for plane in self.planes if plane.number == number]

    @property
    def middle(self) -> list[Plane]:
        """One plane of each direction, through the middle."""
        return self.planes_of(MIDDLE)

    @cached_property
    def foreground(self) -> np.ndarray:
        """Boolean ``(I, J[, K])`` in RAS order: where the fixed object is, as far as is known; else everywhere."""
        known = self.view.fixed_object
        if known is None:
            inside = self.grey_volume("fixed") > FOREGROUND_LEVEL
        else:
            inside = ras_array(known, self.planes[0].reorientation)
        return inside if inside.any() else np.ones_like(inside)

    @cached_property
    def is_linear(self) -> bool:
        """Whether the result has no deformable part."""
        return not bool(self.view.displacement.any())

    @property
    def has_labels(self) -> bool:
        """Whether there are labels of both images to compare."""
        moving = (self.view.before_labels, self.view.warped_labels)
        return self.view.fixed_labels is not None and any(labels is not None for labels in moving)

    @property
    def same_contrast(self) -> bool:
        """Whether equal tissue has equal brightness in both images, as far as the similarity tells."""
        name = str(lookup(self.view.summary, "similarity", "name") or "")
        return name.lower() not in DIFFERENT_CONTRAST

    @property
    def ras_grid(self) -> Grid:
        """The fixed grid in RAS order."""
        return self.planes[0].grid

    def grey_volume(self, side: str) -> np.ndarray:
        """``(I, J[, K])`` in RAS order and [0, 1]: the whole image of one side."""
        if side not in self._volumes:
            image: Image = getattr(self.view, side)
            voxels = ras_array(image.tensor, self.planes[0].reorientation)
            values = grey(np.nan_to_num(voxels, posinf=0.0, neginf=0.0), image)
            self._volumes[side] = self.windows[side].scale(values)
        return self._volumes[side]

    def levels(self, side: str, plane: Plane) -> np.ndarray:
        """``(rows, columns)`` in [0, 1] of ``fixed``, ``before`` or ``warped``."""
        key = (side, plane)
        if key not in self._levels:
            self._levels[key] = np.clip(plane.resize(self._voxels(side, plane)), 0.0, 1.0)
        return self._levels[key]

    def comparable(self, side: str, plane: Plane) -> np.ndarray:
        """As `levels`, but where brightness cannot be compared those of the fixed image, which differ by nothing."""
        seen: Tensor | None = getattr(self.view, f"{side}_seen")
        if seen is None:
            return self.levels(side, plane)
        voxels = np.where(plane.cut(seen), self._voxels(side, plane), self._voxels("fixed", plane))
        return np.clip(plane.resize(voxels), 0.0, 1.0)

    def compared(self, side: str, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
        """Levels of the fixed image and of one side at the pixels where brightness can be compared, both flat."""
        pair, seen = (self.levels("fixed", plane), self.comparable(side, plane)), getattr(self.view, f"{side}_seen")
        if seen is None:
            return pair
        pixels = plane.resize(plane.cut(seen).astype(np.float32), nearest=True) > 0.5
        return pair[0][pixels], pair[1][pixels]

    def _voxels(self, side: str, plane: Plane) -> np.ndarray:
        """A slice in voxels, grey levels in [0, 1]."""
        image: Image = getattr(self.view, side)
        return self.windows[side].scale(grey(np.nan_to_num(plane.cut(image.tensor), posinf=0.0, neginf=0.0), image))

    def picture(self, side: str, plane: Plane) -> np.ndarray:
        """As `levels`, but photographs in colour: ``(rows, columns, 3)``."""
        image: Image = getattr(self.view, side)
        if not is_photograph(image):
            return self.levels(side, plane)
        colours = plane.resize(self.windows[side].scale(plane.cut(image.tensor)))
        return np.clip(np.moveaxis(colours, 0, -1), 0.0, 1.0)

    def outlines(self, side: str, plane: Plane) -> np.ndarray | None:
        """Boolean outlines of the labels of one side; where there are none to compare, the edges of its image."""
        if not self.has_labels:
            return self.edges(side, plane)
        labels: LabelMap | None = getattr(self.view, f"{side}_labels")
        return None if labels is None else label_edges(plane.cut(labels.tensor)[0], plane.shape_pixels)

    def edges(self, side: str, plane: Plane) -> np.ndarray:
        """Boolean edges of the image of one side, as fine on all sides as the fixed image allows."""
        key = (side, plane)
        if key not in self._edges:
            if plane not in self._sigmas:
                self._sigmas[plane] = legible_sigma(self.levels("fixed", plane))
            self._edges[key] = edges_of(self.levels(side, plane), self._sigmas[plane])
        return self._edges[key]
