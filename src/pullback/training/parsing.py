"""Frozen dataclasses from plain mappings and back, with every name and type checked on the way."""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

NAME_KEY = "kind"
"""Where a value may be one of several dataclasses, this key holds the class attribute `kind` of the one it is."""


def parse(wanted: Any, value: Any, where: str = "recipe") -> Any:
    """Build a value of a type from YAML's or JSON's values.

    Args:
        wanted: A dataclass, ``int``, ``float``, ``bool``, ``str``, ``tuple[...]``, ``dict[str, Any]``, or a union of
            them.
        value: What the file says.
        where: Its place in the file, for messages.

    Raises:
        ValueError: If a key is unknown or missing, or a value is of another type; the message names the place.
    """
    if wanted is Any:
        return value
    if isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union:
        return _parse_union(typing.get_args(wanted), value, where)
    if dataclasses.is_dataclass(wanted):
        return _parse_dataclass(wanted, value, where)
    if typing.get_origin(wanted) is tuple:
        return _parse_tuple(typing.get_args(wanted), value, where)
    if typing.get_origin(wanted) is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"`{where}` is {value!r}, but names with values are needed.")
        inner = typing.get_args(wanted)[1]
        return {str(key): parse(inner, item, f"{where}.{key}") for key, item in value.items()}
    return _parse_plain(wanted, value, where)


def plain(value: Any) -> Any:
    """The mapping of which :func:`parse` makes the same value again; JSON values only."""
    if dataclasses.is_dataclass(value):
        named = {NAME_KEY: value.kind} if isinstance(getattr(type(value), NAME_KEY, None), str) else {}
        return named | {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


def merge(base: Any, over: Any, where: str = "recipe") -> Any:
    """`base` with the values of `over` in place of its own, mapping by mapping.

    A list is replaced whole, or at the places that a mapping names by their numbers: ``{1: {"weight": 2}}``; the place
    after the last adds to it.

    Raises:
        ValueError: If a list has no such place.
    """
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: merge(base.get(key), value, f"{where}.{key}") for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, Mapping):
        merged = list(base)
        for key, value in over.items():
            if not str(key).isdigit() or int(key) > len(merged):
                raise ValueError(f"`{where}` is a list of {len(merged)}; it has no place '{key}', only 0 and up.")
            old = merged[int(key)] if int(key) < len(merged) else None
            merged[int(key) : int(key) + 1] = [merge(old, value, f"{where}[{key}]")]
        return merged
    return over


def check_keys(given: Sequence[str], known: Sequence[str], where: str) -> None:
    """Refuse unknown keys.

    Raises:
        ValueError: Naming the near ones.
    """
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(known) or 'nothing'}."
            raise ValueError(f"`{where}` has no '{key}'; {hint}")


def _parse_dataclass(wanted: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"`{where}` is {value!r}, but names with values are needed.")
    value = {key: item for key, item in value.items() if not (key == NAME_KEY and _kind_of(wanted))}
    fields = {f.name: f for f in dataclasses.fields(wanted) if f.init}
    check_keys(list(value), list(fields), where)
    hints = typing.get_type_hints(wanted)
    missing = [
        name
        for name, f in fields.items()
        if name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"`{where}` lacks '{missing[0]}'.")
    parts = {name: parse(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return wanted(**parts)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _parse_union(choices: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    kinds = {_kind_of(choice): choice for choice in choices if _kind_of(choice)}
    if kinds:
        name = value.get(NAME_KEY) if isinstance(value, Mapping) else None
        if name not in kinds:
            near = get_close_matches(str(name), list(kinds), n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"`{where}.{NAME_KEY}` is {name!r}, but it can be {', '.join(sorted(kinds))}.{hint}")
        return parse(kinds[name], value, where)
    return parse(next(choice for choice in choices if choice is not type(None)), value, where)


def _kind_of(choice: Any) -> str:
    kind = getattr(choice, NAME_KEY, None)
    return kind if dataclasses.is_dataclass(choice) and NAME_KEY not in _field_names(choice) and kind else ""


def _field_names(choice: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(choice)}


def _parse_tuple(inner: Sequence[Any], value: Any, where: str) -> tuple:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"`{where}` is {value!r}, but a list is needed.")
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(parse(inner[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if len(value) != len(inner):
        raise ValueError(f"`{where}` holds {len(value)} values, but {len(inner)} are needed.")
    return tuple(parse(t, item, f"{where}[{n}]") for n, (t, item) in enumerate(zip(inner, value, strict=True)))


def _parse_plain(wanted: type, value: Any, where: str) -> Any:
    if wanted is float and isinstance(value, str):  # YAML 1.1 reads 1e-4, without a point, as text
        with contextlib.suppress(ValueError):
            value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted in (int, float) and is_number and not math.isfinite(value):
        raise ValueError(f"`{where}` is {value!r}, but a finite number is needed.")
    if wanted is float and is_number:
        return float(value)
    if wanted is int and is_number and value == int(value):
        return int(value)
    if wanted in (bool, str) and isinstance(value, wanted):
        return value
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
    raise ValueError(f"`{where}` is {value!r}, but {names.get(wanted, str(wanted))} is needed.")
