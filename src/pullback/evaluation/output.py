"""Writing results while they come: a row per pair, appended and flushed; complete files appear at the end.

While a run goes on, the rows are in ``pairs.csv.partial`` and ``labels.csv.partial``; an interrupted run leaves these,
readable, and no file that looks complete.
"""

import contextlib
import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pullback.evaluation.measures import COLUMNS, LABEL_MEASURES
from pullback.io.atomic import replacing

PAIRS, LABELS, SUMMARY, TEXT = "pairs.csv", "labels.csv", "summary.json", "summary.txt"
FILES = (PAIRS, LABELS, SUMMARY, TEXT)
PARTIAL = ".partial"
PAIR_COLUMNS = ("pair", "status", "message", *COLUMNS)
LABEL_COLUMNS = ("pair", "label", "name", "protocol", *(m.key for m in LABEL_MEASURES), "fixed_mm3", "warped_mm3")
SIGNIFICANT_DIGITS = 7


def check_folder(folder: str | Path, *, overwrite: bool) -> Path:
    """The folder, made if its parent exists.

    Raises:
        FileExistsError: If it holds results and `overwrite` is false, or is a file.
        FileNotFoundError: If its parent does not exist.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"'{folder}' is a file, but a folder for the results is needed.")
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"'{folder}' holds results already ({', '.join(there)}); use --overwrite or another.")
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder '{folder.absolute().parent}' of '{folder}' does not exist.")
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def no_empty_folder(folder: Path | None) -> Iterator[None]:
    """If the body fails, a folder that it made and wrote nothing into goes again."""
    was_there = folder is None or folder.exists()
    try:
        yield
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):  # what is not empty stays
                folder.rmdir()
        raise


class RowFile:
    """A csv that grows row by row under another name, and takes its own when it is complete.

    Args:
        path: Where it will be.
        columns: All columns that a row may have; those that no row has are left out at the end.
        keeps_partial: Whether the rows so far stay if something breaks.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, keeps_partial: bool = True) -> None:
        self.path, self.columns, self.keeps_partial = path, tuple(columns), keeps_partial
        self.used: set[str] = set()
        self._file: TextIO | None = None

    @property
    def partial(self) -> Path:
        """Where the rows are until the end."""
        return self.path.with_name(self.path.name + PARTIAL)

    def __enter__(self) -> Self:
        self._file = self.partial.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, self.columns, lineterminator="\n")
        self._writer.writeheader()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if error is not None and not self.keeps_partial:
            self.partial.unlink()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the system."""
        texts = {name: text_of(value) for name, value in row.items()}
        self.used |= {name for name, text in texts.items() if text}
        self._writer.writerow(texts)
        self._file.flush()

    def finish(self) -> None:
        """Write the complete file, row by row, without empty columns; then the partial one goes."""
        kept = [name for name in self.columns if name in self.used]
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, kept, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            with self.partial.open(newline="", encoding="utf-8") as partial:
                writer.writerows(csv.DictReader(partial))
        self.partial.unlink()

    def finish_or_vanish(self) -> None:
        """The same; a table without rows is not written, and one that stood there before goes."""
        if self.used:
            self.finish()
        else:
            self.partial.unlink()
            self.path.unlink(missing_ok=True)


def text_of(value: Any) -> str:
    """A value as it stands in a csv; nothing for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a csv of ours, numbers as numbers (empty: NaN), the words left as they are.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text, a number is none, or a row has no pair.
    """
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist; is its folder a result of `pullback evaluate`?")
    words = ("pair", "status", "message", "name", "protocol")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets put a mark before the first word
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a text file: {error}.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    if "pair" not in (reader.fieldnames or ["pair"]):
        raise ValueError(f"'{path}' has no column 'pair'; is it a table of `pullback evaluate`?")
    for row in reader:
        try:
            rows.append({k: v if k in words else float(v) if v else math.nan for k, v in row.items()})
        except (ValueError, TypeError):
            raise ValueError(f"'{path}', line {reader.line_num} holds something that is no number.") from None
    return rows
