"""Progress: a bar on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pullback.registration.work import OnProgress


@contextmanager
def progress(*, quiet: bool) -> Iterator[OnProgress]:
    """Yield a callback to be told of stage, share done and a word."""
    if quiet:
        yield lambda stage, share, word: None
    elif sys.stderr.isatty():
        with _bar() as callback:
            yield callback
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[OnProgress]:
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn("{task.fields[word]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, int] = {}

        def tell(stage: str, share: float, word: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0, word="")
            bar.update(tasks[stage], completed=share, word=word)

        yield tell


def _lines() -> OnProgress:
    started: dict[str, float] = {}

    def tell(stage: str, share: float, word: str) -> None:
        if share == 0.0 and stage not in started:
            started[stage] = time.perf_counter()
        elif share >= 1.0 and stage in started:
            print(f"{stage}: {time.perf_counter() - started.pop(stage):.1f} s", file=sys.stderr, flush=True)

    return tell
