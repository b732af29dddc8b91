"""The figures of a training: a csv file, and TensorBoard's where wanted."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pullback.training.cache import whole

FILE = "log.csv"


class Log:
    """Rows of figures by step.

    Args:
        folder: Of the training.
        columns: Besides ``step``.
        from_step: Rows of later steps, from before an interruption, are dropped.
        tensorboard: Whether to write TensorBoard's files too.

    Raises:
        ModuleNotFoundError: If TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, columns: Sequence[str], *, from_step: int = 0, tensorboard: bool = False) -> None:
        self.path, self.columns = folder / FILE, ["step", *columns]
        self._rows = [row for row in self._read() if int(row["step"]) <= from_step] if from_step else []
        self._is_begun = False
        self._writer = _tensorboard(folder) if tensorboard else None

    def _read(self) -> list[dict[str, str]]:
        """The rows that are whole: a power cut can leave anything at the end."""
        if not self.path.is_file():
            return []
        text = self.path.read_bytes().decode("utf-8", "replace")
        rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        known = [{key: row.get(key) or "" for key in self.columns} for row in rows]
        return [row for row in known if row["step"].isdecimal()]

    def _begin(self) -> None:
        """Write the columns and the rows that stay, once there is a row to add: a training that fails leaves none."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self._rows)
        with whole(self.path) as path:
            path.write_text(text.getvalue(), encoding="utf-8")
        self._is_begun = True

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a row; figures that are not given stay empty."""
        if not self._is_begun:
            self._begin()
        row = {name: f"{value:.6g}" for name, value in figures.items()}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerow({"step": step, **row})
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """End TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ModuleNotFoundError(
            "TensorBoard is not installed; call `pip install tensorboard`, or set logging.tensorboard to false."
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))
