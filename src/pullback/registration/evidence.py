"""Gathering what the verdict is based on, at a middle resolution."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.registration.choice import ACROSS_CONTRASTS, Choice, mutual_information
from pullback.registration.initialisation import (
    ELSEWHERE_DEGREES,
    Candidate,
    geometry_of,
    initialise,
    margin_of,
    turn_degrees,
)
from pullback.registration.volume import Volume
from pullback.similarity import MIND, AbstractSimilarity
from pullback.transforms import AbstractTransform
from pullback.transforms.abstract import points_of

LEAST_NEARER, LEAST_NEARER_OF_NEAR, NEAR = 0.15, 0.3, 0.045
"""Share of the distance of local structures (MIND) that a deformation by mutual information has to take away, and the
same where that is below the last of these from the start, as it is of one person. Of two people those that helped took
0.20 to 0.62 from 0.044 to 0.070 (T2-, FLAIR-, PET- and EPI-like). Of one person those that harmed took 0.01 to 0.27
from 0.017 to 0.039 (EPI-like, label maps) or 0.02 to 0.12 from 0.054 to 0.117 (CT-like, a label map), by 0.2 to 2.5 mm;
some that helped, by 0.04 to 0.35 mm, took 0.06 to 0.30 from 0.013 to 0.039 (T2- and FLAIR-like)."""
SMALL_PART = 0.5
"""Length of a field of view, as a share of the other image's object, below which it shows a small part of that."""
CUT_SHARE = 0.2
"""An object that holds this share of the outermost voxels of its image is a part of something larger."""


@dataclass(frozen=True, eq=False)
class View:
    """The moving volume seen through a transform, on the fixed volume's grid.

    Attributes:
        warped: ``(1, C, I, J, K)``.
        weights: ``(1, 1, I, J, K)``: voxels to compare.
        inside: ``(I, J, K)`` bool: voxels that the map sends into the moving field of view; all of them if the moving
            object is surrounded by background, which goes on beyond it.
        foreground: ``(I, J, K)`` bool: the moving foreground.
    """

    warped: Tensor
    weights: Tensor
    inside: Tensor
    foreground: Tensor


def look_through(fixed: Volume, moving: Volume, transform: AbstractTransform) -> View:
    """Resample everything about the moving volume through a transform."""
    moving_grid = moving.image_grid
    shape = fixed.grid.shape
    layers = torch.cat(
        [
            moving.tensor[0],
            moving.foreground[None].to(torch.float32),
            torch.ones_like(moving.tensor[0, :1]) if moving.weights is None else moving.weights[0],
            torch.ones_like(moving.tensor[0, :1]),
        ]
    )
    layers = layers[:, 0] if moving.is_flat else layers
    parts = [
        functional.sample(layers, moving_grid.to_voxel(transform.map_points(points)), fill=0.0)
        for points in points_of(fixed.image_grid)
    ]
    sampled = torch.cat(parts, dim=1).reshape(-1, *shape)
    inside = torch.ones(shape, dtype=torch.bool) if moving.is_empty_beyond else sampled[-1] > 0.5
    weights = sampled[-2] if moving.weights is not None or not moving.is_empty_beyond else torch.ones(shape)
    weights = weights if fixed.weights is None else weights * fixed.weights[0, 0]
    return View(sampled[None, :-3], weights[None, None].contiguous(), inside, sampled[-3] > 0.5)


def similarity_through(fixed: Volume, view: View, similarity: AbstractSimilarity) -> float:
    """The similarity of the fixed volume and a view."""
    return float(similarity.value_and_gradient(fixed.tensor, view.warped.contiguous(), view.weights)[0][0])


def comes_nearer(fixed: Volume, linear: View, view: View) -> bool:
    """Whether local structures come so much nearer by a deformation, where both objects were, that it is believed."""
    inside = (linear.weights * (fixed.foreground & linear.foreground)).contiguous()
    there, now = (-similarity_through(fixed, replace(seen, weights=inside), MIND()) for seen in (linear, view))
    return now <= (1 - (LEAST_NEARER_OF_NEAR if there < NEAR else LEAST_NEARER)) * there


def overlap_of(a: Tensor, b: Tensor) -> float:
    """Dice of two masks."""
    return 2.0 * float((a & b).sum()) / max(float(a.sum()) + float(b.sum()), 1.0)


def is_whole(volume: Volume) -> bool:
    """Whether the object lies within its field of view: in background, or with few of the outermost voxels."""
    if volume.has_background:
        return True
    inner = volume.foreground[tuple(slice(1, -1) if n > 2 else slice(None) for n in volume.foreground.shape)]
    num_outer = volume.foreground.numel() - inner.numel()
    return int(volume.foreground.sum() - inner.sum()) < CUT_SHARE * num_outer


def is_small_part(part: Volume, whole: Volume) -> bool:
    """Whether an image that no background surrounds sees far less than the other image's object."""
    if part.has_background:
        return False
    view = replace(part, foreground=torch.ones_like(part.foreground))
    return geometry_of(view)[2] < SMALL_PART * geometry_of(whole)[2]


def margin_over_rivals(fixed: Volume, moving: Volume, choice: Choice, matrix: np.ndarray) -> float:
    """How far every other pose stays behind a linear result that no search has led to, as a share of its score.

    Args:
        fixed, moving: Volumes at full resolution.
        choice: The similarity that was used.
        matrix: World matrix ``(4, 4)`` of the result.
    """
    is_swapped = is_small_part(moving, fixed)
    if is_swapped:
        fixed, moving, matrix = moving, fixed, np.linalg.inv(matrix)
    own = Candidate("result", matrix)
    judge = None
    if choice.name in ACROSS_CONTRASTS:
        is_given = choice.name == "mi" and not is_swapped
        judge = choice.similarity if is_given else mutual_information(fixed, moving)
    found = initialise(fixed, moving, given=(own,), clear_margin=0.0, coarse=judge, fine=judge)
    mine = [c for c in found.candidates if turn_degrees(c.matrix, matrix) <= ELSEWHERE_DEGREES]
    return margin_of(mine[0], found.candidates) if mine else -1.0
