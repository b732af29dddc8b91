r"""Does a sampled map fold: the digital-diffeomorphism criterion.

A map that is known at voxels is taken to be linear on triangles (2-D) or tetrahedra (3-D). At each voxel the one-sided
differences give $2^D$ corner simplices; in 3-D two more tetrahedra fill the middle of the cubes. If all 4 (10)
determinants are positive, the piecewise linear map has no fold; central differences skip the voxel itself and miss
patterns like a checkerboard.

Reference:
    Liu et al., On finite difference Jacobian computation in deformable image registration, IJCV 132 (2024),
    doi:10.1007/s11263-024-02047-1.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from math import factorial, prod

import torch
from torch import Tensor
from torch.nn import functional as torch_functional

Offset = tuple[int, ...]

CENTRAL_TETRAHEDRA: dict[str, tuple[Offset, ...]] = {
    "centre-": ((-1, -1, 0), (-1, 0, -1), (0, -1, -1)),
    "centre+": ((1, 1, 0), (0, 1, 1), (1, 0, 1)),
}
"""The tetrahedra in the middle of the two cubes below and above a voxel, by the offsets of their other vertices."""


@dataclass(frozen=True)
class FoldingSummary:
    """Folds of the piecewise linear map through the voxels, over a region.

    Attributes:
        num_voxels: Voxels where any one-sided determinant (in 3-D: or one of the two central ones) is at or below 0.
        percent_voxels: Their share of the region.
        volume_voxels: Non-diffeomorphic volume (NDV, in 2-D area): the volume that the folded simplices turn over, in
            voxels; both ways of cutting a cube count half.
        volume_mm3: The same in mm^3 (2-D: mm^2).
        percent_volume: The same as a share of the region's volume, %, as in the tables of LUMIR.
    """

    num_voxels: int
    percent_voxels: float
    volume_voxels: float
    volume_mm3: float
    percent_volume: float

    as_dict = asdict


def simplex_determinants(displacement: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The determinants of all simplices at every voxel; 1 for the identity (2 for the central tetrahedra).

    Args:
        displacement: ``(D, *shape)`` in voxels. Beyond the edges the outer vectors are repeated.

    Yields:
        A name (``+-+`` for forward, backward and forward differences; ``centre-``, ``centre+``) and ``(*shape,)``.
    """
    num_dims = displacement.ndim - 1
    padded = torch_functional.pad(displacement[None], (1, 1) * num_dims, mode="replicate")[0]
    for signs in product((1, -1), repeat=num_dims):
        name = "".join("+" if s > 0 else "-" for s in signs)
        offsets = [tuple(s if a == b else 0 for b in range(num_dims)) for a, s in enumerate(signs)]
        yield name, prod(signs) * _determinant(displacement, padded, offsets)
    if num_dims == 3:
        for name, offsets in CENTRAL_TETRAHEDRA.items():
            yield name, _determinant(displacement, padded, offsets)


def summarise_folding(displacement: Tensor, voxel_volume: float = 1.0, region: Tensor | None = None) -> FoldingSummary:
    """Apply the digital-diffeomorphism criterion.

    Args:
        displacement: ``(D, *shape)`` in voxels.
        voxel_volume: mm^D.
        region: Bool ``(*shape,)``; voxels outside do not count.

    Raises:
        ValueError: If the region is empty.
    """
    shape = displacement.shape[1:]
    region = torch.ones(shape, dtype=torch.bool) if region is None else region
    count = int(region.sum())
    if not count:
        raise ValueError("`region` is empty: there is no voxel to look at.")
    folded = torch.zeros(shape, dtype=torch.bool)
    volume = 0.0
    for _, determinant in simplex_determinants(displacement):
        folded |= determinant <= 0
        volume += float((-determinant[region]).clamp(min=0).sum(dtype=torch.float64))
    volume *= 0.5 / factorial(len(shape))
    num_voxels = int((folded & region).sum())
    return FoldingSummary(
        num_voxels=num_voxels,
        percent_voxels=100 * num_voxels / count,
        volume_voxels=volume,
        volume_mm3=volume * voxel_volume,
        percent_volume=100 * volume / count,
    )


def _determinant(displacement: Tensor, padded: Tensor, offsets: tuple[Offset, ...] | list[Offset]) -> Tensor:
    """Determinant of the edges from every voxel to its neighbours at `offsets`, after the map."""
    edges = []
    for offset in offsets:
        window = tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, displacement.shape[1:], strict=True))
        step = torch.tensor(offset, dtype=displacement.dtype).reshape(-1, *[1] * len(offset))
        edges.append(padded[(slice(None), *window)] - displacement + step)
    if len(edges) == 2:
        (a, b), (c, d) = edges
        return a * d - b * c
    a, b, c = edges
    return a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
