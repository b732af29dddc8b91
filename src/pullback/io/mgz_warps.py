"""FreeSurfer's dense warps in MGH containers (``.mgz``): a header, vectors, and tags with both images' geometry.

All numbers are big-endian. The intent stands in the upper bytes of the version; the tag 10 describes moving ("source")
and fixed image ("target"), the tag 13 says what the vectors are. A geometry's centre is the position of voxel N/2.

Reference:
    github.com/freesurfer/freesurfer, ``include/mri.h`` (VOL_GEOM) and ``include/tags.h``; surfa 0.6.3.
"""

import gzip
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pullback.io.atomic import replacing
from pullback.io.nifti import damaged
from pullback.space import Grid

POSITIONS_IN_VOXELS, STEPS_IN_VOXELS, POSITIONS_IN_RAS, STEPS_IN_RAS = range(4)
WARP_INTENT = 3
VERSION = 1
NUM_HEADER_BYTES = 284
FLOAT = 3
NUM_SCAN_BYTES = 20
NUM_NAME_BYTES = 512
TAG_GEOMETRY, TAG_META, TAG_OLD_XFORM = 10, 13, 30
TAGS_WITHOUT_LENGTH = (1, 2, 11, 12, 20)
"""Old colours, old real RAS, type and labels of morphs, old surface geometry: no length is stated."""

GEOMETRY = struct.Struct(f">i3i3f9f3f{NUM_NAME_BYTES}s")


@dataclass(frozen=True)
class MgzWarp:
    """What the file holds.

    Attributes:
        kind: One of the four meanings of the vectors.
        vectors: ``(3, *fixed.shape)``.
        fixed: FreeSurfer's target or atlas.
        moving: FreeSurfer's source or image.
    """

    kind: int
    vectors: Tensor
    fixed: Grid
    moving: Grid


def is_warp(path: Path) -> bool:
    """Whether an MGH file says that it is a warp; never raises."""
    try:
        with _open(path) as file:
            version, *_ = struct.unpack(">i", file.read(4))
    except (OSError, EOFError, struct.error):
        return False
    return version & 0xFF == VERSION and version >> 8 & 0xFFFF == WARP_INTENT


def read(path: Path) -> MgzWarp:
    """Read a warp.

    Raises:
        ValueError: If the file is damaged, no warp, or does not describe both images.
    """
    if not is_warp(path):
        raise ValueError(f"'{path}' is an image of FreeSurfer, not a warp: the intent in its version is not 3.")
    with damaged(path), _open(path) as file:
        _, *shape, kind_of_number, _ = struct.unpack(">7i", file.read(28))
        if shape[3] != 3 or kind_of_number != FLOAT:
            raise ValueError(f"it has {shape[3]} components of type {kind_of_number}, not 3 of type {FLOAT}")
        file.read(NUM_HEADER_BYTES - 28)
        count = int(np.prod(shape))
        values = np.frombuffer(file.read(4 * count), dtype=">f4", count=count).reshape(shape, order="F")
        file.read(NUM_SCAN_BYTES)
        geometries, kind = _tags(file)
    if geometries is None or kind is None:
        raise ValueError(f"'{path}' does not describe the images that its warp is between; write it with FreeSurfer 8.")
    moving, fixed = geometries
    if tuple(shape[:3]) != fixed.shape or kind not in range(4):
        raise ValueError(f"'{path}' contradicts itself: {shape[:3]} vectors of kind {kind} for {fixed.shape} voxels.")
    vectors = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype=np.float32))
    return MgzWarp(kind, vectors, fixed, moving)


def write(path: Path, warp: MgzWarp) -> None:
    """Write a warp as float32, whole or not at all."""
    contents = io.BytesIO()
    contents.write(struct.pack(">7i", WARP_INTENT << 8 | VERSION, *warp.fixed.shape, 3, FLOAT, 1))
    contents.write(struct.pack(">H", 1) + _numbers_of(warp.fixed) + bytes(NUM_HEADER_BYTES - 90))
    contents.write(_voxels(warp.vectors))
    contents.write(bytes(NUM_SCAN_BYTES))
    contents.write(struct.pack(">i", TAG_GEOMETRY) + _packed(warp.moving) + _packed(warp.fixed))
    contents.write(struct.pack(">iqiif", TAG_META, 12, warp.kind, 1, 0.0))
    with replacing(path) as temporary, gzip.open(temporary, "wb") as file:
        file.write(contents.getvalue())


def grid_of(shape: Sequence[int], spacing: Sequence[float], direction: Tensor, centre: Sequence[float]) -> Grid:
    """The grid of a geometry.

    Args:
        shape: Voxels.
        spacing: mm.
        direction: ``(3, 3)``, one axis per column, RAS.
        centre: RAS mm of voxel ``shape / 2``.
    """
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = direction * torch.tensor(spacing, dtype=torch.float64)
    middle = torch.tensor(shape, dtype=torch.float64) / 2
    matrix[:3, 3] = torch.tensor(centre, dtype=torch.float64) - matrix[:3, :3] @ middle
    return Grid(tuple(shape), matrix)


def centre_of(grid: Grid) -> Tensor:
    """RAS mm of voxel ``shape / 2``, FreeSurfer's centre (half a voxel beyond the true one where N is even)."""
    return grid.to_world([[n / 2 for n in grid.shape]])[0]


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_packed else path.open("rb")


def _voxels(vectors: Tensor) -> bytes:
    return np.moveaxis(vectors.numpy(), 0, -1).astype(">f4").tobytes(order="F")


def _numbers_of(grid: Grid) -> bytes:
    numbers = [*grid.spacing_mm.tolist(), *grid.direction.T.flatten().tolist(), *centre_of(grid).tolist()]
    return struct.pack(">15f", *numbers)


def _packed(grid: Grid) -> bytes:
    return struct.pack(">4i", 1, *grid.shape) + _numbers_of(grid) + bytes(NUM_NAME_BYTES)


def _tags(file: BinaryIO) -> tuple[tuple[Grid, Grid] | None, int | None]:
    """Moving and fixed grid, and the kind of the vectors, as far as the tags tell."""
    geometries, kind = None, None
    while len(start := file.read(4)) == 4 and (tag := struct.unpack(">i", start)[0]) != 0:
        if tag == TAG_GEOMETRY:
            geometries = _unpacked(file), _unpacked(file)
            continue
        if tag in TAGS_WITHOUT_LENGTH:
            break  # of unknown length; FreeSurfer writes the geometries first
        length = struct.unpack(">i" if tag == TAG_OLD_XFORM else ">q", file.read(4 if tag == TAG_OLD_XFORM else 8))[0]
        content = file.read(length)
        if tag == TAG_META:
            kind = struct.unpack(">i", content[:4])[0]
    return geometries, kind


def _unpacked(file: BinaryIO) -> Grid:
    valid, *numbers = GEOMETRY.unpack(file.read(GEOMETRY.size))
    if not valid:
        raise ValueError("it does not describe one of its images (a geometry is marked invalid)")
    direction = torch.tensor(numbers[6:15], dtype=torch.float64).reshape(3, 3).T
    return grid_of(numbers[:3], numbers[3:6], direction, numbers[15:18])
