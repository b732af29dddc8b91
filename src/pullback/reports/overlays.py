"""Two pictures in one: colour overlay, checkerboard, contours and difference.

Everything here works on pictures of square pixels, float ``(rows, columns)`` in [0, 1]. One code of colour runs through
the report: **fixed is green, moving is magenta, agreement is white or grey**. The two are told apart by readers who do
not see red and green alike.
"""

import numpy as np
import PIL.Image
import scipy.ndimage

from pullback.reports.colours import DIVERGING, colour_map

FIXED_COLOUR = (0.10, 0.90, 0.35)
MOVING_COLOUR = (1.00, 0.25, 0.90)
AGREEMENT_COLOUR = (1.0, 1.0, 1.0)

LINE_COLOURS = (FIXED_COLOUR, MOVING_COLOUR, AGREEMENT_COLOUR)

SQUARES = 8
"""Squares of a checkerboard along the longer side."""

LABEL_SIGMA_VOXELS = 0.7
EDGE_SIGMAS_PIXELS = (2.2, 3.5, 5.5, 9.0)
MOST_EDGES = 0.07
"""Share of pixels on an edge; a brain has 4 to 6 per cent, raw tissue under the microscope 15."""

EDGE_LOW, EDGE_HIGH = 0.10, 0.22
"""Hysteresis thresholds as fractions of the strongest (99th percentile) slope."""


def colour_overlay(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Fixed in green, moving in magenta: grey wherever both are equally bright. Float ``(rows, columns, 3)``."""
    return np.stack([moving, fixed, moving], axis=-1)


def checkerboard(fixed: np.ndarray, warped: np.ndarray, squares: int = SQUARES) -> np.ndarray:
    """Squares of the fixed picture alternating with the warped one's; the top left square is fixed.

    Where one of them alone has colours, the other one becomes grey in three channels.
    """
    if fixed.ndim != warped.ndim:
        fixed, warped = (levels if levels.ndim == 3 else np.stack([levels] * 3, -1) for levels in (fixed, warped))
    rows, columns = fixed.shape[:2]
    side = max(rows, columns) / squares
    parity = (np.arange(rows) // side)[:, None] + (np.arange(columns) // side)[None, :]
    is_fixed = (parity.astype(int) % 2 == 0).reshape(rows, columns, *(1,) * (fixed.ndim - 2))
    return np.where(is_fixed, fixed, warped)


def signed_difference(fixed: np.ndarray, moving: np.ndarray, limit: float) -> np.ndarray:
    """Moving minus fixed in colour, -limit to limit: blue where moving is darker, orange where it is brighter."""
    return colour_map(DIVERGING, (moving - fixed) / limit)


def difference_limit(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """One symmetric scale for several differences: the 99th percentile of their size, at least 5 %."""
    sizes = np.concatenate([np.abs(moving - fixed).ravel() for fixed, moving in pairs] or [np.zeros(0)])
    return max(0.05, float(np.percentile(sizes, 99))) if sizes.size else 1.0


def legible_sigma(picture: np.ndarray) -> float:
    """The least smoothing in pixels that leaves few enough edges to be read."""
    for sigma_pixels in EDGE_SIGMAS_PIXELS:
        if edges_of(picture, sigma_pixels).mean() <= MOST_EDGES:
            break
    return sigma_pixels


def edges_of(picture: np.ndarray, sigma_pixels: float) -> np.ndarray:
    """Thin boolean edges: smooth, differentiate, keep ridges, link by hysteresis.

    Reference:
        J. Canny, A Computational Approach to Edge Detection, IEEE PAMI 8 (1986), doi:10.1109/TPAMI.1986.4767851.
    """
    smooth = scipy.ndimage.gaussian_filter(picture, sigma_pixels, mode="nearest")
    down, right = scipy.ndimage.sobel(smooth, 0), scipy.ndimage.sobel(smooth, 1)
    slope = np.hypot(down, right)
    strongest = float(np.percentile(slope[slope > 1e-3], 99)) if bool((slope > 1e-3).any()) else 0.0
    if strongest == 0.0:
        return np.zeros(picture.shape, dtype=bool)
    ridges = slope * _is_ridge(slope, down, right)
    weak, strong = ridges > EDGE_LOW * strongest, ridges > EDGE_HIGH * strongest
    pieces, _ = scipy.ndimage.label(weak, structure=np.ones((3, 3)))
    kept = np.unique(pieces[strong])
    return np.isin(pieces, kept[kept > 0])


def label_edges(labels: np.ndarray, shape_pixels: tuple[int, int]) -> np.ndarray:
    """Boolean outlines of integer labels ``(rows, columns)`` of voxels, drawn smoothly at `shape_pixels`."""
    smooth = _smooth_labels(labels, shape_pixels)
    edges = np.zeros(shape_pixels, dtype=bool)
    edges[:-1] |= smooth[:-1] != smooth[1:]
    edges[:, :-1] |= smooth[:, :-1] != smooth[:, 1:]
    return edges


def classify_lines(fixed: np.ndarray | None, moving: np.ndarray | None) -> np.ndarray:
    """Two sets of thin lines in one picture of indices into `LINE_COLOURS`, counted from 1; 0 is no line.

    Where lines of both lie within two pixels they count as one.
    """
    given = next(edges for edges in (fixed, moving) if edges is not None)
    indices = np.zeros(given.shape, dtype=np.uint8)
    for index, edges in ((1, fixed), (2, moving)):
        if edges is not None:
            indices[_thicken(edges)] = index
    if fixed is not None and moving is not None:
        near = _thicken(fixed, 3) & _thicken(moving, 3)
        indices[near & (indices > 0)] = 3
    return indices


def _thicken(edges: np.ndarray, width: int = 2) -> np.ndarray:
    """Lines of so many pixels."""
    return scipy.ndimage.binary_dilation(edges, structure=np.ones((width, width)))


def _is_ridge(slope: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether the slope is at least as steep as its two neighbours up and down the hill."""
    padded = np.pad(slope, 1)
    direction = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    ridge = np.zeros(slope.shape, dtype=bool)
    for index, (row, column) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[1 + row : padded.shape[0] - 1 + row, 1 + column : padded.shape[1] - 1 + column]
        behind = padded[1 - row : padded.shape[0] - 1 - row, 1 - column : padded.shape[1] - 1 - column]
        ridge |= (direction == index) & (slope >= ahead) & (slope > behind)
    return ridge


def _smooth_labels(labels: np.ndarray, shape_pixels: tuple[int, int]) -> np.ndarray:
    """Enlarge labels so that each pixel goes to the label that covers most of it after interpolation."""
    values, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape)
    winner = np.zeros(shape_pixels, dtype=np.int64)
    score = np.full(shape_pixels, 1e-3, dtype=np.float32)
    for index, box in enumerate(scipy.ndimage.find_objects(compact + 1)):
        rows, columns, share = _enlarged_share(compact == index, box, shape_pixels)
        wins = share > score[rows, columns]
        winner[rows, columns][wins] = values[index]
        score[rows, columns][wins] = share[wins]
    return winner


def _enlarged_share(
    mask: np.ndarray, box: tuple[slice, slice], shape_pixels: tuple[int, int]
) -> tuple[slice, slice, np.ndarray]:
    """The pixels around a box of voxels, and how much of the mask, a little blurred, covers each of them."""
    scales = [count / size for count, size in zip(mask.shape, shape_pixels, strict=True)]
    rows, columns = (
        slice(max(int((part.start - 2) / scale), 0), min(int(np.ceil((part.stop + 2) / scale)), size))
        for part, scale, size in zip(box, scales, shape_pixels, strict=True)
    )
    margins = [4 + int(np.ceil(scale)) for scale in scales]
    near = tuple(
        slice(max(part.start - margin, 0), part.stop + margin) for part, margin in zip(box, margins, strict=True)
    )
    blurred = scipy.ndimage.gaussian_filter(mask[near].astype(np.float32), LABEL_SIGMA_VOXELS, mode="nearest")
    first, last = (
        [edge * scale - voxels.start for edge, scale, voxels in zip(edges, scales, near, strict=True)]
        for edges in ((rows.start, columns.start), (rows.stop, columns.stop))
    )
    last = np.minimum(last, blurred.shape)  # but for rounding it is so
    size = (columns.stop - columns.start, rows.stop - rows.start)
    window = (first[1], first[0], last[1], last[0])
    return rows, columns, np.asarray(PIL.Image.fromarray(blurred).resize(size, PIL.Image.Resampling.BILINEAR, window))
