"""Numbers for papers, in physical units; no gradients. ``docs/metrics.md`` has all definitions on one page."""

from pullback.metrics.cost import Cost, measure
from pullback.metrics.deformation import (
    ERROR_PERCENTILES,
    Consistency,
    JacobianSummary,
    MagnitudeSummary,
    bending_energy,
    deformation_error_percentiles,
    inverse_consistency,
    spread_of_jacobian,
    summarise_jacobian,
    summarise_magnitude,
)
from pullback.metrics.folding import FoldingSummary, simplex_determinants, summarise_folding
from pullback.metrics.groups import Group, GroupSummary
from pullback.metrics.intensity import (
    correlation,
    mean_local_correlation,
    mean_squared_difference,
    normalised_mutual_information,
)
from pullback.metrics.landmarks import (
    LandmarkSummary,
    point_errors_mm,
    share_improved,
    snapped_to_voxels,
    summarise_errors,
)
from pullback.metrics.overlap import Overlap, dice30, dice_per_label, mean_dice, overlap_per_label
from pullback.metrics.statistics import (
    PairedComparison,
    bootstrap_interval,
    combine_rank_scores,
    compare_paired,
    hardest_cases,
    holm,
    rank_methods,
)
from pullback.metrics.surface import SurfaceDistance, surface_distance, surface_distance_per_label

__all__ = [
    "ERROR_PERCENTILES",
    "Consistency",
    "Cost",
    "FoldingSummary",
    "Group",
    "GroupSummary",
    "JacobianSummary",
    "LandmarkSummary",
    "MagnitudeSummary",
    "Overlap",
    "PairedComparison",
    "SurfaceDistance",
    "bending_energy",
    "bootstrap_interval",
    "combine_rank_scores",
    "compare_paired",
    "correlation",
    "deformation_error_percentiles",
    "dice30",
    "dice_per_label",
    "hardest_cases",
    "holm",
    "inverse_consistency",
    "mean_dice",
    "mean_local_correlation",
    "mean_squared_difference",
    "measure",
    "normalised_mutual_information",
    "overlap_per_label",
    "point_errors_mm",
    "rank_methods",
    "share_improved",
    "simplex_determinants",
    "snapped_to_voxels",
    "spread_of_jacobian",
    "summarise_errors",
    "summarise_folding",
    "summarise_jacobian",
    "summarise_magnitude",
    "surface_distance",
    "surface_distance_per_label",
]
