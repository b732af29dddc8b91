"""What is measured: names of columns, units, and which direction is better."""

from dataclasses import dataclass

from pullback.evaluation.protocols import GIVEN, PROTOCOLS
from pullback.metrics import ERROR_PERCENTILES

GROUPS = ("overlap", "surface", "landmarks", "deformation", "intensity")
"""Kinds of measures that can be asked for."""


@dataclass(frozen=True)
class Measure:
    """A number per pair (or per pair and label).

    Attributes:
        key: Column name without the protocol.
        title: For people, with the unit.
        better: ``higher``, ``lower``, ``zero`` (nearest to 0) or nothing, where neither is better.
    """

    key: str
    title: str
    better: str


LABEL_MEASURES = (
    Measure("dice", "Dice", "higher"),
    Measure("iou", "IoU", "higher"),
    Measure("target_overlap", "target overlap", "higher"),
    Measure("volume_similarity", "volume similarity", "zero"),
    Measure("hd95_mm", "HD95 [mm]", "lower"),
    Measure("hausdorff_mm", "Hausdorff [mm]", "lower"),
    Measure("surface_mean_mm", "mean surface distance [mm]", "lower"),
    Measure("surface_rms_mm", "RMS surface distance [mm]", "lower"),
)
"""Per label; a pair's number is the plain mean over its labels (of distances: over the labels that were not lost)."""

PAIR_MEASURES = (
    Measure("num_labels", "labels", ""),
    Measure("labels_lost", "labels lost", "lower"),
    Measure("tre_mean_mm", "TRE mean [mm]", "lower"),
    Measure("tre_median_mm", "TRE median [mm]", "lower"),
    Measure("tre_p75_mm", "TRE 75th percentile [mm]", "lower"),
    Measure("tre_max_mm", "TRE maximum [mm]", "lower"),
    Measure("tre_sd_mm", "TRE sd [mm]", ""),
    Measure("tre_snapped_mean_mm", "TRE mean, snapped to voxels [mm]", "lower"),
    Measure("tre_snapped_max_mm", "TRE maximum, snapped to voxels [mm]", "lower"),
    Measure("tre_before_mm", "landmark distance before, mean [mm]", ""),
    Measure("tre_share_improved", "share of landmarks improved", "higher"),
    Measure("num_points", "landmarks", ""),
    Measure("jacobian_min", "Jacobian minimum", ""),
    Measure("jacobian_max", "Jacobian maximum", ""),
    Measure("jacobian_mean", "Jacobian mean", ""),
    Measure("jacobian_sd", "Jacobian sd", "lower"),
    Measure("sdlogj", "SDlogJ", "lower"),
    Measure("sdlogj_l2r", "SDlogJ, Learn2Reg's (adds 3)", "lower"),
    Measure("folds_central", "folds, central differences [voxels]", "lower"),
    Measure("folds_central_percent", "folds, central differences [%]", "lower"),
    Measure("folds_one_sided", "folds, all one-sided differences [voxels]", "lower"),
    Measure("folds_one_sided_percent", "folds, all one-sided differences [%]", "lower"),
    Measure("ndv_mm3", "non-diffeomorphic volume [mm^3]", "lower"),
    Measure("ndv_percent", "non-diffeomorphic volume [%]", "lower"),
    Measure("displacement_mean_mm", "displacement mean [mm]", ""),
    Measure("displacement_sd_mm", "displacement sd [mm]", ""),
    Measure("displacement_max_mm", "displacement maximum [mm]", ""),
    Measure("bending_per_mm2", "bending energy [1/mm^2]", "lower"),
    Measure("inverse_mean_mm", "inverse consistency mean [mm]", "lower"),
    Measure("inverse_max_mm", "inverse consistency maximum [mm]", "lower"),
    *(Measure(f"error_p{p:g}_mm", f"deformation error, {p:g} % [mm]", "lower") for p in ERROR_PERCENTILES),
    Measure("mse", "MSE", "lower"),
    Measure("ncc", "NCC", "higher"),
    Measure("lncc", "LNCC, window 9", "higher"),
    Measure("nmi", "NMI", "higher"),
    Measure("l2r_dice", "Dice, Learn2Reg's script", "higher"),
    Measure("l2r_hd95", "HD95, Learn2Reg's script [voxels]", "lower"),
    Measure("l2r_sdlogj", "SDlogJ, Learn2Reg's script", "lower"),
    Measure("l2r_tre", "TRE, Learn2Reg's script [mm]", "lower"),
    Measure("seconds", "time [s]", "lower"),
)

COLUMNS = (
    *(f"{m.key}_{protocol}" for protocol in (*PROTOCOLS, GIVEN) for m in LABEL_MEASURES),
    *(m.key for m in PAIR_MEASURES),
)
"""All columns of numbers that a row per pair can have, in order."""

_BY_KEY = {m.key: m for m in (*LABEL_MEASURES, *PAIR_MEASURES)}


def protocol_of(column: str) -> str | None:
    """The label protocol that a column names at its end, if it is a measure of labels."""
    protocol = column.rsplit("_", 1)[-1]
    return protocol if protocol in (*PROTOCOLS, GIVEN) and column not in _BY_KEY else None


def measure_of(column: str) -> Measure:
    """The measure of a column, its title naming the protocol.

    Raises:
        ValueError: If no measure has that name.

    Example:
        >>> measure_of("dice_nearest").title
        'Dice (nearest)'
    """
    protocol = protocol_of(column)
    key = column if protocol is None else column.removesuffix(f"_{protocol}")
    if key not in _BY_KEY:
        raise ValueError(f"'{column}' is no measure; there are {', '.join(COLUMNS)}.")
    found = _BY_KEY[key]
    return found if protocol is None else Measure(column, f"{found.title} ({protocol})", found.better)
