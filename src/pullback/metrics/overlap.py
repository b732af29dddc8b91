"""Overlap of labels: Dice, IoU, target overlap, volume similarity."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pullback.data import LabelMap

ROBUST_SHARE = 0.3
"""Learn2Reg looks at the worst 30 % of cases."""


@dataclass(frozen=True)
class Overlap:
    r"""Overlap of one label: A in the fixed image, B the warped moving label, both on the fixed grid.

    Attributes:
        dice: $2 |A \cap B| / (|A| + |B|)$, 0 to 1.
        iou: Intersection over union (Jaccard), $|A \cap B| / |A \cup B| = \mathrm{dice} / (2 - \mathrm{dice})$, 0 to 1.
        target_overlap: $|A \cap B| / |A|$, the share of the fixed structure that is covered; NaN where A is empty.
        volume_similarity: $2 (|B| - |A|) / (|A| + |B|)$, -2 to 2; 0 for equal volumes, above 0 where the warped label
            is larger (the sign of Klein et al. and of ITK; others write $1 - ||A| - |B|| / (|A| + |B|)$).
        fixed_mm3: Volume of A (2-D: area in mm^2).
        warped_mm3: Volume of B.

    Reference:
        Klein et al., Evaluation of 14 nonlinear deformation algorithms applied to human brain MRI registration,
        NeuroImage 46 (2009), doi:10.1016/j.neuroimage.2008.12.037.
    """

    dice: float
    iou: float
    target_overlap: float
    volume_similarity: float
    fixed_mm3: float
    warped_mm3: float

    as_dict = asdict


def overlap_per_label(fixed: LabelMap, warped: LabelMap, among: LabelMap | None = None) -> dict[int, Overlap]:
    """All overlap measures of each label, on one grid.

    Args:
        fixed: Labels of the fixed image.
        warped: Moving labels resampled onto the fixed grid.
        among: The moving labels before resampling: only labels that this and `fixed` both hold are scored, so that a
            label which the warp lost counts as 0 and one that the moving image never had does not count (default: the
            labels of either).

    Returns:
        Label to overlap, in order of labels; without the background 0.

    Raises:
        ValueError: If the grids differ.

    Example:
        >>> import torch
        >>> from pullback.space import Grid
        >>> a, b = torch.zeros(2, 1, 8, 1, dtype=torch.int32).unsqueeze(-1)
        >>> a[0, :4], b[0, 2:6] = 1, 1
        >>> grid = Grid.from_spacing((8, 1, 1))
        >>> overlap_per_label(LabelMap(a, grid), LabelMap(b, grid))[1].dice
        0.5
    """
    if not fixed.grid.same_as(warped.grid):
        raise ValueError("The label maps are on different grids; warp one onto the other first.")
    a, b = fixed.tensor.numpy().ravel(), warped.tensor.numpy().ravel()
    counts_a, counts_b, counts_both = _counts(a), _counts(b), _counts(a[a == b])
    labels = set(counts_a) & set(among.labels) if among is not None else set(counts_a) | set(counts_b)
    return {
        label: _overlap(
            counts_a.get(label, 0), counts_b.get(label, 0), counts_both.get(label, 0), fixed.grid.voxel_volume
        )
        for label in sorted(labels - {0})
    }


def dice_per_label(fixed: LabelMap, warped: LabelMap, among: LabelMap | None = None) -> dict[int, float]:
    """Dice's overlap of each label; see :func:`overlap_per_label` for the arguments and :class:`Overlap`."""
    return {label: overlap.dice for label, overlap in overlap_per_label(fixed, warped, among).items()}


def mean_dice(per_label: Mapping[int, float]) -> float:
    """The plain mean over labels; NaN without any."""
    return float(np.mean(list(per_label.values()))) if per_label else float("nan")


def dice30(dice_of_cases: Sequence[float]) -> float:
    """DSC30: the 30 % quantile over cases of their mean Dice, as Learn2Reg's script aggregates it; NaN cases left out.

    It says how good the method still is on the hardest third of the cases.
    """
    values = np.asarray(dice_of_cases, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(np.quantile(values, ROBUST_SHARE)) if values.size else float("nan")


def _overlap(a: int, b: int, both: int, voxel_volume: float) -> Overlap:
    return Overlap(
        dice=2 * both / (a + b),
        iou=both / (a + b - both),
        target_overlap=both / a if a else float("nan"),
        volume_similarity=2 * (b - a) / (a + b),
        fixed_mm3=a * voxel_volume,
        warped_mm3=b * voxel_volume,
    )


def _counts(values: np.ndarray) -> dict[int, int]:
    labels, counts = np.unique(values, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))
