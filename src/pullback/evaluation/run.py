"""Scoring many pairs, one after another: what cannot be read is noted and left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pullback.evaluation.case import Case, Files
from pullback.evaluation.measures import GROUPS
from pullback.evaluation.output import (
    LABEL_COLUMNS,
    LABELS,
    PAIR_COLUMNS,
    PAIRS,
    SUMMARY,
    TEXT,
    RowFile,
)
from pullback.evaluation.scores import Request, Scores, score
from pullback.evaluation.summary import Summary, text_of_summary
from pullback.io.atomic import replacing
from pullback.io.json_text import plain, write_json
from pullback.metrics import Group
from pullback.version import __version__

Extra = Callable[[Case], dict[str, float]]
Lazy = Callable[[], Case]
"""Builds a case when its turn comes; what it raises belongs to that pair alone."""

TROUBLE = (ValueError, TypeError, OSError, RuntimeError, ArithmeticError, LookupError, EOFError)
"""What a broken pair may raise; it must not end a run over many."""


@dataclass(frozen=True)
class Job:
    """One pair of a run.

    Attributes:
        pair: Its name.
        case: Builds the case.
    """

    pair: str
    case: Lazy


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        folder: With ``pairs.csv``, ``labels.csv`` (if there were labels), ``summary.json`` and ``summary.txt``.
        summary: The content of ``summary.json``.
        text: The content of ``summary.txt``.
    """

    folder: Path
    summary: dict[str, Any] = field(repr=False)
    text: str = field(repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether every pair was scored."""
        return not self.summary["skipped"]


def jobs_of(cases: Iterable[Case]) -> list[Job]:
    """Jobs of cases that exist already."""
    return [Job(case.pair, lambda case=case: case) for case in cases]


def evaluate(
    jobs: Sequence[Job],
    folder: Path,
    *,
    request: Request | None = None,
    method: str = "",
    group: bool = False,
    is_strict: bool = False,
    label_names: Mapping[int, str] | None = None,
    extra: Extra | None = None,
    aggregates: Callable[[list[dict[str, float]]], dict[str, Any]] | None = None,
    on_pair: Callable[[int, int, str, str], None] = lambda done, total, pair, message: None,
) -> Outcome:
    """Score pairs and write their tables; only numbers are kept from one pair to the next.

    Args:
        jobs: The pairs.
        folder: Where to write (see :func:`pullback.evaluation.output.check_folder`).
        request: What to measure.
        method: Name of what is scored, for comparisons.
        group: Whether to measure over the group too; all fixed images must be one and the same grid, and the first
            pair's fixed image is the target.
        is_strict: Whether the first pair that cannot be scored ends the run with its error, and no file stays.
        label_names: Label to structure.
        extra: More numbers of a pair.
        aggregates: More numbers over the pairs, of the rows of `extra`.
        on_pair: Told how many are done, of how many, which pair it was, and what was wrong with it.

    Raises:
        OSError: If the results cannot be written. (What is wrong with a pair is in the summary, unless `is_strict`.)
    """
    request = Request() if request is None else request
    summary, extras = Summary(), []
    collector = _GroupCollector() if group else None
    names = label_names or {}
    pairs, labels = (
        RowFile(folder / name, columns, keeps_partial=not is_strict)
        for name, columns in ((PAIRS, PAIR_COLUMNS), (LABELS, LABEL_COLUMNS))
    )
    with pairs, labels:
        for number, job in enumerate(jobs, start=1):
            found, more, reason = _attempt(job, request, extra, collector, is_strict)
            if found is None:
                summary.skip(job.pair, reason)
                pairs.add({"pair": job.pair, "status": "skipped", "message": reason})
            else:
                summary.add({**found.values, **more}, found.labels)
                extras.append(more)
                pairs.add({"pair": job.pair, "status": "ok", **found.values, **more})
                for row in found.labels:
                    labels.add({**row, "name": names.get(row["label"])})
            on_pair(number, len(jobs), job.pair, reason)
    data = {
        "pullback": __version__,
        "method": method,
        "protocols": list(request.protocols),
        "groups": [name for name in GROUPS if name in request.groups],
        **summary.as_dict(names),
    }
    if collector is not None and collector.group is not None:
        data["group"] = collector.group.summary().as_dict()
    if aggregates is not None and extras:
        data["learn2reg"] = aggregates(extras)
    return _finish(folder, data, pairs, labels)


def _attempt(
    job: Job, request: Request, extra: Extra | None, collector: "_GroupCollector | None", is_strict: bool
) -> tuple[Scores | None, dict[str, float], str]:
    """The scores of a pair, or why there are none."""
    try:
        case = job.case()
        found = score(case, request)
        more = {} if extra is None else extra(case)
        if collector is not None:
            collector.add(case, found)
        return replace(found, warped=None), more, ""
    except TROUBLE as error:
        if is_strict:
            raise
        return None, {}, " ".join(str(error).split()) or type(error).__name__


class _GroupCollector:
    """Feeds the warped images of pairs with one fixed grid to a group."""

    def __init__(self) -> None:
        self.group: Group | None = None

    def add(self, case: Case, found: Scores) -> None:
        if found.warped is None:
            raise ValueError(f"Pair '{case.pair}' has no warped image (or moving image and transform) for the group.")
        if found.warped.num_channels != 1:
            raise ValueError(
                f"The images of pair '{case.pair}' have {found.warped.num_channels} channels, but a group is measured "
                "on images of one; leave the group out, or give one channel."
            )
        if self.group is None:
            files = Files(case)
            self.group, self.grid = Group(files.fixed.tensor[0], files.region), files.fixed.grid
        if not found.warped.grid.same_as(self.grid):
            raise ValueError(f"The fixed image of pair '{case.pair}' is not on the grid of the group's first.")
        self.group.add(found.warped.tensor[0])


def _finish(folder: Path, data: dict[str, Any], pairs: RowFile, labels: RowFile) -> Outcome:
    """All files together at the end; a table of labels without rows is not written."""
    summary, text = plain(data), text_of_summary(data)
    pairs.finish()
    labels.finish_or_vanish()
    write_json(folder / SUMMARY, summary)
    with replacing(folder / TEXT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Outcome(folder, summary, text)
