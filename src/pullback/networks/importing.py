"""Weights that the original authors published, as networks of the zoo.

A family's file holds its key map: a function from the published tensors to a transcript, where everything that the
original computes in its own way becomes an explicit setting. Only tensors are read; a pickle is never executed.
"""

import argparse
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.checks import check_choice
from pullback.networks.contract import AbstractNetwork
from pullback.networks.registry import build, find

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Transcript:
    """A checkpoint in our words.

    Attributes:
        settings: For :func:`pullback.networks.build`.
        tensors: Under the names of the network built so.
        shape: The lattice that the published weights were trained on, as far as that is known.
        orientation: Where the axes of its arrays pointed, as far as that is known.
    """

    settings: dict[str, Any]
    tensors: Tensors
    shape: tuple[int, ...]
    orientation: str


KeyMap = Callable[[Tensors, dict[str, Any]], Transcript]

_KEY_MAPS: dict[str, KeyMap] = {}
_WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model", "net", "network", "generator", "params")
_BUFFER = ".grid"
"""End of the names of the lattices that warps keep beside the weights."""
_MOST_LAYERS_AROUND = 3
_FROM_NUMPY = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
_PLAIN = [
    *(
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in _FROM_NUMPY.items()
    ),
    *(np.dtype, np.ndarray, *(type(np.dtype(code)) for code in "?bhilqBHILQefd"), argparse.Namespace),
]
"""What stands beside the tensors in files of training scripts, such as the best Dice: values, nothing that acts."""


def key_map(*names: str) -> Callable[[KeyMap], KeyMap]:
    """Register the decorated function as the key map of these families.

    It takes the published tensors, and what the file (often nothing) and the caller say about the model.
    """

    def register(function: KeyMap) -> KeyMap:
        _KEY_MAPS.update(dict.fromkeys(names, function))
        return function

    return register


def importable() -> list[str]:
    """Names of the families whose published weights can be read."""
    return sorted(_KEY_MAPS)


def import_weights(family: str, path: Path | str, **settings: Any) -> AbstractNetwork:
    """A network with published weights, computing what the original code computes; see :func:`transcribe`."""
    transcript = transcribe(family, path, **settings)
    network = build(family, **transcript.settings)
    _load(network, transcript.tensors, family, path)
    return network.eval()


def transcribe(family: str, path: Path | str, **settings: Any) -> Transcript:
    """Read a published checkpoint in our words.

    Args:
        family: One of :func:`importable`.
        path: A PyTorch checkpoint.
        **settings: What the file does not say, or should be otherwise than in the original.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything but tensors and plain values, or tensors that do not fit the family.
    """
    find(family)
    mapping = _KEY_MAPS[check_choice("family", family, importable())]
    tensors, config = read_checkpoint(Path(path))
    transcript = _first_that_fits(mapping, tensors, config | settings, family, path)
    return replace(transcript, settings=transcript.settings | settings)


def _first_that_fits(
    mapping: KeyMap, tensors: Tensors, config: dict[str, Any], family: str, path: Path | str
) -> Transcript:
    """The transcript of the tensors as they are named, or else of those that one module around the network holds."""
    reason: Exception | None = None
    for candidates in _peeled([tensors]):
        found = []
        for names in candidates:
            try:
                found.append(mapping(names, config))
            except (KeyError, IndexError) as missing:
                reason = reason or missing
        if len(found) > 1:
            raise ValueError(f"`path` is '{path}', which holds {len(found)} networks; save the state_dict of one.")
        if found:
            return found[0]
    lacks = f"has no tensor {reason}" if isinstance(reason, KeyError) else "lacks tensors"
    raise ValueError(
        f"`path` is '{path}', which {lacks}, so it is no checkpoint of '{family}'; it holds {_some(tensors)}."
    )


def _peeled(candidates: list[Tensors]) -> Iterator[list[Tensors]]:
    """Tensors as they are named, then without the first part of their names, the modules around the network."""
    for _ in range(1 + _MOST_LAYERS_AROUND):
        yield candidates
        inner: dict[tuple[int, str], Tensors] = {}
        for number, tensors in enumerate(candidates):
            for name, value in tensors.items():
                around, dot, rest = name.partition(".")
                if dot:
                    inner.setdefault((number, around), {})[rest] = value
        candidates = list(inner.values())


def read_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a checkpoint, out of whatever wraps them, and the configuration beside them, if there is one."""
    if not path.is_file():
        raise FileNotFoundError(f"`path` is '{path}', but there is no such file.")
    try:
        _check_sums(path)
        with torch.serialization.safe_globals(_PLAIN):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of what kind depends on where a file is damaged
        raise ValueError(
            f"`path` is '{path}', which is damaged, no PyTorch file, or holds more than tensors and plain values; "
            f"anything else is never loaded. Save the model's state_dict with torch.save in the original software."
        ) from None
    config = content.get("config") if isinstance(content, dict) else None
    tensors = _tensors_in(content)
    if not tensors:
        raise ValueError(f"`path` is '{path}', but it holds no dictionary of tensors; save the model's state_dict.")
    return tensors, config if isinstance(config, dict) else {}


def _check_sums(path: Path) -> None:
    """Raise ValueError if a part of the archive is not what was written; torch itself does not look."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("damaged")


def _tensors_in(content: Any) -> Tensors:
    """The state of a model, wherever a training script put it; empty if there is none, or no telling which."""
    if not isinstance(content, dict):
        return {}
    for name in _WRAPPERS:
        if isinstance(content.get(name), dict):
            return _tensors_in(content[name])
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any("." in name for name in tensors):  # an optimiser's have plain names
        return {name: value for name, value in tensors.items() if not name.endswith(_BUFFER)}
    inside = [found for found in map(_tensors_in, content.values()) if found]
    return inside[0] if len(inside) == 1 else {}


def rename(tensors: Tensors, layers: Iterable[tuple[str, str]], *, unused: Iterable[str] = ()) -> Tensors:
    """Move every tensor ``published.x`` of the `layers` (published, ours) to ``ours.x``.

    Args:
        tensors: All published ones.
        layers: Pairs of layer names.
        unused: Published layers that the original builds and never calls.

    Raises:
        KeyError: If a layer has no tensor.
        ValueError: If tensors remain that are not of `unused`.
    """
    remaining = dict(tensors)
    renamed: Tensors = {}
    for published, ours in layers:
        found = [name for name in remaining if name.startswith(f"{published}.")]
        if not found:
            raise KeyError(f"{published}.*")
        for name in found:
            renamed[ours + name.removeprefix(published)] = remaining.pop(name)
    known = tuple(f"{layer}." for layer in unused)
    strange = [name for name in remaining if not name.startswith(known)] if known else list(remaining)
    if strange:
        raise ValueError(f"The checkpoint has tensors that this family does not know: {_some(strange)}.")
    return renamed


def encoder_decoder_layers(
    num_levels: int, convolutions: Iterable[int], *, within: str = "", decoder_prefix: str = "", ours: str
) -> list[tuple[str, str]]:
    """Layer names of SYMNet's code, which the Fourier-Nets took over, and ours.

    Args:
        num_levels: Of the encoder, two convolutions each.
        convolutions: How many follow each upsampling.
        within: What stands before all published names.
        decoder_prefix: What stands before the published names of the decoder.
        ours: The name of our :class:`pullback.networks.blocks.EncoderDecoder`.
    """
    pairs = []
    for number in range(2 * num_levels):
        published = f"ec{number}" if number else "eninput"
        pairs.append((f"{within}{published}", f"{ours}.encoder.{number // 2}.{number % 2}"))
    count = 0
    for step, num in enumerate(convolutions):
        pairs.append((f"{within}{decoder_prefix}up{step + 1}", f"{ours}.decoder.{step}.up"))
        for position in range(num):
            count += 1
            pairs.append((f"{within}{decoder_prefix}dc{count}", f"{ours}.decoder.{step}.convolutions.{position}"))
    return pairs


def _load(network: AbstractNetwork, tensors: Tensors, family: str, path: Path | str) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = [f"{n} {given.get(n, 'missing')} not {shape}" for n, shape in wanted.items() if given.get(n) != shape]
    wrong += [f"{name} not known" for name in given if name not in wanted]
    bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad and not wrong:
        raise ValueError(f"`path` is '{path}', which holds numbers that are not finite, in {_some(bad)}.")
    if wrong:
        raise ValueError(f"`path` is '{path}', whose tensors do not fit '{family}': {_some(wrong)}.")
    network.load_state_dict({name: value.to(torch.float32) for name, value in tensors.items()})


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
