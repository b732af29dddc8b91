"""Which similarity suits a pair, judged by how its intensities relate where the two objects overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.registration.linear import Comparison
from pullback.registration.volume import Volume
from pullback.similarity import LNCC, MIND, MSE, NCC, AbstractSimilarity, MutualInformation, WeightedChannels

SAME_CONTRAST = 0.3
"""Correlation inside the overlap above which two images count as of one contrast."""
LEAST_OVERLAP_VOXELS = 8
"""Of fewer voxels nothing is said."""

ACROSS_CONTRASTS = ("mi", "mind")
"""Similarities for two contrasts; where to start is searched by mutual information for all of them."""


@dataclass(frozen=True)
class Choice:
    """A similarity for the deformable stage, its partner for the linear stage, and the reason for it.

    Attributes:
        name: Its word.
        similarity: For the deformable stage.
        linear: For the linear stage.
        why: The reason, in words.
        restraint: What it costs the linear map to move everything by the object's radius, away from its start
            (see :class:`pullback.registration.linear.Restraint`); 0 where the images may decide alone.
    """

    name: str
    similarity: AbstractSimilarity
    linear: AbstractSimilarity
    why: str
    restraint: float = 0.0


def mutual_information(fixed: Volume, moving: Volume) -> MutualInformation:
    """Mutual information with bins over the ranges of the two volumes."""
    return MutualInformation(fixed_range=_range(fixed), warped_range=_range(moving))


def _range(volume: Volume) -> tuple[float, float]:
    return float(volume.tensor.min()), float(volume.tensor.max())


def correlation_inside(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """Pearson's correlation of intensities where both foregrounds are, under a world matrix; 0 where none are."""
    return _value_inside(fixed, moving, matrix, NCC(), 0.0)


def structure_distance(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """How far local structures differ where both foregrounds are: minus :class:`MIND`, blind to contrast."""
    return -_value_inside(fixed, moving, matrix, MIND(), -np.inf)


def dependence_inside(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """Mutual information in nat where both foregrounds are, under a world matrix; 0 where none are."""
    return _value_inside(fixed, moving, matrix, mutual_information(fixed, moving), 0.0)


def _value_inside(
    fixed: Volume, moving: Volume, matrix: np.ndarray, similarity: AbstractSimilarity, empty: float
) -> float:
    warped, inside = seen_by_both(fixed, moving, matrix)
    if inside is None:
        return empty
    return float(similarity.value_and_gradient(fixed.tensor, warped, inside)[0][0])


def seen_by_both(fixed: Volume, moving: Volume, matrix: np.ndarray) -> tuple[Tensor, Tensor | None]:
    """The moving volume on the fixed grid under a world matrix, and weights of voxels where both foregrounds are.

    None in place of weights where hardly any voxel is.
    """
    warped, weights = Comparison(fixed, moving, NCC(), ignores_view=True).warp(matrix)
    voxel_map = moving.grid.world_to_voxel.numpy() @ matrix @ fixed.grid.voxel_to_world.numpy()
    still = torch.zeros(1, 3, *fixed.grid.shape)
    seen = functional.warp(moving.foreground[None, None].to(torch.float32), still, voxel_map, fill=0.0)
    inside = (seen > 0.5).to(torch.float32) * fixed.foreground
    inside = inside if weights is None else inside * weights
    return warped, None if float(inside.sum()) < LEAST_OVERLAP_VOXELS else inside


def build(name: str, fixed: Volume, moving: Volume, why: str) -> Choice:
    """The similarity of a name for a pair: ``mse``, ``ncc``, ``lncc``, ``mi`` or ``mind``.

    The linear stage takes the local correlation with its sign, which draws harder; the deformable stage takes its
    square, which deforms less for the same overlap (``docs/accuracy.md``).
    """
    if name == "lncc":
        return Choice(name, LNCC(), LNCC(radius_voxels=1, noise=3e-3, squared=False), why)
    plain: dict[str, type[AbstractSimilarity]] = {"mse": MSE, "ncc": NCC, "mind": MIND}
    same = plain[name]() if name in plain else mutual_information(fixed, moving)
    return Choice(name, same, same, why)


def weigh(choice: Choice, weights: Sequence[float] | None) -> Choice:
    """The same similarities with a weight for each channel that counts."""
    heard = [weight for weight in weights or () if weight > 0]
    if len(heard) < 2 or len(set(heard)) == 1:
        return choice
    similarity, linear = (WeightedChannels(s, heard) for s in (choice.similarity, choice.linear))
    return replace(choice, similarity=similarity, linear=linear)
