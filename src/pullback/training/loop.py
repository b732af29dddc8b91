"""The loop: one for every family, on the CPU, one GPU or several, through Lightning Fabric.

All random numbers of a step come from the recipe's seed, the step's number and the device's rank, so that a training
that was interrupted and goes on makes the same weights as one that was not (bit for bit where the device's own
operations are: on the CPU).
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pullback.checks import check_at_least, check_device
from pullback.networks import AbstractNetwork, build
from pullback.registration.card import LINEAR, Card
from pullback.registration.placement import reordered
from pullback.space import Grid
from pullback.training.cache import Cache, check_fits, check_scans, check_taught
from pullback.training.checkpoint import BEST, LAST, STATE, Progress, load_state, save_state
from pullback.training.cohort import Cohort, PairOrder, changed, seed_of
from pullback.training.log import Log
from pullback.training.preprocessing import lattice_of, source_grid_of
from pullback.training.recipe import Recipe
from pullback.training.schedule import check_stages, freeze, learning_rate_at, stage_at, weights_at
from pullback.training.state import TrainingState
from pullback.training.validation import mean_scores, score_pairs
from pullback.training.weights import load_weights, save_network, versions

OnStep = Callable[[int, int, Mapping[str, float]], None]
"""Called with the step, the number of steps and the figures that matter."""

FINISHED, STALLED, STOPPED = "all its steps", "no new best", "stopped by a signal"

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Order of the weights in memory with which the CPU's convolutions in half precision are fastest."""
FEWEST_VOXELS = 3
"""Of the coarsest lattice. Torch 2.13 on the CPU reads memory that nothing has written where it derives a convolution
over two voxels by its weights in half precision: the gradient differs from run to run and is now and then infinite."""


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    Attributes:
        folder: Holds the checkpoints and the log.
        reason: `FINISHED`, `STALLED` or `STOPPED`.
        progress: How far it came.
    """

    folder: Path
    reason: str
    progress: Progress


def train(
    recipe: Recipe,
    cache: Cache,
    folder: Path,
    *,
    device: str = "auto",
    num_devices: int = 1,
    resume: bool = False,
    on_step: OnStep | None = None,
) -> Trained:
    """Train a network by a recipe.

    Args:
        recipe: All that decides the result.
        cache: The prepared scans.
        folder: Where checkpoints, the log and the card go.
        device: ``cpu``, ``cuda`` or ``auto``.
        num_devices: GPUs, or processes on the CPU.
        resume: Go on from the folder's last checkpoint.
        on_step: Told how it goes.

    Returns:
        How it ended.

    Raises:
        FileExistsError: If the folder holds a training already and `resume` is false.
        FloatingPointError: If a loss is not finite; names the term and the pair.
        ValueError: If the recipe does not fit the data.
    """
    check_fits(cache, recipe.preprocessing)
    check_scans(cache, recipe)
    check_taught(cache, recipe)
    if (folder / STATE).exists() and not resume:
        raise FileExistsError(f"'{folder}' holds a training already; go on with --resume, or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    fabric = start_fabric(recipe, device, num_devices)
    job = _Job(recipe, cache, folder, fabric, resume)
    with stop_signals() as signals:
        reason = _run(job, signals, on_step)
    return Trained(folder, reason, job.progress)


def _run(job: "_Job", signals: "Signals", on_step: OnStep | None) -> str:
    """Step by step until the end."""
    plan, progress = job.recipe.optimisation, job.progress
    started = time.perf_counter() - progress.seconds
    patience, reason = job.recipe.validation.patience, FINISHED
    if 0 < patience <= progress.looks_since_best:  # it was so when it stopped
        job.close()
        return STALLED
    while progress.step < plan.num_steps:
        figures = job.make_step(progress.step)
        progress.step += 1
        progress.seconds = time.perf_counter() - started
        if job.is_due(job.recipe.validation.every_steps):
            figures |= job.validate()
            if 0 < patience <= progress.looks_since_best:
                reason = STALLED
        if on_step is not None:
            on_step(progress.step, plan.num_steps, figures)
        if signals.received or reason == STALLED:
            reason = STOPPED if signals.received else reason
            break
    job.save()
    job.close()
    return reason


class _Job:
    """Everything a training holds on to."""

    def __init__(self, recipe: Recipe, cache: Cache, folder: Path, fabric: Any, resume: bool) -> None:
        self.recipe, self.folder, self.fabric = recipe, folder, fabric
        parts = ("training", "validation") if cache.split.validation else ("training",)
        shared = (*recipe.pairs.training.shared, *recipe.pairs.validation.shared)
        brings = {"has_views": recipe.needs_views, "is_taught": recipe.teacher is not None}
        self.cohort = Cohort(cache, parts, fabric.device, shared=shared, **brings)
        self.order = PairOrder(self.cohort.pairs(recipe.pairs.training, "training"), recipe.seed)
        self.looked_at = self.cohort.pairs(recipe.pairs.validation, "validation") if len(parts) > 1 else []
        self.labels = recipe.labels or self.cohort.label_values()
        self.values = torch.tensor(self.labels, device=fabric.device, dtype=torch.int32)
        torch.manual_seed(seed_of(recipe.seed, 0))
        self.plain = build_network(recipe, self.cohort.num_channels)
        if fabric.device.type == "cpu" and recipe.optimisation.precision == "bf16-mixed":
            suit_half_precision(self.plain, self.cohort.shape)
        check_stages(self.plain, recipe, (self.cohort.num_channels, *self.cohort.shape))
        self._check_labels()
        self._check_maps()
        self.card = card_of(recipe, cache, self.plain, self.cohort)
        wrapped = torch.compile(self.plain) if recipe.optimisation.compile else self.plain
        self.network, self.optimiser = fabric.setup(wrapped, make_optimiser(recipe, self.plain, fabric.device))
        self.progress = load_state(folder, self.plain, self.optimiser, recipe.as_dict()) if resume else Progress()
        self.frozen: tuple[str, ...] | None = None
        self.log = None
        if fabric.global_rank == 0:
            columns = ["seconds", "learning_rate", "loss", *(t.title for t in recipe.losses), *VALIDATED]
            self.log = Log(folder, columns, from_step=self.progress.step, tensorboard=recipe.logging.tensorboard)

    def _check_labels(self) -> None:
        """Raise ValueError if labels are wanted that are not there."""
        recipe, cohort = self.recipe, self.cohort
        there = cohort.label_values()
        if recipe.labels and there and not set(recipe.labels) & set(there):
            raise ValueError(f"`labels` is {list(recipe.labels)}, but the scans hold {list(there)} and none of these.")
        if recipe.needs_labels:
            wanted = dict.fromkeys(name for pair in self.order.pairs for name in pair)
            without = [name for name in wanted if not cohort.has_labels[cohort.index[name]]]
            if without:
                raise ValueError(f"A term wants labels, but '{without[0]}' has none; leave it out, or the term.")
        if recipe.validation.metric == "dice" and self.looked_at and not there:
            raise ValueError("`validation.metric` is 'dice', but no scan has a label; take 'similarity'.")

    def _check_maps(self) -> None:
        """Raise ValueError if a teacher is wanted that has not seen every training pair."""
        if self.recipe.teacher is None:
            return
        if not self.order.pairs:
            raise ValueError("The teacher failed to register every training pair, so there is nothing to learn from.")
        unseen = [pair for pair in self.order.pairs if pair not in self.cohort.cache.maps]
        if unseen:
            raise ValueError(
                f"There is no map of the teacher for {' and '.join(unseen[0])} and {len(unseen) - 1} other pairs; give "
                "--data too: what is prepared already is kept."
            )

    def make_step(self, step: int) -> dict[str, float]:
        """One step of the optimiser; returns its figures."""
        recipe, stage = self.recipe, stage_at(self.recipe, step)
        if stage.frozen != self.frozen:
            freeze(self.plain, stage.frozen)
            self.frozen = stage.frozen
        rate = learning_rate_at(recipe, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        pairs = self._pairs(step)
        state = self._forward(step, pairs, stage.conditions)
        values = torch.stack([term(state) for term in recipe.losses])
        weights = values.new_tensor(weights_at(recipe, step))
        self.optimiser.zero_grad()
        self.fabric.backward((weights[:, None] * values).sum(0).mean())
        norm = self._clip()
        numbers = values.detach().double().cpu()  # the one wait for the device in a step, once all its work is queued
        self._check(numbers, norm, pairs, step)
        self.optimiser.step()
        return self._figures(step, numbers, rate)

    def _pairs(self, step: int) -> list[tuple[str, str]]:
        size, world = self.recipe.optimisation.batch_size, self.fabric.world_size
        return self.order.take((step * world + self.fabric.global_rank) * size, size)

    def _forward(self, step: int, pairs: list[tuple[str, str]], conditions: dict[str, Any]) -> TrainingState:
        """The state of a batch after the network."""
        seed = seed_of(self.recipe.seed, 1, step, self.fabric.global_rank)
        generator = torch.Generator(self.fabric.device).manual_seed(seed)
        torch.manual_seed(seed)  # for what the network itself draws
        with torch.no_grad():
            state = changed(self.recipe, self.cohort.batch(pairs), self.values, generator)
        state.take(self.network(state["fixed"], state["moving"], **conditions))
        if "moving_again" in state:
            second = self.network(state["fixed"], state["moving_again"], **conditions)
            state.take({f"{name}_again": value for name, value in second.items()})
        return state

    def _clip(self) -> float | None:
        largest = self.recipe.optimisation.clip_norm
        if not largest:
            return None
        return self.fabric.clip_gradients(self.network, self.optimiser, max_norm=largest, error_if_nonfinite=False)

    def _check(self, numbers: Tensor, norm: Any, pairs: list[tuple[str, str]], step: int) -> None:
        """Stop before a bad number reaches the weights."""
        bad = torch.nonzero(~torch.isfinite(numbers))
        if len(bad):
            term, pair = bad[0].tolist()
            raise FloatingPointError(
                f"The loss '{self.recipe.losses[term].title}' is {float(numbers[term, pair])} at step {step + 1} for "
                f"fixed '{pairs[pair][0]}' and moving '{pairs[pair][1]}'; look at these images, or lower "
                "optimisation.learning_rate. The last checkpoint is sound."
            )
        if norm is not None and not math.isfinite(float(norm)):
            raise FloatingPointError(
                f"The gradient is not finite at step {step + 1} for the pairs {pairs}, though every loss is; lower "
                "optimisation.learning_rate. The last checkpoint is sound."
            )

    def _figures(self, step: int, numbers: Tensor, rate: float) -> dict[str, float]:
        means = numbers.mean(1).tolist()
        weights = weights_at(self.recipe, step)
        figures = {"loss": sum(w * m for w, m in zip(weights, means, strict=True))}
        figures |= {term.title: mean for term, mean in zip(self.recipe.losses, means, strict=True)}
        if self.log is not None and (step + 1) % self.recipe.logging.every_steps == 0:
            self.log.write(step + 1, {"seconds": self.progress.seconds, "learning_rate": rate, **figures})
        return figures

    def is_due(self, every: int) -> bool:
        """Whether something that is done every so many steps, and at the end, is due."""
        return self.progress.step % every == 0 or self.progress.step == self.recipe.optimisation.num_steps

    def validate(self) -> dict[str, float]:
        """Look at the validation pairs, keep the best weights, save where the training stands."""
        if not self.looked_at:
            self.save()
            return {}
        plan, progress = self.recipe.validation, self.progress
        self.plain.eval()
        figures = mean_scores(
            score_pairs(
                self.plain,
                self.cohort,
                self.looked_at,
                self.labels,
                batch_size=plan.batch_size,
                simulation=self.recipe.simulation,
            )
        )
        self.plain.train()
        metric = figures[plan.metric]
        if not math.isfinite(metric):
            raise ValueError(f"The metric '{plan.metric}' is {metric}: the validation scans have no labels in common.")
        is_best = metric > progress.best
        progress.looks_since_best = 0 if is_best else progress.looks_since_best + 1
        if is_best:
            progress.best, progress.best_step = metric, progress.step
        named = {f"validation_{name}": value for name, value in figures.items() if math.isfinite(value)}
        if self.log is not None:
            self.log.write(progress.step, {"seconds": progress.seconds, **named})
            if is_best:
                save_network(self.folder / BEST, self.plain, self._card(figures))
        self.save()
        return {**named, "best": progress.best}

    def save(self) -> None:
        """Write the last checkpoint, from one process alone."""
        if self.fabric.global_rank == 0:
            save_state(self.folder, self.plain, self.optimiser, self.progress, self.recipe.as_dict())
            save_network(self.folder / LAST, self.plain, self._card({}))
        self.fabric.barrier()

    def close(self) -> None:
        """End the log."""
        if self.log is not None:
            self.log.close()

    def _card(self, figures: Mapping[str, float]) -> Card:
        told = {name: value for name, value in figures.items() if math.isfinite(value)}
        values = self.card.as_dict() | {
            "figures": {**told, "step": self.progress.step, "seconds": round(self.progress.seconds, 1)}
        }
        return Card.from_dict(values)


VALIDATED = ("validation_dice", "validation_percent_folds", "validation_similarity")
"""Columns of the log that validation fills."""


@dataclass
class Signals:
    """Whether to stop.

    Attributes:
        received: Set by SIGTERM and SIGINT.
    """

    received: bool = False
    previous: dict[int, Any] = field(default_factory=dict)


@contextmanager
def stop_signals() -> Iterator[Signals]:
    """Turn SIGTERM and SIGINT into a note, so that the step in hand is finished and saved."""
    signals = Signals()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signals.previous[number] = signal.signal(number, lambda *_: setattr(signals, "received", True))
    try:
        yield signals
    finally:
        for number, handler in signals.previous.items():
            signal.signal(number, handler)


def build_network(recipe: Recipe, num_channels: int) -> AbstractNetwork:
    """The recipe's network, with the weights it names, if any.

    Raises:
        ValueError: If the family or a setting is unknown, or the lattice does not suit it.
    """
    shape = recipe.preprocessing.network_shape
    settings = {"num_dims": len(shape)} | recipe.network.settings
    if num_channels != 1:
        settings = {"num_channels": num_channels} | settings
    network = build(recipe.network.family, **settings)
    if (network.num_dims, network.num_channels) != (len(shape), num_channels):
        raise ValueError(
            f"`network.settings` makes a network for {network.num_dims} axes and {network.num_channels} channels, but "
            f"the prepared scans have {len(shape)} and {num_channels}; leave num_dims and num_channels out."
        )
    if any(n % network.multiple for n in shape):
        raise ValueError(
            f"`preprocessing.shape` gives the network {list(shape)}, but '{recipe.network.family}' needs multiples of "
            f"{network.multiple}."
        )
    if recipe.network.weights:
        load_weights(recipe.network.weights, network)
    return network


def suit_half_precision(network: AbstractNetwork, shape: tuple[int, ...]) -> None:
    """Lay the weights out as the CPU's convolutions in half precision want them.

    Raises:
        ValueError: If the coarsest lattice is so small that their gradients are not sound.
    """
    if min(shape) // network.multiple < FEWEST_VOXELS:
        raise ValueError(
            f"`optimisation.precision` is 'bf16-mixed', but '{network.family}' shrinks {list(shape)} voxels by "
            f"{network.multiple}, and the CPU's half precision is not sound on fewer than {FEWEST_VOXELS} voxels; take "
            "'32-true'."
        )
    network.to(memory_format=CHANNELS_LAST[network.num_dims])


def make_optimiser(recipe: Recipe, network: AbstractNetwork, device: torch.device) -> torch.optim.Optimizer:
    """Adam, or AdamW with weight decay."""
    plan = recipe.optimisation
    kind = torch.optim.AdamW if plan.weight_decay else torch.optim.Adam
    return kind(
        network.parameters(),
        lr=plan.learning_rate,
        betas=plan.betas,
        weight_decay=plan.weight_decay,
        fused=device.type == "cuda" or None,
    )


def card_of(recipe: Recipe, cache: Cache, network: AbstractNetwork, cohort: Cohort) -> Card:
    """The card of a network before it has learned anything."""
    plan = recipe.preprocessing
    spacing = plan.spacing_mm or _lattice_spacing(recipe, cache)
    if plan.slices is not None and len(spacing) == 3:
        spacing = tuple(s for axis, s in enumerate(spacing) if axis != plan.slices.axis)
    return Card(
        family=recipe.network.family,
        settings=network.settings,
        shape=plan.network_shape,
        spacing_mm=spacing,
        normalisation=plan.normalisation,
        alignment="view" if _replaces_alignment(recipe) else plan.alignment,
        num_channels=cohort.num_channels,
        recipe=recipe.as_dict(),
        data_fingerprint=cache.fingerprint,
        versions=versions(),
    )


def _replaces_alignment(recipe: Recipe) -> bool:
    """Whether the network learns to do what the alignment did: whoever uses it has no aligned images."""
    return recipe.simulation is not None and recipe.simulation.makes == "moving"


def _lattice_spacing(recipe: Recipe, cache: Cache) -> tuple[float, ...]:
    """The spacing of the lattice, where the recipe leaves it to the images: after a registration the reference's."""
    plan = recipe.preprocessing
    if plan.alignment not in LINEAR:
        return _common_spacing(cache)
    name = plan.reference or cache.entries[0].scan
    record = next(entry.record for entry in cache.entries if entry.scan == name)
    return tuple(round(s, 6) for s in reordered(source_grid_of(record)).spacing_mm.tolist())


def _common_spacing(cache: Cache) -> tuple[float, ...]:
    """The spacing of all lattices, where the recipe leaves it to the images; those of the test scans count too.

    Raises:
        ValueError: If it is not one and the same.
    """
    first = lattice_of(cache.entries[0].record).spacing_mm
    for entry in cache.entries:
        spacing = lattice_of(entry.record).spacing_mm
        if (spacing - first).abs().max() > 1e-3 * first.min():
            names = (f"'{one.scan}' {_in_mm(lattice_of(one.record))}" for one in (cache.entries[0], entry))
            raise ValueError(
                f"The scans have different spacings ({', '.join(names)}); set preprocessing.spacing_mm to one for all."
            )
    return tuple(round(s, 6) for s in first.tolist())


def _in_mm(lattice: Grid) -> str:
    return f"{' x '.join(f'{s:.4g}' for s in lattice.spacing_mm.tolist())} mm"


def start_fabric(recipe: Recipe, device: str, num_devices: int) -> Any:
    """Lightning's Fabric for a device.

    Raises:
        ModuleNotFoundError: If Lightning is not installed.
        ValueError: If the device is not there.
    """
    kind = check_device(device)
    check_at_least("num_devices", num_devices, 1)
    strategy = "auto" if num_devices == 1 else "ddp_find_unused_parameters_true"
    fabric = _fabric_class()(
        accelerator=kind, devices=num_devices, strategy=strategy, precision=recipe.optimisation.precision
    )
    fabric.launch()
    return fabric


def _fabric_class() -> Any:
    """Fabric, from whichever of Lightning's two packages is there."""
    try:
        from lightning_fabric import Fabric
    except ImportError:
        try:
            from lightning.fabric import Fabric
        except ImportError:
            raise ModuleNotFoundError(
                "Lightning Fabric is not installed, which training needs; call `pip install 'pullback[train]'`."
            ) from None
    return Fabric
