"""``pullback train``; also ``python -m pullback.cli.train``, which needs no library that reads images once a cache is
filled.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pullback.cli.interruption import INTERRUPTED
from pullback.cli.scans import prepared_scans
from pullback.training.checkpoint import BEST, LAST
from pullback.training.loop import STOPPED, OnStep, Trained, train
from pullback.training.recipe import read_recipe
from pullback.training.results import check_place, evaluate_network, write_rows

SECONDS_BETWEEN_LINES = 15.0
SHOWN = ("loss", "validation_dice", "validation_similarity", "best")


def command(
    recipe: Annotated[Path, typer.Option(help="YAML file; see recipes/.")],
    over: Annotated[
        list[Path] | None, typer.Option("--with", help="YAML file laid over the recipe: recipes/budgets/; several.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that the recipe's paths are relative to.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints and the log.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared scans. Default: in --out.")] = None,
    prepare_only: Annotated[bool, typer.Option("--prepare-only", help="Fill the cache and stop.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a number of the recipe: name=value; several are possible.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda")] = "auto",
    num_devices: Annotated[int, typer.Option(help="GPUs to use.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="json file to which the test pairs' figures are added at the end.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> int:
    """Train a network by a recipe.

    Scans are prepared once and kept in the cache; with a filled cache, --data is not needed. Writes best.safetensors
    and last.safetensors (weights with a card, for register --model-file), last.state.safetensors (to go on with
    --resume) and log.csv.
    """
    last = [] if seed is None else [f"seed={seed}"]
    chosen = read_recipe(recipe, [*(changes or ()), *last], over or ())
    if out is None and (cache is None or not prepare_only):
        raise ValueError("--out is needed: the folder for checkpoints and the log.")
    if results is not None:
        check_place(results)
    prepared = prepared_scans(chosen, data, cache or out / "cache", quiet=quiet)
    if prepare_only:
        return 0
    if results is not None and not prepared.split.test:
        raise ValueError(
            "--results wants figures of test scans, but the split has none; change `split`, or leave it out."
        )
    with _progress(quiet) as on_step:
        trained = train(chosen, prepared, out, device=device, num_devices=num_devices, resume=resume, on_step=on_step)
    if not quiet:
        _say(trained)
    if trained.reason == STOPPED:
        return INTERRUPTED
    if results is not None:
        given = sys.argv[1:]
        words = " ".join(["pullback", *([] if given[:1] == ["train"] else ["train"]), *given])
        rows = evaluate_network(_weights(trained), prepared, device=device)
        write_rows(results, chosen.name, [row.as_dict() | {"command": words} for row in rows])
    return 0


def _weights(trained: Trained) -> Path:
    """The best weights, or the last ones where nothing was validated."""
    best = trained.folder / BEST
    return best if best.is_file() else trained.folder / LAST


def _say(trained: Trained) -> None:
    progress = trained.progress
    print(f"{trained.reason}: {progress.step} steps in {progress.seconds:.0f} s")
    if progress.best_step:
        print(f"best: {progress.best:.4f} at step {progress.best_step}")
    print(f"written: {_weights(trained)}")


@contextmanager
def _progress(quiet: bool) -> Iterator[OnStep | None]:
    """A bar with the figures that matter on a terminal, a line now and then elsewhere, nothing if quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[word]}"))
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("training", total=None, word="")
            yield _teller(lambda step, total, word: bar.update(task, completed=step, total=total, word=word), 0.2)
    else:
        yield _teller(lambda step, total, word: print(f"step {step} of {total}: {word}", file=sys.stderr, flush=True))


def _teller(show: Callable[[int, int, str], None], seconds: float = SECONDS_BETWEEN_LINES) -> OnStep:
    """Show figures no more often than every so many seconds; the newest validation stays in sight."""
    seen: dict[str, float] = {}
    last = [0.0]

    def tell(step: int, total: int, figures: Mapping[str, float]) -> None:
        seen.update({name: figures[name] for name in SHOWN if name in figures})
        if time.perf_counter() - last[0] >= seconds or step == total:
            last[0] = time.perf_counter()
            show(
                step,
                total,
                ", ".join(f"{name.removeprefix('validation_')} {value:.4f}" for name, value in seen.items()),
            )

    return tell


if __name__ == "__main__":
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(command)
    sys.exit(alone(standalone_mode=False))
