"""What ``pullback register`` left in a folder, read again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullback.data import Image
from pullback.io import read_image, read_transform
from pullback.reports.formats import lookup
from pullback.transforms import AbstractTransform

RESULT, REPORT, THUMBNAIL = "result.json", "report.html", "thumbnail.jpg"
WARPED, FIXED_TO_MOVING, MOVING_TO_FIXED = "warped.nii.gz", "fixed_to_moving.h5", "moving_to_fixed.h5"


@dataclass(frozen=True)
class SavedResult:
    """A folder with the results of one pair.

    Attributes:
        folder: Where they are.
        summary: The content of ``result.json``.
    """

    folder: Path
    summary: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def image(self, side: str, *, has_option: bool = True) -> Image:
        """The ``fixed`` or ``moving`` image, from where it was registered, with the name that it had there.

        Args:
            side: Which one.
            has_option: Whether whoever asks lets users name the file with an option, which the error then names.

        Raises:
            FileNotFoundError: If the result does not know the file, or it is no longer there.
        """
        path = lookup(self.summary, side, "path")
        remedy = f"with --{side}" if has_option else f"as {side}.path in '{self.folder / RESULT}'"
        if not path:
            raise FileNotFoundError(
                f"'{self.folder / RESULT}' does not say where the {side} image was; give it {remedy}."
            )
        if not Path(path).exists():
            raise FileNotFoundError(
                f"The {side} image '{path}' of '{self.folder}' is not there; give its place {remedy}."
            )
        return read_image(path, name=lookup(self.summary, side, "name"))

    def warped(self) -> Image:
        """The moving image on the fixed grid."""
        return read_image(self.folder / WARPED)

    def fixed_to_moving(self) -> AbstractTransform:
        """The map from fixed to moving world."""
        return read_transform(self.folder / transform_names(self.summary)["fixed_to_moving"])

    def moving_to_fixed(self) -> AbstractTransform:
        """Its inverse, as it was saved."""
        return read_transform(self.folder / transform_names(self.summary)["moving_to_fixed"])


def transform_names(summary: Mapping[str, Any]) -> dict[str, str]:
    """The names of the files of ``fixed_to_moving`` and ``moving_to_fixed``, as ``result.json`` has them."""
    usual = {"fixed_to_moving": FIXED_TO_MOVING, "moving_to_fixed": MOVING_TO_FIXED}
    return {way: Path(str(lookup(summary, "transforms", way) or name)).name for way, name in usual.items()}


def read_result(folder: str | Path) -> SavedResult:
    """Read the numbers of one registration.

    Raises:
        FileNotFoundError: If there is no such folder, or no ``result.json`` in it.
        ValueError: If ``result.json`` is not the JSON that `pullback register` writes.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"'{folder}' is not a folder; the folder of a registration's results is needed.")
    path = folder / RESULT
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no {RESULT}; did its registration finish?")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"'{path}' is damaged: {error}; register the pair again.") from error
    if not isinstance(summary, Mapping) or not isinstance(summary.get("verdict"), Mapping):
        raise ValueError(f"'{path}' holds no verdict, so it is not the result of a registration.")
    return SavedResult(folder, summary)
