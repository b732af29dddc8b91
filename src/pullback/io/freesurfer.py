"""Transforms of FreeSurfer: LTA files, register.dat, and dense warps as ``.mgz``.

An LTA holds a matrix from the source ("src", moving) to the destination ("dst", fixed), the other way than ours,
between voxels (type 0) or RAS mm (type 1), and describes both images. A register.dat holds one from the anatomy (fixed)
to the functional image (moving) between their "tkregister" mm, which only both images tell. A warp holds for each voxel
of the fixed image ("atlas") where it lands in the moving one, as position or step, in voxels or RAS mm; morphs in
``.m3z`` are refused. Warps as NIfTI (intent 1006) are steps in RAS mm, which pullback reads as ITK's.

Reference:
    github.com/freesurfer/freesurfer, ``utils/transform.cpp`` and ``include/mri.h``; surfa 0.6.3, ``io/framed.py``.
"""

import re
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from pullback.io import mgz_warps
from pullback.io.atomic import replacing, suffix_of
from pullback.io.formats import AbstractFormat, Written, field_for, grid_for, matrix_for
from pullback.io.frames import field_from_frames, vectors_in_frames
from pullback.io.text_matrix import NUM_BYTES
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, DisplacementField

LTA, REGISTER, WARP, MORPH = (".lta",), (".dat",), (".mgz",), (".m3z",)
VOXELS, RAS = 0, 1
LARGEST_SHEAR = 1e-4
"""Cosine between axes above which a grid counts as sheared."""

LTA_START = re.compile(r"^type\s*=\s*(\d+)", re.MULTILINE)
FLAT = "FreeSurfer's files hold 3-D transforms, but an image is 2-D; use ITK's or NiftyReg's format."
KEYS = ("volume", "voxelsize", "xras", "yras", "zras", "cras")


class FreeSurferFormat(AbstractFormat):
    """LTA, register.dat (reading) and mgz warps."""

    name = "freesurfer"
    title = "FreeSurfer: LTA, register.dat, dense warps as mgz"
    suffixes = (*LTA, *WARP)
    kinds = MappingProxyType({"ras2ras": "an LTA between RAS mm", "vox2vox": "an LTA between voxels"})

    def recognises(self, path: Path) -> bool:
        """An LTA by its lines, a register.dat by its last word, a warp by the intent in an mgz; morphs by suffix."""
        if suffix_of(path) in (*WARP, *MORPH, ".mgh"):
            return suffix_of(path) in MORPH or mgz_warps.is_warp(path)
        text = _text(path)
        return _is_lta(text) or (suffix_of(path) in REGISTER and _register_numbers(text) is not None)

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> Affine | DisplacementField:
        """Read a matrix or a warp; a register.dat needs both images."""
        if suffix_of(path) in MORPH:
            raise ValueError(
                f"'{path}' is a morph of nodes and labels, which only FreeSurfer understands; convert it with "
                "mri_warp_convert --inm3z morph.m3z --outitk warp.nii.gz."
            )
        if suffix_of(path) in (*WARP, ".mgh"):
            return _read_warp(path)
        text = _text(path)
        if suffix_of(path) in REGISTER:
            return _read_register(text, fixed, moving, path)
        return _read_lta(text, fixed, moving, path)

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write an LTA (vox2vox needs both images) or a warp in RAS mm (needs the moving image)."""
        self.check_kind(kind)
        if transform.num_dims != 3:
            raise ValueError(FLAT)
        for grid in (fixed, moving):
            _check_geometry(grid, path)
        if suffix_of(path) in WARP:
            return _write_warp(path, transform, fixed, moving, kind)
        matrix = matrix_for(transform, path)
        is_voxels = kind == "vox2vox"
        if is_voxels:
            why = "a vox2vox LTA counts the voxels of both images"
            fixed, moving = grid_for(fixed, "fixed", path, why), grid_for(moving, "moving", path, why)
            stored = torch.linalg.inv(fixed.voxel_to_voxel(moving, matrix))
        else:
            stored = torch.linalg.inv(matrix)
        _write_lta(path, stored, VOXELS if is_voxels else RAS, fixed, moving)
        return Written(Affine(matrix))


def _check_geometry(grid: Grid | None, path: Path) -> None:
    """Refuse a grid that FreeSurfer cannot describe."""
    if grid is not None and grid.num_dims != 3:
        raise ValueError(FLAT)
    if grid is not None and not grid.is_orthonormal(LARGEST_SHEAR):
        raise ValueError(
            f"'{path}' cannot describe an image whose axes are not at right angles, as FreeSurfer knows no shear; "
            "resample it first, or write a ras2ras .lta without --fixed and --moving."
        )


def _text(path: Path) -> str:
    """The start of a text file, without comments; empty if it is binary."""
    with path.open("rb") as file:
        contents = file.read(NUM_BYTES)
    lines = [] if b"\0" in contents else contents.decode("utf-8", errors="replace").splitlines()
    return "\n".join(stripped for line in lines if (stripped := line.split("#")[0].strip()))


def _is_lta(text: str) -> bool:
    return LTA_START.match(text) is not None and "src volume info" in text and "dst volume info" in text


def _read_lta(text: str, fixed: Grid | None, moving: Grid | None, path: Path) -> Affine:
    if not _is_lta(text):
        raise ValueError(f"'{path}' is no LTA: it does not start with 'type =' or lacks the images; is it cut short?")
    kind, number = int(LTA_START.match(text)[1]), _value(text, "nxforms", path)
    if kind not in (VOXELS, RAS) or number != ["1"]:
        raise ValueError(
            f"'{path}' holds {' '.join(number)} transform(s) of type {kind}, but one of type 0 (vox2vox) or 1 "
            "(ras2ras) is needed; convert it with lta_convert --inlta ... --outlta ...."
        )
    try:
        rows = text.split("1 4 4\n")[1].splitlines()[:4]
        moving_to_fixed = torch.tensor([[float(word) for word in row.split()] for row in rows], dtype=torch.float64)
        source, target = text.split("src volume info")[1].split("dst volume info")
        if kind == VOXELS:
            moving, fixed = _geometry(source, moving, "moving", path), _geometry(target, fixed, "fixed", path)
            moving_to_fixed = fixed.voxel_to_world @ moving_to_fixed @ moving.world_to_voxel
        return Affine(torch.linalg.inv(moving_to_fixed))
    except (IndexError, RuntimeError, TypeError) as error:
        raise ValueError(f"'{path}' is a damaged LTA: its matrix is cut short or has no inverse.") from error


def _value(text: str, key: str, path: Path) -> list[str]:
    found = re.search(rf"^{key}\s*=\s*(.*)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"'{path}' is a damaged LTA: it has no line '{key} ='.")
    return found[1].split()


def _geometry(text: str, given: Grid | None, which: str, path: Path) -> Grid:
    """An image as an LTA describes it; if it does not, the one that was given."""
    if _value(text, "valid", path) != ["1"]:
        return grid_for(given, which, path, "the LTA counts voxels but does not describe the image")
    volume, spacing, *axes, centre = [[float(word) for word in _value(text, key, path)] for key in KEYS]
    direction, shape = torch.tensor(axes, dtype=torch.float64).T, [int(n) for n in volume]
    return mgz_warps.grid_of(shape, spacing, direction, centre)


def _write_lta(path: Path, matrix: Tensor, kind: int, fixed: Grid | None, moving: Grid | None) -> None:
    word = "LINEAR_RAS_TO_RAS" if kind == RAS else "LINEAR_VOX_TO_VOX"
    lines = [f"type      = {kind} # {word}", "nxforms   = 1", "mean      = 0.0000 0.0000 0.0000", "sigma     = 1.0000"]
    lines += ["1 4 4", *(_numbers(row) for row in matrix.tolist())]
    for name, grid in (("src", moving), ("dst", fixed)):
        lines += [f"{name} volume info", *_description(grid)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def _description(grid: Grid | None) -> list[str]:
    """The lines that describe an image; FreeSurfer's default one, marked invalid, if it is not known."""
    is_known = grid is not None
    if grid is None:
        grid = Grid((256, 256, 256), torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64)))
    centre = mgz_warps.centre_of(grid)
    lines = [f"valid = {int(is_known)}  # volume info {'' if is_known else 'in'}valid", "filename = none"]
    lines += [f"volume = {' '.join(map(str, grid.shape))}", f"voxelsize = {_numbers(grid.spacing_mm.tolist())}"]
    lines += [
        f"{name}ras   = {_numbers(column)}" for name, column in zip("xyz", grid.direction.T.tolist(), strict=True)
    ]
    return [*lines, f"cras   = {_numbers(centre.tolist())}"]


def _numbers(row: list[float]) -> str:
    return " ".join(f"{number:.15e}" for number in row)


def _register_numbers(text: str) -> Tensor | None:
    """The matrix of a register.dat: a subject, three numbers, four rows, and how voxels are rounded."""
    lines = text.splitlines()
    try:
        rows = [[float(word) for word in line.split()] for line in lines[1:8]]
    except ValueError:
        return None
    if [len(row) for row in rows] != [1, 1, 1, 4, 4, 4, 4]:
        return None
    return torch.tensor(rows[3:], dtype=torch.float64)


def _read_register(text: str, fixed: Grid | None, moving: Grid | None, path: Path) -> Affine:
    matrix = _register_numbers(text)
    if matrix is None:
        raise ValueError(f"'{path}' is no register.dat: a subject, three numbers and a 4 x 4 matrix are needed.")
    why = "a register.dat is between FreeSurfer's own mm of both images"
    fixed, moving = grid_for(fixed, "fixed", path, why), grid_for(moving, "moving", path, why)
    to_moving = moving.voxel_to_world @ torch.linalg.inv(voxel_to_tkregister(moving))
    return Affine(to_moving @ matrix @ voxel_to_tkregister(fixed) @ fixed.world_to_voxel)


def voxel_to_tkregister(grid: Grid) -> Tensor:
    """From voxels to FreeSurfer's "surface RAS": as if the image were coronal and its centre the origin."""
    if grid.num_dims != 3:
        raise ValueError(FLAT)
    (x, y, z), (i, j, k) = grid.spacing_mm.tolist(), grid.shape
    rows = [[-x, 0, 0, x * i / 2], [0, 0, z, -z * k / 2], [0, -y, 0, y * j / 2], [0, 0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def _read_warp(path: Path) -> DisplacementField:
    warp = mgz_warps.read(path)
    identity = torch.eye(4, dtype=torch.float64)
    in_voxels = warp.kind in (mgz_warps.POSITIONS_IN_VOXELS, mgz_warps.STEPS_IN_VOXELS)
    frames = (identity, warp.moving.voxel_to_world) if in_voxels else (warp.fixed.voxel_to_world, identity)
    is_absolute = warp.kind in (mgz_warps.POSITIONS_IN_VOXELS, mgz_warps.POSITIONS_IN_RAS)
    return field_from_frames(warp.vectors, warp.fixed, *frames, is_absolute=is_absolute)


def _write_warp(
    path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None
) -> Written:
    if kind is not None:
        raise ValueError(f"`kind` is '{kind}', but '{path}' is a warp; kinds are for matrices (.lta).")
    moving = grid_for(moving, "moving", path, "FreeSurfer applies a warp in voxels of the moving image")
    field, written = field_for(transform, fixed, path)
    _check_geometry(field.grid, path)
    identity = torch.eye(4, dtype=torch.float64)
    vectors = vectors_in_frames(field, field.grid.voxel_to_world, identity, is_absolute=False)
    mgz_warps.write(path, mgz_warps.MgzWarp(mgz_warps.STEPS_IN_RAS, vectors, field.grid, moving))
    return written


FORMAT = FreeSurferFormat()
