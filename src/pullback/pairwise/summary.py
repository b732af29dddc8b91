"""What is said about a registration: the content of ``result.json`` and of the report."""

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pullback.data import Image, LabelMap, Pair, Points
from pullback.data.image import AbstractVoxels
from pullback.evaluation.field_of_view import comparable_voxels
from pullback.io.json_text import plain
from pullback.metrics import dice_per_label, mean_dice, point_errors_mm, summarise_errors
from pullback.metrics.cost import peak_memory_mb
from pullback.reports import RegistrationView
from pullback.space import axis_codes
from pullback.transforms import AbstractTransform, Affine, identity, warp, warp_points
from pullback.version import __version__

if TYPE_CHECKING:
    from pullback.pairwise.main_job import Registration

PROTOCOL = "labels of both images, moving labels by nearest neighbour, mean over labels"


def summarise(registration: "Registration") -> dict[str, Any]:
    """Everything that is known, as plain data for JSON."""
    result, pair = registration.result, registration.pair
    summary: dict[str, Any] = {
        "pullback": __version__,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "model": registration.settings.get("model"),
        "seed": registration.plan.seed,
        "threads": registration.settings.get("threads"),
        "device": registration.plan.device,
        "fixed": _describe(pair.fixed),
        "moving": _describe(pair.moving),
        "verdict": {"value": result.verdict.value, "reasons": list(result.verdict.reasons)},
        "before": result.before_name,
        "initialisation": _initialisation(registration),
        "similarity": vars(result.similarity),
        "affine": _affine(result.linear),
        "jacobian": result.evidence.jacobian.as_dict(),
        "inverse_consistency": result.evidence.consistency.as_dict(),
        "evidence": _evidence(registration),
        "labels": _labels(registration),
        "points": _points(registration),
        "history": [vars(entry) | {"steps": len(entry.values)} for entry in result.history],
        "timings_seconds": dict(result.seconds),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "settings": registration.settings,
    }
    return plain({key: value for key, value in summary.items() if value is not None})


def view_of(registration: "Registration", summary: Mapping[str, Any], warped: Image) -> RegistrationView:
    """The same as pictures."""
    pair, result = registration.pair, registration.result
    grid = pair.fixed.grid
    field = result.field
    still = torch.zeros(grid.num_dims, *grid.shape)
    before_points, warped_points = (_moving_points_back(pair, t) for t in (result.before, result.fixed_to_moving))
    return RegistrationView(
        fixed=pair.fixed,
        moving=pair.moving,
        before=warp(pair.moving, result.before, onto=grid),
        warped=warped,
        displacement=still if field is None else field.displacement_on(grid),
        jacobian=result.fixed_to_moving.jacobian_determinant(grid),
        summary=summary,
        fixed_labels=pair.fixed_labels,
        before_labels=_warped_labels(pair.moving_labels, result.before, registration),
        warped_labels=_warped_labels(pair.moving_labels, result.fixed_to_moving, registration),
        fixed_points=pair.fixed_points,
        before_points=before_points,
        warped_points=warped_points,
        point_errors_mm=_point_errors(pair, result.fixed_to_moving),
        before_seen=comparable_voxels(pair.fixed, pair.moving, result.before),
        warped_seen=comparable_voxels(pair.fixed, pair.moving, result.fixed_to_moving),
        fixed_object=warp(result.fixed_object, identity(grid.num_dims), onto=grid, interpolation="nearest").tensor[0]
        > 0,
        label_names=registration.label_names,
    )


def _describe(image: AbstractVoxels) -> dict[str, Any]:
    return {
        "name": image.name,
        "path": str(image.header["path"]) if "path" in image.header else None,
        "shape": list(image.grid.shape),
        "channels": image.num_channels,
        "spacing_mm": [round(s, 6) for s in image.grid.spacing_mm.tolist()],
        "orientation": axis_codes(image.grid),
        "notes": list(image.header.get("notes", ())),
    }


def _initialisation(registration: "Registration") -> dict[str, Any]:
    found = registration.result.initialisation
    if found is None:
        given = registration.plan.given
        return {"chosen": given[0].name if given else "none (identity)", "score": None, "candidates": []}
    return {
        "chosen": found.chosen.name,
        "score": found.chosen.score,
        "margin": found.margin,
        "candidates": [{"name": c.name, "score": c.score} for c in found.candidates],
    } | ({"why": found.why} if found.why else {})


def _affine(linear: Any) -> dict[str, Any]:
    parts = Affine(linear.matrix).decompose()
    return {
        "matrix_fixed_to_moving_ras": linear.matrix.tolist(),
        "translation_mm": parts.translation_mm.tolist(),
        "rotation_degrees": [math.degrees(a) for a in parts.rotation.tolist()],
        "scaling": parts.scaling.tolist(),
        "shear": parts.shear.tolist(),
    }


def _evidence(registration: "Registration") -> dict[str, Any]:
    evidence = registration.result.evidence
    names = ("margin", "overlap", "view", "gain")
    return {name: getattr(evidence, name) for name in names}


def _labels(registration: "Registration") -> dict[str, Any] | None:
    pair, result = registration.pair, registration.result
    if pair.fixed_labels is None or pair.moving_labels is None:
        return None
    scores = [
        dice_per_label(pair.fixed_labels, _nearest(pair.moving_labels, t, registration), pair.moving_labels)
        for t in (result.before, result.linear, result.fixed_to_moving)
    ]
    return {
        "protocol": PROTOCOL,
        "mean_dice_before": mean_dice(scores[0]),
        "mean_dice_after_linear": mean_dice(scores[1]),
        "mean_dice_after": mean_dice(scores[2]),
        "per_label": {
            str(label): _name_of(label, registration) | {"before": scores[0][label], "after": scores[2][label]}
            for label in scores[0]
        },
    }


def _name_of(label: int, registration: "Registration") -> dict[str, str]:
    name = registration.label_names.get(label)
    return {} if name is None else {"name": name}


def _nearest(labels: LabelMap, transform: AbstractTransform, registration: "Registration") -> LabelMap:
    return warp(labels, transform, onto=registration.pair.fixed.grid, interpolation="nearest")


def _warped_labels(
    labels: LabelMap | None, transform: AbstractTransform, registration: "Registration"
) -> LabelMap | None:
    return None if labels is None else _nearest(labels, transform, registration)


def _points(registration: "Registration") -> dict[str, Any] | None:
    pair, result = registration.pair, registration.result
    if pair.fixed_points is None or pair.moving_points is None:
        return None
    found: dict[str, Any] = {"number": len(pair.fixed_points)}
    for word, transform in (
        ("before", result.before),
        ("after_linear", result.linear),
        ("after", result.fixed_to_moving),
    ):
        about = summarise_errors(_point_errors(pair, transform))
        found |= {f"mean_mm_{word}": about.mean, f"median_mm_{word}": about.median, f"max_mm_{word}": about.maximum}
    return found


def _point_errors(pair: Pair, transform: AbstractTransform) -> Tensor | None:
    """Distances of the landmarks in the moving world, mm."""
    if pair.fixed_points is None or pair.moving_points is None:
        return None
    return point_errors_mm(warp_points(pair.fixed_points, transform), pair.moving_points)


def _moving_points_back(pair: Any, transform: AbstractTransform) -> Points | None:
    """The moving landmarks in the fixed world."""
    return None if pair.moving_points is None else warp_points(pair.moving_points, ~transform)
