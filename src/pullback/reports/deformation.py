"""The section on the deformation: the bent grid, the change of volume, the length of the displacement."""

import numpy as np
from torch import Tensor

from pullback.reports import fields
from pullback.reports.charts import jacobian_histogram
from pullback.reports.colours import DIVERGING, SEQUENTIAL
from pullback.reports.drawings import Drawings
from pullback.reports.formats import number
from pullback.reports.markup import Markup, tag
from pullback.reports.sections import DIMMED, drawn, gallery, gradient, picture, section, swatches
from pullback.reports.slices import Plane, ras_array


def deformation(drawings: Drawings) -> Markup:
    """The deformed grid, the change of volume, and the length of the displacement."""
    if drawings.is_linear:
        sentence = "The result is linear: there is no deformation, and volume changes by the same factor everywhere."
        return section("deformation", "Deformation", body=tag("p", sentence, class_="quiet"))
    return section(
        "deformation",
        "Deformation",
        right="Lines bend smoothly, colours change gradually and follow the anatomy.",
        wrong="Lines cross or bunch up, yellow spots show folding, or the background bends as much as the object.",
        body=tag(
            "div",
            _grids(drawings),
            _jacobians(drawings),
            _histogram(drawings),
            _magnitudes(drawings),
            class_="states",
        ),
    )


def _grids(drawings: Drawings) -> Markup:
    spacing = fields.line_spacing_mm(drawings.planes)

    def draw(plane: Plane) -> list[Markup]:
        rows, columns = plane.shape_pixels
        path = tag("path", d=fields.grid_path(drawings.view.displacement, plane, spacing))
        box = f"0 0 {columns * fields.TENTHS} {rows * fields.TENTHS}"
        under = picture(drawings.levels("fixed", plane) * DIMMED, f"Deformed grid over the fixed image, {plane.title}")
        return [under, tag("svg", path, viewBox=box, class_="lines", aria_hidden="true")]

    out_of_plane = "" if drawings.is_2d else " Movement across the slice is not drawn."
    text = f"Lines of the fixed image {number(spacing)} mm apart, where the deformation takes them.{out_of_plane}"
    return tag("div", tag("h3", "Grid"), tag("p", text, class_="quiet"), gallery(drawings, draw), class_="state")


def _jacobians(drawings: Drawings) -> Markup:
    jacobian: Tensor = drawings.view.jacobian
    logarithms = {plane: fields.log_jacobian(jacobian, plane) for plane in drawings.planes}
    limit = fields.jacobian_limit(list(logarithms.values()))

    def draw(plane: Plane) -> list[Markup]:
        bad = fields.nonpositive(jacobian, plane)
        colours = fields.jacobian_map(logarithms[plane], bad, limit)
        return [picture(colours, f"Jacobian, {plane.title}"), _anatomy(drawings, plane)]

    legend = [
        gradient(DIVERGING, (f"1/{number(limit)}", "1", number(limit)), "Jacobian, logarithmic"),
        swatches((fields.hex_to_rgb(fields.ALARM), "0 or below: folded")),
    ]
    text = (
        "How volume changes from the fixed to the moving image. Blue: the matching region of the moving image is "
        f"smaller, so it was stretched. Orange: it is larger, so it was squeezed. {_folding(jacobian)}"
    )
    head = tag("div", tag("h3", "Change of volume"), tag("div", legend, class_="legends"), class_="head")
    return tag("div", head, tag("p", text, class_="quiet"), gallery(drawings, draw), class_="state")


def _folding(jacobian: Tensor) -> str:
    """How many voxels are folded, shown or not."""
    count = int((~(jacobian > 0)).sum())
    if count == 0:
        return "No voxel is folded."
    return f"Of the whole image {count} voxel{' is' if count == 1 else 's are'} folded, on these slices or elsewhere."


def _magnitudes(drawings: Drawings) -> Markup:
    lengths = {plane: fields.magnitude(drawings.view.displacement, plane) for plane in drawings.planes}
    limit = max(float(np.percentile(one, 99.8)) for one in lengths.values()) or 1.0

    def draw(plane: Plane) -> list[Markup]:
        colours = fields.magnitude_map(lengths[plane], limit)
        return [picture(colours, f"Length of the displacement, {plane.title}"), _anatomy(drawings, plane)]

    legend = gradient(SEQUENTIAL, ("0", number(limit / 2, 2), f"{number(limit, 2)} mm"), "length of the displacement")
    head = tag("div", tag("h3", "Displacement"), legend, class_="head")
    return tag("div", head, gallery(drawings, draw), class_="state")


def _histogram(drawings: Drawings) -> Markup:
    """The Jacobian over the fixed object."""
    jacobian = ras_array(drawings.view.jacobian, drawings.planes[0].reorientation)
    return tag("div", jacobian_histogram(jacobian[drawings.foreground]), class_="state")


def _anatomy(drawings: Drawings, plane: Plane) -> Markup:
    """Faint edges of the fixed image, to find one's way on a map."""
    return drawn(drawings.edges("fixed", plane), [(0.8, 0.8, 0.8)], "ink faint")
