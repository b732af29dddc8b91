"""Where a training stands: enough to go on as if it had never stopped, without a pickle."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from pullback.networks import AbstractNetwork
from pullback.training.cache import whole
from pullback.training.weights import on_cpu

BEST, LAST = "best.safetensors", "last.safetensors"
"""Weights with their card: of the best validation, and of the last step."""
STATE = "last.state.safetensors"
"""Weights, the optimiser's tensors and, as JSON in the metadata, all else: one file, so that it is never torn."""
WEIGHT, OPTIMISER = "weight.", "optimiser."


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
    best: float = -1e30
    best_step: int = 0
    looks_since_best: int = 0
    seconds: float = 0.0


def save_state(
    folder: Path, network: AbstractNetwork, optimiser: Optimizer, progress: Progress, recipe: dict[str, Any]
) -> None:
    """Write all that :func:`load_state` needs. Random numbers need none: each step draws its own from the seed."""
    state = optimiser.state_dict()
    tensors = {WEIGHT + name: value for name, value in network.state_dict().items()}
    for number, entry in state["state"].items():
        tensors |= {f"{OPTIMISER}{number}.{name}": value for name, value in entry.items()}
    described = {"progress": asdict(progress), "groups": state["param_groups"], "recipe": recipe}
    with whole(folder / STATE) as path:
        path.write_bytes(save(on_cpu(tensors), metadata={"training": json.dumps(described)}))


def load_state(folder: Path, network: AbstractNetwork, optimiser: Optimizer, recipe: dict[str, Any]) -> Progress:
    """Put network and optimiser where the last checkpoint stands.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or belongs to another recipe.
    """
    path = folder / STATE
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no checkpoint ('{STATE}') to go on from.")
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged or no checkpoint: {error}; start anew in another folder.") from error
    wanted = json.loads(json.dumps(recipe))
    different = sorted(key for key in wanted if described["recipe"].get(key) != wanted[key])
    if different:
        raise ValueError(f"The checkpoint in '{folder}' was made by another recipe: '{different[0]}' differs.")
    network.load_state_dict(_under(WEIGHT, tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _under(OPTIMISER, tensors).items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": described["groups"]})
    return Progress(**described["progress"])


def _under(beginning: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(beginning): value for name, value in tensors.items() if name.startswith(beginning)}
