"""How good a network is, by real metrics, on the lattice it works on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pullback import functional
from pullback.metrics.deformation import summarise_jacobian
from pullback.metrics.surface import surface_distance
from pullback.networks import AbstractNetwork, affine, run_padded
from pullback.similarity import NCC
from pullback.training.augmentation import Simulation, carry_away
from pullback.training.cohort import Batch, Cohort, seed_of
from pullback.training.pairs import NamePair

SEED = 2
"""Of the maps by which moving images are carried away."""
Predictor = Callable[[Batch], Tensor]
"""From a batch to its displacements ``(B, D, *S)`` in voxels of the lattice; what is no network is scored by one."""


@dataclass(frozen=True)
class PairScore:
    """One pair.

    Attributes:
        fixed, moving: Names.
        dice: By label, of those that both images hold; empty without labels.
        percent_folds: Voxels of the lattice whose determinant (central differences) is not positive.
        num_folds: How many these are.
        sd_log_jacobian: Standard deviation of the logarithm of the determinants, those below 0.001 taken as 0.001.
        similarity: Correlation of fixed and warped.
        hd95: 95th percentile of surface distances in mm, mean over the labels that the fixed and the warped map both
            hold; None where there is none, or where surfaces were not asked for.
    """

    fixed: str
    moving: str
    dice: dict[int, float]
    percent_folds: float
    num_folds: int
    sd_log_jacobian: float
    similarity: float
    hd95: float | None = None

    @property
    def mean_dice(self) -> float:
        """Over labels; NaN without any."""
        return sum(self.dice.values()) / len(self.dice) if self.dice else float("nan")


def score_pairs(
    method: AbstractNetwork | Predictor | None,
    cohort: Cohort,
    pairs: Sequence[NamePair],
    labels: Sequence[int],
    *,
    batch_size: int = 8,
    with_surfaces: bool = False,
    simulation: Simulation | None = None,
) -> list[PairScore]:
    """Score a network, or anything else that gives displacements, on pairs.

    Args:
        method: A network in evaluation mode on the cohort's device, or a predictor; None scores the pairs as they are.
        cohort: Holds the scans.
        pairs: Fixed and moving names.
        labels: Which labels count.
        batch_size: Pairs at a time.
        with_surfaces: Whether to measure distances between surfaces too, which takes longer than all the rest.
        simulation: Of the training. If that carries moving images away, they are carried away here too, each pair by
            the same map every time: pairs that are together already say nothing of who learned to bring them together.
    """
    spacings = cohort.spacings_mm() if with_surfaces else None
    scores = []
    for batch, displacement in predictions(method, cohort, pairs, batch_size=batch_size, simulation=simulation):
        scores += _score(batch, displacement, labels, spacings)
    return scores


def predictions(
    method: AbstractNetwork | Predictor | None,
    cohort: Cohort,
    pairs: Sequence[NamePair],
    *,
    batch_size: int = 8,
    simulation: Simulation | None = None,
) -> Iterator[tuple[Batch, Tensor]]:
    """Batches with their displacements ``(B, D, *S)`` in voxels, zeros without a method; see :func:`score_pairs`."""
    for start in range(0, len(pairs), batch_size):
        batch = cohort.batch(pairs[start : start + batch_size])
        if simulation is not None and simulation.makes == "moving":
            batch = carried_away(batch, simulation, start)
        yield batch, _displacement(method, batch)


def carried_away(batch: Batch, simulation: Simulation, first: int) -> Batch:
    """A batch whose moving images and labels were carried away, as in training.

    Args:
        batch: On the device.
        simulation: Draws the maps.
        first: Place of the first pair among all, from which its map follows, whatever the size of a batch.
    """
    generators = [torch.Generator().manual_seed(seed_of(SEED, first + n)) for n in range(len(batch.names))]
    drawn = [simulation.draw(1, tuple(batch.moving.shape[2:]), generator) for generator in generators]
    matrix = torch.cat(drawn).to(batch.moving.device)
    (moving,) = carry_away([batch.moving], matrix)
    labels = batch.moving_labels
    if labels is not None:
        back = affine.displacement_of(torch.linalg.inv(matrix), tuple(labels.shape[1:]))
        labels = warp_nearest(labels, back)
    return replace(batch, moving=moving, moving_labels=labels)


def _displacement(method: AbstractNetwork | Predictor | None, batch: Batch) -> Tensor:
    if method is None:
        size = (len(batch.fixed), batch.fixed.ndim - 2, *batch.fixed.shape[2:])
        return torch.zeros(size, device=batch.fixed.device)
    if isinstance(method, AbstractNetwork):
        with torch.no_grad():
            return run_padded(method, batch.fixed, batch.moving)["displacement"].float()
    return method(batch).to(batch.fixed.device, torch.float32)


def mean_scores(scores: Sequence[PairScore]) -> dict[str, float]:
    """Means over pairs: ``dice`` (NaN without labels), ``percent_folds``, ``similarity``."""
    with_labels = [score.mean_dice for score in scores if score.dice]
    return {
        "dice": sum(with_labels) / len(with_labels) if with_labels else float("nan"),
        "percent_folds": sum(score.percent_folds for score in scores) / len(scores),
        "similarity": sum(score.similarity for score in scores) / len(scores),
    }


def _score(
    batch: Batch, displacement: Tensor, labels: Sequence[int], spacings: Mapping[str, Tensor] | None
) -> list[PairScore]:
    jacobians = [summarise_jacobian(one) for one in functional.jacobian_determinant(displacement).cpu()]
    similarity = NCC().value_and_gradient(batch.fixed, functional.warp(batch.moving, displacement))[0]
    dice: list[dict[int, float]] = [{} for _ in batch.names]
    distances: list[float | None] = [None for _ in batch.names]
    if batch.fixed_labels is not None and batch.moving_labels is not None:
        warped = warp_nearest(batch.moving_labels, displacement)
        sides = zip(batch.fixed_labels, warped, batch.moving_labels, strict=True)
        dice = [dice_of(fixed, moved, moving, labels) for fixed, moved, moving in sides]
        if spacings is not None:
            both = zip(batch.names, batch.fixed_labels.cpu(), warped.cpu(), strict=True)
            distances = [mean_hd95(fixed, moved, labels, spacings[names[0]]) for names, fixed, moved in both]
    rows = zip(batch.names, dice, jacobians, similarity.tolist(), distances, strict=True)
    return [
        PairScore(*names, overlap, found.percent_nonpositive, found.num_nonpositive, found.sd_log, alike, away)
        for names, overlap, found, alike, away in rows
    ]


def mean_hd95(fixed: Tensor, warped: Tensor, labels: Sequence[int], spacing_mm: Tensor) -> float | None:
    """:attr:`pullback.metrics.SurfaceDistance.hausdorff95`, mean in mm over the labels that both maps hold, or None."""
    there = set(labels) & set(fixed.unique().tolist()) & set(warped.unique().tolist())
    each = [surface_distance(fixed == value, warped == value, spacing_mm).hausdorff95 for value in sorted(there)]
    return sum(each) / len(each) if each else None


def warp_nearest(labels: Tensor, displacement: Tensor) -> Tensor:
    """Label maps ``(B, *S)`` at displaced voxels, nearest neighbour (halves go up), 0 outside."""
    shape = labels.shape[1:]
    axes = [torch.arange(n, dtype=displacement.dtype, device=displacement.device) for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement
    nearest = (points + 0.5).floor().to(torch.int64)
    index, inside = torch.zeros_like(nearest[:, 0]), torch.ones_like(nearest[:, 0], dtype=torch.bool)
    for axis, n in enumerate(shape):
        along = nearest[:, axis]
        inside &= (along >= 0) & (along < n)
        index = index * n + along.clamp(0, n - 1)
    found = labels.flatten(1).gather(1, index.flatten(1)).reshape(labels.shape)
    return torch.where(inside, found, torch.zeros_like(found))


def dice_of(fixed: Tensor, warped: Tensor, moving: Tensor, labels: Sequence[int]) -> dict[int, float]:
    """Dice of each label that the fixed and the moving map both hold, for maps of one shape."""
    if not labels:
        return {}
    wanted = torch.tensor(sorted(labels), device=fixed.device)
    size = len(wanted) + 1
    fixed, warped, moving = (_numbered(one, wanted) for one in (fixed, warped, moving))
    table = torch.bincount(fixed * size + warped, minlength=size * size).reshape(size, size).double().cpu()
    there = torch.bincount(moving, minlength=size).cpu()
    sums = table.sum(0) + table.sum(1)
    return {
        int(value): float(2 * table[n, n] / sums[n])
        for n, value in enumerate(wanted.tolist(), start=1)
        if table[n].sum() > 0 and there[n] > 0
    }


def _numbered(labels: Tensor, wanted: Tensor) -> Tensor:
    """Labels as 1, 2, ... in the order of `wanted`, others 0, flat."""
    flat = labels.flatten().to(wanted.dtype)
    place = torch.searchsorted(wanted, flat).clamp(max=len(wanted) - 1)
    return torch.where(wanted[place] == flat, place + 1, torch.zeros_like(place))
