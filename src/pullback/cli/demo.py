"""``pullback demo``: the main job on real input that comes with an installed package."""

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from pullback.cli.progress import progress
from pullback.cli.register import say_verdict
from pullback.data import Image
from pullback.io import read_image, write_image, write_transform
from pullback.pairwise import check_directory, register
from pullback.pairwise.other_scanner import simulate
from pullback.registration.verdict import FAILED
from pullback.transforms import AbstractTransform

TEMPLATE = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def command(
    out: Annotated[Path, typer.Option("--out", help="Directory for the results.")] = Path("pullback-demo"),
    threads: Annotated[int | None, typer.Option(help="Default: all.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the directory.")] = False,
) -> int:
    """Register the ICBM152 T1 template to the same head as another scanner would see it, and measure the error.

    The template comes inside the nilearn package (pip install "pullback[demo]"). The other scanner has another
    orientation and spacing, a known smooth deformation and affine map, a bias field and noise, so that the error of the
    result is known, in mm. A demonstration directory is replaced without asking.
    """
    check_directory(out, overwrite=overwrite or _is_demo(out))
    fixed, brain = _template()
    moving, truth = simulate(fixed)
    with progress(quiet=quiet) as on_progress:
        registration = register(fixed, moving, threads=threads, on_progress=on_progress)
        on_progress("writing", 0.0, "")
        registration.save(out, overwrite=True)
        write_image(out / "fixed.nii.gz", fixed)
        write_image(out / "moving.nii.gz", moving)
        write_transform(out / "true_fixed_to_moving.h5", truth)
        on_progress("writing", 1.0, "")
    points = fixed.grid.to_world(torch.nonzero(brain).to(torch.float64))
    before, after = (_errors(t, truth, points) for t in (registration.result.before, registration.fixed_to_moving))
    numbers = {"true_error_mm": {"before": before, "after": after}, "where": "grey and white matter"}
    (out / "demo.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if not quiet:
        for word, errors in (("before", before), ("after", after)):
            print(f"error against the true map, {word}: " + ", ".join(f"{k} {v:.3f} mm" for k, v in errors.items()))
        say_verdict(registration, out)
    return 3 if registration.verdict.value == FAILED else 0


def _is_demo(out: Path) -> bool:
    return (out / "demo.json").exists()


def _template() -> tuple[Image, torch.Tensor]:
    """The template, and where grey or white matter is."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise ValueError('The demo needs the template inside nilearn: pip install "pullback[demo]".')
    folder = Path(found.origin).parent
    paths = [folder / TEMPLATE.format(kind) for kind in ("t1", "gm", "wm")]
    image = read_image(paths[0], name="ICBM152 T1")
    tissue = sum(read_image(path).tensor[0] for path in paths[1:])
    return image, tissue > 0.5 * tissue.max()


def _errors(found: AbstractTransform, truth: AbstractTransform, points: torch.Tensor) -> dict[str, float]:
    distances = torch.linalg.vector_norm(found(points) - truth(points), dim=1)
    return {
        "mean": float(distances.mean()),
        "median": float(np.median(distances.numpy())),
        "95th percentile": float(distances.kthvalue(int(0.95 * len(distances))).values),
        "maximum": float(distances.max()),
    }
