"""``pullback compare``."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pullback.cli.evaluate import show_published
from pullback.evaluation import Comparison, compare, read_method, text_of_comparison, write_comparison
from pullback.evaluation.comparison import FILES, title_of_rank
from pullback.evaluation.measures import measure_of, protocol_of
from pullback.evaluation.published_tables import published_table
from pullback.reports.plots import KINDS, SUFFIXES, draw_dice_against_time, draw_ranks, draw_structures, timed

FORMATS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
PREFERRED = ("dice_nearest", "dice_given", "dice_linear", "dice_label", "tre_mean_mm")
"""What the plots show unless they are told, the first there is."""

OVERALL = "all"
PLOTS = (*KINDS, "time", "ranks")


def command(
    results: Annotated[list[Path], typer.Argument(help="Folders that `pullback evaluate` wrote, one per method.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the comparison.")],
    name: Annotated[list[str] | None, typer.Option(help="Names of the methods, one per folder, in order.")] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="Columns of pairs.csv to compare; several. Default: all that can be.")
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="Evaluation of the start, which says which pairs are hardest for the ranking.")
    ] = None,
    plot: Annotated[str | None, typer.Option(help="Column to draw; default: Dice, else landmark errors.")] = None,
    plot_format: Annotated[str, typer.Option(help=", ".join(FORMATS))] = "png",
    published: Annotated[
        list[str] | None, typer.Option(help="Show a published table beside; 'list' names them all.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a comparison in the folder.")] = False,
) -> None:
    """Compare methods on the pairs that all of them have, and say which is better.

    Paired two-sided Wilcoxon signed-rank tests with Holm's correction, bootstrap intervals, effect sizes, ranks in
    Learn2Reg's manner; boxes and violins per structure, Dice against time. Writes comparison.json, comparison.txt,
    statistics.csv and plots.
    """
    if plot_format not in FORMATS:
        raise ValueError(f"--plot-format is '{plot_format}', but it can be {', '.join(FORMATS)}.")
    if name and len(name) != len(results):
        raise ValueError(f"{len(name)} names came with {len(results)} folders; give one for each, or none.")
    _check_out(out, overwrite)
    for one in published or []:
        if one != "list":
            published_table(one)  # whether there is such a table
    methods = [read_method(folder, given) for folder, given in zip(results, name or [None] * len(results), strict=True)]
    start = None if initial is None else read_method(initial)
    comparison = compare(methods, measure or None, initial=start)
    shown = _shown(comparison, plot)
    text = text_of_comparison(comparison)
    out.mkdir(exist_ok=True)
    write_comparison(comparison, out, text)
    drawn = draw(comparison, shown, out, plot_format)
    if overwrite:  # plots of the comparison that was here do not stand beside the new numbers
        for plot_file in {f"{stem}{suffix}" for stem in PLOTS for suffix in SUFFIXES}.difference(drawn):
            (out / plot_file).unlink(missing_ok=True)
    if not quiet:
        print(text)
        show_published(published or [])
        print(f"written: {out}/ ({', '.join([*FILES, *drawn])})")


def draw(comparison: Comparison, measure: str, out: Path, suffix: str) -> list[str]:
    """Draw all plots; their file names."""
    title = measure_of(measure).title
    samples = structures_of(comparison, measure)
    drawn = []
    for kind in KINDS:
        drawn.append(f"{kind}.{suffix}")
        draw_structures(out / drawn[-1], samples, ylabel=title, kind=kind)
    times = {method.name: comparison.values(method, "seconds") for method in comparison.methods}
    values = {method.name: comparison.values(method, measure) for method in comparison.methods}
    if all(timed(times[name], values[name]).any() for name in times):
        drawn.append(f"time.{suffix}")
        draw_dice_against_time(out / drawn[-1], times, values, ylabel=title)
    ranks = {title_of_rank(key): scores for key, scores in comparison.ranks.items()}
    drawn.append(f"ranks.{suffix}")
    draw_ranks(out / drawn[-1], ranks)
    return drawn


def structures_of(comparison: Comparison, measure: str) -> dict[str, dict[str, np.ndarray]]:
    """Structure to method to one number per pair; all labels first. Labels of one name tell their number."""
    samples = {OVERALL: {method.name: comparison.values(method, measure) for method in comparison.methods}}
    protocol = protocol_of(measure)
    if protocol is None:
        return samples
    key = measure.removesuffix(f"_{protocol}")
    labels = sorted({k for m in comparison.methods for k, p in m.labels if p == protocol})
    names = {k: next((m.label_names[k] for m in comparison.methods if k in m.label_names), str(k)) for k in labels}
    taken = [OVERALL, *names.values()]
    for label, name in names.items():
        title = name if taken.count(name) == 1 else f"{name} ({label})"
        for method in comparison.methods:
            numbers = method.labels.get((label, protocol), {}).get(key, {})
            values = np.array([numbers.get(pair, np.nan) for pair in comparison.pairs])
            samples.setdefault(title, {})[method.name] = values
    return samples


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"'{out}' is a file, but a folder for the comparison is needed.")
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"'{out}' holds a comparison already ({', '.join(there)}); use --overwrite or another.")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder '{out.absolute().parent}' of '{out}' does not exist.")


def _shown(comparison: Comparison, asked: str | None) -> str:
    if asked is not None:
        if asked not in comparison.measures:
            raise ValueError(f"--plot is '{asked}', but these were compared: {', '.join(comparison.measures)}.")
        return asked
    return next((column for column in PREFERRED if column in comparison.measures), comparison.measures[0])
