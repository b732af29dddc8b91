"""Peak memory and time of whole registrations in a process of their own: a brain, and a CT of full size.

The CT is a phantom: a body with smooth organs in constant air, int16, and the same body moved by a known smooth
deformation, whose error is measured. ``register`` alone, and with everything written (report included).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import torch

from common import Column, DataAbsentError, Table, data_folder, parser_of
from pullback import functional
from pullback.io import read_transform

CT_SHAPE, CT_SPACING_MM = (512, 512, 300), (0.8, 0.8, 1.2)
DEFORMATION_MM, SMOOTHNESS_VOXELS = 8.0, 40
COARSE = 8
"""Organs and deformation are made on a lattice so many times coarser."""
COLUMNS = (
    Column("name", "pair"),
    Column("voxels", "voxels"),
    Column("what", "what"),
    Column("peak_gb", "peak GB", 2),
    Column("limit_gb", "at most GB", 1),
    Column("seconds", "process s", 1),
    Column("verdict", "verdict"),
    Column("before_mm", "mean distance before, mm", 2),
    Column("after_mm", "after, mm", 2),
    Column("stages", "seconds by stage"),
)
ALONE = """
import json, sys
import pullback
result = pullback.register(sys.argv[1], sys.argv[2], threads=int(sys.argv[3]))
print(json.dumps({"verdict": result.verdict.value, "stages": result.result.seconds}))
"""


def main() -> None:
    """Run the benchmark."""
    options = _options()
    table = Table(
        "memory",
        "Peak memory of whole registrations",
        COLUMNS,
        folder=options.results,
        settings={"threads": options.threads, "phantom": f"deformation of up to {DEFORMATION_MM} mm"},
        spread=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        if "brain" in options.pairs:
            _brain(table, Path(folder), options)
        if "ct" in options.pairs:
            _ct(table, Path(folder), options)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", nargs="*", choices=("brain", "ct"), default=["brain", "ct"])
    parser.add_argument("--ct-shape", type=int, nargs=3, default=CT_SHAPE)
    return parser.parse_args()


def _brain(table: Table, folder: Path, options: argparse.Namespace) -> None:
    try:
        data = data_folder("brains", "oasis-160x192x224")
    except DataAbsentError:
        return
    pair = [data / f"{name}_image.nii.gz" for name in "AB"]
    table.add({"name": "brain", "voxels": "160x192x224", **_alone(pair, options.threads), "limit_gb": 1.5})
    table.add({"name": "brain", "voxels": "160x192x224", **_written(pair, folder / "brain", options.threads)})


def _ct(table: Table, folder: Path, options: argparse.Namespace) -> None:
    shape = tuple(options.ct_shape)
    pair = [folder / "fixed.nii", folder / "moving.nii"]
    made = subprocess.run([sys.executable, __file__, "--make", str(folder), *map(str, shape)], check=False)
    if made.returncode != 0:
        raise SystemExit("The phantom could not be made; is there room in the temporary folder?")
    voxels = "x".join(map(str, shape))
    row = {"name": "ct", "voxels": voxels, **_written(pair, folder / "ct", options.threads), "limit_gb": 8.0}
    table.add({**row, **_distances(folder)})


def _alone(pair: list[Path], threads: int) -> dict[str, object]:
    row, output = _measured([sys.executable, "-c", ALONE, *map(str, pair), str(threads)])
    return {"what": "register()", **row, **json.loads(output.splitlines()[-1])}


def _written(pair: list[Path], out: Path, threads: int) -> dict[str, object]:
    words = ["register", *map(str, pair), "--out", str(out), "--threads", str(threads), "--quiet"]
    row, _ = _measured([sys.executable, "-m", "pullback", *words])
    result = json.loads((out / "result.json").read_text())
    return {"what": "all written", **row, "verdict": result["verdict"]["value"], "stages": result["timings_seconds"]}


def _measured(command: list[str]) -> tuple[dict[str, float], str]:
    """Run a command; its peak memory and time, and what it printed."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise SystemExit(f"`{' '.join(command[:4])} ...` ended with {process.returncode}.")
    return {"peak_gb": usage.ru_maxrss * 1024 / 1e9, "seconds": time.perf_counter() - start}, output


def make_phantom(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the pair, and a sample of points with where they went: ``points.npz``, world mm."""
    generator = torch.Generator().manual_seed(0)
    small = tuple(-(-n // COARSE) for n in shape)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in small), indexing="ij")
    body = ((axes[0] / 0.75) ** 2 + (axes[1] / 0.6) ** 2 < 1) & (axes[2].abs() < 0.9)
    organs = functional.gaussian_smooth(torch.randn(1, 1, *small, generator=generator), 1.5)[0, 0]
    coarse = torch.where(body, 40 + 300 * (organs / organs.std()).round().clamp(-2, 2), -1000.0)
    field = functional.gaussian_smooth(torch.randn(1, 3, *small, generator=generator), SMOOTHNESS_VOXELS / COARSE)
    field *= DEFORMATION_MM / functional.largest_length(field)
    scale = np.diag([1 / COARSE] * 3 + [1.0])
    still = torch.zeros(1, 3, *shape)
    image = functional.warp(coarse[None, None].contiguous(), still, scale)
    affine = np.diag([*CT_SPACING_MM, 1.0])
    nibabel.Nifti1Image(_int16(image), affine).to_filename(folder / "moving.nii")
    for axis, spacing in enumerate(CT_SPACING_MM):
        still[0, axis] = functional.warp(field[:, axis : axis + 1], torch.zeros(1, 3, *shape), scale)[0, 0] / spacing
    nibabel.Nifti1Image(_int16(functional.warp(image, still)), affine).to_filename(folder / "fixed.nii")
    inside = torch.nonzero(image[0, 0] > -500)[::9973]
    moves = still[0, :, inside[:, 0], inside[:, 1], inside[:, 2]].T
    spacing = np.array(CT_SPACING_MM)
    np.savez(folder / "points.npz", fixed=inside.numpy() * spacing, moving=(inside + moves).numpy() * spacing)


def _int16(image: torch.Tensor) -> np.ndarray:
    return image[0, 0].round().clamp(-1000, 3000).to(torch.int16).numpy()


def _distances(folder: Path) -> dict[str, float]:
    points = np.load(folder / "points.npz")
    found = read_transform(folder / "ct" / "fixed_to_moving.h5").map_points(torch.from_numpy(points["fixed"])).numpy()
    gaps = {"before_mm": points["fixed"] - points["moving"], "after_mm": found - points["moving"]}
    return {key: float(np.linalg.norm(gap, axis=1).mean()) for key, gap in gaps.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_phantom(Path(sys.argv[2]), tuple(map(int, sys.argv[3:6])))
    else:
        main()
