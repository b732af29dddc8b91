"""What must not change a transform: threads, repetition, and how a file stores its image.

Bits: the same registration in fresh processes with 1 and 2 threads, and twice. World: how far points of the fixed brain
go elsewhere, in mm, when either image is reordered, cropped to less background, padded with zeros, or saved in another
format.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from common import Column, Row, Table, data_folder, parser_of
from jobs import Job, run_batch, run_fresh, warm_up
from pullback.data import Image
from pullback.io import read_image, write_image
from pullback.space import Reorientation, axis_codes

PAIR = ("1000", "1001")
"""Fixed, moving."""
PERMUTED = Reorientation((2, 0, 1), (True, False, True))
CROP_VOXELS = ((5, 2), (3, 4), (1, 6))
"""Slabs to cut from the two ends of each axis, as far as they hold background only."""
PAD_VOXELS = ((7, 3), (2, 9), (4, 5))
BACKGROUND_SHARE = 0.001
"""Slabs that stay below this share of the 99.9th percentile hold background only (resampling leaves faint ringing)."""
ALLOWED_MM = 0.1
COLUMNS = (
    Column("data", "images"),
    Column("what", "what"),
    Column("detail", "detail"),
    Column("largest_mm", "largest mm", 4),
    Column("mean_mm", "mean mm", 5),
    Column("digest", "hash of the map"),
    Column("digest_of_inverse", "hash of its inverse"),
    Column("same", "same bits"),
    Column("initialisation", "start"),
    Column("verdict", "verdict"),
    Column("error", "error"),
)


@dataclass(frozen=True)
class Images:
    """A pair and the region in which points are compared."""

    name: str
    fixed: Path
    moving: Path
    region: Path

    def job(self, what: str, **options: object) -> Job:
        """The default registration of the pair."""
        job = Job(what, str(self.fixed), str(self.moving), region=str(self.region), digest=True)
        return replace(job, **options)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    table = Table(
        "invariance",
        "What must not change a transform",
        COLUMNS,
        folder=options.results,
        settings={
            "threads": f"{options.threads}, and 1 where the row says so",
            "region": "fixed image above 0; heads: brain mask of the fixed image",
            "hash": "SHA-256 of every matrix, field and grid, first 16 digits",
        },
        spread=False,
    )
    sets = [images for images in _sets() if images.name in options.only]
    warm_up(sets[0].job("warm-up", threads=options.threads))
    for images in sets:
        for row in [*_bits(images, options), *_worlds(images, options)]:
            table.add({"data": images.name, **row})
    _conclude(table)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    names = [images.name for images in _sets()]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--variants", nargs="*", help="only variants whose names hold one of these words")
    return parser.parse_args()


def _sets() -> list[Images]:
    brains, heads = data_folder("brains", "native-2mm"), data_folder("brains", "heads-2mm")
    native = [brains / f"{subject}_image.nii.gz" for subject in PAIR]
    whole = [heads / f"{subject}_image.nii.gz" for subject in PAIR]
    return [
        Images("native-2mm", native[0], native[1], native[0]),
        Images("heads-2mm", whole[0], whole[1], heads / f"{PAIR[0]}_brain-mask.nii.gz"),
    ]


def _bits(images: Images, options: argparse.Namespace) -> Iterator[Row]:
    """Fresh processes: once, once more, and with one thread."""
    first = None
    runs = (("once", options.threads), ("once more", options.threads), ("one thread", 1))
    for what, threads in runs:
        answer = run_fresh(images.job(what, threads=threads))
        bits = (answer.get("digest"), answer.get("digest_of_inverse"))
        first = first or bits
        yield {"what": what, "detail": f"{threads} threads", **answer, "same": bits == first and bits[0] is not None}


def _worlds(images: Images, options: argparse.Namespace) -> Iterator[Row]:
    """Variants of either image against the images as they are, all in one process."""
    with TemporaryDirectory(prefix="pullback-invariance-") as name:
        folder = Path(name)
        jobs = [images.job("as it is", mapped=str(folder / "points.npy"), threads=options.threads)]
        details = [""]
        for side in ("fixed", "moving"):
            for what, detail, path in _variants(getattr(images, side), folder / side):
                if options.variants and not any(word in what for word in options.variants):
                    continue
                mapped = str(folder / f"points-{len(jobs)}.npy")
                jobs.append(replace(jobs[0], **{side: str(path)}, name=f"{side} {what}", mapped=mapped))
                details.append(detail)
        first = None
        for job, detail, answer in zip(jobs, details, run_batch(jobs), strict=True):
            row = {"what": job.name, "detail": detail, **answer}
            if "error" not in answer:
                points = np.load(job.mapped or "")
                first = points if first is None else first
                gap = np.linalg.norm(points - first, axis=1)
                row |= {"largest_mm": float(gap.max()), "mean_mm": float(gap.mean())}
            yield row


def _variants(path: Path, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Copies of an image that hold the same in the same places: word, detail, file."""
    folder.mkdir()
    image = read_image(path)
    permuted = image.reorient(PERMUTED)
    cropped, cuts = _cropped(image)
    made = (
        ("reordered", f"{axis_codes(image.grid)} to {axis_codes(permuted.grid)}", permuted, ".nii.gz"),
        ("cropped", f"by {cuts}", cropped, ".nii.gz"),
        ("padded", f"by {PAD_VOXELS}", _bordered(image, PAD_VOXELS), ".nii.gz"),
        ("as mha", "", image, ".mha"),
        ("as nrrd", "", image, ".nrrd"),
    )
    for what, detail, copy, suffix in made:
        file = folder / f"{what.replace(' ', '-')}{suffix}"
        write_image(file, copy)
        yield what, detail, file


def _cropped(image: Image) -> tuple[Image, list[tuple[int, int]]]:
    """The image without outer slabs of background, and how many were cut."""
    values = image.tensor[0].numpy()
    limit = BACKGROUND_SHARE * float(np.percentile(values, 99.9))
    cuts = []
    for axis, wanted in enumerate(CROP_VOXELS):
        largest = np.abs(values).max(axis=tuple(a for a in range(3) if a != axis))
        filled = np.flatnonzero(largest > limit)
        room = (int(filled[0]), len(largest) - 1 - int(filled[-1]))
        cuts.append((min(wanted[0], room[0]), min(wanted[1], room[1])))
    return _bordered(image, [(-low, -high) for low, high in cuts]), cuts


def _bordered(image: Image, borders: Sequence[tuple[int, int]]) -> Image:
    """Zeros added at the ends of each axis; negative numbers cut."""
    widths = [width for pair in reversed(borders) for width in pair]
    tensor = torch.nn.functional.pad(image.tensor, widths)
    start = [-low for low, _ in borders]
    stop = [n + high for n, (_, high) in zip(image.grid.shape, borders, strict=True)]
    return Image(tensor, image.grid.crop(start, stop))


def _conclude(table: Table) -> None:
    bits = [row for row in table.rows if "same" in row]
    different = [f"{row['data']} {row['what']}" for row in bits if not row["same"]]
    table.remark(f"Other bits with another number of threads or when repeated: {', '.join(different) or 'none'}.")
    moved = [row for row in table.rows if "largest_mm" in row]
    far = [f"{row['data']}, {row['what']} ({row['largest_mm']:.3f})" for row in moved if row["largest_mm"] > ALLOWED_MM]
    table.remark(f"Variants that move a point by more than {ALLOWED_MM} mm: {', '.join(far) or 'none'}.")


if __name__ == "__main__":
    main()
