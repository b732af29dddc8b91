"""``pullback submission``."""

from pathlib import Path
from typing import Annotated

import typer

from pullback.evaluation import read_dataset, write_submission
from pullback.evaluation.learn2reg import SPLITS
from pullback.evaluation.submission import transforms_by_pattern


def command(
    dataset: Annotated[Path, typer.Argument(help="The json of a Learn2Reg data set.")],
    transforms: Annotated[
        str,
        typer.Option(
            help="Where the transforms are, such as 'out/{fixed}_{moving}/fixed_to_moving.h5' ({fixed_subject} and "
            "{moving_subject} are four digits); semicolons between several, applied in the order given."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the displacements.")],
    split: Annotated[str | None, typer.Option(help=f"{', '.join(SPLITS)}. Default: the first there is.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files in the folder.")] = False,
) -> None:
    """Write a submission to Learn2Reg: displacements in voxels, one per pair, read back and compared."""
    task = read_dataset(dataset)
    split = next(iter(task.splits)) if split is None else split
    if out.exists() and not overwrite and any(out.glob("disp_*")):
        raise FileExistsError(f"'{out}' holds displacements already; use --overwrite or another folder.")
    written = write_submission(task, split, transforms_by_pattern(transforms), out)
    if not quiet:
        print(f"written: {len(written)} displacements in {out}/, each read back and equal")
