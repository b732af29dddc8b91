"""Slices that the reader moves: the volumes for the browser, and the place where it draws them."""

import json
from typing import Any

import torch

from pullback.data import Points
from pullback.io.json_text import plain
from pullback.reports import sprites
from pullback.reports.colours import ALARM, DIVERGING
from pullback.reports.drawings import Drawings
from pullback.reports.formats import TIMES, number
from pullback.reports.markup import Markup, tag
from pullback.reports.places import Place
from pullback.reports.slices import Plane
from pullback.reports.sprites import Layout

SIDES = ("fixed", "before", "warped")
DECIMALS = 3
FEW_LABELS = 20
"""With more labels than that their outlines hide the picture, so they are shown on demand."""

KEYS = (
    ("Arrow keys", "move the crosshair in the slice"),
    ("Page up, page down, wheel", "go through the slices"),
    ("Space", "swap the two images"),
    ("S F O D", "slider, flicker, overlay, difference"),
    ("B", "before or after"),
    ("L P J", "outlines, landmarks, change of volume"),
)


def explorer(drawings: Drawings) -> Markup | None:
    """Three linked slices with their controls; empty until the script has read the volumes. None in 2-D."""
    if not has_slices(drawings):
        return None
    layout = sprites.layout_of(drawings.view.fixed)
    views = [_view(plane, layout) for plane in drawings.middle]
    widest = max(plane.size_mm[0] for plane in drawings.middle)
    num_labels = len(_label_order(drawings))
    boxes = [
        _checkbox("outlines", "Label outlines", checked=num_labels <= FEW_LABELS) if num_labels else None,
        _checkbox("points", "Landmarks") if drawings.view.fixed_points is not None else None,
        None if drawings.is_linear else _checkbox("volume", "Change of volume", checked=False),
        _checkbox("cross", "Crosshair"),
    ]
    return tag(
        "div",
        tag("div", views, class_="row", style=f"--widest:{widest:.4g}"),
        tag("div", boxes, class_="boxes"),
        tag("p", class_="readout", id="readout", aria_live="polite"),
        tag("p", _resolution(drawings, layout), class_="quiet"),
        _keys(),
        id="explorer",
        hidden=True,
    )


def volumes(drawings: Drawings, places: list[Place]) -> str | None:
    """What the script needs, as JSON: sprites, where their voxels lie, landmarks, and the places worth a look."""
    if not has_slices(drawings):
        return None
    view, layout = drawings.view, sprites.layout_of(drawings.view.fixed)
    pictures = {side: sprites.grey_sprite(sprites.grey_volume(drawings, side, layout), layout) for side in SIDES}
    if not drawings.is_linear:
        pictures["jacobian"] = sprites.jacobian_sprite(view.jacobian, layout)
    masks = {f"{side}_seen": getattr(view, f"{side}_seen") for side in ("before", "warped")}
    pictures |= {
        name: sprites.mask_sprite(mask, layout) for name, mask in masks.items() if mask is not None and not mask.all()
    }
    order = _label_order(drawings)
    if order:
        maps = {side: getattr(view, f"{side}_labels") for side in SIDES}
        pictures |= {
            f"{side}_labels": sprites.label_sprite(labels, order, layout)
            for side, labels in maps.items()
            if labels is not None
        }
    data = {
        "shape": layout.grid.shape,
        "spacing": layout.grid.spacing_mm,
        "toWorld": layout.grid.voxel_to_world,
        "tile": layout.tile,
        "columns": layout.columns,
        "planes": [{"name": plane.name, "axes": plane.axes} for plane in drawings.middle],
        "pictures": pictures,
        "labels": [view.label_name(label) for label in order],
        "points": _points(drawings, layout),
        "start": _start(drawings, layout),
        "places": [_voxel(layout, place.position_mm) for place in places],
        "diverging": DIVERGING,
        "alarm": ALARM,
        "jacobian": {"limit": sprites.JACOBIAN_LIMIT, "levels": sprites.JACOBIAN_LEVELS},
    }
    return json.dumps(plain(data), separators=(",", ":"))


def has_slices(drawings: Drawings) -> bool:
    """Whether there is a volume to be cut."""
    return not drawings.is_2d and len(drawings.middle) == 3


def _view(plane: Plane, layout: Layout) -> Markup:
    axis = plane.axes[2]
    rows, columns = plane.shape_pixels
    name = plane.name.capitalize()
    canvas = tag("canvas", tabindex=0, role="img", aria_label=f"{name} slice", aria_describedby="explorer-keys")
    letters = [
        tag("span", letter, class_=f"letter {place}", aria_hidden="true")
        for letter, place in zip(plane.edges or (), ("left", "right", "top", "bottom"), strict=False)
    ]
    frame = tag(
        "div", canvas, letters, tag("b", class_="shown"), class_="frame", style=f"aspect-ratio:{columns}/{rows}"
    )
    slider = tag("input", type="range", min=0, max=layout.grid.shape[axis] - 1, step=1, data_axis=axis)
    caption = tag("figcaption", tag("label", name, slider, tag("output")))
    return tag("figure", frame, caption, class_="picture", data_plane=plane.name, style=f"--mm:{plane.size_mm[0]:.4g}")


def _checkbox(name: str, word: str, *, checked: bool = True) -> Markup:
    return tag("label", tag("input", type="checkbox", id=f"show-{name}", checked=checked), word)


def _keys() -> Markup:
    rows = [tag("div", tag("dt", keys), tag("dd", what)) for keys, what in KEYS]
    note = "The first three need a slice to be chosen: click it, or go there with the tab key."
    return tag(
        "details", tag("summary", "Keys"), tag("dl", rows), tag("p", note, class_="quiet"), id="explorer-keys",
        class_="keys",
    )  # fmt: skip


def _resolution(drawings: Drawings, layout: Layout) -> str:
    spacing = f" {TIMES} ".join(number(mm, 3) for mm in layout.grid.spacing_mm.tolist())
    whole = max(layout.factors) == 1
    how = "the voxels of the fixed image" if whole else f"means over {TIMES.join(map(str, layout.factors))} voxels"
    note = " The slices are stored in 8 bits with slight loss (JPEG); outlines follow the voxels."
    note += " For turning volumes in 3-D: pullback report FOLDER --volume."
    return f"Slices of {spacing} mm, {how}.{note}"


def _label_order(drawings: Drawings) -> list[int]:
    """All labels in order, or none if there is nothing to compare or there are too many."""
    if not drawings.has_labels:
        return []
    maps = [getattr(drawings.view, f"{side}_labels") for side in SIDES]
    order = sorted({label for labels in maps if labels is not None for label in labels.labels})
    return order if len(order) <= sprites.MOST_LABELS else []


def _points(drawings: Drawings, layout: Layout) -> dict[str, Any]:
    """Landmarks in voxels of the layout, and their names."""
    sets = {side: getattr(drawings.view, f"{side}_points") for side in SIDES}
    known: dict[str, Any] = {
        side: layout.grid.to_voxel(points.coordinates).numpy().round(DECIMALS)
        for side, points in sets.items()
        if points is not None
    }
    fixed: Points | None = sets["fixed"]
    return known | {"names": list(fixed.names)} if fixed is not None and fixed.names else known


def _start(drawings: Drawings, layout: Layout) -> list[int]:
    """The voxel where the middle slices cross."""
    voxel = torch.zeros(1, 3, dtype=torch.float64)
    for plane in drawings.middle:
        voxel[0, plane.axes[2]] = plane.index
    return _voxel(layout, drawings.middle[0].grid.to_world(voxel)[0].tolist())


def _voxel(layout: Layout, position_mm: Any) -> list[int]:
    """The nearest voxel of the layout to a world point."""
    voxel = layout.grid.to_voxel([list(position_mm)])[0].round().to(torch.int64).tolist()
    return [min(max(at, 0), n - 1) for at, n in zip(voxel, layout.grid.shape, strict=True)]
