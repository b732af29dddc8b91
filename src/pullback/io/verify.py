"""Reading back what was written, and how far apart two transforms are."""

from pathlib import Path

import torch
from torch import Tensor

from pullback.io.formats import AbstractFormat, Written, flatten
from pullback.io.registry import format_for
from pullback.space import Grid
from pullback.transforms import AbstractTransform, BSpline, DisplacementField

NUM_POINTS = 2000
HALF_WIDTH_MM = 100.0
"""Where neither an image nor a field says where to look: a cube about the world's origin of a head's size."""


def read_back_mm(
    path: Path,
    written: Written,
    *,
    fixed: Grid | None,
    moving: Grid | None,
    form: AbstractFormat | None = None,
    kind: str | None = None,
) -> float:
    """Read a file that was just written and compare it with what it should hold.

    Args:
        path: The file.
        written: What the writer says that it holds.
        fixed: The grid it was written with.
        moving: Likewise.
        form: The format it was written in; by default the one of the suffix.
        kind: The kind it was written as.

    Returns:
        The largest distance in mm between images of the same point.

    Raises:
        OSError: If it is larger than the format's tolerance: then the file is not what was asked for.
    """
    form = format_for(path) if form is None else form
    again = form.to_read_back(kind).read(path, fixed, moving)
    gap = largest_difference_mm(written.transform, again, domain_of(written.transform, fixed))
    if not gap <= form.tolerance_mm:
        raise OSError(
            f"'{path}' was written, but read back it moves points by up to {gap:.3g} mm differently, beyond the "
            f"{form.tolerance_mm:g} mm of {form.name}; do not use it, and report this, please."
        )
    return gap


def largest_difference_mm(first: AbstractTransform, second: AbstractTransform, domain: Grid | None) -> float:
    """The largest distance in mm between the images of random points under two transforms.

    Args:
        first: One transform.
        second: The other.
        domain: Where the points lie, within the outer voxel centres; None is a cube about the world's origin.
    """
    points = random_points(domain, first.num_dims)
    return float(torch.linalg.vector_norm(first(points) - second(points), dim=-1).max())


def random_points(domain: Grid | None, num_dims: int, num: int = NUM_POINTS) -> Tensor:
    """Points ``(num, D)`` in mm, the same ones in every run."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand((num, num_dims), generator=generator, dtype=torch.float64)
    if domain is None:
        return (2 * shares - 1) * HALF_WIDTH_MM
    return domain.to_world(shares * (torch.tensor(domain.shape, dtype=torch.float64) - 1))


def domain_of(transform: AbstractTransform, fixed: Grid | None) -> Grid | None:
    """The fixed grid, or where the part that acts first has its vectors."""
    if fixed is not None:
        return fixed
    grids = [part.grid for part in flatten(transform) if isinstance(part, DisplacementField | BSpline)]
    return grids[-1] if grids else None
