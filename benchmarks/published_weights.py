"""SYMNet with its authors' weights on the OASIS pair, against what their own code computed.

The weights and every fourth voxel of the original's displacement lie in ``../shared/data/published-weights`` (its
README says where they are from). Prints the largest and the mean difference of a component in voxels, and fails above
0.01. About 40 s on one core.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

import pullback as pb
from pullback import networks

LARGEST_DIFFERENCE_VOXELS = 0.01
STEP = 4


def main() -> int:
    """Compare; 0 if the two agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="Folder of the shared data.")
    data = parser.parse_args().data
    started = time.perf_counter()
    network = networks.import_weights("symnet", data / "published-weights" / "symnet_oasis.pth")
    fixed, moving = (unit_range(data / "brains" / "oasis-160x192x224" / f"{name}_image.nii.gz") for name in "AB")
    with torch.no_grad():
        ours = network(fixed, moving)["displacement"][0].movedim(0, -1).numpy()[::STEP, ::STEP, ::STEP]
    with np.load(data / "published-weights" / "symnet_oasis_reference.npz") as file:
        difference = np.abs(ours - file["displacement_voxels"])
    print(f"largest difference {difference.max():.2e}, mean {difference.mean():.2e} voxels", end="; ")
    print(f"largest displacement {np.abs(ours).max():.2f} voxels; {time.perf_counter() - started:.0f} s")
    return 0 if difference.max() < LARGEST_DIFFERENCE_VOXELS else 1


def unit_range(path: Path) -> torch.Tensor:
    """The array as it is stored, from 0 to 1, as the original's test script does it."""
    values = pb.read_image(path).tensor.to(torch.float32)
    return ((values - values.min()) / (values.max() - values.min()))[None]


if __name__ == "__main__":
    sys.exit(main())
