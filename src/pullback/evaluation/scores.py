"""All numbers of one pair."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from pullback import functional, metrics
from pullback.checks import check_choice
from pullback.data import Image, LabelMap
from pullback.evaluation.case import Case, Files
from pullback.evaluation.field_of_view import valid_voxels, voxels_seen
from pullback.evaluation.learn2reg_script import sd_log_jacobian
from pullback.evaluation.measures import GROUPS
from pullback.evaluation.protocols import GIVEN, PROTOCOLS, warp_labels
from pullback.transforms import to_voxel_vectors, warp, warp_points

TRANSFORMED = ("transform", "displacement")


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        groups: Some of :data:`pullback.evaluation.measures.GROUPS`.
        protocols: Some of :data:`pullback.evaluation.protocols.PROTOCOLS`, for labels that are still to be warped.
        labels: Which labels count; None takes those that the fixed and the moving map both hold.
    """

    groups: Sequence[str] = GROUPS
    protocols: Sequence[str] = ("nearest",)
    labels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for group in self.groups:
            check_choice("measures", group, GROUPS)
        for protocol in self.protocols:
            check_choice("protocol", protocol, PROTOCOLS)
        if not self.protocols:
            raise ValueError(f"`protocols` is empty; give some of {', '.join(PROTOCOLS)}.")
        object.__setattr__(self, "protocols", tuple(dict.fromkeys(self.protocols)))  # one counts once


@dataclass(frozen=True)
class Scores:
    """Numbers of one pair.

    Attributes:
        pair: Its name.
        values: Column to number.
        labels: One row per label and protocol.
        warped: The warped moving image, for numbers over groups; None where there is none.
    """

    pair: str
    values: dict[str, float]
    labels: list[dict[str, Any]] = field(default_factory=list)
    warped: Image | None = None


def score(case: Case, request: Request | None = None) -> Scores:
    """Measure all that a pair's files allow.

    Raises:
        ValueError: If a file cannot be read or nothing can be measured with the files that are there.
        FileNotFoundError: If a file does not exist.
    """
    request = Request() if request is None else request
    files, present = Files(case), case.present()
    is_mapped = bool(present & set(TRANSFORMED))
    values: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    warped = None
    has_warped_labels = "warped_labels" in present or ("moving_labels" in present and is_mapped)
    if "fixed_labels" in present and has_warped_labels and {"overlap", "surface"} & set(request.groups):
        rows, values = _of_labels(files, request)
    if {"fixed_points", "moving_points"} <= present and is_mapped and "landmarks" in request.groups:
        values |= _of_landmarks(files)
    if is_mapped and files.has_grid and "deformation" in request.groups:
        values |= _of_deformation(files)
    if "fixed" in present and ("warped" in present or ("moving" in present and is_mapped)):
        warped = files.warped if "warped" in present else warp(files.moving, files.transform, onto=files.fixed.grid)
        values |= _of_intensity(files, warped, _compared(files, present)) if "intensity" in request.groups else {}
    if not values:
        raise ValueError(
            f"Pair '{case.pair}' has {', '.join(sorted(present - {'pair', 'points_in'})) or 'nothing'}, with which "
            "nothing that was asked for can be measured; give labels, points or images of both sides and a transform "
            "(or warped files)."
        )
    if case.seconds is not None:
        values["seconds"] = case.seconds
    return Scores(case.pair, values, rows, warped)


def _of_labels(files: Files, request: Request) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows per label and protocol, and their means."""
    given = files.case.warped_labels is not None
    among = None if files.case.moving_labels is None else files.moving_labels
    rows: list[dict[str, Any]] = []
    values: dict[str, float] = {}
    for protocol in (GIVEN,) if given else request.protocols:
        warped = (
            files.warped_labels
            if given
            else warp_labels(files.moving_labels, files.transform, files.fixed_labels.grid, protocol)
        )
        found = _label_rows(files.fixed_labels, warped, among, request)
        rows += [{"pair": files.case.pair, "label": label, "protocol": protocol, **row} for label, row in found.items()]
        values |= _means(list(found.values()), protocol)
    return rows, values


def _label_rows(fixed: LabelMap, warped: LabelMap, among: LabelMap | None, request: Request) -> dict[int, dict]:
    found: dict[int, dict[str, float]] = {}
    if "overlap" in request.groups:
        found = {k: v.as_dict() for k, v in metrics.overlap_per_label(fixed, warped, among).items()}
    if "surface" in request.groups:
        for label, distance in metrics.surface_distance_per_label(fixed, warped, among).items():
            found.setdefault(label, {}).update(
                hausdorff_mm=distance.hausdorff,
                hd95_mm=distance.hausdorff95,
                surface_mean_mm=distance.mean,
                surface_rms_mm=distance.rms,
            )
    return {k: v for k, v in found.items() if request.labels is None or k in request.labels}


def _means(rows: list[dict[str, float]], protocol: str) -> dict[str, float]:
    """Means over labels; distances over the labels that both sides have, the others are counted as lost."""
    if not rows:
        return {"num_labels": 0.0}
    keys = [key for key in rows[0] if not key.endswith("_mm3")]
    columns = {key: np.array([row[key] for row in rows]) for key in keys}
    means = {
        f"{key}_{protocol}": float(numbers[np.isfinite(numbers)].mean()) if np.isfinite(numbers).any() else float("nan")
        for key, numbers in columns.items()
    }
    lost = {"labels_lost": float((columns["dice"] == 0).sum())} if "dice" in columns else {}
    if "hd95_mm" in columns:
        lost = {"labels_lost": float(np.isinf(columns["hd95_mm"]).sum())}
    return {**means, "num_labels": float(len(rows)), **lost}


def _of_landmarks(files: Files) -> dict[str, float]:
    mapped, true = warp_points(files.fixed_points, files.transform), files.moving_points
    errors, before = metrics.point_errors_mm(mapped, true), metrics.point_errors_mm(files.fixed_points, true)
    found = metrics.summarise_errors(errors)
    values = {
        "tre_mean_mm": found.mean,
        "tre_median_mm": found.median,
        "tre_p75_mm": found.percentile75,
        "tre_max_mm": found.maximum,
        "tre_sd_mm": found.sd,
        "tre_before_mm": float(before.mean()),
        "tre_share_improved": metrics.share_improved(before, errors),
        "num_points": float(len(errors)),
    }
    if files.case.moving is not None or files.case.moving_labels is not None:
        snapped = metrics.snapped_to_voxels(mapped, files.moving_grid)
        at_voxels = metrics.summarise_errors(metrics.point_errors_mm(snapped, true))
        values |= {"tre_snapped_mean_mm": at_voxels.mean, "tre_snapped_max_mm": at_voxels.maximum}
    return values


def _of_deformation(files: Files) -> dict[str, float]:
    grid, region, transform = files.grid, files.region, files.transform
    displacement = transform.displacement_on(grid)
    voxels = to_voxel_vectors(displacement, grid)
    determinant = functional.jacobian_determinant(voxels[None])[0]
    jacobian, folding = (
        metrics.summarise_jacobian(determinant, region),
        metrics.summarise_folding(voxels, grid.voxel_volume, region),
    )
    mean, sd = metrics.spread_of_jacobian(determinant, region)
    magnitude = metrics.summarise_magnitude(displacement, region)
    values = {
        "jacobian_min": jacobian.minimum,
        "jacobian_max": jacobian.maximum,
        "jacobian_mean": mean,
        "jacobian_sd": sd,
        "sdlogj": jacobian.sd_log,
        "folds_central": float(jacobian.num_nonpositive),
        "folds_central_percent": jacobian.percent_nonpositive,
        "folds_one_sided": float(folding.num_voxels),
        "folds_one_sided_percent": folding.percent_voxels,
        "ndv_mm3": folding.volume_mm3,
        "ndv_percent": folding.percent_volume,
        "displacement_mean_mm": magnitude.mean,
        "displacement_sd_mm": magnitude.sd,
        "displacement_max_mm": magnitude.maximum,
        "bending_per_mm2": metrics.bending_energy(displacement, grid, region),
    }
    if grid.num_dims == 3 and min(grid.shape) > 4:
        values["sdlogj_l2r"] = sd_log_jacobian(voxels, region)
    return values | _of_other_maps(files)


def _of_other_maps(files: Files) -> dict[str, float]:
    """Against the inverse and against a true map, where they are given."""
    values = {}
    if files.case.inverse:
        gap = metrics.inverse_consistency(files.transform, files.chain_of("inverse"), files.grid, files.region)
        values |= {"inverse_mean_mm": gap.mean_mm, "inverse_max_mm": gap.max_mm}
    if files.case.reference:
        true = files.chain_of("reference")
        found = metrics.deformation_error_percentiles(files.transform, true, files.grid, files.region)
        values |= {f"error_p{p:g}_mm": error for p, error in found.items()}
    return values


def _compared(files: Files, present: Set[str]) -> Tensor | None:
    """Voxels whose intensities are compared: in the mask, valid in both images, within the moving one where known."""
    known = valid_voxels(files.fixed)
    if "warped" in present:
        known = known & valid_voxels(files.warped)
    if "moving" in present and present & set(TRANSFORMED):
        known = known & voxels_seen(files.moving, files.transform, files.fixed.grid)
    known = known if files.region is None else known & files.region
    return None if bool(known.all()) else known


def _of_intensity(files: Files, warped: Image, region: Tensor | None) -> dict[str, float]:
    """Means over channels; NaN where there is no voxel to compare."""
    if warped.num_channels != files.fixed.num_channels:
        raise ValueError(
            f"The fixed image of pair '{files.case.pair}' has {files.fixed.num_channels} channels and the moving one "
            f"{warped.num_channels}; they are compared one to one."
        )
    measures = {
        "mse": metrics.mean_squared_difference,
        "ncc": metrics.correlation,
        "lncc": metrics.mean_local_correlation,
        "nmi": metrics.normalised_mutual_information,
    }
    if region is not None and not bool(region.any()):
        return dict.fromkeys(measures, float("nan"))
    pairs = list(zip(files.fixed.tensor, warped.tensor, strict=True))
    return {name: float(np.mean([m(f, w, region) for f, w in pairs])) for name, m in measures.items()}
