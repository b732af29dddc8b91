"""The families by name: each file of the zoo registers one or more builders, which hold its paper's numbers."""

import inspect
import json
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pullback.checks import check_at_least, check_choice
from pullback.networks.contract import AbstractNetwork


@dataclass(frozen=True)
class Family:
    """One entry of the zoo.

    Attributes:
        name: As in ``build(name)``.
        builder: Makes the network; keyword arguments only, defaults from the paper.
        summary: One line about it.
        published: Parameter counts that the paper or its code state: settings and the number they must give.
    """

    name: str
    builder: Callable[..., AbstractNetwork] = field(repr=False)
    summary: str
    published: tuple[tuple[dict[str, Any], int], ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """Every setting with its default."""
        return {name: parameter.default for name, parameter in inspect.signature(self.builder).parameters.items()}


_FAMILIES: dict[str, Family] = {}


def family(name: str, *, published: tuple[tuple[dict[str, Any], int], ...] = ()) -> Callable:
    """Register the decorated builder under `name`; its docstring's first line becomes the summary.

    The builder's signature is the list of the family's settings, with their defaults, which recipes, cards and
    commands read. So relatives each spell out the settings that they share.

    Args:
        name: Lower case, words joined by hyphens.
        published: Settings and the parameter count they must give, each tested.
    """

    def register(builder: Callable[..., AbstractNetwork]) -> Callable[..., AbstractNetwork]:
        summary = (builder.__doc__ or "").strip().splitlines()[0]
        _FAMILIES[name] = Family(name, builder, summary, published)
        return builder

    return register


def names() -> list[str]:
    """Names of all families, sorted."""
    return sorted(_FAMILIES)


def find(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: Listing all names and the nearest, if there is none.
    """
    return _FAMILIES[check_choice("family", name, names())]


def build(name: str, **settings: Any) -> AbstractNetwork:
    """Make a network with new weights (seed torch first, if they should be the same each time).

    Args:
        name: One of :func:`names`.
        **settings: What should differ from the family's defaults; JSON values.

    Returns:
        The network, with `family` and all `settings` filled in: ``build(n.family, **n.settings)`` rebuilds it.

    Raises:
        ValueError: If the family or one of its settings is unknown, or a value does not fit.
    """
    entry = find(name)
    for key, value in settings.items():
        check_choice("setting", key, list(entry.defaults))
        _check_kind(key, value, entry.defaults[key])
        if value is not None and entry.defaults[key] is None:
            _check_optional(key, value, typing.get_args(inspect.signature(entry.builder).parameters[key].annotation))
    _check_dimensions(entry.defaults | settings)
    complete = json.loads(json.dumps(entry.defaults | settings))  # tuples become lists here, not on the way to a file
    network = entry.builder(**complete)
    network.family, network.settings = name, complete
    return network


def _check_kind(name: str, value: Any, default: Any) -> None:
    """A number where the default is a number, and so on; whole numbers may stand for names (``size: 2``)."""
    kinds = {bool: (bool,), int: (int,), float: (int, float), str: (str, int), type(None): (object,)}[type(default)]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds and object not in kinds):
        raise ValueError(
            f"`{name}` is {value!r}, but a value like its default, {default!r}, is needed ({type(default).__name__})."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{name}` is {value}, but a finite number is needed.")


def _check_optional(name: str, value: Any, kinds: Sequence[Any]) -> None:
    """A value for a setting that is nothing by default, by the builder's annotation: numbers count something."""
    if any(typing.get_origin(kind) is Sequence for kind in kinds):
        is_sound = isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_count, value))
        wanted = "a list of whole numbers above 0"
    elif int in kinds:
        is_sound, wanted = _is_count(value), "a whole number above 0"
    else:
        is_sound, wanted = isinstance(value, str), "a word"
    if not is_sound:
        raise ValueError(f"`{name}` is {value!r}, but {wanted} is needed.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_dimensions(settings: dict[str, Any]) -> None:
    """What every family has, before a layer is built with it."""
    if settings["num_dims"] not in (2, 3):
        raise ValueError(f"`num_dims` is {settings['num_dims']}, but networks are 2-D or 3-D.")
    check_at_least("num_channels", settings["num_channels"], 1)
    check_at_least("head_std", settings["head_std"], 0)
