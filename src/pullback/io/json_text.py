"""JSON as it is written here: files appear whole, and what JSON cannot hold becomes null or text."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullback.io.atomic import replacing


def plain(value: Any) -> Any:
    """What JSON can hold: numbers that are not finite become null, unknown things their text.

    Example:
        >>> plain({1: float("nan"), "path": Path("a.nii")})
        {'1': None, 'path': 'a.nii'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if hasattr(value, "tolist"):  # NumPy and torch
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as it is after `plain`, whole or not at all.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the place cannot be written to or the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")
