"""Prepared scans in memory, and the pairs they make, a batch at a time on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.training.augmentation import carry_away
from pullback.training.cache import Cache, Entry
from pullback.training.pairs import NamePair, all_ordered, atlas_to_subject, leave_pairs_out, random_pairs, to_templates
from pullback.training.preprocessing import lattice_of, source_grid_of
from pullback.training.recipe import PairPlan, Recipe
from pullback.training.state import TrainingState, one_hot

SHARE_OF_DEVICE = 0.4
"""All images are held on the device if they take no more than this share of its free memory, else in main memory."""

LEAVING_OUT = ("kept", "left-out")
SHARED = "shared"
"""Said of scans that are held though they are of no part that is."""
HALF = 0.5
"""Of a voxel: that far a field of view reaches beyond the centres of its outer voxels."""


@dataclass(frozen=True)
class Batch:
    """Pairs on the device.

    Attributes:
        fixed, moving: ``(B, C, *S)`` float32.
        fixed_labels, moving_labels: ``(B, *S)``, or None where a scan has none.
        names: Fixed and moving.
        views: Of fixed and moving, ``(B, 1, *S)``: 1 within the scan's field of view, 0 where the lattice is filled.
        displacement: What the teacher found, ``(B, D, *S)`` in voxels.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None
    moving_labels: Tensor | None
    names: tuple[NamePair, ...]
    views: tuple[Tensor, Tensor] | None = None
    displacement: Tensor | None = None


class Cohort:
    """The scans of a cache, held as few big tensors.

    Args:
        cache: Where they come from.
        parts: Which parts of the split to hold.
        device: Where batches are needed.
        shared: Names of scans to hold too, whatever their part.
        has_views: Whether batches bring the fields of view of their scans.
        is_taught: Whether the training pairs are those that a teacher registered, both ways, and bring what it found.
    """

    def __init__(
        self,
        cache: Cache,
        parts: Sequence[str],
        device: torch.device,
        *,
        shared: Sequence[str] = (),
        has_views: bool = False,
        is_taught: bool = False,
    ) -> None:
        scans = dict.fromkeys(shared, SHARED) | {name: part for part in parts for name in cache.split.part(part)}
        self.cache, self.device, self.is_taught = cache, device, is_taught
        self.entries = [entry for entry in cache.entries if entry.scan in scans]
        if not self.entries:
            raise ValueError(f"'{cache.folder}' holds no scan for {' or '.join(parts)}.")
        self.part = {entry.name: scans[entry.scan] for entry in self.entries}
        self.index = {entry.name: number for number, entry in enumerate(self.entries)}
        loaded = [cache.load(entry) for entry in self.entries]
        for entry, (image, _) in zip(self.entries, loaded, strict=True):
            if image.shape != loaded[0][0].shape:
                raise ValueError(
                    f"'{entry.name}' has channels and voxels {list(image.shape)}, but '{self.entries[0].name}' has "
                    f"{list(loaded[0][0].shape)}; all scans of a training need the same."
                )
        self.images = torch.stack([image for image, _ in loaded])
        self.views = torch.stack([self._view(entry) for entry in self.entries])[:, None] if has_views else None
        """Which voxels of each entry's lattice lie in its scan's field of view, ``(N, 1, *S)`` bool."""
        self.has_labels = torch.tensor([labels is not None for _, labels in loaded])
        empty = torch.zeros(self.images.shape[2:], dtype=torch.int32)
        labels = torch.stack([empty if one is None else one for _, one in loaded])
        self.labels = labels.to(torch.uint8) if int(labels.min()) >= 0 and int(labels.max()) < 256 else labels
        if device.type == "cuda":
            self._move_or_pin()

    def _move_or_pin(self) -> None:
        free, _ = torch.cuda.mem_get_info(self.device)
        size = self.images.nbytes + self.labels.nbytes
        if size <= SHARE_OF_DEVICE * free:
            self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        else:
            self.images, self.labels = self.images.pin_memory(), self.labels.pin_memory()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the lattice."""
        return tuple(self.images.shape[2:])

    @property
    def num_channels(self) -> int:
        """Of each image."""
        return self.images.shape[1]

    def label_values(self) -> tuple[int, ...]:
        """All labels that the held scans have, without the background."""
        return tuple(sorted({value for entry in self.entries for value in entry.labels}))

    def spacings_mm(self) -> dict[str, Tensor]:
        """Spacing of each entry's lattice, ``(D,)`` float64; of a slice's, along the axes that stay."""
        return {entry.name: self._spacing(entry) for entry in self.entries}

    def _spacing(self, entry: Entry) -> Tensor:
        matrix = torch.tensor(entry.record["voxel_to_world"], dtype=torch.float64)
        spacing = torch.linalg.vector_norm(matrix[:-1, :-1], dim=0)
        if len(spacing) == len(self.shape):
            return spacing
        return spacing[[axis for axis in range(len(spacing)) if axis != self._cut]]

    @property
    def _cut(self) -> int:
        """The axis across which slices were cut."""
        return self.cache.preprocessing["slices"]["axis"]

    def _view(self, entry: Entry) -> Tensor:
        lattice, source = lattice_of(entry.record), source_grid_of(entry.record)
        points = lattice.centres()
        if entry.position >= 0:
            points = points.select(self._cut, entry.position)
        where = source.to_voxel(points)
        inside = (where > -HALF) & (where < torch.tensor(source.shape) - HALF)
        return inside.all(dim=-1)

    def pairs(self, plan: PairPlan, part: str) -> list[NamePair]:
        """The pairs of a part of the split; slices pair with slices at the same position only.

        Raises:
            ValueError: If there is none.
        """
        found: list[NamePair] = []
        scans = "training" if plan.of in LEAVING_OUT else part
        here = [entry for entry in self.entries if self.part[entry.name] == scans or entry.scan in plan.shared]
        for position in sorted({entry.position for entry in here}):
            found += _pairs_of(plan, [entry for entry in here if entry.position == position], self.cache.pairs, part)
        if not found:
            raise ValueError(f"There is no pair for {part}: it holds {len(here)} scans.")
        if not self.is_taught or part != "training":
            return found
        return [pair for pair in both_ways(found) if not self.cache.failed(pair)]

    def batch(self, pairs: Sequence[NamePair]) -> Batch:
        """These pairs on the device."""
        sides = [torch.tensor([self.index[pair[side]] for pair in pairs]) for side in (0, 1)]
        images = [self._take(self.images, index).to(torch.float32) for index in sides]
        labels: list[Tensor | None] = [None, None]
        if all(bool(self.has_labels[index].all()) for index in sides):
            labels = [self._take(self.labels, index) for index in sides]
        views = None
        if self.views is not None:
            views = tuple(self._take(self.views, index).to(torch.float32) for index in sides)
        known = None
        if self.is_taught and all(pair in self.cache.maps for pair in pairs):
            known = torch.stack([self.cache.displacement(pair) for pair in pairs]).to(self.device, non_blocking=True)
        return Batch(*images, *labels, tuple(pairs), views, known)

    def _take(self, tensor: Tensor, index: Tensor) -> Tensor:
        return tensor[index.to(tensor.device, non_blocking=True)].to(self.device, non_blocking=True)


def _pairs_of(plan: PairPlan, entries: Sequence[Entry], given: dict, part: str) -> list[NamePair]:
    names = [entry.name for entry in entries]
    by_scan = {entry.scan: entry.name for entry in entries}
    if plan.of == "all":
        return all_ordered(names)
    if plan.of in LEAVING_OUT:
        two = leave_pairs_out(all_ordered(names), plan.num_folds, plan.fold, seed=plan.seed)
        return two[LEAVING_OUT.index(plan.of)]
    if plan.of == "random":
        return random_pairs(names, plan.num_pairs, seed=plan.seed)
    if plan.of == "templates":
        return to_templates(names, plan.num_templates, seed=plan.seed)
    if plan.of == "atlas":
        if plan.atlas not in by_scan:
            raise ValueError(f"The atlas '{plan.atlas}' is none of the scans for {part}.")
        return atlas_to_subject(names, by_scan[plan.atlas])
    if plan.of == "template":
        if plan.template not in by_scan:
            raise ValueError(f"The template '{plan.template}' is none of the prepared scans.")
        return [(by_scan[plan.template], name) for name in names if name != by_scan[plan.template]]
    unknown = [name for pair in plan.given for name in pair if name not in by_scan]
    if unknown:
        raise ValueError(f"`given` names '{unknown[0]}', which is none of the scans for {part}.")
    wanted = plan.given or given.get(part, ())
    return [(by_scan[a], by_scan[b]) for a, b in wanted if a in by_scan and b in by_scan]


def both_ways(pairs: Sequence[NamePair]) -> list[NamePair]:
    """The pairs, then their ways back, each once."""
    return list(dict.fromkeys([*pairs, *((moving, fixed) for fixed, moving in pairs)]))


def seed_of(*numbers: int) -> int:
    """One 63-bit seed of several numbers, so that no two steps or devices share their random numbers."""
    low, high = np.random.SeedSequence(numbers).generate_state(2)
    return (int(high) << 31) ^ int(low)


class PairOrder:
    """The training pairs of each step: every pair once per round, in an order that only seed and round decide.

    Args:
        pairs: All of them.
        seed: The recipe's.
    """

    def __init__(self, pairs: Sequence[NamePair], seed: int) -> None:
        self.pairs, self.seed = list(pairs), seed
        self._round, self._order = -1, np.empty(0, dtype=np.int64)

    def take(self, start: int, count: int) -> list[NamePair]:
        """Pairs number `start` to ``start + count`` of the endless row."""
        return [self._at(number) for number in range(start, start + count)]

    def _at(self, number: int) -> NamePair:
        current, within = divmod(number, len(self.pairs))
        if current != self._round:
            self._order = np.random.default_rng([self.seed, current]).permutation(len(self.pairs))
            self._round = current
        return self.pairs[self._order[within]]


def changed(recipe: Recipe, batch: Batch, values: Tensor, generator: torch.Generator) -> TrainingState:
    """A batch after augmentation, as the start of a training state.

    Args:
        recipe: Says what changes, and which terms want labels.
        batch: On the device.
        values: The labels that count, ``(L,)`` on the device.
        generator: Seeded for this step.
    """
    given: dict[str, Tensor] = {}
    fixed, moving, known = batch.fixed, batch.moving, batch.displacement
    num_labels = len(values) if recipe.needs_labels else 0
    layers = _layers(batch, values, num_labels)
    if recipe.simulation is not None:
        displacement, matrix = recipe.simulation(moving, generator)
        given |= {"true_displacement": displacement, "true_matrix": matrix}
        if recipe.simulation.makes == "moving":
            given["registered"] = moving
            moving, *rest = carry_away([moving, *(layers or ())[1:]], matrix)
            layers = None if layers is None else (layers[0], rest[0])
        else:
            fixed = functional.warp(moving, displacement)
            layers = None if layers is None else (functional.warp(layers[1], displacement), layers[1])
    (fixed, moving), layers, known = recipe.augmentation((fixed, moving), layers, generator, known)
    given |= {"fixed": fixed, "moving": moving}
    if known is not None:
        given["true_displacement"] = known
    if recipe.augmentation.again.is_on:
        given |= recipe.augmentation.seen_again(moving, generator)
    if layers is not None and num_labels:
        given |= {"fixed_labels": layers[0][:, :num_labels], "moving_labels": layers[1][:, :num_labels]}
    if layers is not None and batch.views is not None:
        given |= {"fixed_view": layers[0][:, num_labels:], "moving_view": layers[1][:, num_labels:]}
    return TrainingState(given)


def _layers(batch: Batch, values: Tensor, num_labels: int) -> tuple[Tensor, Tensor] | None:
    """What moves as the images do: one-hot labels if any are wanted, then the fields of view if there are any."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    if num_labels:
        if batch.fixed_labels is None or batch.moving_labels is None:
            raise ValueError(f"A term wants labels, but the pair {' and '.join(batch.names[0])} has none.")
        for side, labels in zip(sides, (batch.fixed_labels, batch.moving_labels), strict=True):
            side.append(one_hot(labels, values))
    if batch.views is not None:
        for side, view in zip(sides, batch.views, strict=True):
            side.append(view)
    return (torch.cat(sides[0], dim=1), torch.cat(sides[1], dim=1)) if sides[0] else None
