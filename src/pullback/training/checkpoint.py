"""Where a training stands: enough to go on as if it had never stopped, without a pickle."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim import Optimizer

from pullback.networks import AbstractNetwork
from pullback.registration.card import Card
from pullback.training.cache import whole
from pullback.training.weights import load_weights, save_network

BEST, LAST = "best.safetensors", "last.safetensors"
OPTIMISER, PROGRESS = "last.optimiser.safetensors", "last.json"


@dataclass
class Progress:
    """How far it is.

    Attributes:
        step: Steps done.
        best: The best value of the metric so far.
        best_step: When.
        looks_since_best: Validations without a new best.
        seconds: Spent so far.
    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    looks_since_best: int = 0
    seconds: float = 0.0


def save_last(
    folder: Path, network: AbstractNetwork, optimiser: Optimizer, progress: Progress, card: Card, recipe: dict[str, Any]
) -> None:
    """Write all that :func:`load_last` needs; the list of what belongs together comes last.

    The numbers of `progress` stand in the card of the weights too: a file that belongs to another step is noticed.
    """
    state = optimiser.state_dict()
    tensors = {f"{number}.{name}": value.detach().cpu().contiguous() for number, name, value in _tensors(state)}
    with whole(folder / OPTIMISER) as path:
        save_file(tensors, path, metadata={"step": str(progress.step)})
    save_network(folder / LAST, network, card)
    described = {"progress": asdict(progress), "groups": _groups(state), "recipe": recipe}
    with whole(folder / PROGRESS) as path:
        path.write_text(json.dumps(described), encoding="utf-8")


def load_last(folder: Path, network: AbstractNetwork, optimiser: Optimizer, recipe: dict[str, Any]) -> Progress:
    """Put network and optimiser where the last checkpoint stands.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it belongs to another recipe, or was interrupted while it was written.
    """
    path = folder / PROGRESS
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no checkpoint to go on from.")
    described = json.loads(path.read_text(encoding="utf-8"))
    different = [key for key, value in json.loads(json.dumps(recipe)).items() if described["recipe"].get(key) != value]
    if different:
        raise ValueError(f"The checkpoint in '{folder}' was made by another recipe: '{different[0]}' differs.")
    progress = Progress(**described["progress"])
    with safe_open(folder / OPTIMISER, framework="pt") as file:
        if int(file.metadata()["step"]) != progress.step:
            raise ValueError(f"The checkpoint in '{folder}' is torn: its files are from different steps.")
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 - no mapping
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = file.get_tensor(key)
    load_weights(folder / LAST, network)
    optimiser.load_state_dict({"state": state, "param_groups": described["groups"]})
    return progress


def _tensors(state: dict[str, Any]) -> list[tuple[int, str, torch.Tensor]]:
    return [(number, name, value) for number, entry in state["state"].items() for name, value in entry.items()]


def _groups(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: list(v) if isinstance(v, tuple) else v for name, v in group.items()} for group in state["param_groups"]]
