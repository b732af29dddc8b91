"""A pair: what is to be registered, with everything known about it."""

from dataclasses import dataclass

from pullback.data.image import Image, LabelMap
from pullback.data.points import Points


@dataclass(frozen=True)
class Pair:
    """A fixed and a moving image, with optional masks, labels and landmarks.

    Masks are label maps on their own image's grid; anything above 0 counts in the similarity.
    Landmarks correspond in order.

    Raises:
        ValueError: If dimensions, channels, grids or numbers of landmarks do not fit together, or points are given
            that are none.
    """

    fixed: Image
    moving: Image
    fixed_mask: LabelMap | None = None
    moving_mask: LabelMap | None = None
    fixed_labels: LabelMap | None = None
    moving_labels: LabelMap | None = None
    fixed_points: Points | None = None
    moving_points: Points | None = None

    def __post_init__(self) -> None:
        if self.fixed.grid.num_dims != self.moving.grid.num_dims:
            raise ValueError(
                f"The fixed image has {self.fixed.grid.num_dims} dimensions and the moving image "
                f"{self.moving.grid.num_dims}; both must be 2-D or both 3-D."
            )
        if self.fixed.num_channels != self.moving.num_channels:
            raise ValueError(
                f"The fixed image has {self.fixed.num_channels} channels and the moving image "
                f"{self.moving.num_channels}; channels are compared one to one, so the numbers must agree."
            )
        for side in ("fixed", "moving"):
            self._check_grids(side)
            self._check_partner(side)
        fixed_points, moving_points = self.fixed_points, self.moving_points
        if fixed_points is not None and moving_points is not None and len(fixed_points) != len(moving_points):
            raise ValueError(
                f"There are {len(fixed_points)} fixed and {len(moving_points)} moving points; they must correspond."
            )

    def _check_grids(self, side: str) -> None:
        image = getattr(self, side)
        for kind in ("mask", "labels"):
            other = getattr(self, f"{side}_{kind}")
            if other is not None and not other.grid.same_as(image.grid, tolerance_voxels=0.01):
                raise ValueError(
                    f"The {side} {kind} and the {side} image are on different grids ({other.grid} and {image.grid}); "
                    f"resample the {kind} onto the image first."
                )
        mask = getattr(self, f"{side}_mask")
        if mask is not None and not bool((mask.tensor > 0).any()):
            raise ValueError(f"The {side} mask is empty: no voxel would be compared.")

    def _check_partner(self, side: str) -> None:
        other = "moving" if side == "fixed" else "fixed"
        for kind in ("labels", "points"):
            if getattr(self, f"{side}_{kind}") is not None and getattr(self, f"{other}_{kind}") is None:
                raise ValueError(f"{side.capitalize()} {kind} came without {other} {kind}; give both or neither.")
        points = getattr(self, f"{side}_points")
        if points is not None and points.coordinates.shape[1] != self.fixed.grid.num_dims:
            raise ValueError(
                f"The {side} points have {points.coordinates.shape[1]} coordinates, the images "
                f"{self.fixed.grid.num_dims} dimensions."
            )
        if points is not None and not len(points):
            raise ValueError(f"The {side} points hold no point; give landmarks, or leave both sides out.")
