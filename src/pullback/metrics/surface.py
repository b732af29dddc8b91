"""Distances between surfaces of labels, in mm."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

from pullback.data import LabelMap
from pullback.metrics.surface_elements import codes_of, element_sizes


@dataclass(frozen=True)
class SurfaceSamples:
    """Pieces of one surface: how far each is from the other surface, and how large it is.

    Attributes:
        distances_mm: ``(N,)`` sorted; infinite where the other surface does not exist.
        sizes: ``(N,)`` areas in mm^2 (2-D: lengths in mm).
    """

    distances_mm: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class SurfaceDistance:
    """How far two surfaces are apart, in mm; infinite where only one exists, NaN where neither does.

    Every piece of surface counts by its area. Distances go from pieces of one surface to the nearest piece of the
    other, both ways.

    Attributes:
        hausdorff: The largest distance.
        hausdorff95: The 95th percentile of each direction by area; the larger of the two.
        mean: Symmetric mean: over the pieces of both surfaces together.
        rms: Root of the mean squared distance, likewise.

    Reference:
        Definitions and discretisation of DeepMind's surface-distance: Nikolov et al., JMIR 23 (2021),
        doi:10.2196/26151.
    """

    hausdorff: float
    hausdorff95: float
    mean: float
    rms: float

    as_dict = asdict


def surface_distance(fixed: Tensor, warped: Tensor, spacing_mm: Tensor) -> SurfaceDistance:
    """Distances between the surfaces of two masks.

    Args:
        fixed, warped: Bool, ``(I, J[, K])``.
        spacing_mm: ``(D,)``.
    """
    samples = surface_samples(fixed, warped, spacing_mm)
    sizes = np.concatenate([s.sizes for s in samples])
    if not sizes.size:
        return SurfaceDistance(*[float("nan")] * 4)
    if not all(s.sizes.size for s in samples):
        return SurfaceDistance(*[float("inf")] * 4)
    distances = np.concatenate([s.distances_mm for s in samples])
    return SurfaceDistance(
        hausdorff=float(distances.max()),
        hausdorff95=max(_percentile(s, 0.95) for s in samples),
        mean=float((distances * sizes).sum() / sizes.sum()),
        rms=float(np.sqrt((distances**2 * sizes).sum() / sizes.sum())),
    )


def surface_samples(fixed: Tensor, warped: Tensor, spacing_mm: Tensor) -> tuple[SurfaceSamples, SurfaceSamples]:
    """The pieces of the fixed surface with their distances to the warped one, and the other way."""
    a, b = _cropped(fixed.numpy(), warped.numpy())
    spacing = spacing_mm.tolist()
    table = element_sizes(spacing)
    code_a, code_b = codes_of(a), codes_of(b)
    full = 2 ** (2**a.ndim) - 1
    border_a, border_b = ((code != 0) & (code != full) for code in (code_a, code_b))
    return (
        _samples(border_a, table[code_a[border_a]], border_b, spacing),
        _samples(border_b, table[code_b[border_b]], border_a, spacing),
    )


def surface_distance_per_label(
    fixed: LabelMap, warped: LabelMap, among: LabelMap | None = None
) -> dict[int, SurfaceDistance]:
    """Surface distances of each label; arguments as for :func:`pullback.metrics.overlap_per_label`.

    Raises:
        ValueError: If the grids differ or are sheared.
    """
    if not fixed.grid.same_as(warped.grid):
        raise ValueError("The label maps are on different grids; warp one onto the other first.")
    if not fixed.grid.is_orthonormal(tolerance=1e-3):
        raise ValueError("Surface distances need a grid with right angles, but the fixed grid is sheared; resample it.")
    others = warped.labels if among is None else among.labels
    labels = set(fixed.labels) & set(others) if among is not None else set(fixed.labels) | set(others)
    a, b = fixed.tensor[0], warped.tensor[0]
    return {label: surface_distance(a == label, b == label, fixed.grid.spacing_mm) for label in sorted(labels)}


def _cropped(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks within their common bounding box; one voxel of nothing if both are empty."""
    either = a | b
    if not either.any():
        return tuple(np.zeros([1] * a.ndim, dtype=bool) for _ in range(2))
    box = ndimage.find_objects(either.view(np.uint8))[0]
    return a[box], b[box]


def _samples(border: np.ndarray, sizes: np.ndarray, other: np.ndarray, spacing: list[float]) -> SurfaceSamples:
    if not other.any():
        return SurfaceSamples(np.full(len(sizes), np.inf), sizes)
    distances = ndimage.distance_transform_edt(~other, sampling=spacing)[border]
    order = np.lexsort((sizes, distances))
    return SurfaceSamples(distances[order], sizes[order])


def _percentile(samples: SurfaceSamples, share: float) -> float:
    """The distance within which `share` of the surface lies."""
    cumulated = np.cumsum(samples.sizes) / samples.sizes.sum()
    position = min(int(np.searchsorted(cumulated, share)), len(cumulated) - 1)
    return float(samples.distances_mm[position])
