"""A network's weights and its card in one safetensors file: tensors and JSON, nothing that could run."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pullback.networks import AbstractNetwork, Mirrored, build
from pullback.registration.card import Card
from pullback.training.cache import whole
from pullback.version import __version__

CARD_KEY = "pullback"


def save_network(path: str | Path, network: AbstractNetwork, card: Card) -> None:
    """Write weights and card, whole or not at all.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder '{path.parent}' of '{path.name}' does not exist; create it first.")
    with whole(path) as temporary:
        temporary.write_bytes(save(on_cpu(network.state_dict()), metadata={CARD_KEY: json.dumps(card.as_dict())}))


def load_network(path: str | Path, *, mirrored: bool = False) -> tuple[AbstractNetwork, Card]:
    """The network, on the CPU and in evaluation mode, and its card.

    Args:
        path: File of the weights.
        mirrored: Whether the network is to answer by :class:`pullback.networks.Mirrored`, along the axes along which
            its training mirrored pairs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, holds no card, its tensors do not fit the family, or `mirrored` is asked of a
            training without mirrored pairs.
    """
    path = Path(path)
    card = load_card(path)
    try:
        network = build(card.family, **card.settings)
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' has a card of which no network can be built: {error}") from error
    load_weights(path, network)
    return (_mirrored(network, card, path) if mirrored else network).eval(), card


def _mirrored(network: AbstractNetwork, card: Card, path: Path) -> Mirrored:
    axes = ((card.recipe or {}).get("augmentation") or {}).get("flips", ())
    if not axes:
        raise ValueError(
            f"'{path}' was not trained on mirrored pairs (`augmentation.flips`), so that mirrored answers say nothing; "
            "leave out `mirrored`."
        )
    return Mirrored(network, axes)


def load_card(path: str | Path) -> Card:
    """The card alone; raises as :func:`load_network`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There are no weights '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is no safetensors file or damaged: {error}.") from error
    if text is None:
        raise ValueError(f"'{path}' holds tensors but no card of pullback; import it with `pullback models import`.")
    try:
        return Card.from_dict(json.loads(text))
    except ValueError as error:
        raise ValueError(f"'{path}' has a card that cannot be read: {error}") from error


def load_weights(path: str | Path, network: AbstractNetwork) -> None:
    """Put the tensors of a file into a network.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or names or shapes differ.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There are no weights '{path}'.")
    try:
        with safe_open(Path(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"'{path}' is no safetensors file or damaged: {error}.") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError:
        raise ValueError(
            f"The weights '{path}' do not fit the network: {_misfit(network.state_dict(), tensors)}."
        ) from None


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How the tensors of a file differ from those that a network wants, with one example of each kind."""
    others = [
        f"{n} has {list(given[n].shape)} numbers in place of {list(t.shape)}"
        for n, t in wanted.items()
        if n in given and given[n].shape != t.shape
    ]
    found = {
        "lacking": [name for name in wanted if name not in given],
        "unknown": [name for name in given if name not in wanted],
        "of another shape": others,
    }
    return "; ".join(f"{len(names)} {what} ({names[0]})" for what, names in found.items() if names)


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that safetensors can write."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def versions() -> dict[str, str]:
    """What made the weights."""
    return {"pullback": __version__, "torch": torch.__version__, "python": platform.python_version()}
