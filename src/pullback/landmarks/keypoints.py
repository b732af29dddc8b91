"""Keypoints: places that stand out in an image at some scale, found again whatever its contrast."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pullback import functional
from pullback.checks import check_positive
from pullback.data import Image
from pullback.landmarks.patches import spacing_of

SCALES_PER_OCTAVE = 3
ROUNDING = 1e-5
"""Differences below this share of the image's largest value are rounding."""
POOL = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}


@dataclass(frozen=True)
class Keypoints:
    """Places in the world.

    Attributes:
        points: ``(N, D)`` float64 in mm, the strongest first.
        scales_mm: The Gaussian width at which each stands out most, ``(N,)``.
        strengths: Size of the difference of Gaussians there, ``(N,)``.
    """

    points: Tensor = field(repr=False)
    scales_mm: Tensor = field(repr=False)
    strengths: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.points)


def find_keypoints(
    image: Image,
    *,
    count: int = 500,
    smallest_mm: float = 2.0,
    num_octaves: int = 1,
    least_strength: float = 0.02,
) -> Keypoints:
    """Extrema of the difference of Gaussians in space and scale, in 2-D and 3-D.

    An extremum stands out against all its neighbours in space, at its scale and at both scales beside it; blobs darker
    and brighter than their surroundings count alike, so that an inverted image has the same keypoints. Positions are
    refined to a part of a voxel by a parabola along each axis.

    Args:
        image: One channel (of several, the first).
        count: How many to keep at most, the strongest.
        smallest_mm: Width of the narrowest Gaussian.
        num_octaves: How often that width doubles.
        least_strength: Share of the largest difference below which nothing stands out.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Lowe, IJCV 60, 2004, doi:10.1023/B:VISI.0000029664.99615.94; in 3-D without its test of edges.
    """
    check_positive("smallest_mm", smallest_mm)
    if count < 1 or num_octaves < 1 or not 0 <= least_strength < 1:
        raise ValueError(
            f"`count` {count} and `num_octaves` {num_octaves} must be 1 or more, and `least_strength` {least_strength} "
            "from 0 to below 1."
        )
    num_scales = SCALES_PER_OCTAVE * num_octaves + 3
    sigmas = smallest_mm * 2.0 ** (torch.arange(num_scales, dtype=torch.float64) / SCALES_PER_OCTAVE)
    stack = _differences(image, sigmas)
    strength = stack.abs()
    least = max(least_strength * float(strength.max()), ROUNDING * float(image.tensor.abs().max()))
    is_extreme = _is_extreme(stack) & (strength > least)
    where = torch.nonzero(is_extreme)
    order = strength[is_extreme].argsort(descending=True, stable=True)[:count]
    where = where[order]
    voxels = where[:, 1:].double() + _refinement(stack, where)
    return Keypoints(image.grid.to_world(voxels), sigmas[where[:, 0]], strength[is_extreme][order])


def _differences(image: Image, sigmas: Tensor) -> Tensor:
    """Differences of neighbouring Gaussians, ``(K - 1, *S)``."""
    volume = image.tensor[None, :1].to(torch.float32)
    spacing = spacing_of(image.grid)
    smooth = [functional.gaussian_smooth(volume, (float(sigma) / spacing).tolist())[0, 0] for sigma in sigmas]
    return torch.stack(smooth).diff(dim=0)


def _is_extreme(stack: Tensor) -> Tensor:
    """Whether an entry is the largest or smallest of its neighbourhood in scale and space; none at the borders."""
    found = torch.zeros(stack.shape, dtype=torch.bool)
    inner = (slice(1, -1),) * stack.ndim
    for signed in (stack, -stack):
        around = POOL[stack.ndim - 1](signed[:, None], 3, 1, 1)[:, 0]
        highest = torch.stack([around[:-2], around[1:-1], around[2:]]).amax(0)
        found[inner] |= (signed[1:-1] >= highest)[(slice(None), *inner[1:])]
    return found


def _refinement(stack: Tensor, where: Tensor) -> Tensor:
    """Offsets ``(N, D)`` in voxels to the top of a parabola along each axis, at most half a voxel."""
    offsets = torch.zeros(len(where), stack.ndim - 1, dtype=torch.float64)
    middle = stack[tuple(where.T)].double()
    for axis in range(1, stack.ndim):
        step = torch.zeros(stack.ndim, dtype=where.dtype)
        step[axis] = 1
        before, after = (stack[tuple((where + sign * step).T)].double() for sign in (-1, 1))
        bend = before + after - 2 * middle
        safe = torch.where(bend.abs() > 0, bend, torch.ones_like(bend))
        offsets[:, axis - 1] = torch.where(bend.abs() > 0, (before - after) / (2 * safe), 0.0).clamp(-0.5, 0.5)
    return offsets
