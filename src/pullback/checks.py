"""Checks at the public doors, each with a message that says what came, what was expected and what to do next."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor


def as_points(points: Tensor | np.ndarray | Sequence, num_dims: int) -> Tensor:
    """Turn anything array-like of shape ``(..., D)`` into a float64 CPU tensor.

    Raises:
        ValueError: If the last axis does not hold `num_dims` components.
    """
    tensor = points if isinstance(points, Tensor) else torch.as_tensor(np.asarray(points, dtype=np.float64))
    tensor = tensor.to("cpu", torch.float64)
    if tensor.ndim < 1 or tensor.shape[-1] != num_dims:
        raise ValueError(
            f"`points` has shape {tuple(tensor.shape)}, but (..., {num_dims}) is needed: one coordinate per axis, last."
        )
    return tensor


def as_float64(values: Tensor | np.ndarray | Sequence) -> Tensor:
    """A float64 CPU tensor of its own of anything array-like, without gradient; masked numbers become NaN."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64, copy=True)
    if isinstance(values, np.ma.MaskedArray):
        values = values.astype(np.float64).filled(np.nan)
    return torch.from_numpy(np.array(values, dtype=np.float64))


def as_data(name: str, values: Tensor) -> Tensor:
    """A tensor as data: without gradient, and half precision as float32; anything else stays as it is.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it holds no number, or complex ones.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"`{name}` is a {type(values).__name__}, but a torch tensor is needed: torch.as_tensor(...).")
    if values.numel() == 0:
        raise ValueError(f"`{name}` is empty: its shape is {tuple(values.shape)}, but every axis needs 1 or more.")
    if values.is_complex():
        raise ValueError(f"`{name}` holds complex numbers ({values.dtype}), but real ones are needed.")
    values = values.detach() if values.requires_grad else values
    return values.to(torch.float32) if values.dtype in (torch.float16, torch.bfloat16) else values


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: Listing the choices and the nearest of them.
    """
    if value in choices:
        return value
    near = get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"`{name}` is '{value}', but it can be {', '.join(choices)}.{hint}")


DEVICES = ("auto", "cpu", "cuda")
"""Words for where to compute; ``auto`` takes CUDA where torch sees it."""


def check_device(device: str) -> str:
    """``cpu`` or ``cuda``, which torch sees, for a word of `DEVICES`.

    Raises:
        ValueError: If it is another word, or there is no such device.
    """
    check_choice("device", device, DEVICES)
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ValueError("`device` is 'cuda', but torch sees no CUDA device here; use 'cpu' or 'auto'.")
    return "cuda" if there and device != "cpu" else "cpu"


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is finite and above zero.

    Raises:
        ValueError: If not.
    """
    if not _is_finite(value) or value <= 0:
        raise ValueError(f"`{name}` is {value}, but a finite number above zero is needed.")
    return value


def check_at_least(name: str, value: float, least: float) -> float:
    """Return `value` if it is finite and not below `least`.

    Raises:
        ValueError: If not.
    """
    if not _is_finite(value) or value < least:
        raise ValueError(f"`{name}` is {value}, but a finite number of {least} or more is needed.")
    return value


def check_each_at_least(least: float, values: object, *names: str) -> None:
    """Check attributes of an object as :func:`check_at_least` does.

    Raises:
        ValueError: If one is not finite or below `least`.
    """
    for name in names:
        check_at_least(name, getattr(values, name), least)


def _is_finite(value: float) -> bool:
    """Whether a number is finite; whole ones may be of any size."""
    return isinstance(value, int) or bool(np.isfinite(value))
