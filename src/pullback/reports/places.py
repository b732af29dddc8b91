"""The places of a pair where a reader should look first: found by rules, named, and drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
import torch

from pullback.metrics import dice_per_label
from pullback.reports import fields, overlays
from pullback.reports.drawings import Drawings
from pullback.reports.formats import finite, fixed_point, lookup, number
from pullback.reports.slices import Plane, ras_array
from pullback.reports.view import RegistrationView

MOST_LABELS = 3
MOST_POINTS = 3
MOST_DIFFERENCES = 2
CROP_MM = 70.0
"""Side of the square that is shown of a slice."""

SEARCH_VOXELS = 400_000
"""Differences are searched for at about this many voxels."""
SEARCH_SHARE = 0.025
"""Width of the Gaussian that averages differences, and distance between two places, as shares of the field of view."""
SEPARATE_SHARE = 0.15
NOTABLE_DIFFERENCE = 0.05
PICTURE_WORDS = (("right", "left"), ("bottom", "top"))
WORDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
NEAR_MIDDLE = 0.12
"""Share of the object's extent within which a place is neither left nor right, and so on."""


@dataclass(frozen=True)
class Place:
    """One place worth a look.

    Attributes:
        kind: ``label``, ``landmark``, ``volume`` or ``difference``.
        title: Its name.
        reason: Why it is shown, with the number.
        position_mm: World point, RAS.
        plane: The slice that shows it.
        window: First row, first column, rows and columns of the part of the picture that is shown.
        label: For ``label``: which one.
        point: For ``landmark``: which one.
    """

    kind: str
    title: str
    reason: str
    position_mm: tuple[float, ...]
    plane: Plane
    window: tuple[int, int, int, int]
    label: int | None = None
    point: int | None = None


def find_places(drawings: Drawings) -> list[Place]:
    """The worst labels, landmarks, changes of volume and differences of brightness, in this order."""
    return [*_labels(drawings), *_landmarks(drawings), *_volumes(drawings), *_differences(drawings)]


def _labels(drawings: Drawings) -> Iterator[Place]:
    """The labels of the lowest Dice, where they differ most."""
    view = drawings.view
    if view.fixed_labels is None or view.warped_labels is None:
        return
    scores = _label_scores(view)
    fixed, warped = (_ras(drawings, maps.tensor)[0] for maps in (view.fixed_labels, view.warped_labels))
    for label in sorted(scores, key=lambda one: scores[one])[:MOST_LABELS]:
        wrong = (fixed == label) != (warped == label)
        if wrong.any():
            title, reason = f"Label {view.label_name(label)}", f"Dice {fixed_point(scores[label])}"
            yield replace(_place(drawings, "label", title, reason, _densest(wrong)), label=label)


def _label_scores(view: RegistrationView) -> dict[int, float]:
    """Label to Dice as the summary has it, which may be of no label; computed where it says nothing of labels."""
    known = lookup(view.summary, "labels", "per_label")
    if not isinstance(known, Mapping):
        return dice_per_label(view.fixed_labels, view.warped_labels)
    return {
        int(label): dice
        for label, entry in known.items()
        if str(label).lstrip("-").isdigit() and (dice := finite(lookup(entry, "after"))) is not None
    }


def _landmarks(drawings: Drawings) -> Iterator[Place]:
    """The landmarks that are farthest apart after registration."""
    view = drawings.view
    if view.fixed_points is None or view.warped_points is None:
        return
    errors = view.point_errors_mm
    if errors is None:
        errors = torch.linalg.vector_norm(view.warped_points.coordinates - view.fixed_points.coordinates, dim=1)
    voxels = drawings.ras_grid.to_voxel(view.fixed_points.coordinates).numpy()
    for index in errors.argsort(descending=True)[:MOST_POINTS].tolist():
        name = view.fixed_points.names[index] if view.fixed_points.names else str(index + 1)
        place = _place(drawings, "landmark", f"Landmark {name}", f"{number(errors[index])} mm apart", voxels[index])
        yield replace(place, point=index)


def _volumes(drawings: Drawings) -> Iterator[Place]:
    """Where the fixed object is squeezed and stretched most."""
    if drawings.is_linear:
        return
    jacobian = np.nan_to_num(_ras(drawings, drawings.view.jacobian), nan=1.0, posinf=1e3, neginf=-1.0)
    inside = drawings.foreground
    for word, values in (
        ("Smallest", np.where(inside, jacobian, np.inf)),
        ("Largest", np.where(inside, -jacobian, np.inf)),
    ):
        voxel = np.array(np.unravel_index(int(values.argmin()), values.shape), dtype=np.float64)
        found = float(jacobian[tuple(voxel.astype(int))])
        title = f"{word} Jacobian" if found > 0 else "Folded"
        yield _place(drawings, "volume", title, f"{number(found)}, {where(drawings, voxel)}", voxel)


def _differences(drawings: Drawings) -> Iterator[Place]:
    """Where the two images differ most in brightness after registration, averaged over a neighbourhood.

    Voxels that the moving image does not show count as equal.
    """
    if not drawings.same_contrast:
        return
    steps = _steps(drawings)
    pair = [
        drawings.grey_volume(side)[tuple(slice(None, None, step) for step in steps)] for side in ("fixed", "warped")
    ]
    apart = np.abs(pair[1] - pair[0])
    if drawings.view.warped_seen is not None:
        apart *= _ras(drawings, drawings.view.warped_seen)[tuple(slice(None, None, step) for step in steps)]
    spacing = [float(mm) * step for mm, step in zip(drawings.ras_grid.spacing_mm, steps, strict=True)]
    extent = max(n * mm for n, mm in zip(pair[0].shape, spacing, strict=True))
    mean = scipy.ndimage.gaussian_filter(apart, [SEARCH_SHARE * extent / mm for mm in spacing])
    axes = np.meshgrid(
        *(np.arange(n) * mm for n, mm in zip(mean.shape, spacing, strict=True)), indexing="ij", sparse=True
    )
    for _ in range(MOST_DIFFERENCES):
        peak = np.unravel_index(int(mean.argmax()), mean.shape)
        if mean[peak] < NOTABLE_DIFFERENCE:
            return
        voxel = np.array([at * step for at, step in zip(peak, steps, strict=True)], dtype=np.float64)
        reason = f"{number(100 * mean[peak], 2)} % of the brightness on average, {where(drawings, voxel)}"
        yield _place(drawings, "difference", "Large difference", reason, voxel)
        distance = sum((axis - at * mm) ** 2 for axis, at, mm in zip(axes, peak, spacing, strict=True))
        mean[distance < (SEPARATE_SHARE * extent) ** 2] = 0.0


def where(drawings: Drawings, voxel: np.ndarray) -> str:
    """The place of a voxel in words: the side of the object, and the label there."""
    inside = np.argwhere(drawings.foreground[tuple(slice(None, None, step) for step in _steps(drawings))])
    low, high = (inside.min(axis=0), inside.max(axis=0)) if len(inside) else (0, 1)
    share = (voxel / np.array(_steps(drawings)) - low) / np.maximum(high - low, 1) - 0.5
    names = WORDS if drawings.middle[0].edges else PICTURE_WORDS
    thick = np.array(drawings.ras_grid.shape) > 1
    sides = [names[axis][int(at > 0)] for axis, at in enumerate(share) if thick[axis] and abs(at) > NEAR_MIDDLE]
    labels = drawings.view.fixed_labels
    label = 0 if labels is None else int(_ras(drawings, labels.tensor)[0][tuple(np.rint(voxel).astype(int))])
    inside_label = f" in label {drawings.view.label_name(label)}" if label else ""
    return (" ".join(sides) or "near the middle") + inside_label


def picture_of(drawings: Drawings, place: Place) -> tuple[np.ndarray, np.ndarray | None]:
    """The picture of a place ``(rows, columns[, 3])`` in [0, 1], and lines over it (see `overlays.classify_lines`)."""
    plane, view = place.plane, drawings.view
    lines = None
    if place.kind == "label":
        maps = [(labels.tensor == place.label).int() for labels in (view.fixed_labels, view.warped_labels)]
        lines = overlays.classify_lines(*(_voxel_edges(plane, one) for one in maps))
        levels = drawings.levels("fixed", plane) * 0.85
    elif place.kind == "volume":
        logarithm, bad = fields.log_jacobian(view.jacobian, plane), fields.nonpositive(view.jacobian, plane)
        levels = fields.jacobian_map(logarithm, bad, fields.jacobian_limit([logarithm]))
    elif place.kind == "difference":
        levels = overlays.colour_overlay(drawings.levels("fixed", plane), drawings.levels("warped", plane))
    else:
        levels = drawings.levels("fixed", plane) * 0.6
    row, column, rows, columns = place.window
    part = (slice(row, row + rows), slice(column, column + columns))
    return levels[part], None if lines is None else lines[part]


def _place(drawings: Drawings, kind: str, title: str, reason: str, voxel: np.ndarray) -> Place:
    """A place at a voxel of the RAS grid, shown in the slice of the finest pixels: the axial one, if in doubt."""
    grid = drawings.ras_grid
    template = min(drawings.middle, key=lambda plane: max(float(grid.spacing_mm[axis]) for axis in plane.axes[:2]))
    plane = template
    if len(plane.axes) == 3:
        index = int(np.clip(np.rint(voxel[plane.axes[2]]), 0, grid.shape[plane.axes[2]] - 1))
        plane = replace(template, index=index)
    position = tuple(grid.to_world([voxel.tolist()])[0].tolist())
    return Place(kind, title, reason, position, plane, _window(plane, voxel))


def _window(plane: Plane, voxel: np.ndarray) -> tuple[int, int, int, int]:
    """The part of the picture around a voxel, moved so that it lies inside."""
    pixel_mm = plane.size_mm[0] / plane.shape_pixels[1]
    share = CROP_MM if len(plane.axes) == 3 else max(plane.size_mm) / 4
    side = max(8, round(min(share, max(plane.size_mm) / 2.5) / pixel_mm))
    x, y = plane.to_pixels(voxel[list(plane.axes[:2])])
    starts, sizes = [], []
    for at, size in zip((y, x), plane.shape_pixels, strict=True):
        sizes.append(min(side, size))
        starts.append(int(np.clip(round(float(at)) - sizes[-1] // 2, 0, size - sizes[-1])))
    return (*starts, *sizes)


def _densest(wrong: np.ndarray) -> np.ndarray:
    """A wrong voxel near the middle of where most are wrong."""
    across = wrong.ndim - 1
    deepest = int(wrong.sum(axis=tuple(range(across))).argmax())
    found = np.argwhere(wrong[..., deepest] if wrong.ndim == 3 else wrong)
    nearest = found[((found - found.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return np.array([*nearest, deepest] if wrong.ndim == 3 else nearest, dtype=np.float64)


def _voxel_edges(plane: Plane, mask: torch.Tensor) -> np.ndarray:
    """Outlines along the voxels, since smooth ones lose a label of a voxel or two."""
    inside = plane.resize(plane.cut(mask)[0].astype(np.float32), nearest=True) > 0.5
    return inside & ~scipy.ndimage.binary_erosion(inside, border_value=1)


def _steps(drawings: Drawings) -> tuple[int, ...]:
    grid = drawings.ras_grid
    step = max(1, round((grid.num_voxels / SEARCH_VOXELS) ** (1 / grid.num_dims)))
    return tuple(min(step, n) for n in grid.shape)


def _ras(drawings: Drawings, tensor: torch.Tensor) -> np.ndarray:
    return ras_array(tensor, drawings.middle[0].reorientation)
