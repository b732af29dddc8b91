"""What every page is: one HTML file that holds its style and its script, and may load nothing else."""

from importlib import resources
from pathlib import Path
from string import Template

from pullback.io.atomic import replacing
from pullback.reports.markup import Markup, escape

CLOSED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content policy of a page that loads nothing."""


def document(title: str, body: Markup, *, style: str, script: str, kind: str, policy: str = CLOSED) -> str:
    """The text of a page.

    Args:
        title: Of the browser's tab.
        body: What stands in it, with its data.
        style: Style sheets beyond ``page.css``.
        script: Runs when the body is there.
        kind: Class of the body, by which style sheets tell the pages apart.
        policy: What the page may load.
    """
    return Template(template("page.html")).substitute(
        title=escape(title), body=body, style=template("page.css") + style, script=script, kind=kind, policy=policy
    )


def write_document(path: str | Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        FileNotFoundError: If the folder does not exist.
        OSError: If the place cannot be written to or the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))  # file names may hold stray bytes


def template(name: str) -> str:
    """The text of a file that a page is made of."""
    return resources.files("pullback.reports").joinpath("templates", name).read_text(encoding="utf-8")
