"""Numbers and nested values as people read them."""

import math
from collections.abc import Mapping
from typing import Any

from pullback.registration.conclusion import BY_HEADERS

MISSING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
SMALLEST_GAP = 1e-6
MINUS = "\N{MINUS SIGN}"


def lookup(summary: Any, *keys: str) -> Any:
    """The value under nested keys, or None as soon as one is missing."""
    for key in keys:
        if not isinstance(summary, Mapping) or key not in summary:
            return None
        summary = summary[key]
    return summary


def mapping(summary: Any, *keys: str) -> Mapping[str, Any]:
    """As `lookup`, but an empty mapping where there is none."""
    found = lookup(summary, *keys)
    return found if isinstance(found, Mapping) else {}


def sequence(summary: Any, *keys: str) -> list[Any]:
    """As `lookup`, but an empty list where there is none; a lone text is a list of one."""
    found = lookup(summary, *keys)
    if isinstance(found, str):
        return [found]
    return list(found) if isinstance(found, (list, tuple)) else []


def finite(value: Any) -> float | None:
    """`value` as a float if it is a finite number."""
    try:
        number_ = float(value)
    except (TypeError, ValueError):
        return None
    return number_ if math.isfinite(number_) else None


def number(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits, without exponents where they can be avoided.

    Example:
        >>> number(0.012345), number(-1234.5), number(None), number(0.5)
        ('0.0123', '−1234', '–', '0.5')
    """
    known = finite(value)
    if known is None:
        return MISSING
    if known == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(known)))
    if magnitude < -5 or magnitude > 8:
        text = f"{known:.{digits - 1}e}"
    else:
        text = f"{known:.{max(digits - 1 - magnitude, 0)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", MINUS)


def gap(value: Any, digits: int = 3) -> str:
    """As `number`, of a distance in mm or voxels: what is only rounding of computers is 0.

    Example:
        >>> gap(1.56e-15), gap(0.012345)
        ('0', '0.0123')
    """
    known = finite(value)
    return number(value if known is None or abs(known) >= SMALLEST_GAP else 0.0, digits)


def fixed_point(value: Any, decimals: int = 3) -> str:
    """A number with so many decimals, for columns and pairs that are compared."""
    known = finite(value)
    return MISSING if known is None else f"{known:.{decimals}f}".replace("-", MINUS)


def signed(value: float, decimals: int = 3) -> str:
    """A change: always with its sign."""
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def duration(seconds: Any) -> str:
    """A time in the unit that suits it.

    Example:
        >>> duration(0.034), duration(41.26), duration(200)
        ('0.03 s', '41.3 s', '3 min 20 s')
    """
    known = finite(seconds)
    if known is None:
        return MISSING
    if known < 1:
        return f"{known:.2f} s"
    if known < 99.95:
        return f"{known:.1f} s"
    minutes, rest = divmod(round(known), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def memory(megabytes: Any) -> str:
    """Megabytes as MB or GB."""
    known = finite(megabytes)
    if known is None:
        return MISSING
    return f"{known:.0f} MB" if known < 1000 else f"{known / 1000:.2f} GB"


def start_of(summary: Any) -> str | None:
    """What "before" means where it is not the headers' alignment, else None."""
    name = lookup(summary, "before")
    return None if name in (None, BY_HEADERS) else words(name)


def words(value: Any) -> str:
    """A setting of any kind as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, (list, tuple)):
        return ", ".join(words(one) for one in value)
    return "none" if value is None else str(value)


def not_mathematics(text: str) -> str:
    r"""Text that Matplotlib shows as it is, though names may hold dollar signs.

    Example:
        >>> not_mathematics("a$b$")
        'a\\$b\\$'
    """
    return text.replace("$", r"\$")


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += flat(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, words(value))]
    return rows
