"""Overlap of labels."""

from collections.abc import Mapping

import numpy as np

from pullback.data import LabelMap


def dice_per_label(fixed: LabelMap, warped: LabelMap, among: LabelMap | None = None) -> dict[int, float]:
    r"""Dice's overlap $2 |A \cap B| / (|A| + |B|)$ of each label, on one grid.

    Args:
        fixed: Labels of the fixed image.
        warped: Moving labels resampled onto the fixed grid.
        among: The moving labels before resampling: only labels that this and `fixed` both hold are scored, so that a
            label which the warp lost counts as 0 and one that the moving image never had does not count (default: the
            labels of either).

    Returns:
        Label to Dice, from 0 to 1, in order; without the background 0.

    Raises:
        ValueError: If the grids differ.
    """
    if not fixed.grid.same_as(warped.grid):
        raise ValueError("The label maps are on different grids; warp one onto the other first.")
    a, b = fixed.tensor.numpy().ravel(), warped.tensor.numpy().ravel()
    labels = set(fixed.labels) & set(among.labels) if among is not None else set(fixed.labels) | set(warped.labels)
    counts_a, counts_b, counts_both = _counts(a), _counts(b), _counts(a[a == b])
    return {
        label: 2 * counts_both.get(label, 0) / (counts_a.get(label, 0) + counts_b.get(label, 0))
        for label in sorted(labels)
    }


def _counts(values: np.ndarray) -> dict[int, int]:
    labels, counts = np.unique(values, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def mean_dice(per_label: Mapping[int, float]) -> float:
    """The plain mean over labels; NaN without any."""
    return float(np.mean(list(per_label.values()))) if per_label else float("nan")
