"""Dice against seconds on pairs of affinely aligned brains: every peer, and ours at several settings.

Every registration runs in a fresh process with the same threads, deformable alone, from the headers' alignment, and
is scored by the same code. Rows are kept one by one in ``results/peers.json`` with what made them; a row that is there
already and was made with the same settings (ours: with the same code, too) is not made again, so that a run can be
stopped and resumed, and the slow peers measured on another evening. ``figures.py`` draws the curve.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from brains import COLUMNS, PAIRS, comparison
from common import Column, Row, Table, commit, data_folder, image_and_labels, machine, parser_of, version_of
from jobs import Job, labelled, run_fresh, warm_up

NAME = "peers"
OURS: dict[str, dict[str, Any]] = {
    "pullback half resolution": {"levels": [[8, 100], [4, 100], [2, 50]]},
    "pullback short": {"levels": [[8, 60], [4, 60], [2, 25], [1, 5]]},
    "pullback": {},
    "pullback long": {"levels": [[8, 100], [4, 100], [2, 100], [1, 40]]},
    "pullback longest": {"levels": [[8, 200], [4, 200], [2, 200], [1, 100]], "tolerance": 1e-5},
}
"""Our settings, quick to slow: what the deformable stage does otherwise than by default (``Job.schedule``)."""


@dataclass(frozen=True)
class Peer:
    """Another tool at one setting.

    Attributes:
        tool: For the job.
        package: That must be installed.
        settings: In words, for the table.
    """

    tool: str
    package: str
    settings: str


GREEDY_LONG = "-m NCC 2x2x2 -n 100x100x50x20"
GREEDY_LOG_DEMONS = "-m WNCC 2x2x2 -sv -n 100x50x10"
GREEDY_LOOSE = "-m WNCC 2x2x2 -n 100x100x40 -s 1.5vox 0.5vox"
PEERS = {
    "greedy": Peer("greedy", "picsl_greedy", "-m NCC 2x2x2 -n 100x50x10"),
    "greedy long": Peer(f"greedy:{GREEDY_LONG}", "picsl_greedy", GREEDY_LONG),
    "greedy log-Demons": Peer(f"greedy:{GREEDY_LOG_DEMONS}", "picsl_greedy", f"{GREEDY_LOG_DEMONS}, its quick start's"),
    "greedy loose": Peer(f"greedy:{GREEDY_LOOSE}", "picsl_greedy", f"{GREEDY_LOOSE}, as others use it on OASIS"),
    "elastix": Peer("elastix", "itk-elastix", "default bspline parameters: mutual information, spacing 10 mm"),
    "ANTs Quick": Peer("ants:antsRegistrationSyNQuick[so]", "antspyx", "antsRegistrationSyNQuick[so]"),
    "dipy tutorial": Peer("dipy:tutorial", "dipy", "SyN, CC radius 4, 10x10x5, one thread"),
    "dipy": Peer("dipy", "dipy", "SyN, CC radius 2, 100x100x25, one thread"),
    "FireANTs": Peer("fireants", "fireants", "greedy, CC 7, 200x100x50, on the CPU"),
    "FireANTs OASIS": Peer("fireants:oasis", "fireants", "greedy, as its authors' OASIS script, 250x200x100, CPU"),
    "ANTs": Peer("ants:antsRegistrationSyN[so]", "antspyx", "antsRegistrationSyN[so]: CC radius 2, 100x70x50x20"),
}
"""Quick to slow. None of them runs an affine."""
SHOWN = (*COLUMNS[:2], Column("settings", "settings"), *COLUMNS[2:-1], Column("check_share", "check", 5), COLUMNS[-1])


def main() -> None:
    """Run what is asked for and not there yet."""
    options = _options()
    small = options.resolution == "2mm"
    name = f"{NAME}{'-2mm' if small else ''}"
    folder, code = data_folder("brains", f"affine-{options.resolution}"), commit()
    tools = [*options.settings, *(peer for peer in options.peers if _is_there(peer))]
    wanted = [(tool, pair) for pair in PAIRS[: options.pairs] for tool in tools]
    kept = kept_rows(options.results / f"{name}.json")
    done = {(row["tool"], row["pair"]) for row in kept if is_current(row, settings_of(row["tool"]), code)}
    done = {(tool, pair) for tool, pair in done if tool not in options.again}
    todo = [(tool, pair) for tool, pair in wanted if (tool, " <- ".join(pair)) not in done]
    replaced = {(tool, " <- ".join(pair)) for tool, pair in todo}
    kept = [row for row in kept if (row["tool"], row["pair"]) not in replaced]
    print(f"{len(todo)} registrations, {len(kept)} rows are there already")
    table = _table(name, options, kept, expected=len(kept) + len(todo))
    if any(tool in OURS for tool, _ in todo):
        warm_up(_job(data_folder("brains", "affine-2mm"), PAIRS[0], "pullback", options.threads))
    broken: set[str] = set()
    for tool, pair in todo:
        if PEERS.get(tool) and tool in broken:
            continue
        answer = run_fresh(_job(folder, pair, tool, options.threads))
        broken |= {tool} if "error" in answer else set()
        table.add({"pair": " <- ".join(pair), **answer, "tool": tool, **made_by(tool, code, options.threads)})
    _compare(table, sorted(broken))


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="only the first so many pairs")
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=list(PEERS), help="other tools")
    parser.add_argument("--settings", nargs="*", choices=tuple(OURS), default=list(OURS), help="of ours")
    parser.add_argument(
        "--again", nargs="*", choices=(*OURS, *PEERS), default=[], help="make rows of these anew, whatever is there"
    )
    parser.add_argument("--resolution", choices=("1mm", "2mm"), default="1mm", help="2mm: a quick look")
    return parser.parse_args()


def _is_there(name: str) -> bool:
    """Whether a peer is installed; says so if not."""
    package = PEERS[name].package
    if version_of(package) is None:
        flags = "--no-deps fireants" if package == "fireants" else "-e '.[benchmark]'"
        print(f"skipped: {name}, because {package} is not installed (pip install {flags})")
    return version_of(package) is not None


def _table(name: str, options: argparse.Namespace, rows: Sequence[Row], *, expected: int) -> Table:
    settings = {
        "threads": options.threads,
        "Dice": "mean over the labels that both images have, labels by nearest neighbour",
        "Jacobian": "central differences of the displacement on the fixed grid, over the fixed image above 0",
        "call s": "images in memory to transforms in memory, fresh process; ours includes start, inverse and evidence",
        "check": "difference of the tool's own resampled image and ours by its transform, the unregistered image at 1",
        "rows": "each holds its own date, commit, machine, load and version; the line above is of the last run",
    }
    title = f"Affinely aligned brains, {options.resolution}: peers, and ours at several settings"
    return Table(
        name,
        title,
        SHOWN,
        folder=options.results,
        settings=settings,
        group="tool",
        expected=expected,
        rows=[row for row in rows if row["tool"] in (*OURS, *PEERS)],
        order=(*OURS, *PEERS),
    )


def _job(folder: Path, pair: tuple[str, str], tool: str, threads: int) -> Job:
    fixed, moving = (image_and_labels(folder, subject) for subject in pair)
    how: dict[str, Any] = {"schedule": OURS[tool]} if tool in OURS else {"tool": PEERS[tool].tool}
    return labelled(" <- ".join(pair), fixed, moving, aligned=True, threads=threads, **how)


def settings_of(tool: str) -> str:
    """A row's settings in words; empty for a tool that is in neither table."""
    if tool in OURS:
        return ", ".join(f"{key} {value}" for key, value in OURS[tool].items()) or "default"
    return PEERS[tool].settings if tool in PEERS else ""


def made_by(tool: str, code: Row, threads: int) -> Row:
    """What made a row: date, code, machine, load, versions, settings."""
    host, package = machine(), PEERS[tool].package if tool in PEERS else "pullback"
    return {
        "settings": settings_of(tool),
        "version": f"{package} {version_of(package)}",
        "threads": threads,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": code["hash"],
        "source": code["source"],
        "dirty": code["dirty"],
        "machine": f"{host['cpu']}, {host['cores']} cores, {host['memory_gb']} GB, Python {host['python']}",
        "load": round(os.getloadavg()[0], 2),
    }


def kept_rows(path: Path) -> list[Row]:
    """The rows of an earlier run; none if there was none."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def is_current(row: Row, settings: str, code: Row) -> bool:
    """Whether a row need not be made again: it is whole, its settings are today's and, if ours, its code is."""
    whole = "error" not in row and row.get("settings") == settings
    same_code = not code["dirty"] and not row.get("dirty") and row.get("source") == code["source"]
    return whole and (same_code or row["tool"] not in OURS)


def _compare(table: Table, broken: Sequence[str]) -> None:
    """Say how our default stands against each peer, pair by pair, and which peers ended with an error."""
    whole = [row for row in table.rows if "error" not in row]
    ours = {row["pair"]: row for row in whole if row["tool"] == "pullback"}
    for peer in PEERS:
        both = [(ours[row["pair"]], row) for row in whole if row["tool"] == peer and row["pair"] in ours]
        if both:
            table.remark(comparison(peer, both))
    for tool in broken:
        table.remark(f"{tool} ended with an error, so that its other pairs were not run.")


if __name__ == "__main__":
    main()
