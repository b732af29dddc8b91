"""A second page with both images as volumes, drawn by NiiVue, which the nilearn package carries.

NiiVue (https://github.com/niivue/niivue, BSD-2) is two megabytes of script; so it stands on a page of its own, and does
not run until the reader asks for it. Its licence travels with it.
"""

import base64
import importlib.util
import tempfile
from pathlib import Path
from string import Template

import numpy as np
import torch

from pullback.data import Image, LabelMap
from pullback.io import write_image
from pullback.reports.document import document, template, write_document
from pullback.reports.intensities import check_channels, grey, window_of
from pullback.reports.markup import Markup, escape, json_script, name_of, tag, to_bytes
from pullback.reports.slices import ras_array
from pullback.reports.sprites import layout_of

VOLUME_PAGE = "volume.html"
SCRIPT = "_assets/js/niivue.umd.js"
"""Where nilearn 0.14 keeps it, relative to its package."""

POLICY = (
    "default-src 'none'; img-src data: blob:; connect-src data: blob:; font-src data:; worker-src blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline' 'wasm-unsafe-eval'"
)
"""NiiVue compiles WebAssembly, and passes its pictures and workers as blobs; nothing comes from outside either."""


def write_volume_page(path: str | Path, fixed: Image, warped: Image, *, moving: Image) -> None:
    """Write a page on which both images can be turned, cut and laid over each other in 3-D.

    The volumes are stored in 8 bits, and averaged over blocks if they are larger than `sprites.MOST_VOXELS`.

    Args:
        path: The file to write, usually ``volume.html`` beside the report.
        fixed: The fixed image.
        warped: The moving image on the fixed grid.
        moving: The moving image, which gives its name, its brightness window and its colours.

    Raises:
        ValueError: If the images are 2-D, the warped one cannot come from the moving one, or NiiVue is not installed.
        OSError: If the place cannot be written to or the disk is full.
    """
    if fixed.grid.num_dims != 3:
        raise ValueError(f"A volume view needs 3-D images, but '{fixed.name}' has {fixed.grid.num_dims} dimensions.")
    check_channels(warped, moving)
    names = [name_of(fixed.name), " \N{LEFTWARDS ARROW} ", name_of(moving.name)]
    data = {"fixed": _nifti(fixed, fixed), "warped": _nifti(warped, moving)}
    body = Template(template("volume.html")).substitute(
        heading=tag("h1", names),
        licence=escape(template("niivue-licence.txt")),
        data=escape([json_script(side, f'"{nifti}"') for side, nifti in data.items()]),
        niivue=niivue_script().replace("</script", "<\\/script"),
    )
    page = document(
        f"{fixed.name} \N{LEFTWARDS ARROW} {moving.name}: volumes",
        Markup(body),
        style=template("volume.css"),
        script=template("volume.js"),
        kind="volume",
        policy=POLICY,
    )
    write_document(path, page)


def niivue_script() -> str:
    """The text of NiiVue.

    Raises:
        ValueError: If nilearn is missing, or does not carry it.
    """
    found = importlib.util.find_spec("nilearn")
    path = None if found is None or found.origin is None else Path(found.origin).parent / SCRIPT
    if path is None or not path.is_file():
        raise ValueError(
            "The volume view needs NiiVue, which comes inside nilearn 0.14 or newer, and this was not found: "
            'pip install "pullback[volume]".'
        )
    return path.read_text(encoding="utf-8")


def _nifti(image: Image, like: Image) -> str:
    """The image by the window and the colours of another as 8-bit NIfTI in base64, RAS order."""
    layout = layout_of(image)
    values = np.nan_to_num(ras_array(image.tensor, layout.reorientation), posinf=0.0, neginf=0.0)
    levels = to_bytes(layout.average(window_of(like).scale(grey(values, like))))
    # A label map is written in the smallest type that holds it: one byte a voxel.
    small = LabelMap(torch.from_numpy(levels.astype(np.int32))[None], layout.grid)
    with tempfile.TemporaryDirectory(prefix="pullback-") as folder:
        path = Path(folder) / "image.nii.gz"
        write_image(path, small)
        return base64.b64encode(path.read_bytes()).decode("ascii")
