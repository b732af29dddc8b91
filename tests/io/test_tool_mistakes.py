"""Planted errors: each classic mistake of reading a tool's file must show against the points that the tool maps."""

import pytest
import torch

from pullback.io import afni, frames, freesurfer, fsl, learn2reg, mgz_warps, niftyreg, read_transform, voxelmorph
from pullback.io.nifti_vectors import Intent
from pullback.transforms import DisplacementField

from .test_reference_files import FOLDER, entries, grid_of

CAUGHT_MM = 0.1
"""A right reading is a thousand times nearer; half a voxel of these files is far more."""


def gap_mm(tool, name, read=None):
    """How far our images of the points of a reference file are from the tool's, at most."""
    entry = entries(tool)[name]
    grids = {which: grid_of(entry, which) for which in ("fixed", "moving")}
    form = entry["format"] if entry["ask"] else None
    path = FOLDER / tool / name
    transform = read_transform(path, format=form, **grids) if read is None else read(path, grids)
    points, mapped = (torch.tensor(entry[key], dtype=torch.float64) for key in ("points", "mapped"))
    return float(torch.linalg.vector_norm(transform(points) - mapped, dim=-1).max())


def gap_after(tool, name, form=None):
    """The largest gap in mm; infinite where the mistake makes the file unreadable."""
    try:
        return gap_mm(tool, name, None if form is None else lambda path, grids: form.read(path, **grids))
    except ValueError:
        return float("inf")


ALWAYS, NEVER = True, False
FLIPS = [
    ("RAS_LAS.mat", ALWAYS),
    ("RAS_LAS.mat", NEVER),
    ("LAS_RAS.mat", ALWAYS),
    ("LAS_RAS.mat", NEVER),
    ("LAS_LAS.mat", ALWAYS),
    ("RAS_oblique_relative.nii.gz", ALWAYS),
    ("RAS_oblique_relative.nii.gz", NEVER),
]
"""Where both images are left-handed, never to flip is right."""


@pytest.mark.parametrize(("name", "is_flipped"), FLIPS)
def test_a_wrong_flip_of_flirt_is_caught(monkeypatch, name, is_flipped):
    right = fsl.voxel_to_fsl

    def always_or_never(grid):
        matrix = right(grid)
        flip = torch.eye(4, dtype=torch.float64)
        flip[0, 0], flip[0, 3] = -1.0, (grid.shape[0] - 1) * grid.spacing_mm[0]
        return matrix if bool(matrix[0, 0] < 0) is is_flipped else flip @ matrix

    assert gap_mm("fsl", name) < 1e-4
    monkeypatch.setattr(fsl, "voxel_to_fsl", always_or_never)
    assert gap_after("fsl", name, fsl.FSLFormat("relative") if name.endswith("gz") else fsl.FORMAT) > CAUGHT_MM


DIRECTED = [
    ("fsl", "RAS_LAS.mat"),
    ("niftyreg", "oblique_affine.txt"),
    ("greedy", "oblique_affine.mat"),
    ("greedy", "flat_affine.mat"),
    ("freesurfer", "vox.lta"),
    ("freesurfer", "world.lta"),
    ("afni", "oblique.aff12.1D"),
]


@pytest.mark.parametrize(("tool", "name"), DIRECTED)
def test_a_swapped_direction_is_caught(tool, name):
    form = entries(tool)[name]["format"]

    def backwards(path, grids):
        return ~read_transform(path, format=form, **grids)

    assert gap_mm(tool, name, backwards) > CAUGHT_MM


@pytest.mark.parametrize(("tool", "name"), [("learn2reg", "disp_0001_0002.nii.gz"), ("voxelmorph", "last_3d.npz")])
@pytest.mark.parametrize("mistake", ["mm", "order", "half a voxel"])
def test_mm_order_and_half_voxels_are_caught_in_voxel_fields(monkeypatch, tool, name, mistake):
    right = frames.field_from_voxels
    wrong = {
        "mm": lambda vectors, fixed, _: DisplacementField(vectors, fixed),
        "order": lambda vectors, fixed, moving: right(vectors.flip(0), fixed, moving),
        "half a voxel": lambda vectors, fixed, moving: right(vectors + 0.5, fixed, moving),
    }
    module = {"learn2reg": learn2reg, "voxelmorph": voxelmorph}[tool]
    monkeypatch.setattr(module, "field_from_voxels", wrong[mistake])
    assert gap_after(tool, name, module.FORMAT) > CAUGHT_MM


@pytest.mark.parametrize("name", ["vox.lta", "abs_crs.mgz", "disp_crs.mgz"])
def test_half_a_voxel_in_freesurfers_centre_is_caught(monkeypatch, name):
    right = mgz_warps.grid_of

    def true_centre(shape, spacing, direction, centre):
        grid = right(shape, spacing, direction, centre)
        matrix = grid.voxel_to_world.clone()
        matrix[:3, 3] = grid.to_world([[0.5, 0.5, 0.5]])[0]
        return type(grid)(grid.shape, matrix)

    monkeypatch.setattr(mgz_warps, "grid_of", true_centre)
    assert gap_after("freesurfer", name, freesurfer.FORMAT) > CAUGHT_MM


@pytest.mark.parametrize("name", ["oblique_deformation.nii.gz", "oblique_displacement.nii.gz", "flat_spline.nii.gz"])
def test_positions_taken_for_steps_are_caught(monkeypatch, name):
    right = niftyreg.intent_of

    def other_kind(header):
        intent = right(header)
        kind = {0: 1, 1: 0, 2: 1}[int(intent.parameters[0])]
        return Intent(intent.code, intent.name, (float(kind), *intent.parameters[1:]))

    monkeypatch.setattr(niftyreg, "intent_of", other_kind)
    assert gap_after("niftyreg", name, niftyreg.FORMAT) > CAUGHT_MM


@pytest.mark.parametrize("name", ["oblique_velocity_affine.nii.gz", "flat_velocity_affine.nii.gz"])
def test_forgotten_matrices_of_velocities_are_caught(monkeypatch, name):
    monkeypatch.setattr(niftyreg, "_matrices", lambda image, num_dims: (None, None))
    assert gap_after("niftyreg", name) > CAUGHT_MM


@pytest.mark.parametrize("name", ["oblique_velocity.nii.gz", "oblique_velocity_backward.nii.gz"])
def test_velocities_the_wrong_way_are_caught(name):
    assert gap_mm("niftyreg", name, lambda path, grids: ~read_transform(path, **grids)) > CAUGHT_MM


def test_lps_for_ras_is_caught_in_afni(monkeypatch):
    monkeypatch.setattr(afni, "swap_lps_matrix", lambda matrix: matrix)
    assert gap_after("afni", "LAS.aff12.1D") > CAUGHT_MM


def test_oblique_axes_taken_as_they_are_is_caught_in_afni(monkeypatch):
    monkeypatch.setattr(afni, "straightened", lambda grid: grid)
    assert gap_after("afni", "oblique.aff12.1D") > CAUGHT_MM


def test_lps_for_ras_is_caught_in_greedys_warps(monkeypatch):
    from pullback.io import itk

    monkeypatch.setattr(itk, "LPS", (1.0, 1.0, 1.0))
    assert gap_after("greedy", "oblique_exact.nii.gz") > CAUGHT_MM
