"""The arithmetic of Learn2Reg's evaluation script, number for number, to compare with its tables.

What it does differs from what one would expect, so that our own figures stand beside it (``docs/metrics.md``):

- SDlogJ is the standard deviation of ``log(clip(det + 3, 1e-9, 1e9))``, about a quarter of that of ``log det``, with
  zeros beyond the edges and two voxels cut off each side. Its count of folds tests the clipped value and is always 0.
- HD95 is in voxels, not mm: the spacing given to it is 1.
- Labels are warped by SciPy's nearest neighbour in voxels; one that the fixed or the moving map lacks has no number.
- TRE interpolates the displacement with cubic splines and uses the spacing of the moving image, without its direction.
- Aggregates take the 30 % quantile of Dice and of HD95 (where low is good, so that it is no worst case), and the 70 %
  quantile of SDlogJ and TRE.
- File names in the short form count only for modalities 0000 and 0001.

Reference:
    github.com/MDL-UzL/L2R, evaluation/evaluation.py and utils.py (version 2.0); Hering et al., IEEE TMI 42 (2023),
    doi:10.1109/TMI.2022.3213983.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback import functional
from pullback.metrics import surface_distance

BORDER = 2
ADDED = 3.0
LIMITS = (1e-9, 1e9)
WORST_SHARE = {"l2r_dice": 0.3, "l2r_hd95": 0.3, "l2r_sdlogj": 0.7, "l2r_tre": 0.7}


def sd_log_jacobian(displacement: Tensor, region: Tensor | None = None) -> float:
    """SDlogJ of the script.

    Args:
        displacement: ``(3, *shape)`` in voxels, more than four along each axis.
        region: Bool ``(*shape,)``; None takes all (the border is cut either way).

    Returns:
        The number; NaN where the region lies in the border.

    Raises:
        ValueError: If an axis has four voxels or fewer.
    """
    if displacement.ndim != 4 or min(displacement.shape[1:]) <= 2 * BORDER:
        raise ValueError(
            f"`displacement` has shape {tuple(displacement.shape)}, but Learn2Reg's SDlogJ needs (3, X, Y, Z) with "
            "more than four voxels along each axis."
        )
    inner = (slice(BORDER, -BORDER),) * 3
    determinant = functional.jacobian_determinant(displacement[None])[0][inner]  # zeros beyond the edges are cut off
    logarithm = (determinant.to(torch.float64) + ADDED).clamp(*LIMITS).log()
    values = logarithm if region is None else logarithm[region[inner]]
    return float(values.std(correction=0)) if values.numel() else float("nan")


def warp_labels(moving: Tensor, displacement: Tensor) -> Tensor:
    """Labels ``(*shape,)`` at ``i + u(i)``, SciPy's nearest neighbour, 0 outside."""
    index = np.indices(displacement.shape[1:], dtype=np.float64)
    warped = ndimage.map_coordinates(moving.numpy().astype(np.float64), index + displacement.numpy(), order=0)
    return torch.from_numpy(warped).to(moving.dtype)


def dice(fixed: Tensor, moving: Tensor, warped: Tensor, labels: Sequence[int]) -> float:
    """Mean Dice over labels that the fixed and the moving map hold; NaN without any."""
    found = [
        2 * float(((fixed == k) & (warped == k)).sum()) / float((fixed == k).sum() + (warped == k).sum())
        for k in labels
        if (fixed == k).any() and (moving == k).any()
    ]
    return float(np.mean(found)) if found else float("nan")


def hausdorff95_voxels(fixed: Tensor, moving: Tensor, warped: Tensor, labels: Sequence[int]) -> float:
    """Mean HD95 over the same labels, every voxel taken as 1 x 1 x 1; infinite if the warp lost a label."""
    found = [
        surface_distance(fixed == k, warped == k, torch.ones(3, dtype=torch.float64)).hausdorff95
        for k in labels
        if (fixed == k).any() and (moving == k).any()
    ]
    return float(np.mean(found)) if found else float("nan")


def target_registration_error(
    fixed: np.ndarray, moving: np.ndarray, displacement: Tensor, moving_spacing_mm: Sequence[float]
) -> float:
    """Mean TRE of keypoints ``(N, 3)`` in voxels."""
    steps = [ndimage.map_coordinates(component.numpy().astype(np.float64), fixed.T) for component in displacement]
    gaps = (fixed + np.stack(steps, axis=1) - moving) * np.asarray(moving_spacing_mm)
    return float(np.linalg.norm(gaps, axis=1).mean())


def aggregate(cases: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation of the population and the script's ``30`` over the cases of each measure."""
    found = {}
    for name, numbers in cases.items():
        values = np.asarray(numbers, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            found[name] = {
                "mean": float(values.mean()),
                "std": float(values.std()),
                "30": float(np.quantile(values, WORST_SHARE[name])),
            }
    return found
