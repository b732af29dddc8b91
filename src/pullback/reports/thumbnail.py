"""One small picture of a pair, for tables of many: three slices, fixed in green and moving in magenta."""

from pathlib import Path

import numpy as np
import PIL.Image

from pullback.io.atomic import replacing
from pullback.reports.drawings import Drawings
from pullback.reports.markup import FULL_COLOUR, to_bytes
from pullback.reports.overlays import colour_overlay
from pullback.reports.view import RegistrationView

HEIGHT_PIXELS = 132
MOST_WIDTH_PIXELS = 420
GAP_PIXELS = 3
QUALITY = 78


def write_thumbnail(path: str | Path, view: RegistrationView) -> None:
    """Write the middle slices after registration, side by side on one scale, as a JPEG of about 10 kB.

    Args:
        path: Usually ``thumbnail.jpg`` beside ``result.json``, where `pullback report` looks for it.
        view: What to show.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the place cannot be written to or the disk is full.
    """
    with replacing(path) as temporary:
        PIL.Image.fromarray(draw(view)).save(temporary, "jpeg", quality=QUALITY, subsampling=FULL_COLOUR)


def draw(view: RegistrationView) -> np.ndarray:
    """The thumbnail, uint8 ``(rows, columns, 3)``."""
    drawings = Drawings(view)
    slices = [
        to_bytes(colour_overlay(drawings.levels("fixed", plane), drawings.levels("warped", plane)))
        for plane in drawings.middle
    ]
    gaps = GAP_PIXELS * (len(slices) - 1)
    scale = min(
        HEIGHT_PIXELS / max(one.shape[0] for one in slices),
        (MOST_WIDTH_PIXELS - gaps) / sum(one.shape[1] for one in slices),
    )
    small = [_resize(one, scale) for one in slices]
    height = max(one.shape[0] for one in small)
    parts = [np.pad(one, (_centred(height - one.shape[0]), (0, GAP_PIXELS), (0, 0))) for one in small]
    return np.ascontiguousarray(np.concatenate(parts, axis=1)[:, :-GAP_PIXELS])


def _resize(picture: np.ndarray, scale: float) -> np.ndarray:
    rows, columns = (max(1, round(scale * size)) for size in picture.shape[:2])
    return np.asarray(PIL.Image.fromarray(picture).resize((columns, rows), PIL.Image.Resampling.LANCZOS))


def _centred(missing: int) -> tuple[int, int]:
    """Padding above and below."""
    return missing // 2, missing - missing // 2
