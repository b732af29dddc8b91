"""Building HTML in which text is escaped unless it is known to be markup."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

JPEG_QUALITY = 80
FULL_COLOUR, HALF_COLOUR = 0, 2
"""Pillow's names for colour stored at every pixel, or at every second one along both axes."""

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


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
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


def json_script(identity: str, text: str) -> Markup:
    """An element that holds JSON for the page's script, written so that it cannot end the element."""
    harmless = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(f'<script type="application/json" id="{identity}">{harmless}</script>')


def jpeg(pixels: np.ndarray, *, fine_colour: bool = False) -> str:
    """A data URI of uint8 ``(rows, columns[, 3])``; `fine_colour` where lines differ in colour, not in brightness."""
    subsampling = FULL_COLOUR if fine_colour else HALF_COLOUR
    return _data_uri(
        PIL.Image.fromarray(np.ascontiguousarray(pixels)), "jpeg", quality=JPEG_QUALITY, subsampling=subsampling
    )


def palette_png(indices: np.ndarray, colours: Sequence[Sequence[float]]) -> str:
    """A data URI of a few flat colours: 0 is transparent, 1 is the first colour in [0, 1]."""
    image = PIL.Image.fromarray(indices.astype(np.uint8))
    image.putpalette([0, 0, 0, *(round(255 * level) for colour in colours for level in colour)])
    return _data_uri(image, "png", transparency=0, bits=2, optimize=True)


def plain_png(pixels: np.ndarray) -> str:
    """A data URI of uint8 ``(rows, columns[, 3])`` without loss."""
    return _data_uri(PIL.Image.fromarray(np.ascontiguousarray(pixels)), "png")


def to_bytes(levels: np.ndarray) -> np.ndarray:
    """Levels in [0, 1] to uint8."""
    return np.clip(np.rint(levels * 255.0), 0, 255).astype(np.uint8)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(str(value), quote=True)}"'


def _data_uri(image: PIL.Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
