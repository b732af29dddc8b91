"""Figures for papers, by Matplotlib: what a registration did, as PNG, SVG or PDF.

Every function takes images and transforms and returns a figure; `save_figure` writes it. Slices are drawn as in the
reports: patient right on the left, to scale in mm. Matplotlib is imported when a figure is made, not before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pullback.data import Image
from pullback.io.atomic import replacing, suffix_of
from pullback.reports import fields
from pullback.reports.colours import DIVERGING, SEQUENTIAL
from pullback.reports.formats import not_mathematics
from pullback.reports.intensities import check_channels, grey, window_of
from pullback.reports.overlays import difference_limit
from pullback.reports.slices import Plane, plane_at
from pullback.transforms import AbstractTransform, chain, identity, warp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH_INCHES = 7.2
"""Width of a figure: two columns of a journal."""

LARGEST_HEIGHT_INCHES = 9.0
TITLE_INCHES, BAR_INCHES, GAP = 0.28, 0.55, 0.03
FONT = {
    "font.family": "sans-serif",
    "font.size": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "pullback",
    "pdf.fonttype": 42,
}
GRID_COLOUR = "#1f5fbf"

Draw = Callable[["Axes"], Any]
"""Draws one panel; what it returns, if anything, is what a colour bar belongs to."""


def differences(
    fixed: Image,
    before: Image,
    warped: Image,
    *,
    moving: Image | None = None,
    seen: Sequence[Tensor] | None = None,
    **where: Any,
) -> "Figure":
    """Fixed, before and after above the differences from the fixed image, on one scale.

    Args:
        fixed: The fixed image.
        before: The moving image on the fixed grid by the starting alignment.
        warped: The moving image on the fixed grid by the result.
        moving: The moving image, whose brightness window and colours are those of what was warped; None takes each
            picture's own.
        seen: Bool ``fixed.shape`` before and after: voxels whose difference is drawn; None draws all.
        **where: ``plane`` and ``position_mm`` of the slice; see `slice_of`.

    Raises:
        ValueError: If the grids differ or the plane is unknown.
    """
    pictures = {"Before": before, "After": warped}
    masks = None if seen is None else dict(zip(pictures, seen, strict=True))
    return methods(fixed, pictures, moving=moving, seen=masks, **where)


def methods(
    fixed: Image,
    warped: dict[str, Image],
    *,
    moving: Image | None = None,
    seen: Mapping[str, Tensor] | None = None,
    **where: Any,
) -> "Figure":
    """The fixed image beside what several methods made of the moving one, above their differences from it.

    Args:
        fixed: The fixed image.
        warped: Name of a method to its warped image on the fixed grid, in the order of the columns.
        moving: The moving image, whose brightness window and colours are those of what was warped; None takes each
            picture's own.
        seen: Name of a method to bool ``fixed.shape``: voxels whose difference is drawn; None draws all.
        **where: ``plane`` and ``position_mm`` of the slice; see `slice_of`.

    Raises:
        ValueError: If there is no method, grids differ, or the plane is unknown.
    """
    if not warped:
        raise ValueError("`warped` is empty, but at least one image to compare is needed.")
    check_grids(fixed, warped.values())
    plane = slice_of(fixed, **where)
    reference, others = _levels(fixed, plane), {name: _levels(image, plane, moving) for name, image in warped.items()}
    masks = {
        name: np.ones(one.shape, dtype=bool) if seen is None else plane.cut(seen[name]) for name, one in others.items()
    }
    limit = difference_limit([(reference[masks[name]], one[masks[name]]) for name, one in others.items()])
    apart = {name: np.where(masks[name], one - reference, 0.0) for name, one in others.items()}
    top = [("Fixed", _grey(plane, reference)), *((name, _grey(plane, one)) for name, one in others.items())]
    bottom = [None, *(("", _coloured(plane, one, limit)) for one in apart.values())]
    return _panels(plane, [top, bottom], bar="moving minus fixed, share of the brightness window")


def grids(fixed: Image, transforms: dict[str, AbstractTransform], **where: Any) -> "Figure":
    """The deformed grid of each transform over the fixed image.

    Straight lines of the fixed image are drawn where the transform takes them. Movement across the slice is not drawn.

    Args:
        fixed: The fixed image.
        transforms: Name of a panel to a map of the fixed world.
        **where: ``plane`` and ``position_mm`` of the slice; see `slice_of`.
    """
    if not transforms:
        raise ValueError("`transforms` is empty, but at least one is needed.")
    plane, spacing = _slice_and_spacing(fixed, where)
    panels = [
        (name, _grid(plane, _levels(fixed, plane), _displacement(one, plane), spacing))
        for name, one in transforms.items()
    ]
    return _panels(plane, [panels])


def displacement_and_inverse(
    fixed: Image, fixed_to_moving: AbstractTransform, moving_to_fixed: AbstractTransform, **where: Any
) -> "Figure":
    """A map, its inverse, and both one after the other: their grids, and the lengths of their displacements in mm.

    A sound inverse leaves a straight grid and hardly any length in the last column. All columns have one scale.

    Args:
        fixed: The fixed image, on whose grid all three are drawn.
        fixed_to_moving: The map.
        moving_to_fixed: Its inverse.
        **where: ``plane`` and ``position_mm`` of the slice; see `slice_of`.
    """
    plane, spacing = _slice_and_spacing(fixed, where)
    maps = {
        "Displacement": fixed_to_moving,
        "Inverse": moving_to_fixed,
        "Composition": chain(moving_to_fixed, fixed_to_moving),
    }
    moved = {name: _displacement(one, plane) for name, one in maps.items()}
    lengths = {name: np.sqrt((one**2).sum(axis=0)) for name, one in moved.items()}
    limit = max(float(one.max()) for one in lengths.values()) or 1.0
    top = [(name, _grid(plane, None, one, spacing)) for name, one in moved.items()]
    bottom = [
        (f"mean {one.mean():.2g}, max {one.max():.2g} mm", _coloured(plane, _as_picture(one), limit, SEQUENTIAL, 0.0))
        for one in lengths.values()
    ]
    return _panels(plane, [top, bottom], bar="length of the displacement, mm")


def overlay(
    template: Image, registered: Image, *, moving: Image | None = None, strength: float = 0.5, **where: Any
) -> "Figure":
    """The template in grey, the registered image in colour, and the one laid over the other.

    Args:
        template: The fixed image.
        registered: The moving image on its grid.
        moving: The moving image, whose brightness window and colours are those of what was warped; None takes each
            picture's own.
        strength: Opacity of the registered image in the last panel, from 0 to 1.
        **where: ``plane`` and ``position_mm`` of the slice; see `slice_of`.

    Raises:
        ValueError: If the grids differ, or `strength` is not within 0 and 1.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"`strength` is {strength}, but an opacity from 0 to 1 is needed.")
    check_grids(template, [registered])
    plane = slice_of(template, **where)
    under, over = _levels(template, plane), _levels(registered, plane, moving)

    def both(axes: "Axes") -> None:
        _grey(plane, under)(axes)
        _show(
            axes,
            plane,
            over,
            cmap=_table(SEQUENTIAL),
            vmin=0.0,
            vmax=1.0,
            alpha=strength * np.clip(3.0 * over, 0.0, 1.0),
        )

    panels = [
        ("Template", _grey(plane, under)),
        ("Registered", _coloured(plane, over, 1.0, SEQUENTIAL, 0.0)),
        ("Registered on template", both),
    ]
    return _panels(plane, [panels])


def sequence(fixed: Image, moving: Image, displacements: Sequence[AbstractTransform], **where: Any) -> "Figure":
    """Coarse-to-fine warps: the moving image under more and more of a list of transforms, with their grids beneath.

    Args:
        fixed: The fixed image.
        moving: The moving image, on its own grid.
        displacements: Transforms in the order in which an estimate grew. After n of them the map is
            ``chain(*displacements[:n])``: each refines what came before and acts on fixed points first, as the levels
            of a pyramid and the stages of a cascade do.
        **where: ``plane`` and ``position_mm`` of the slice; see `slice_of`.

    Raises:
        ValueError: If the list is empty.
    """
    if not displacements:
        raise ValueError("`displacements` is empty, but at least one transform is needed.")
    plane, spacing = _slice_and_spacing(fixed, where)
    section = _section_grid(plane)
    window = window_of(moving)
    top: list[Any] = [("Fixed", _grey(plane, _levels(fixed, plane)))]
    bottom: list[Any] = [None]
    for count in range(len(displacements) + 1):
        name = "Moving" if count == 0 else f"After {count}"
        so_far = chain(*displacements[:count]) if count else None
        warped = warp(moving, so_far or identity(fixed.grid.num_dims), onto=section)
        levels = _picture_of_section(warped, plane, window)
        top.append((name, _grey(plane, levels)))
        bottom.append(None if so_far is None else ("", _grid(plane, None, _displacement(so_far, plane), spacing)))
    return _panels(plane, [top, bottom])


def slice_of(fixed: Image, plane: str = "axial", position_mm: float | None = None) -> Plane:
    """The slice a figure shows.

    Args:
        fixed: The image it goes through.
        plane: ``axial``, ``coronal`` or ``sagittal``; a 2-D image has one slice and takes no choice.
        position_mm: Where it crosses its world axis (default: the middle of the foreground).

    Raises:
        ValueError: If the plane is unknown, or the position lies outside the image.
    """
    return plane_at(fixed, plane, position_mm)


def save_figure(path: str | Path, figure: "Figure", *, dpi: int = 300) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``.
        figure: What to write.
        dpi: Pixels per inch of PNG, and of the pictures inside the others.

    Raises:
        ValueError: If the suffix is another or `dpi` is not from 30 to 2400.
        OSError: If the place cannot be written to or the disk is full.
    """
    import matplotlib

    suffix = suffix_of(Path(path))
    if suffix not in SUFFIXES:
        raise ValueError(f"'{path}' has the suffix '{suffix}', but figures are written as {', '.join(SUFFIXES)}.")
    if not 30 <= dpi <= 2400:
        raise ValueError(f"`dpi` is {dpi}, but 30 to 2400 is needed.")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    with replacing(path) as temporary, matplotlib.rc_context(FONT):
        figure.savefig(temporary, dpi=dpi, metadata=undated)


def _panels(plane: Plane, rows: Sequence[Sequence[Any]], bar: str | None = None) -> "Figure":
    """Panels in rows, each a title and what draws it, or None; a colour bar for the last one, if `bar` names it."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    panel = WIDTH_INCHES / columns
    tall = panel * plane.size_mm[1] / plane.size_mm[0]
    extra = BAR_INCHES if bar else 0.0
    height = len(rows) * (tall + TITLE_INCHES) + extra
    scale = min(1.0, LARGEST_HEIGHT_INCHES / height)
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(WIDTH_INCHES * scale, height * scale))
        axes = figure.subplots(len(rows), columns, squeeze=False)
        bottom = extra / height
        figure.subplots_adjust(0.005, bottom, 0.995, 1 - TITLE_INCHES / height, GAP, TITLE_INCHES / tall)
        drawn = [_panel(one, row[at] if at < len(row) else None, plane) for line, row in zip(axes, rows, strict=True)
                 for at, one in enumerate(line)]  # fmt: skip
        if bar:
            _colour_bar(figure, next(one for one in reversed(drawn) if one is not None), bar, bottom)
    return figure


def _panel(axes: "Axes", content: tuple[str, Draw] | None, plane: Plane) -> Any:
    axes.set_axis_off()
    if content is None:
        return None
    title, draw = content
    drawn = draw(axes)
    axes.set_title(not_mathematics(title), fontsize=8, pad=3)
    axes.set_xlim(0, plane.size_mm[0])
    axes.set_ylim(plane.size_mm[1], 0)
    axes.set_aspect("equal")
    if plane.edges:
        for letter, x, y, across in zip(plane.edges[:2], (0.02, 0.98), (0.5, 0.5), ("left", "right"), strict=True):
            axes.text(x, y, letter, transform=axes.transAxes, ha=across, va="center", fontsize=6, color="0.6")
    return drawn


def _colour_bar(figure: "Figure", drawn: Any, title: str, bottom: float) -> None:
    place = figure.add_axes((0.3, 0.55 * bottom, 0.4, 0.15 * bottom))
    bar = figure.colorbar(drawn, cax=place, orientation="horizontal")
    bar.set_label(title, fontsize=7, labelpad=1)
    bar.ax.tick_params(labelsize=6, pad=1, length=2)


def _grey(plane: Plane, levels: np.ndarray) -> Draw:
    def draw(axes: "Axes") -> None:
        _show(axes, plane, levels, cmap="gray", vmin=0.0, vmax=1.0)

    return draw


def _coloured(
    plane: Plane, values: np.ndarray, limit: float, table: tuple[str, ...] = DIVERGING, low: float | None = None
) -> Draw:
    return lambda axes: _show(axes, plane, values, cmap=_table(table), vmin=-limit if low is None else low, vmax=limit)


def _grid(plane: Plane, levels: np.ndarray | None, moved: np.ndarray, spacing_mm: float) -> Draw:
    """Deformed lines over a dim picture, or on white."""

    def draw(axes: "Axes") -> None:
        if levels is not None:
            _show(axes, plane, levels, cmap="gray", vmin=0.0, vmax=1.6)
        pixel_mm = np.array(plane.size_mm) / np.array(plane.shape_pixels[::-1])
        for line in fields.grid_lines(moved, plane, spacing_mm):
            x, y = (plane.to_pixels(line) * pixel_mm).T
            axes.plot(x, y, color=GRID_COLOUR if levels is None else "#ffd766", linewidth=0.4, solid_joinstyle="round")

    return draw


def _show(axes: "Axes", plane: Plane, values: np.ndarray, **options: Any) -> Any:
    extent = (0.0, plane.size_mm[0], plane.size_mm[1], 0.0)
    return axes.imshow(values, extent=extent, interpolation="bilinear", **options)


def _table(colours: tuple[str, ...]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("pullback", colours)


def _levels(image: Image, plane: Plane, like: Image | None = None) -> np.ndarray:
    """A slice in voxels, grey levels in [0, 1] by the window and the colours of the image itself or of another."""
    like = image if like is None else like
    check_channels(image, like)
    voxels = np.nan_to_num(plane.cut(image.tensor), posinf=0.0, neginf=0.0)
    return window_of(like).scale(grey(voxels, like))


def _displacement(transform: AbstractTransform, plane: Plane) -> np.ndarray:
    """``(D, width, height)`` in mm at the voxels of the slice, RAS order."""
    section = transform.displacement_on(_section_grid(plane)).numpy()
    return section.squeeze(1 + plane.axes[2]) if len(plane.axes) == 3 else section


def _as_picture(section: np.ndarray) -> np.ndarray:
    """Voxels along width and height to rows and columns of a picture."""
    return np.ascontiguousarray(section.T[::-1, ::-1])


def _section_grid(plane: Plane) -> Any:
    """The voxels of the slice as a grid of their own, one voxel thick, RAS order."""
    start, stop = [0] * plane.grid.num_dims, list(plane.grid.shape)
    if len(plane.axes) == 3:
        start[plane.axes[2]], stop[plane.axes[2]] = plane.index, plane.index + 1
    return plane.grid.crop(start, stop)


def _picture_of_section(warped: Image, plane: Plane, window: Any) -> np.ndarray:
    values = grey(np.nan_to_num(warped.tensor.numpy()), warped)
    values = values.squeeze(plane.axes[2]) if len(plane.axes) == 3 else values
    return window.scale(_as_picture(values))


def _slice_and_spacing(fixed: Image, where: dict[str, Any]) -> tuple[Plane, float]:
    plane = slice_of(fixed, **where)
    return plane, fields.line_spacing_mm((plane,))


def check_grids(fixed: Image, others: Iterable[Image]) -> None:
    """Refuse images that were not warped onto the fixed grid.

    Raises:
        ValueError: If one lies on another grid.
    """
    for image in others:
        if not image.grid.same_as(fixed.grid, tolerance_voxels=0.01):
            raise ValueError(
                f"'{image.name}' lies on {image.grid}, but the fixed image on {fixed.grid}; warp it onto that first."
            )
