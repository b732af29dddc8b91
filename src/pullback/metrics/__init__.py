"""Numbers for papers, in physical units; no gradients."""

from pullback.metrics.deformation import Consistency, JacobianSummary, inverse_consistency, summarise_jacobian
from pullback.metrics.landmarks import point_errors_mm
from pullback.metrics.overlap import dice_per_label, mean_dice

__all__ = [
    "Consistency",
    "JacobianSummary",
    "dice_per_label",
    "inverse_consistency",
    "mean_dice",
    "point_errors_mm",
    "summarise_jacobian",
]
