"""Deformable registration of six pairs of affinely aligned 1 mm brains, ours and greedy's in turn.

Every registration runs in a fresh process from the headers' alignment, pair by pair and tool by tool. Overlap, folds
and spread of the Jacobian are computed the same way for all tools from their transforms.

With ``--shading`` each image is multiplied by a smooth random field of its own first, as a coil would.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from common import Column, Row, Table, data_folder, described, image_and_labels, mean_of, parser_of
from jobs import Job, labelled, run_fresh, warm_up

PAIRS = (("1000", "1001"), ("1002", "1006"), ("1007", "1008"), ("1009", "1010"), ("1011", "1012"), ("1017", "1036"))
"""Fixed, moving."""
ENDS = ("fixed", "moving")
ANTS = ("ants:antsRegistrationSyNQuick[so]", "ants:antsRegistrationSyN[so]")
COLUMNS = (
    Column("pair", "fixed <- moving"),
    Column("tool", "tool"),
    Column("dice_before", "start Dice", 4),
    Column("dice_after", "Dice", 4),
    Column("seconds", "call s", 1),
    Column("deformable_seconds", "deformable s", 1),
    Column("process_seconds", "process s", 1),
    Column("folded_voxels", "folded voxels", 0),
    Column("sd_log_jacobian", "sd log J", 3),
    Column("inverse_mean_voxels", "inverse mean voxels", 4),
    Column("inverse_max_voxels", "inverse max voxels", 3),
    Column("peak_memory_mb", "peak MB", 0),
    Column("error", "error"),
)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    with TemporaryDirectory() as room:
        _run(options, Path(room))


def _run(options: argparse.Namespace, room: Path) -> None:
    small, shading = options.resolution == "2mm", options.shading
    folder = data_folder("brains", f"affine-{options.resolution}")
    tools = ["pullback", *(["greedy"] if "greedy" in options.peers else []), *(ANTS if "ants" in options.peers else ())]
    pairs = PAIRS[: options.pairs]
    jobs = [_job(folder, pair, tool, options) for pair in pairs for tool in tools]
    if shading:
        jobs = [replace(job, **{end: _shade(getattr(job, end), shading, room) for end in ENDS}) for job in jobs]
    table = Table(
        f"brains{'-2mm' if small else ''}{f'-shaded-{shading:g}' if shading else ''}",
        f"Affinely aligned brains, {options.resolution}{f', shaded by {shading:g}' if shading else ''}: deformable "
        "registration from the headers' alignment",
        COLUMNS,
        folder=options.results,
        settings=_settings(options),
        group="tool",
        expected=len(jobs),
    )
    warm_up(_job(data_folder("brains", "affine-2mm"), PAIRS[0], "pullback", options))
    for job in jobs:
        table.add({"pair": job.name, **run_fresh(job)})
    if len(tools) > 1:
        _compare(table, tools[1:])


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="only the first so many pairs")
    parser.add_argument(
        "--peers", nargs="*", choices=("greedy", "ants"), default=["greedy"], help="other tools (ants: 12 min a pair)"
    )
    parser.add_argument("--resolution", choices=("1mm", "2mm"), default="1mm", help="2mm: a quick look")
    parser.add_argument(
        "--shading", type=float, default=0.0, help="standard deviation of the logarithm of each image's field"
    )
    parser.add_argument("--greedy-inverse", action="store_true", help="also compute greedy's inverse, off the clock")
    return parser.parse_args()


def _job(folder: Any, pair: tuple[str, str], tool: str, options: argparse.Namespace) -> Job:
    fixed, moving = (image_and_labels(folder, subject) for subject in pair)
    return labelled(
        " <- ".join(pair),
        fixed,
        moving,
        tool=tool,
        aligned=True,
        threads=options.threads,
        inverse=options.greedy_inverse,
    )


def _shade(path: str, spread: float, room: Path) -> str:
    """A copy of an image, shaded as hard starts are; the subject's number is the seed."""
    from pullback.io import read_image, write_image
    from starts import shaded

    copy = room / Path(path).name
    if not copy.exists():
        image, random = read_image(path), np.random.default_rng(int(copy.name.split("_")[0]))
        values = shaded(image.tensor[0].numpy(), spread, random).astype(np.float32)
        write_image(copy, image.with_tensor(torch.from_numpy(values)[None]))
    return str(copy)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    import peers
    from pullback.registration import Plan

    return {
        "threads": options.threads,
        **({"shading": options.shading} if options.shading else {}),
        "pullback": described(Plan(methods=("none",), linear=None).deformable),
        "greedy": peers.greedy_command("greedy", options.threads),
        "Dice": "mean over the labels that both images have, labels by nearest neighbour",
        "Jacobian": "central differences of the displacement on the fixed grid, over the fixed image above 0",
        "call s": "images in memory to transforms in memory, fresh process; ours includes start, inverse and evidence, "
        "greedy's its warp only",
        "process s": "with starting Python, reading files and scoring",
        "warm-up": "one 2 mm registration before, unmeasured, so that compiled kernels are cached on disk",
    }


def _compare(table: Table, peers: list[str]) -> None:
    """Say how we stand against each peer, pair by pair."""
    ours = {row["pair"]: row for row in table.rows if row["tool"] == "pullback" and "error" not in row}
    for peer in peers:
        both = [(ours[row["pair"]], row) for row in table.rows if row["tool"] == peer and row["pair"] in ours]
        both = [(a, b) for a, b in both if "error" not in b]
        if both:
            table.remark(comparison(peer, both))
    checks = [row["check_largest_difference"] for row in table.rows if "check_largest_difference" in row]
    if checks:
        gaps = [abs(row["dice_by_greedy"] - row["dice_after"]) for row in table.rows if "dice_by_greedy" in row]
        table.remark(
            f"Greedy's warp read by us resamples the moving image to greedy's own within {max(checks):.1e} of its "
            f"range, and gives greedy's own label Dice within {max(gaps):.1e}."
        )


def comparison(peer: str, both: list[tuple[Row, Row]]) -> str:
    """How our rows stand against a peer's on the same pairs, in words."""
    gains = [a["dice_after"] - b["dice_after"] for a, b in both]
    shares = [a["seconds"] / b["seconds"] for a, b in both]
    own, other = [a for a, _ in both], [b for _, b in both]
    return (
        f"pullback against {peer}: Dice {mean_of(own, 'dice_after'):.4f} and {mean_of(other, 'dice_after'):.4f} "
        f"(by pair {min(gains):+.4f} to {max(gains):+.4f}), call {mean_of(own, 'seconds'):.1f} s and "
        f"{mean_of(other, 'seconds'):.1f} s (by pair {min(shares):.2f} to {max(shares):.2f} of its time)."
    )


if __name__ == "__main__":
    main()
