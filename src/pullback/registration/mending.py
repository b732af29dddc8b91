"""After the deformable stage: no folds, and an inverse that leads back.

Both are lost at few places, where a field changes faster than its lattice can follow. There, and only there, it is
smoothed until it does not.
"""

import torch
from torch import Tensor

from pullback import functional

SMALLEST_DETERMINANT = 0.05
"""Jacobian determinants below this are mended: a little above 0, as a determinant can be lower between voxels."""
TOLERATED_VOXELS, LARGEST_VOXELS = 0.3, 0.45
"""Errors of the way there and back: from the first on a place is mended, the more so the nearer to the second, and
rounds go on until none is above the second (``docs/accuracy.md``)."""
NUM_ROUNDS = 20
"""Rounds at most; brains take three."""
SPREAD_VOXELS, STRENGTH = 1.5, 30.0
"""Standard deviation to which each place is spread, and what the result is multiplied by, at most to 1: how far around
it the field is smoothed."""
SMOOTHING_VOXELS = 1.0
"""Standard deviation of the smoothing itself, in each round."""


def make_invertible(displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth a displacement where it folds or where its inverse cannot follow it.

    Args:
        displacement: ``(1, 3, I, J, K)`` float32 in voxels, on the CPU.

    Returns:
        The displacement, itself where nothing was to be mended, and its inverse, balanced
        (:func:`pullback.functional.balance_inverse`).
    """
    exact, _ = functional.invert(displacement)
    inverse = functional.balance_inverse(displacement, exact)
    for _ in range(NUM_ROUNDS):
        error = _error(displacement, inverse)
        folded = functional.jacobian_determinant(displacement)[:, None] < SMALLEST_DETERMINANT
        if float(error.max()) <= LARGEST_VOXELS and not folded.any():
            break
        wrong = ((error - TOLERATED_VOXELS) / (LARGEST_VOXELS - TOLERATED_VOXELS)).clamp_(0, 1).masked_fill_(folded, 1)
        share = functional.gaussian_smooth(wrong.contiguous(), SPREAD_VOXELS).mul_(STRENGTH).clamp_(max=1.0)
        displacement = torch.lerp(displacement, functional.gaussian_smooth(displacement, SMOOTHING_VOXELS), share)
        exact, _ = functional.invert(displacement, start=exact)
        inverse = functional.balance_inverse(displacement, exact)
    return displacement, inverse


def invert_evenly(displacement: Tensor) -> Tensor:
    """The inverse on the same lattice, with its error spread evenly."""
    return functional.balance_inverse(displacement, functional.invert(displacement)[0])


def _error(displacement: Tensor, inverse: Tensor) -> Tensor:
    """Per voxel the larger of two errors, in voxels, ``(1, 1, I, J, K)``: there and back, and back and there.

    The second arises where the way back begins; it counts at the voxel that the displacement takes there.
    """
    back = functional.gap(displacement, inverse)
    return torch.maximum(functional.gap(inverse, displacement), functional.warp(back, displacement))
