"""``pullback register``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pullback.checks import DEVICES
from pullback.cli.label_names import LabelNames, read_label_names
from pullback.cli.progress import progress
from pullback.pairwise import INITIALS, MODELS, PRESETS, SIMILARITIES, Registration, check_directory
from pullback.pairwise import register as register_pair
from pullback.registration.verdict import FAILED

MASK = "Voxels to compare, on the grid of its image; the image itself is not masked."


def command(
    fixed: Annotated[Path, typer.Argument(help="The image that stays: file, or folder of a DICOM series.")],
    moving: Annotated[Path, typer.Argument(help="The image that is brought to it.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the results.")],
    model: Annotated[str, typer.Option(help=f"{', '.join(MODELS)}. deformable includes the affine.")] = "deformable",
    initial: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(INITIALS)}, or the file of a linear transform; several compete. Default: header, centre, "
            "moments and search compete. 'none' with --model deformable skips the affine. Weights of a trained affine "
            "network (.safetensors) are taken as by --initial-model."
        ),
    ] = None,
    initial_model: Annotated[
        Path | None,
        typer.Option(
            help="Weights of a trained affine network: its start is tried first; the others, if it looks wrong."
        ),
    ] = None,
    similarity: Annotated[str, typer.Option(help=", ".join(SIMILARITIES))] = "auto",
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = "brain",
    smoothness: Annotated[float, typer.Option(help="Factor of the widths of smoothing, 0 to 10.")] = 1.0,
    fixed_mask: Annotated[Path | None, typer.Option(help=MASK)] = None,
    moving_mask: Annotated[Path | None, typer.Option(help=MASK)] = None,
    fixed_labels: Annotated[Path | None, typer.Option(help="Labels to score, not to steer by.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="Labels to score, not to steer by.")] = None,
    label_names: LabelNames = None,
    fixed_points: Annotated[
        Path | None, typer.Option(help="Landmarks to score: csv with x,y,z in world RAS mm.")
    ] = None,
    moving_points: Annotated[Path | None, typer.Option(help="Landmarks that correspond to them.")] = None,
    channel_weights: Annotated[str | None, typer.Option(help="Factors of the channels, such as 1,0.5.")] = None,
    model_file: Annotated[
        Path | None, typer.Option(help="Weights of a trained network, in place of the deformable stage.")
    ] = None,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="The network's mean answer to the pair and its mirrors.")
    ] = False,
    refine: Annotated[
        int,
        typer.Option(
            help="Steps of the classical engine from the network's answer (small lattices: in each of 3 rounds)."
        ),
    ] = 0,
    lps: Annotated[bool, typer.Option("--lps", help="The points are in ITK's LPS mm.")] = False,
    threads: Annotated[int | None, typer.Option(help="Default: all. Results do not depend on it.")] = None,
    device: Annotated[str, typer.Option(help=", ".join(DEVICES))] = "auto",
    seed: Annotated[int, typer.Option(help="Recorded; every step is deterministic.")] = 0,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not read the written transforms back and compare them.")
    ] = False,
    bids: Annotated[
        str | None,
        typer.Option(
            "--bids",
            help="Name the transforms as BIDS says, with a JSON file beside each: sub-01_from-MOVING_to-FIXED; the way "
            "back gets both spaces exchanged.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the directory.")] = False,
) -> int:
    """Register MOVING to FIXED.

    Writes into the directory: warped.nii.gz (moving on the fixed grid), fixed_to_moving.h5 and moving_to_fixed.h5 (ITK
    composite transforms; --bids names them otherwise), result.json (all numbers), report.html and thumbnail.jpg. The
    verdict is good, doubtful or failed; failed leaves with exit status 3.
    """
    check_directory(out, overwrite=overwrite, bids=bids)
    names = None if label_names is None else read_label_names(label_names)
    with progress(quiet=quiet) as on_progress:
        registration = register_pair(
            fixed,
            moving,
            model=model,
            initial=initial or None,
            initial_model=initial_model,
            similarity=similarity,
            preset=preset,
            smoothness=smoothness,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            fixed_points=fixed_points,
            moving_points=moving_points,
            points_in_lps=lps,
            label_names=names,
            channel_weights=_numbers(channel_weights),
            model_file=model_file,
            mirrored=mirrored,
            refine=refine,
            threads=threads,
            device=device,
            seed=seed,
            on_progress=on_progress,
        )
        on_progress("writing", 0.0, "")
        registration.save(out, overwrite=overwrite, verify=not no_verify, bids=bids)
        on_progress("writing", 1.0, "")
    if not quiet:
        say_verdict(registration, out)
    return 3 if registration.verdict.value == FAILED else 0


def say_verdict(registration: Registration, out: Path) -> None:
    """The verdict, where everything is, and how exactly the transforms read back."""
    verdict = registration.verdict
    found = registration.result.initialisation
    if found is not None and found.why:
        print(f"start: {found.why}")
    print(f"verdict: {verdict.value} ({'; '.join(verdict.reasons)})")
    print(f"written: {out}/ (open {out / 'report.html'})")
    read_back = json.loads((out / "result.json").read_text(encoding="utf-8")).get("read_back_mm")
    if read_back is not None:
        print(f"read back: both transforms, largest difference {read_back:.2g} mm at random points")


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"`--channel-weights` is '{text}', but numbers with commas are needed, such as 1,0.5."
        ) from None
