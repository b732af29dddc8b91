"""Registration by keypoints: describe them, match the descriptions, and believe what most matches agree on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pullback.checks import check_positive
from pullback.data import Image, Points
from pullback.landmarks.fit import LandmarkFit, fit_landmarks
from pullback.landmarks.keypoints import Keypoints
from pullback.transforms import AbstractTransform

Describe = Callable[[Image, Tensor], Tensor]
"""From an image and points ``(N, D)`` in mm to descriptors ``(N, F)``, nearer where they are more alike."""


@dataclass(frozen=True)
class Matches:
    """Pairs of keypoints, the surest first.

    Attributes:
        fixed, moving: Their places, ``(M, D)`` in mm.
        ratios: Distance to the match over that to the next best, ``(M,)``, 0 to 1: small is sure.
    """

    fixed: Tensor = field(repr=False)
    moving: Tensor = field(repr=False)
    ratios: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.fixed)


def match(fixed: Keypoints, moving: Keypoints, fixed_descriptors: Tensor, moving_descriptors: Tensor) -> Matches:
    """Keypoints that are each other's nearest by their descriptors ``(N, F)`` and ``(M, F)``.

    Raises:
        ValueError: If a side has fewer than two keypoints, or descriptors and keypoints differ in number.
    """
    for keypoints, descriptors in ((fixed, fixed_descriptors), (moving, moving_descriptors)):
        if len(keypoints) < 2 or len(keypoints) != len(descriptors):
            raise ValueError(
                f"{len(keypoints)} keypoints came with {len(descriptors)} descriptors, but two or more are needed."
            )
    distances = torch.cdist(fixed_descriptors.double(), moving_descriptors.double())
    two = distances.topk(2, dim=1, largest=False)
    nearest = two.indices[:, 0]
    ours = torch.arange(len(fixed))
    is_mutual = distances.argmin(0)[nearest] == ours
    ratios = two.values[:, 0] / two.values[:, 1].clamp(min=torch.finfo(torch.float64).tiny)
    chosen = ours[is_mutual][ratios[is_mutual].argsort(stable=True)]
    return Matches(fixed.points[chosen], moving.points[nearest[chosen]], ratios[chosen])


def precision_and_recall(
    matches: Matches, fixed: Keypoints, moving: Keypoints, truth: AbstractTransform, *, tolerance_mm: float
) -> tuple[Tensor, Tensor]:
    """How right the surest matches are, and how many of those that could be found they are, ``(M,)`` each.

    A match is right if the true map takes its fixed point to within the tolerance of its moving point; it could be
    found if the true map takes a fixed keypoint to within the tolerance of any moving keypoint.

    Args:
        matches: The surest first.
        fixed, moving: All keypoints.
        truth: From the fixed to the moving world.
        tolerance_mm: Largest distance of what counts as the same place.
    """
    check_positive("tolerance_mm", tolerance_mm)
    is_right = torch.linalg.vector_norm(truth(matches.fixed) - matches.moving, dim=1) <= tolerance_mm
    possible = int((torch.cdist(truth(fixed.points), moving.points).amin(1) <= tolerance_mm).sum())
    right = is_right.cumsum(0).double()
    return right / torch.arange(1, len(matches) + 1), right / max(possible, 1)


def fit_keypoints(
    images: tuple[Image, Image],
    keypoints: tuple[Keypoints, Keypoints],
    describe: Describe,
    model: str = "affine",
    *,
    tolerance_mm: float,
    most_matches: int = 300,
    seed: int = 0,
) -> LandmarkFit:
    """The map on which the matched keypoints of two images agree, by consensus.

    Args:
        images: Fixed and moving.
        keypoints: Of each.
        describe: Gives their descriptors.
        model: ``rigid``, ``similarity`` or ``affine``.
        tolerance_mm: How far a match may be off.
        most_matches: How many of the surest take part.
        seed: Of the search.

    Raises:
        ValueError: If there are too few keypoints or matches.
    """
    described = [describe(image, some.points) for image, some in zip(images, keypoints, strict=True)]
    found = match(*keypoints, *described)
    sides = [Points(side[:most_matches]) for side in (found.fixed, found.moving)]
    return fit_landmarks(*sides, model, robust=True, tolerance_mm=tolerance_mm, seed=seed)
