"""SYMNet and LapIRN with their authors' weights on the OASIS pair, against what their own code computed.

The weights and every fourth voxel of the originals' displacements lie in ``../shared/data/published-weights`` (its
README says where they are from). Prints the largest and the mean difference of a component in voxels, and fails above
0.01. About 40 s per network on one core.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pullback as pb
from pullback import networks

LARGEST_DIFFERENCE_VOXELS = 0.01
STEP = 4
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "symnet_oasis": ("symnet", {}),
    "lapirn_displacement": ("lapirn", {"parametrisation": "displacement"}),
    "lapirn_velocity": ("lapirn", {"parametrisation": "velocity"}),
}
"""Files, and how they are read."""


def main() -> int:
    """Compare; 0 if all agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="Folder of the shared data.")
    parser.add_argument("--only", choices=CASES, help="One of the files.")
    told = parser.parse_args()
    cases = [told.only] if told.only else list(CASES)
    return 0 if max([compare(case, told.data) for case in cases]) < LARGEST_DIFFERENCE_VOXELS else 1


def compare(case: str, data: Path) -> float:
    """The largest difference in voxels."""
    started = time.perf_counter()
    family, settings = CASES[case]
    network = networks.import_weights(family, data / "published-weights" / f"{case}.pth", **settings)
    paths = [data / "brains" / "oasis-160x192x224" / f"{name}_image.nii.gz" for name in "AB"]
    fixed, moving = (as_stored(path) if case == "lapirn_displacement" else unit_range(path) for path in paths)
    with torch.no_grad():
        ours = network(fixed, moving)["displacement"][0].movedim(0, -1).numpy()[::STEP, ::STEP, ::STEP]
    with np.load(data / "published-weights" / f"{case}_reference.npz") as file:
        difference = np.abs(ours - file["displacement_voxels"])
    print(f"{case}: largest difference {difference.max():.2e}, mean {difference.mean():.2e} voxels", end="; ")
    print(f"largest displacement {np.abs(ours).max():.2f} voxels; {time.perf_counter() - started:.0f} s")
    return float(difference.max())


def as_stored(path: Path) -> torch.Tensor:
    """The array as it is stored, as the test script of LapIRN with displacements takes it."""
    return pb.read_image(path).tensor.to(torch.float32)[None]


def unit_range(path: Path) -> torch.Tensor:
    """The same from 0 to 1, as the test scripts of SYMNet and of LapIRN with velocities do it."""
    values = as_stored(path)
    return (values - values.min()) / (values.max() - values.min())


if __name__ == "__main__":
    sys.exit(main())
