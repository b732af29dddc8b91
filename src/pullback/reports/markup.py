"""Building HTML in which text is escaped unless it is known to be markup."""

import base64
import html
import io
from typing import Any

import numpy as np
import PIL.Image

JPEG_QUALITY = 84
VOID_TAGS = frozenset({"img", "input", "br"})


class Markup(str):
    """A piece of finished HTML. Everything that is not of this type is text and gets escaped."""

    __slots__ = ()


def escape(child: Any) -> Markup:
    """Turn text into HTML; None becomes nothing, lists are joined, markup stays as it is."""
    if child is None:
        return Markup("")
    if isinstance(child, Markup):
        return child
    if isinstance(child, (list, tuple)):
        return Markup("".join(escape(one) for one in child))
    return Markup(html.escape(str(child), quote=True))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Write one element.

    Args:
        name: Of the element.
        *children: Text or markup.
        **attributes: ``class_`` stands for ``class``, other underscores for hyphens. None and False are left out, True
            stands without a value.

    Example:
        >>> str(tag("p", "1 < 2", class_="note"))
        '<p class="note">1 &lt; 2</p>'
    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID_TAGS:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{escape(children)}</{name}>")


def name_of(text: Any) -> Markup:
    """A name that came from outside, kept from changing the direction of the text around it."""
    return tag("bdi", text)


def jpeg(pixels: np.ndarray) -> str:
    """A data URI of uint8 ``(rows, columns[, 3])``."""
    return _data_uri(pixels, "jpeg", quality=JPEG_QUALITY, optimize=True, subsampling=0)


def png(pixels: np.ndarray) -> str:
    """A data URI without loss of uint8 ``(rows, columns[, 3])``."""
    return _data_uri(pixels, "png")


def to_bytes(levels: np.ndarray) -> np.ndarray:
    """Levels in [0, 1] to uint8."""
    return np.clip(np.rint(levels * 255.0), 0, 255).astype(np.uint8)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(str(value), quote=True)}"'


def _data_uri(pixels: np.ndarray, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
