"""From a scan's files to the lattice of the recipe, with all that leads back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from pullback.data import Image, LabelMap, Pair
from pullback.registration import LinearPlan, Plan
from pullback.registration import register as register_pair
from pullback.registration.placement import place, resample_image, resample_labels
from pullback.space import Grid
from pullback.training.manifest import Scan
from pullback.training.recipe import Preprocessing
from pullback.transforms import identity, warp

SHARED = ("header", "rigid", "affine")
"""Alignments in which all scans are brought to the lattice of one."""
WHOLE = -1
"""Position of what is no slice."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan, or a slice of one, on the lattice.

    Attributes:
        name: The scan's name, with the position for a slice.
        scan: The scan's name.
        image, labels: On the same grid.
        position: Of the slice on the lattice, or `WHOLE`.
        record: JSON values: lattice and source grid (``voxel_to_world`` and ``shape`` each), whether the scan was
            aligned, corrected and normalised, and how.
    """

    name: str
    scan: str
    image: Image
    labels: LabelMap | None
    position: int = WHOLE
    record: dict[str, Any] = field(default_factory=dict)


class Preparer:
    """The one step of preprocessing.

    Args:
        plan: What to do.
        reference: The scan whose lattice the others share, by headers or by registration; needed for these alignments.
    """

    def __init__(self, plan: Preprocessing, reference: Scan | None = None) -> None:
        self.plan = plan
        self.reference = None
        if plan.alignment in SHARED:
            if reference is None:
                raise ValueError(f"`alignment` is '{plan.alignment}', which needs a reference scan.")
            self.reference = self._read(reference)

    def __call__(self, scan: Scan) -> Iterator[Prepared]:
        """Prepare a scan; one volume, or several slices.

        Raises:
            ValueError: If its file, its dimensions or its spacing do not suit.
        """
        from pullback.io import read_labels  # only here are files read: training goes on from what is kept

        source = self._read(scan)
        grid = self._place(source)
        image = resample_image(self.plan.normalisation.apply(source), grid)
        labels = None
        if scan.labels is not None:
            read = read_labels(scan.labels)
            if not read.grid.same_as(source.grid, tolerance_voxels=0.01):
                raise ValueError(f"The labels and the image of '{scan.name}' are on different grids.")
            labels = resample_labels(read, grid)
        record = self._record(source, grid)
        if self.plan.slices is None:
            yield Prepared(scan.name, scan.name, image, labels, record=record)
            return
        for position in self.plan.slices.positions(grid.shape):
            cut = self.plan.slices.take(image, position)
            cut_labels = None if labels is None else self.plan.slices.take(labels, position)
            yield Prepared(f"{scan.name}@{position}", scan.name, cut, cut_labels, position, record)

    def _read(self, scan: Scan) -> Image:
        from pullback.io import read_image

        image = read_image(scan.image, name=scan.name)
        if image.grid.num_dims != len(self.plan.shape):
            raise ValueError(
                f"'{scan.name}' has {image.grid.num_dims} dimensions, but the recipe's lattice has "
                f"{len(self.plan.shape)}."
            )
        if self.plan.bias_correction:
            from pullback.io.bias import correct_bias

            image = correct_bias(image)
        return image

    def _place(self, image: Image) -> Grid:
        """Where the lattice lies in the scan's own world."""
        spacing = self.plan.spacing_mm or None
        if self.reference is None:
            centre = "mass" if self.plan.alignment == "mass" else "view"
            return place(image, self.plan.shape, spacing, centre=centre)
        lattice = place(self.reference, self.plan.shape, spacing, centre="view")
        if self.plan.alignment == "header":
            return lattice
        plan = Plan(linear=LinearPlan(self.plan.alignment), deformable=None)
        matrix = register_pair(Pair(self.reference, image), plan).linear.matrix
        return Grid(lattice.shape, matrix @ lattice.voxel_to_world)

    def _record(self, source: Image, grid: Grid) -> dict[str, Any]:
        return {
            "voxel_to_world": grid.voxel_to_world.tolist(),
            "shape": list(grid.shape),
            "source_voxel_to_world": source.grid.voxel_to_world.tolist(),
            "source_shape": list(source.grid.shape),
            "alignment": self.plan.alignment,
            "normalisation": self.plan.normalisation.kind,
            "bias_correction": self.plan.bias_correction,
        }


def lattice_of(record: dict[str, Any]) -> Grid:
    """The lattice of a record, in the world of the scan."""
    return Grid(tuple(record["shape"]), torch.tensor(record["voxel_to_world"], dtype=torch.float64))


def source_grid_of(record: dict[str, Any]) -> Grid:
    """The scan's own grid."""
    return Grid(tuple(record["source_shape"]), torch.tensor(record["source_voxel_to_world"], dtype=torch.float64))


def lead_back(tensor: torch.Tensor, record: dict[str, Any], *, is_labels: bool) -> Image | LabelMap:
    """What lies on the lattice, ``(C, *shape)``, on the scan's own grid: the inverse of the step, but for intensities.

    Voxels of the scan that the lattice does not cover become 0.
    """
    kind = LabelMap if is_labels else Image
    voxels = kind(tensor, lattice_of(record))
    onto = source_grid_of(record)
    return warp(voxels, identity(onto.num_dims), onto=onto, interpolation="nearest" if is_labels else "linear")
