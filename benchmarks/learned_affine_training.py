"""The trainings of source 002: five experiments and more, on the same images, for the same number of epochs."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learned_affine_data import CARD, NUM_FOLDS, Data
from pullback.networks import AbstractNetwork, build
from pullback.registration import Card
from pullback.training.cohort import seed_of
from pullback.training.recipe import NetworkPlan, Recipe, read_recipe
from pullback.training.state import TrainingState
from pullback.training.weights import save_network, versions

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
FILES = {number: next(RECIPES.glob(f"airnet-{number}-*.yaml")) for number in "12345"}
NETWORKS = {
    "matches": NetworkPlan("airnet-matches"),
    "c2fvit": NetworkPlan("c2fvit", {"start_channels": 32}),
}
EXPERIMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{number: (number, ()) for number in "12345"},
    "4-gradient-free": ("4", ("losses.1.is_differentiable=false",)),
    "2-factors": ("2", ("network.settings.parametrisation=factors",)),
    "4-factors": ("4", ("network.settings.parametrisation=factors",)),
    "2-matches": ("2", ()),
    "4-matches": ("4", ()),
    "4-c2fvit": ("4", ()),
}
"""The number of the recipe of each, and what is changed in it; a name of `NETWORKS` in it takes that network."""
BATCH = 5
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
    return folder / f"{experiment}-fold{fold}.safetensors"


def train(
    experiment: str, data: Data, fold: int, folder: Path, *, num_epochs: int, learning_rate: float, minutes: float
) -> None:
    """Train on all folds but one, and write weights and card.

    Raises:
        TimeoutError: If it takes longer than `minutes`: a training that was cut short would not be comparable.
    """
    recipe = recipe_for(experiment)
    index = torch.cat([data.where(other) for other in range(NUM_FOLDS) if other != fold])
    torch.manual_seed(seed_of(recipe.seed, fold))
    network = build(recipe.network.family, **recipe.network.settings).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    steps_per_epoch = len(index) // BATCH
    num_steps, started, sums = num_epochs * steps_per_epoch, time.monotonic(), []
    for step in range(num_steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _share(step / num_steps)
        chosen = index[_order(recipe.seed, fold, step // steps_per_epoch, len(index))[step % steps_per_epoch]]
        state = _state(recipe, network, data, chosen, seed_of(recipe.seed, 1, fold, step))
        loss = sum(term.weight * term(state) for term in recipe.losses).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        sums.append(float(loss.detach()))
        if (step + 1) % steps_per_epoch == 0:
            print(f"{experiment} fold {fold} epoch {(step + 1) // steps_per_epoch}: {np.mean(sums):.5f}", flush=True)
            sums.clear()
        if time.monotonic() - started > 60 * minutes:
            raise TimeoutError(f"{experiment}, fold {fold}: {step + 1} of {num_steps} steps in {minutes} minutes.")
    save_network(weights_path(folder, experiment, fold), network.eval(), _card(recipe, network, num_epochs, started))


def _order(seed: int, fold: int, epoch: int, count: int) -> Tensor:
    """The batches of an epoch, the same for every experiment."""
    order = np.random.default_rng([seed, fold, epoch]).permutation(count)
    return torch.from_numpy(order[: count // BATCH * BATCH].reshape(-1, BATCH))


def _share(done: float) -> float:
    return min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * done)))


def _state(recipe: Recipe, network: AbstractNetwork, data: Data, chosen: Tensor, seed: int) -> TrainingState:
    """What the terms see of a batch."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    fixed, moving = data.template.expand(len(chosen), -1, -1, -1, -1), data.images[chosen].float()
    state = TrainingState({"fixed": fixed, "moving": moving, "true_matrix": data.matrices[chosen]})
    state["registered"] = data.registered[chosen].float()
    state.take(network(fixed, moving))
    if recipe.augmentation.again.is_on:
        state.take(recipe.augmentation.seen_again(moving, generator))
        state.take({f"{name}_again": value for name, value in network(fixed, state["moving_again"]).items()})
    return state


def _card(recipe: Recipe, network: AbstractNetwork, num_epochs: int, started: float) -> Card:
    values = CARD.as_dict() | {
        "family": recipe.network.family,
        "settings": network.settings,
        "versions": versions(),
        "figures": {"epochs": num_epochs, "seconds": round(time.monotonic() - started, 1)},
    }
    return Card.from_dict(values)
