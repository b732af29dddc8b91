"""``pullback evaluate``."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pullback.checks import DEVICES
from pullback.cli.label_names import LabelNames, read_label_names
from pullback.cli.network_scores import score_network
from pullback.evaluation import (
    Case,
    Job,
    Learn2RegDataset,
    Outcome,
    Request,
    check_folder,
    evaluate,
    jobs_of,
    published_table,
    published_tables,
    read_dataset,
    read_pairs,
)
from pullback.evaluation.case import POINT_FRAMES
from pullback.evaluation.learn2reg import SPLITS, script_aggregates, script_scores
from pullback.evaluation.measures import GROUPS
from pullback.evaluation.output import no_empty_folder
from pullback.evaluation.pair_table import case_from_words
from pullback.evaluation.protocols import PROTOCOLS
from pullback.training.manifest import SPLITS as PARTS

SKIPPED = 4
"""Exit status when some pairs could not be scored."""

SINGLE = "pair"


def command(
    table: Annotated[
        Path | None,
        typer.Argument(help="Table of pairs (csv, tsv), or json of a Learn2Reg data set; without it one pair."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results.")] = None,
    fixed: Annotated[str, typer.Option(help="Fixed image.")] = "",
    moving: Annotated[str, typer.Option(help="Moving image.")] = "",
    warped: Annotated[str, typer.Option(help="Moving image already warped.")] = "",
    fixed_labels: Annotated[str, typer.Option(help="Labels of the fixed image.")] = "",
    moving_labels: Annotated[str, typer.Option(help="Labels of the moving image.")] = "",
    warped_labels: Annotated[str, typer.Option(help="Moving labels already warped.")] = "",
    transform: Annotated[
        list[str] | None,
        typer.Option(help="Fixed to moving; several in the order in which they act on points; or 'identity'."),
    ] = None,
    displacement: Annotated[str, typer.Option(help="Learn2Reg's displacement in voxels instead.")] = "",
    inverse: Annotated[list[str] | None, typer.Option(help="The map back, likewise.")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="The true map, likewise.")] = None,
    mask: Annotated[str, typer.Option(help="Where intensities and the deformation count, on the fixed grid.")] = "",
    fixed_points: Annotated[str, typer.Option(help="Landmarks: csv, fcsv or mrk.json.")] = "",
    moving_points: Annotated[str, typer.Option(help="Landmarks that correspond to them.")] = "",
    points_in: Annotated[str, typer.Option(help=f"{', '.join(POINT_FRAMES)}: what csv files hold.")] = "ras",
    submission: Annotated[
        Path | None, typer.Option(help="Folder of displacements for a Learn2Reg data set; without it, the start.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(SPLITS)}. Default: the first there is. With --model: {', '.join(PARTS)}."),
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help=f"How labels are warped: {', '.join(PROTOCOLS)}; several give all.")
    ] = None,
    measure: Annotated[list[str] | None, typer.Option(help=f"{', '.join(GROUPS)}; several. Default: all.")] = None,
    label: Annotated[list[int] | None, typer.Option(help="Labels that count; several.")] = None,
    label_names: LabelNames = None,
    method: Annotated[str, typer.Option(help="Name of what is scored, for comparisons.")] = "",
    group: Annotated[bool, typer.Option("--group", help="Measure over all subjects in one space, too.")] = False,
    published: Annotated[
        list[str] | None, typer.Option(help="Show a published table beside; 'list' names them all.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Weights of a trained network, to be scored on prepared scans instead of files.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="With --model: folder that `pullback train` prepared.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --model: folder of the images, prepared as the weights' recipe says.")
    ] = None,
    device: Annotated[str | None, typer.Option(help=f"With --model: {', '.join(DEVICES)}.")] = None,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="With --model: its mean answer to each pair and its mirrors.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="With --model: json file of a study, to which the figures are added.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
) -> int:
    """Score registrations: overlap, surfaces, landmarks, deformation, intensities (defined in docs/metrics.md).

    Writes pairs.csv, labels.csv, summary.json and summary.txt. Pairs that cannot be read are reported and left out,
    and the exit status is then 4; a single pair that cannot be scored is an error (2).

    With --model, a trained network is scored on the pairs that its recipe names for a part of the split (--split, test
    by default), on the lattice where it works.
    """
    words = {
        "fixed": fixed,
        "moving": moving,
        "warped": warped,
        "fixed_labels": fixed_labels,
        "moving_labels": moving_labels,
        "warped_labels": warped_labels,
        "transform": ";".join(transform or []),
        "displacement": displacement,
        "inverse": ";".join(inverse or []),
        "reference": ";".join(reference or []),
        "mask": mask,
        "fixed_points": fixed_points,
        "moving_points": moving_points,
    }
    given = [f"--{name.replace('_', '-')}" for name, text in words.items() if text]
    of_networks = _given(
        {"--cache": cache, "--data": data, "--device": device, "--mirrored": mirrored, "--results": results}
    )
    if model is not None:
        of_files = {"the table": table, "--submission": submission, "--protocol": protocol, "--measure": measure}
        of_files |= {"--label-names": label_names, "--method": method, "--group": group}
        given += _given({**of_files, "--published": published, "--points-in": points_in != "ras"})
        if given:
            raise ValueError(f"{', '.join(given)} came with --model, which is scored on prepared scans; leave one.")
        with no_empty_folder(out):
            score_network(
                model,
                data=data,
                cache=cache,
                part=split or "test",
                device=device or "auto",
                mirrored=mirrored,
                labels=label or (),
                results=results,
                out=out,
                overwrite=overwrite,
                quiet=quiet,
            )
        return 0
    if of_networks:
        raise ValueError(f"{', '.join(of_networks)} came without --model, the network that they are for.")
    if show_published(published or []) and table is None and out is None:
        return 0
    if out is None:
        raise ValueError("--out is missing: the folder for the results.")
    request = Request(tuple(measure or GROUPS), tuple(protocol or ("nearest",)), tuple(label) if label else None)
    options: dict[str, Any] = {"request": request, "method": method, "group": group}
    if label_names is not None:
        options["label_names"] = read_label_names(label_names)
    is_dataset = table is not None and table.suffix.lower() == ".json"
    if (submission is not None or split is not None) and not is_dataset:
        raise ValueError("--submission and --split go with the json of a Learn2Reg data set.")
    if table is not None and given:
        raise ValueError(f"{', '.join(given)} came with '{table}', which names the files itself; give one of them.")
    if not quiet:
        options["on_pair"] = _tell
    with no_empty_folder(out):
        if is_dataset:
            outcome = _dataset(read_dataset(table), submission, split, out, overwrite, options)
        elif table is not None:
            outcome = evaluate(jobs_of(read_pairs(table)), check_folder(out, overwrite=overwrite), **options)
        else:
            case = case_from_words({**words, "points_in": points_in}, Path(), SINGLE)
            outcome = evaluate(jobs_of([case]), check_folder(out, overwrite=overwrite), is_strict=True, **options)
    measured = {row["label"] for row in outcome.summary["labels"]}
    for number in sorted(set(label or ()) - measured):
        print(
            f"note: nothing was measured of label {number}: no label map that was compared holds it.", file=sys.stderr
        )
    if not quiet:
        print(outcome.text, end="")
        print(f"written: {out}/")
    return 0 if outcome.is_complete else SKIPPED


def _given(options: Mapping[str, Any]) -> list[str]:
    """The names of those that were given."""
    return [name for name, value in options.items() if value]


def show_published(names: list[str]) -> bool:
    """Print published tables; whether there was anything to print."""
    for name in names:
        if name == "list":
            for table in published_tables().values():
                print(f"{table.identifier}: {table.title}")
        else:
            print(published_table(name).as_text())
    return bool(names)


def _dataset(
    dataset: Learn2RegDataset,
    submission: Path | None,
    split: str | None,
    out: Path,
    overwrite: bool,
    options: dict[str, Any],
) -> Outcome:
    """Score a Learn2Reg data set, with the arithmetic of the challenge's script beside ours."""
    split = next(iter(dataset.splits)) if split is None else split
    pairs = dataset.pairs(split)
    jobs = [Job(pair.name, lambda pair=pair: dataset.case(pair, submission)) for pair in pairs]
    options.setdefault("label_names", dataset.label_names)
    if options["request"].labels is None:
        options["request"] = replace(options["request"], labels=dataset.labels)
    if submission is not None:
        if not submission.is_dir():
            raise FileNotFoundError(f"'{submission}' is no folder, but the one with the displacements is needed.")
        short = [
            pair.short_name
            for pair in pairs
            if not pair.is_short_name_allowed and not _is_there(submission, pair.long_name)
        ]
        if any(_is_there(submission, name) for name in short):
            print(
                f"note: {len(short)} displacements have short names such as {short[0]}, which the challenge's script "
                "takes for modalities 0000 and 0001 only; it would call them missing.",
                file=sys.stderr,
            )
        extra: Callable[[Case], dict[str, float]] = lambda case: script_scores(case, dataset)  # noqa: E731
        options |= {"extra": extra, "aggregates": script_aggregates}
    return evaluate(jobs, check_folder(out, overwrite=overwrite), **options)


def _is_there(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{suffix}").is_file() for suffix in (".nii.gz", ".npz"))


def _tell(done: int, total: int, pair: str, reason: str) -> None:
    """A line on standard error for each pair that was left out, and a count now and then."""
    if reason:
        print(f"skipped {pair}: {reason}", file=sys.stderr, flush=True)
    elif total > 1 and (done % 10 == 0 or done == total):
        print(f"{done} of {total} pairs", file=sys.stderr, flush=True)
