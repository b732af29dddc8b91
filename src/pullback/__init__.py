"""pullback aligns medical images: the map both ways, the resampled image, and numbers that say whether to trust it.

Example:
    >>> import pullback as pb
    >>> result = pb.register("fixed.nii.gz", "moving.nii.gz")  # doctest: +SKIP
    >>> result.verdict.value, result.fixed_to_moving  # doctest: +SKIP
    >>> result.save("out")  # doctest: +SKIP
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Threads of OpenMP that spin while they wait take the cores from other processes and from the next parallel loop (torch
# and Numba each keep a pool), and waking one that sleeps takes longer than many of our loops: so they spin for a moment
# and then sleep. It must be said before the pools start.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from pullback.version import __version__

if TYPE_CHECKING:
    from pullback.data import Image, LabelMap, Pair, Points
    from pullback.io import (
        read_image,
        read_labels,
        read_points,
        read_transform,
        write_image,
        write_points,
        write_transform,
    )
    from pullback.landmarks import fit_landmarks
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
        ThinPlateSpline,
        Translation,
        warp,
        warp_points,
    )

_HOMES = {
    "pullback.data": ("Image", "LabelMap", "Pair", "Points"),
    "pullback.io": (
        "read_image",
        "read_labels",
        "read_points",
        "read_transform",
        "write_image",
        "write_points",
        "write_transform",
    ),
    "pullback.landmarks": ("fit_landmarks",),
    "pullback.pairwise": ("Registration", "register"),
    "pullback.space": ("Grid",),
    "pullback.transforms": (
        "Affine",
        "BSpline",
        "Chain",
        "DisplacementField",
        "Rigid",
        "Similarity",
        "StationaryVelocity",
        "ThinPlateSpline",
        "Translation",
        "warp",
        "warp_points",
    ),
}
"""Where each public name lives. It is imported when it is first asked for, so that training from a filled cache needs
no library that reads images."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'pullback' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
    "ThinPlateSpline",
    "Translation",
    "__version__",
    "fit_landmarks",
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
