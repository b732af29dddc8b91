"""What changes on the way: learning rate, frozen parameters, weights of terms, conditions."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from pullback.networks import AbstractNetwork
from pullback.training.recipe import Recipe, Stage


def stage_at(recipe: Recipe, step: int) -> Stage:
    """The stage that a step belongs to."""
    begun = [stage for stage in recipe.stages if stage.from_step <= step]
    return begun[-1] if begun else Stage(0)


def learning_rate_at(recipe: Recipe, step: int) -> float:
    """The learning rate of a step: the stage's or the recipe's, rising at first, falling by the decay."""
    plan = recipe.optimisation
    top = stage_at(recipe, step).learning_rate or plan.learning_rate
    if step < plan.warm_up_steps:
        return top * (step + 1) / plan.warm_up_steps
    done = (step - plan.warm_up_steps) / max(plan.num_steps - plan.warm_up_steps, 1)
    share = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * min(done, 1.0))) / 2}[plan.decay]
    return top if plan.decay == "constant" else top * (plan.final_share + (1 - plan.final_share) * share)


def weights_at(recipe: Recipe, step: int) -> list[float]:
    """The weight of each term at a step."""
    new: dict[str, Any] = stage_at(recipe, step).weights
    return [float(new.get(term.title, term.weight)) for term in recipe.losses]


def check_stages(network: AbstractNetwork, recipe: Recipe, shape: tuple[int, ...]) -> None:
    """Try every stage now, and not when the training comes to it.

    Args:
        network: Of the recipe; left as it was.
        recipe: With the stages.
        shape: Of an image, channels first.

    Raises:
        ValueError: If a stage freezes what is not there, or tells the network what its family cannot be told.
    """
    known = list(inspect.signature(network.state_of).parameters)[2:]
    was_training = network.training
    for stage in recipe.stages:
        freeze(network, stage.frozen)
        for name in stage.conditions:
            if name not in known:
                told = ", ".join(known) or "nothing besides the images"
                raise ValueError(f"`stages.conditions` has '{name}', but '{network.family}' can be told {told}.")
        if stage.conditions:
            image = next(network.parameters()).new_zeros(1, *shape)
            try:
                with torch.no_grad():
                    network.eval()(image, image, **stage.conditions)
            except TypeError as error:
                raise ValueError(f"`stages.conditions` {stage.conditions} is not understood: {error}.") from error
    freeze(network, ())
    network.train(was_training)


def freeze(network: nn.Module, beginnings: tuple[str, ...]) -> None:
    """Let only parameters learn whose names start with none of the beginnings.

    Raises:
        ValueError: If a beginning fits no parameter, or none is left to learn.
    """
    names = [name for name, _ in network.named_parameters()]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in names):
            raise ValueError(f"`frozen` names '{beginning}', but no parameter starts so; there are {', '.join(names)}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(beginnings) if beginnings else True)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"`frozen` {list(beginnings)} leaves nothing to learn.")
