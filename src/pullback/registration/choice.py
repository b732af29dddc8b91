"""Which similarity suits a pair, judged by how its intensities relate where the two objects overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.functional import reference
from pullback.registration.linear import Comparison
from pullback.registration.volume import Volume
from pullback.similarity import LNCC, MIND, MSE, NCC, AbstractSimilarity, MutualInformation, WeightedChannels

SAME_CONTRAST = 0.3
"""Correlation inside the overlap above which two images count as of one contrast ..."""
SAME_SIGN = 0.88
"""... if their `sign_agreement` is as much, where the fixed object is 30 voxels long: brains, heads, mice, hippocampi
and slices have 0.937 and more, cut, shaded and noisy mice 0.90; T1- and FLAIR-like brains 0.87 and less, but for one of
14 pairs with 0.93 (``docs/accuracy.md``)."""
SURE_SIGN, LEAST_FALL = 0.95, 0.04
"""In a map that is right, two images are of two contrasts with less agreement than the first and a `fall_of_means`,
where the fixed object is 40 voxels long, of the second or more: FLAIR- and T1-like brains have falls of 0.063 to 0.21
(but a slab of 24 mm that agrees by 0.87), 60 pairs of hippocampi, with the least voxels, of 0.016 at most."""
NUM_QUANTILES = 16
FALL_ERRORS = 4.0
"""Standard errors that a fall has to exceed, and is less by: neighbours are alike, so that their means vary more."""
ALIKE = 0.065
"""Distance of local structures, where the object is 40 voxels long, below which two images show the same thing in
place, whatever other poses fit: right heads reach 0.050, of two contrasts 0.058, and prostates come down to 0.081 in
wrong poses (``docs/accuracy.md``)."""
FAINT = 1e-3
"""Variance below which a window has no contrast."""
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


def mutual_information(fixed: Volume, moving: Volume, matrix: np.ndarray | None = None) -> MutualInformation:
    """Mutual information with bins over the ranges of the two volumes, or of what both show under a world matrix."""
    seen = None if matrix is None else seen_by_both(fixed, moving, matrix)
    if seen is None or seen[1] is None:
        return MutualInformation(fixed_range=_range(fixed.tensor), warped_range=_range(moving.tensor))
    inside = (seen[1] > 0)[0, 0]
    return MutualInformation(fixed_range=_range(fixed.tensor[..., inside]), warped_range=_range(seen[0][..., inside]))


def _range(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def correlation_inside(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """Pearson's correlation of intensities where both foregrounds are, under a world matrix; 0 where none are."""
    return _value_inside(fixed, moving, matrix, NCC(), 0.0)


def sign_agreement(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    r"""Whether local contrasts run the same way where both foregrounds are: 1 if all do, -1 if all are inverted.

    $\sum_x c_x |c_x| / \sum_x c_x^2$ with the correlation c in windows of 3 voxels a side. It is low for two contrasts
    that agree as a whole, such as a T1 and a FLAIR image of a brain: fluid is dark in both, but grey matter is darker
    than white in one of them. 0 where the foregrounds hardly meet.
    """
    warped, inside = seen_by_both(fixed, moving, matrix)
    if inside is None:
        return 0.0
    radii = (0 if fixed.is_flat else 1, 1, 1)
    local = reference.local_correlation(fixed.tensor, warped, inside, radii, (FAINT, 0.0, 0.0), squared=False)
    values = local.numpy().astype(np.float64)
    return float((values * np.abs(values)).sum() / max((values**2).sum(), 1e-9))


def fall_of_means(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """How far the mean of one image's intensities falls where the other's rise, as a share of how far it varies.

    The larger of both ways, over voxels of both foregrounds in `NUM_QUANTILES` groups of as many each; of several
    channels the smallest. 0 for images of one contrast, also noisy and badly aligned ones, since only means count; 1
    where one is the other turned over. Grey matter is darker than white in a T1 image and brighter in a FLAIR image.
    """
    warped, inside = seen_by_both(fixed, moving, matrix)
    if inside is None:
        return 0.0
    counts = (inside > 0)[0, 0]
    pairs = ((a[counts].numpy(), b[counts].numpy()) for a, b in zip(fixed.tensor[0], warped[0], strict=True))
    return min(max(_fall(a, b), _fall(b, a)) for a, b in pairs)


def _fall(given: np.ndarray, values: np.ndarray) -> float:
    """How far the mean of some values surely falls while what is given rises, as a share of its range."""
    bounds = np.quantile(given, np.linspace(0, 1, NUM_QUANTILES + 1)[1:-1])
    groups, values = np.searchsorted(bounds, given, side="right"), values.astype(np.float64)
    counts, sums, squares = (np.bincount(groups, w, NUM_QUANTILES) for w in (None, values, values**2))
    counts, sums, squares = (a[counts > 0] for a in (counts, sums, squares))
    means = sums / counts
    errors = np.maximum(squares / counts - means**2, 0) / counts
    falls = means[:, None] - means - FALL_ERRORS * np.sqrt(errors[:, None] + errors)
    return max(float(np.triu(falls, 1).max()), 0.0) / max(float(np.ptp(means)), 1e-9)


def structure_distance(fixed: Volume, moving: Volume, matrix: np.ndarray) -> float:
    """How far local structures differ where both foregrounds are: minus :class:`MIND`, blind to contrast."""
    return -_value_inside(fixed, moving, matrix, MIND(), -np.inf)


def is_alike(fixed: Volume, moving: Volume, matrix: np.ndarray) -> bool:
    """Whether local structures agree so well that the objects are in place under a world matrix, in any contrasts.

    Of volumes alone: slices have a third of the neighbours to compare, and unrelated ones come as near.

    Args:
        fixed, moving: Volumes in which the fixed object is 40 voxels long.
        matrix: World matrix ``(4, 4)``.
    """
    return not fixed.is_flat and structure_distance(fixed, moving, matrix) < ALIKE


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
