"""pullback aligns medical images: the map both ways, the resampled image, and numbers that say whether to trust it.

Example:
    >>> import pullback as pb
    >>> result = pb.register("fixed.nii.gz", "moving.nii.gz")  # doctest: +SKIP
    >>> result.verdict.value, result.fixed_to_moving  # doctest: +SKIP
    >>> result.save("out")  # doctest: +SKIP
"""

import os

# Threads of OpenMP that spin while they wait take the cores from the next parallel loop (torch and Numba each keep a
# pool): on two cores that makes a registration several times slower. It must be said before the pools start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pullback.data import Image, LabelMap, Pair, Points
from pullback.io import read_image, read_labels, read_points, read_transform, write_image, write_points, write_transform
from pullback.pairwise import Registration, register
from pullback.space import Grid
from pullback.transforms import (
    Affine,
    BSpline,
    Chain,
    DisplacementField,
    Rigid,
    Similarity,
    StationaryVelocity,
    Translation,
    warp,
    warp_points,
)
from pullback.version import __version__

__all__ = [
    "Affine",
    "BSpline",
    "Chain",
    "DisplacementField",
    "Grid",
    "Image",
    "LabelMap",
    "Pair",
    "Points",
    "Registration",
    "Rigid",
    "Similarity",
    "StationaryVelocity",
    "Translation",
    "__version__",
    "read_image",
    "read_labels",
    "read_points",
    "read_transform",
    "register",
    "warp",
    "warp_points",
    "write_image",
    "write_points",
    "write_transform",
]
