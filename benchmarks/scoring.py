"""The same numbers for every tool's transform: label overlap, landmarks, Jacobian, hashes."""

import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from jobs import Found, Job
from pullback import functional
from pullback.data import LabelMap
from pullback.io import labels_from, read_image, read_labels, read_points
from pullback.metrics import dice_per_label, inverse_consistency, mean_dice, point_errors_mm, summarise_jacobian
from pullback.space import Grid
from pullback.transforms import (
    AbstractLinear,
    AbstractTransform,
    DisplacementField,
    identity,
    to_voxel_vectors,
    warp,
    warp_points,
)


def score(job: Job, found: Found) -> dict[str, Any]:
    """All numbers that a job's files allow, for the transform and for its linear part alone."""
    grid, region = region_of(job)
    transform = found.transform
    numbers = _jacobian(transform, grid, region)
    steps = {"before": identity(grid.num_dims), "linear": found.linear, "after": transform}
    steps = {name: step for name, step in steps.items() if step is not None}
    if job.fixed_labels is not None:
        numbers |= _overlap(job, steps)
    if job.fixed_points is not None:
        numbers |= _landmarks(job, steps)
    if found.inverse is not None and "inverse_mean_voxels" not in found.notes:
        gap = inverse_consistency(transform, found.inverse, grid, region)
        numbers |= {"inverse_mean_voxels": gap.mean_voxels, "inverse_max_voxels": gap.max_voxels}
    if job.digest:
        numbers |= {"digest": digest_of(transform), "digest_of_inverse": digest_of(found.inverse)}
    if job.mapped is not None:
        np.save(job.mapped, transform(grid.to_world(torch.nonzero(region).to(torch.float64))).numpy())
    return numbers


def region_of(job: Job) -> tuple[Grid, torch.Tensor]:
    """The fixed grid, and where on it things are measured."""
    image = read_image(job.fixed if job.region is None else job.region)
    return image.grid, (image.tensor > 0).any(dim=0)


def read_label_file(path: str | Path, volume: int | None = None) -> LabelMap:
    """Labels, or one volume of a 4-D file of them (a 3-D file among such is its own only volume)."""
    if volume is None:
        return read_labels(path)
    file = nibabel.load(path)
    values = np.asanyarray(file.dataobj)
    values = values[..., volume] if values.ndim == 4 else values
    return labels_from(nibabel.Nifti1Image(values.astype(np.uint8), file.affine))


def _jacobian(transform: AbstractTransform, grid: Grid, region: torch.Tensor) -> dict[str, Any]:
    """Folds and the spread of log Jacobian, by central differences of the displacement on the fixed grid."""
    voxels = to_voxel_vectors(transform.displacement_on(grid), grid)
    summary = summarise_jacobian(functional.jacobian_determinant(voxels[None])[0], region)
    return {
        "folded_voxels": summary.num_nonpositive,
        "sd_log_jacobian": summary.sd_log,
        "jacobian_min": summary.minimum,
    }


def _overlap(job: Job, steps: dict[str, AbstractTransform]) -> dict[str, Any]:
    fixed = read_label_file(job.fixed_labels or "", job.label_volume)
    moving = read_label_file(job.moving_labels or "", job.label_volume)
    numbers: dict[str, Any] = {}
    for name, step in steps.items():
        per_label = dice_per_label(fixed, warp(moving, step, onto=fixed.grid, interpolation="nearest"), among=moving)
        numbers |= {f"dice_{name}": mean_dice(per_label), "num_labels": len(per_label)}
    return numbers


def _landmarks(job: Job, steps: dict[str, AbstractTransform]) -> dict[str, Any]:
    num_dims = read_image(job.fixed).grid.num_dims
    fixed, moving = (read_points(p or "", lps=True, num_dims=num_dims) for p in (job.fixed_points, job.moving_points))
    numbers: dict[str, Any] = {"num_points": len(fixed)}
    for name, step in steps.items():
        errors = point_errors_mm(warp_points(fixed, step), moving)
        numbers |= {f"error_{name}": float(errors.mean()), f"median_error_{name}": float(errors.median())}
    return numbers


def digest_of(transform: AbstractTransform | None) -> str:
    """A hash of every bit of a transform: matrices, fields and their grids."""
    found = hashlib.sha256()
    for part in getattr(transform, "parts", (transform,)):
        if isinstance(part, AbstractLinear):
            found.update(part.matrix.numpy().tobytes())
        elif isinstance(part, DisplacementField):
            found.update(part.grid.voxel_to_world.numpy().tobytes() + part.displacement.numpy().tobytes())
    return found.hexdigest()[:16]
