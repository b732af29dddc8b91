"""The trainings of source 002: five experiments and more, on the same images, for the same number of epochs."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learned_affine_data import CARD, NUM_FOLDS, SPREAD, Data
from pullback import functional
from pullback.networks import AbstractNetwork, State, build
from pullback.networks.keymorph import KeyMorph
from pullback.registration import Card
from pullback.training.augmentation import Augmentation, RandomAffine
from pullback.training.cohort import seed_of
from pullback.training.recipe import NetworkPlan, Recipe, read_recipe
from pullback.training.state import TrainingState
from pullback.training.terms import SimilarityTerm
from pullback.training.weights import save_network, versions

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
FILES = {number: next(RECIPES.glob(f"airnet-{number}-*.yaml")) for number in "12345"}
FILES["keypoints"] = RECIPES / "airnet-keypoints.yaml"
NETWORKS = {
    "matches": NetworkPlan("airnet-matches"),
    "c2fvit": NetworkPlan("c2fvit", {"start_channels": 32}),
}
HARD = "keypoints-hard"
"""Learns from hard starts (``learned_affine_stress.py``) instead of the study's images."""
EXPERIMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{number: (number, ()) for number in "12345"},
    "2-plain": ("2", ("network.settings.is_standardised=false",)),
    "4-gradient-free": ("4", ("losses.1.is_differentiable=false",)),
    "2-factors": ("2", ("network.settings.parametrisation=factors",)),
    "4-factors": ("4", ("network.settings.parametrisation=factors",)),
    "2-matches": ("2", ()),
    "4-matches": ("4", ()),
    "4-c2fvit": ("4", ()),
    "keypoints": ("keypoints", ()),
    "keypoints-long": ("keypoints", ("network.settings.start_channels=16",)),
    HARD: (
        "keypoints",
        ("network.settings.start_channels=16", "network.settings.early_fit=rigid", "network.settings.num_passes=3"),
    ),
    **{f"{number}-{epochs}": (number, ()) for number in "12345" for epochs in (500, 800)},
}
"""The number of the recipe of each, and what is changed in it; a name of `NETWORKS` in it takes that network."""
FURTHER = {
    **dict.fromkeys(("keypoints", "keypoints-long"), SPREAD),
    HARD: RandomAffine(rotation_degrees=180.0, scaling=0.1, shear=0.05, translation_voxels=5.0),
}
"""By which `SHARE_MOVED` of the images are moved further in each step; those of the other experiments never."""
SHARE_MOVED = 0.75
LEARNING_RATES = {"airnet": 5e-4, "airnet-matches": 1e-2, "c2fvit": 1e-3, "keymorph": 5e-3}
"""At first, by family: each the best of two or three that were tried on the images of fold 0."""
BATCH = 5
NO_FOLD = NUM_FOLDS
"""In place of a fold to leave out."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; it then falls along a cosine."""


def recipe_for(experiment: str) -> Recipe:
    """The recipe of an experiment."""
    number, changes = EXPERIMENTS[experiment]
    recipe = read_recipe(FILES[number], changes)
    network = NETWORKS.get(experiment.partition("-")[2])
    return recipe if network is None else replace(recipe, network=network)


def weights_path(folder: Path, experiment: str, fold: int) -> Path:
    """Where a training's weights are."""
    return folder / f"{experiment}-{'all' if fold == NO_FOLD else f'fold{fold}'}.safetensors"


def train(
    experiments: Sequence[str],
    data: Data,
    fold: int,
    folder: Path,
    *,
    num_epochs: int,
    minutes: float,
) -> bool:
    """Train several experiments on all folds but one (`NO_FOLD`: on all), together; write weights and cards.

    They see the same batches and know nothing of each other.

    Returns:
        Whether they came to their end within `minutes`; if not, the next call goes on from where they are.
    """
    started = time.monotonic()
    index = torch.cat([data.where(other) for other in range(NUM_FOLDS) if other != fold])
    bank = Bank(experiments, fold)
    path = weights_path(folder, "+".join(experiments), fold).with_suffix(".state")
    first, before = bank.restore(path)
    processor = time.process_time() - before
    steps_per_epoch = len(index) // BATCH
    num_steps, sums = num_epochs * steps_per_epoch, []
    for step in range(first, num_steps):
        if time.monotonic() - started > 60 * minutes:
            bank.save(path, step, time.process_time() - processor)
            return False
        chosen = index[_order(fold, step // steps_per_epoch, len(index))[step % steps_per_epoch]]
        sums.append(bank.make_step(data, chosen, fold, step, _share(step / num_steps)))
        if (step + 1) % steps_per_epoch == 0:
            losses = ", ".join(f"{n} {v:.5f}" for n, v in zip(experiments, np.mean(sums, axis=0), strict=True))
            print(f"fold {fold}, epoch {(step + 1) // steps_per_epoch}: {losses}", flush=True)
            sums.clear()
    seconds = round(time.process_time() - processor)
    figures = {"epochs": num_epochs, "processor_seconds_together": seconds, "num_together": len(experiments)}
    for name, network in zip(experiments, bank.networks, strict=True):
        save_network(weights_path(folder, name, fold), network.eval(), _card(network, figures))
    path.unlink(missing_ok=True)
    return True


class Bank:
    """Networks that learn side by side.

    Args:
        experiments: Their names.
        fold: Left out.
    """

    def __init__(self, experiments: Sequence[str], fold: int) -> None:
        recipes = [recipe_for(name) for name in experiments]
        self.recipes, self.networks = recipes, []
        self.further = [FURTHER.get(name) for name in experiments]
        for recipe in recipes:
            torch.manual_seed(seed_of(recipe.seed, fold))
            self.networks.append(build(recipe.network.family, **recipe.network.settings).train())
        rates = [LEARNING_RATES[recipe.network.family] for recipe in recipes]
        groups = [
            {"params": list(network.parameters()), "at_first": rate}
            for network, rate in zip(self.networks, rates, strict=True)
        ]
        self.optimiser = torch.optim.Adam(groups, fused=True)  # each number for itself: as many optimisers

    def make_step(self, data: Data, chosen: Tensor, fold: int, step: int, share: float) -> list[float]:
        """One step of each, at a share of its learning rate; their losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["at_first"]
        fixed, moving = data.template.expand(len(chosen), -1, -1, -1, -1), data.images[chosen].float()
        given = {"fixed": fixed, "moving": moving, "true_matrix": data.matrices[chosen]}
        given["registered"] = data.registered[chosen].float()
        losses = []
        for recipe, network, further in zip(self.recipes, self.networks, self.further, strict=True):
            seed = seed_of(recipe.seed, 1, fold, step)
            torch.manual_seed(seed)
            state = TrainingState(given | (moved_further(given, further, seed) if further else {}))
            state.take(_answer(network, fixed, state["moving"]))
            if any(isinstance(term, SimilarityTerm) for term in recipe.losses):
                state.take({"warped": functional.warp_by_matrix(state["moving"], state["matrix"])})
            if recipe.augmentation.again.is_on:
                state.take(recipe.augmentation.seen_again(moving, torch.Generator().manual_seed(seed)))
                again = _answer(network, fixed, state["moving_again"])
                state.take({f"{name}_again": value for name, value in again.items()})
            losses.append(sum(term.weight * term(state) for term in recipe.losses).mean())
        self.optimiser.zero_grad()
        sum(losses).backward()
        self.optimiser.step()
        return [float(loss.detach()) for loss in losses]

    def save(self, path: Path, step: int, seconds: float) -> None:
        """Keep weights, optimiser, step and the processor's seconds so far."""
        networks = [network.state_dict() for network in self.networks]
        kept = {"networks": networks, "optimiser": self.optimiser.state_dict(), "step": step, "seconds": seconds}
        torch.save(kept, path)

    def restore(self, path: Path) -> tuple[int, float]:
        """Take what was kept, if it was; the step to go on with, and the seconds so far."""
        if not path.exists():
            return 0, 0.0
        kept = torch.load(path, weights_only=True)
        for network, state in zip(self.networks, kept["networks"], strict=True):
            network.load_state_dict(state)
        self.optimiser.load_state_dict(kept["optimiser"])
        return kept["step"], kept["seconds"]


def moved_further(given: dict[str, Tensor], further: RandomAffine, seed: int) -> dict[str, Tensor]:
    """`moving` and `true_matrix` of a batch: most of the images moved by a random map, half of them mirrored before.

    Hard starts are not mirrored: turned by any angle, left and right are hard enough to tell.
    """
    generator = torch.Generator().manual_seed(seed)
    batch = len(given["moving"])
    moving, matrix = given["moving"], given["true_matrix"].double()
    if further is SPREAD:
        moving, matrix = _mirrored(moving, matrix, torch.rand(batch, generator=generator))
    again = Augmentation(again=further).seen_again(moving, generator)
    is_moved = torch.rand(batch, generator=generator) < SHARE_MOVED
    moved = torch.linalg.inv(again["again_matrix"].double()) @ matrix
    return {
        "moving": torch.where(is_moved[:, None, None, None, None], again["moving_again"], moving),
        "true_matrix": torch.where(is_moved[:, None, None], moved, matrix),
    }


def _mirrored(moving: Tensor, matrix: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Images of which half are mirrored, left to right, and their maps: the template is its own mirror image.

    Args:
        moving: ``(B, 1, N, N, N)``.
        matrix: ``(B, 4, 4)``: true voxel matrices.
        drawn: ``(B,)``: numbers from 0 to 1, of which those below one half say mirror.
    """
    last = moving.shape[-1] - 1
    images, matrices = list(moving), list(matrix)
    for n in (drawn < 0.5).nonzero().flatten().tolist():
        axis = int(matrix[n, :3, 0].abs().argmax())  # of the image, nearest to the template's left and right
        images[n] = images[n].flip(1 + axis)
        matrices[n] = _mirror(axis, last) @ matrices[n] @ _mirror(0, last)
    return torch.stack(images), torch.stack(matrices)


def _mirror(axis: int, last: int) -> Tensor:
    mirror = torch.eye(4, dtype=torch.float64)
    mirror[axis, axis], mirror[axis, 3] = -1, last
    return mirror


def _answer(network: AbstractNetwork, fixed: Tensor, moving: Tensor) -> State:
    """What losses ask for, without a displacement."""
    if isinstance(network, KeyMorph):
        return network.points_and_matrix_of(fixed, moving)
    return {"matrix": network.matrix_of(fixed, moving)}


def _order(fold: int, epoch: int, count: int) -> Tensor:
    """The batches of an epoch, the same for every experiment."""
    order = np.random.default_rng([fold, epoch]).permutation(count)
    return torch.from_numpy(order[: count // BATCH * BATCH].reshape(-1, BATCH))


def _share(done: float) -> float:
    return min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * done)))


def _card(network: AbstractNetwork, figures: dict[str, int]) -> Card:
    values = CARD.as_dict() | {
        "family": network.family,
        "settings": network.settings,
        "versions": versions(),
        "figures": figures,
    }
    return Card.from_dict(values)
