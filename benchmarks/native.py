"""Whole registrations of six 1 mm brains in their native spaces, all 30 ordered pairs: affine, and the full pipeline.

Where both subjects are in the affinely aligned set, the same pair is also registered there from the headers' alignment,
which is what the full pipeline should reach. 1003 and 1023 are two scans of one person.
"""

import argparse
from itertools import permutations
from typing import Any

from common import Column, Row, Table, data_folder, described, image_and_labels, mean_of, parser_of
from jobs import Job, labelled, run_fresh, warm_up

SUBJECTS = ("1000", "1001", "1003", "1006", "1017", "1023")
RESCANS = {"1003", "1023"}
PEER_PAIRS = (("1000", "1001"), ("1000", "1006"), ("1006", "1017"), ("1017", "1000"))
"""The pairs of ``reference/peers-measured.md``."""
ALIGNED_START = 0.41
"""Mean label Dice at which the affinely aligned set starts, other people."""
WITHIN = 0.01
"""How near the full pipeline should come to the deformable stage on the aligned set."""
COLUMNS = (
    Column("pair", "fixed <- moving"),
    Column("what", "what"),
    Column("dice_before", "header Dice", 3),
    Column("dice_after", "Dice", 4),
    Column("dice_linear", "of its affine", 4),
    Column("seconds", "call s", 1),
    Column("process_seconds", "process s", 1),
    Column("verdict", "verdict"),
    Column("reasons", "reasons"),
    Column("initialisation", "start"),
    Column("folded_voxels", "folded voxels", 0),
    Column("sd_log_jacobian", "sd log J", 3),
    Column("inverse_mean_voxels", "inverse mean voxels", 4),
    Column("peak_memory_mb", "peak MB", 0),
    Column("error", "error"),
)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    small = options.resolution == "2mm"
    folders = {
        "native": data_folder("brains", "native-2mm" if small else "native"),
        "aligned": data_folder("brains", "affine-2mm" if small else "affine-1mm"),
    }
    pairs = list(permutations(SUBJECTS, 2))[: options.pairs]
    jobs = [job for pair in pairs for job in _jobs(folders, pair, options)]
    table = Table(
        f"native{'-2mm' if small else ''}",
        f"Brains in native space, {options.resolution}",
        COLUMNS,
        folder=options.results,
        settings=_settings(options),
        group="what",
        expected=len(jobs),
    )
    warm_up(_jobs({"native": data_folder("brains", "native-2mm")}, ("1000", "1001"), options)[-1][1])
    for what, job in jobs:
        answer = run_fresh(job)
        if what == "affine":
            answer.pop("dice_linear", None)
        table.add({"pair": job.name, "what": what, **answer})
    _conclude(table)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=30, help="only the first so many ordered pairs")
    parser.add_argument("--models", nargs="*", choices=("affine", "full"), default=["affine", "full"])
    parser.add_argument(
        "--peers", nargs="*", choices=("greedy", "ants"), default=[], help="affine by others, four pairs"
    )
    parser.add_argument("--resolution", choices=("1mm", "2mm"), default="1mm", help="2mm: a quick look")
    return parser.parse_args()


def _jobs(folders: dict[str, Any], pair: tuple[str, str], options: argparse.Namespace) -> list[tuple[str, Job]]:
    """What to run for a pair: each with its word for the table."""
    name, common = " <- ".join(pair), {"threads": options.threads}
    native = [image_and_labels(folders["native"], subject) for subject in pair]
    jobs = []
    if "affine" in options.models:
        jobs.append(("affine", labelled(name, *native, deformable=False, **common)))
    if pair in PEER_PAIRS and "greedy" in options.peers:
        jobs.append(("greedy affine", labelled(name, *native, tool="greedy-affine", **common)))
    if pair in PEER_PAIRS and "ants" in options.peers:
        jobs.append(("ants affine", labelled(name, *native, tool="ants:Affine", **common)))
    if "full" in options.models:
        jobs.append(("full", labelled(name, *native, **common)))
        aligned = [image_and_labels(folders["aligned"], subject) for subject in pair] if "aligned" in folders else []
        if aligned and all(files["image"].exists() for files in aligned):
            jobs.append(("aligned set", labelled(name, *aligned, aligned=True, **common)))
    return jobs


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    import peers
    from pullback.registration import Plan

    return {
        "threads": options.threads,
        "affine": described(Plan().linear),
        "full": "affine and " + described(Plan().deformable),
        "aligned set": "the same pair of the affinely aligned set, deformable from the headers' alignment; its header "
        "Dice is where that set starts",
        "greedy affine": peers.GREEDY_AFFINE.format(threads=options.threads),
        "Dice": "mean over the labels that both images have, labels by nearest neighbour",
        "warm-up": "one 2 mm registration before, unmeasured, so that compiled kernels are cached on disk",
    }


def _conclude(table: Table) -> None:
    """Hold the numbers against what must be reached."""
    rows = [row for row in table.rows if "error" not in row]
    affine = [row for row in rows if row["what"] == "affine"]
    others = [row for row in affine if set(row["pair"].split(" <- ")) != RESCANS]
    if others:
        low = [f"{row['pair']} ({row['dice_after']:.4f})" for row in others if row["dice_after"] < ALIGNED_START]
        table.remark(
            f"Affine, other people: Dice {mean_of(others, 'dice_after'):.4f}, lowest "
            f"{min(row['dice_after'] for row in others):.4f}; below {ALIGNED_START}: {', '.join(low) or 'none'}."
        )
    same = [row for row in affine if row not in others]
    if same:
        table.remark(f"Affine, rescans of one person: {', '.join(format(r['dice_after'], '.4f') for r in same)}.")
    _against_aligned(table, {row["pair"]: row for row in rows if row["what"] == "full"}, rows)
    bad = [f"{row['pair']} {row['what']}" for row in rows if row.get("verdict", "good") != "good"]
    table.remark(f"Verdicts other than good: {', '.join(bad) or 'none'}.")


def _against_aligned(table: Table, full: dict[str, Row], rows: list[Row]) -> None:
    aligned = {row["pair"]: row for row in rows if row["what"] == "aligned set"}
    gaps = {pair: full[pair]["dice_after"] - row["dice_after"] for pair, row in aligned.items() if pair in full}
    if gaps:
        low = [f"{pair} ({gap:+.4f})" for pair, gap in gaps.items() if gap < -WITHIN]
        mean = sum(gaps.values()) / len(gaps)
        table.remark(
            f"Full pipeline against the deformable stage on the aligned set, {len(gaps)} pairs: {mean:+.4f} on "
            f"average, {min(gaps.values()):+.4f} to {max(gaps.values()):+.4f}; short by more than {WITHIN}: "
            f"{', '.join(low) or 'none'}."
        )


if __name__ == "__main__":
    main()
