"""``pullback report``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pullback.cli.apply import refuse_to_replace
from pullback.reports import read_result, read_rows, write_cohort
from pullback.reports.saved import REPORT
from pullback.reports.volume import VOLUME_PAGE, write_volume_page

BAD_INPUT = 2
PAGES = (".html", ".htm")


def command(
    folders: Annotated[list[Path], typer.Argument(help="Folders that 'pullback register --out' wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="Page of all of them, such as cohort.html.")] = None,
    title: Annotated[str, typer.Option(help="Heading of that page.")] = "Registrations",
    volume: Annotated[
        bool, typer.Option("--volume", help=f"Write {VOLUME_PAGE} into each folder: both images in 3-D, by NiiVue.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
) -> int:
    """Make one page of many registrations, outliers first, or a volume view of each.

    The page lists verdicts, numbers, thumbnails and links to each report; it can be sorted, searched, filtered by
    verdict and worked through by keyboard. A folder without a readable result.json is listed as unreadable, and the
    exit status is 2.
    """
    if out is None and not volume:
        raise ValueError("Say what to make: --out cohort.html for a page of all folders, or --volume.")
    if out is None and title != "Registrations":
        raise ValueError("--title is the heading of the page that --out names; give --out too.")
    if out is not None:
        _refuse_files_of_results(out, folders)
    for path in [out] * (out is not None) + [folder / VOLUME_PAGE for folder in folders] * volume:
        refuse_to_replace(path, overwrite)
    if volume:
        for folder in folders:
            _write_volume(folder)
    return 0 if out is None else _write_table(folders, out, title)


def _refuse_files_of_results(out: Path, folders: list[Path]) -> None:
    if out.suffix.lower() not in PAGES:
        raise ValueError(f"--out is '{out}', but a page such as cohort.html is written; name it {' or '.join(PAGES)}.")
    if any(out.resolve() == (folder / page).resolve() for folder in folders for page in (REPORT, VOLUME_PAGE)):
        raise ValueError(f"--out is '{out}', a page of one of these registrations; name another file.")


def _write_volume(folder: Path) -> None:
    result = read_result(folder)
    fixed, moving = (result.image(side, has_option=False) for side in ("fixed", "moving"))
    write_volume_page(folder / VOLUME_PAGE, fixed, result.warped(), moving=moving)
    print(f"written: {folder / VOLUME_PAGE}")


def _write_table(folders: list[Path], out: Path, title: str) -> int:
    rows = read_rows(folders)
    write_cohort(out, rows, title=title)
    print(f"written: {out} ({len(rows)} registrations)")
    unreadable = [row for row in rows if row.result is None]
    for row in unreadable:
        print(f"pullback: {row.problem}", file=sys.stderr)
    return BAD_INPUT if unreadable else 0
