"""Formats of FSL, NiftyReg, FreeSurfer, greedy, AFNI, Learn2Reg and VoxelMorph: round trips and refusals."""

import nibabel
import numpy as np
import pytest
import torch

from examples import GRIDS, inner_points, smooth_noise
from pullback.io import fsl, mgz_warps, niftyreg, read_transform, write_transform
from pullback.io.registry import recognise, told
from pullback.space import Grid
from pullback.transforms import Affine, BSpline, Chain, DisplacementField, StationaryVelocity

SOLID = ("RAS", "LAS", "LPS", "AIR", "oblique", "anisotropic", "one voxel thick")
SHEARED = ("sheared",)
FLAT = ("2-D", "2-D oblique")
MATRICES = [
    ("fsl", "a.mat", None, SOLID + SHEARED),
    ("niftyreg", "a.txt", None, SOLID + SHEARED + FLAT),
    ("freesurfer", "a.lta", "ras2ras", SOLID),
    ("freesurfer", "a.lta", "vox2vox", SOLID),
    ("greedy", "a.mat", None, SOLID + SHEARED + FLAT),
    ("afni", "a.aff12.1D", None, SOLID + SHEARED),
]
FIELDS = [
    ("fsl", "a.nii.gz", "relative", SOLID + SHEARED),
    ("fsl", "a.nii", "absolute", SOLID + SHEARED),
    ("niftyreg", "a.nii.gz", "deformation", SOLID + SHEARED + FLAT),
    ("niftyreg", "a.nii", "displacement", SOLID + SHEARED + FLAT),
    ("freesurfer", "a.mgz", None, SOLID),
    ("greedy", "a.nii.gz", None, ("RAS", "LAS", "LPS", "AIR", "oblique", "anisotropic", *FLAT)),
    ("learn2reg", "a.nii.gz", None, SOLID + SHEARED),
    ("voxelmorph", "a.npz", "channels-last", SOLID + SHEARED + FLAT),
    ("voxelmorph", "a.nii.gz", "channels-first", SOLID + FLAT),
    ("voxelmorph", "a.nii.gz", "channels-last", SOLID + FLAT),
]


def every(cases):
    return [(name, file, kind, grid) for name, file, kind, grids in cases for grid in grids]


def affine(num_dims=3):
    angles, shear = ((0.1, -0.2, 0.3), (0.05, -0.04, 0.03)) if num_dims == 3 else ((0.3,), (0.05,))
    scaling, shift = (1.1, 0.9, 1.05)[:num_dims], (12.0, -7.0, 5.0)[:num_dims]
    return Affine.from_parts(rotation=angles, shear=shear, scaling=scaling, translation_mm=shift, num_dims=num_dims)


def field_on(grid, largest=0.4):
    """Smooth and short against the image, so that FSL's files tell what they hold."""
    extent = float((torch.tensor(grid.shape) * grid.spacing_mm).max())
    return DisplacementField(smooth_noise(grid.num_dims, *grid.shape, largest=largest * extent / 8, sigma=2), grid)


def other(grid):
    """A moving grid of the same shape elsewhere, with the other sign of the determinant."""
    matrix = grid.voxel_to_world.clone()
    matrix[0] *= -1
    matrix[:-1, :-1] *= 1.25
    matrix[1, -1] += 4
    return Grid(grid.shape, matrix)


def largest_gap(first, second, points):
    return float(torch.linalg.vector_norm(first(points) - second(points), dim=-1).max())


@pytest.mark.parametrize(("name", "file", "kind", "grid"), every(MATRICES))
def test_matrices_return(tmp_path, name, file, kind, grid):
    fixed, moving = GRIDS[grid], other(GRIDS[grid])
    transform, path = affine(fixed.num_dims), tmp_path / file
    written = write_transform(path, transform, fixed=fixed, moving=moving, format=name, kind=kind)
    again = read_transform(path, fixed=fixed, moving=moving, format=name)
    assert isinstance(again, Affine)
    assert largest_gap(again, transform, fixed.centres()) < 1e-8
    assert written.notes == ()


@pytest.mark.parametrize(("name", "file", "kind", "grid"), every(FIELDS))
def test_fields_return(tmp_path, name, file, kind, grid):
    fixed, moving = GRIDS[grid], other(GRIDS[grid])
    transform, path = field_on(fixed), tmp_path / file
    write_transform(path, transform, fixed=fixed, moving=moving, format=name, kind=kind)
    asked = f"{name}:{kind}" if name == "fsl" and grid == "one voxel thick" else name
    again = read_transform(path, fixed=fixed, moving=moving, format=asked)
    assert isinstance(again, DisplacementField)
    points = torch.cat([fixed.centres().reshape(-1, fixed.num_dims), inner_points(fixed, margin=0.1)])
    assert largest_gap(again, transform, points) < told(name).tolerance_mm
    assert largest_gap(again, transform, points) < (5e-4 if grid == "anisotropic" else 1e-4)  # metres from the origin


@pytest.mark.parametrize(("name", "file", "kind", "grid"), [case for case in every(FIELDS) if case[3] == "oblique"])
def test_chains_are_evaluated_on_the_fixed_grid_and_it_is_said(tmp_path, name, file, kind, grid):
    fixed, moving = GRIDS[grid], other(GRIDS[grid])
    chain = Chain((affine(), field_on(fixed)))
    written = write_transform(tmp_path / file, chain, fixed=fixed, moving=moving, format=name, kind=kind)
    again = read_transform(tmp_path / file, fixed=fixed, moving=moving, format=f"fsl:{kind}" if name == "fsl" else name)
    assert "evaluated" in written.notes[0]
    assert largest_gap(again, chain, fixed.centres()) < 1e-3


@pytest.mark.parametrize(("name", "file", "kind", "grid"), [case for case in every(MATRICES) if case[3] == "RAS"])
def test_files_of_matrices_refuse_fields(tmp_path, name, file, kind, grid):
    with pytest.raises(ValueError, match="deformation would be lost"):
        write_transform(
            tmp_path / file, field_on(GRIDS[grid]), fixed=GRIDS[grid], moving=GRIDS[grid], format=name, kind=kind
        )
    assert not (tmp_path / file).exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fsl", "a.mat"),
        ("fsl", "a.nii.gz"),
        ("freesurfer", "a.lta"),
        ("freesurfer", "a.mgz"),
        ("afni", "a.1D"),
        ("learn2reg", "a.npz"),
    ],
)
def test_tools_without_2d_refuse_it(tmp_path, name, file):
    grid = GRIDS["2-D"]
    with pytest.raises(ValueError, match="2-D"):
        write_transform(tmp_path / file, affine(2), fixed=grid, moving=grid, format=name)


@pytest.mark.parametrize("name", ["fsl", "niftyreg", "freesurfer", "greedy", "afni", "learn2reg", "voxelmorph"])
def test_unknown_kinds_are_refused(tmp_path, name):
    form = told(name)
    with pytest.raises(ValueError, match="kind"):
        form.write(tmp_path / f"a{form.suffixes[0]}", affine(), GRIDS["RAS"], GRIDS["RAS"], "nonsense")
    if name not in ("fsl", "voxelmorph"):
        with pytest.raises(ValueError, match="say themselves"):
            told(f"{name}:deformation")


def test_bare_matrices_are_asked_about(tmp_path):
    write_transform(tmp_path / "a.mat", affine(), format="greedy")
    with pytest.raises(ValueError, match=r"fsl .*niftyreg .*greedy .*--from"):
        recognise(tmp_path / "a.mat")


def test_vectors_without_intent_are_asked_about(tmp_path):
    grid = GRIDS["RAS"]
    nibabel.save(nibabel.Nifti1Image(np.zeros((*grid.shape, 3), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"fsl .*learn2reg .*voxelmorph .*--from"):
        recognise(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("name", "file"), [("fsl", "a.mat"), ("fsl", "a.nii.gz"), ("learn2reg", "a.nii.gz"), ("voxelmorph", "a.npz")]
)
def test_what_means_nothing_without_images_asks_for_them(tmp_path, name, file):
    grid = GRIDS["oblique"]
    transform = affine() if file.endswith("mat") else field_on(grid)
    with pytest.raises(ValueError, match=r"--(fixed|moving)"):
        write_transform(tmp_path / file, transform, format=name)
    write_transform(tmp_path / file, transform, fixed=grid, moving=grid, format=name)
    with pytest.raises(ValueError, match=r"--(fixed|moving)"):
        read_transform(tmp_path / file, format=name)


DAMAGED = [
    ("fsl", "a.mat", b"1 0 0 0\n0 1 0 0\n"),
    ("fsl", "b.mat", b"1 0 0 0\n0 1 0 0\n0 0 0 0\n0 0 0 1\n"),
    ("niftyreg", "a.txt", b"1 0 0 0\n0 one 0 0\n0 0 1 0\n0 0 0 1\n"),
    ("niftyreg", "b.txt", b"1 0 0 0\n0 0 0 0\n0 0 1 0\n0 0 0 1\n"),
    ("greedy", "a.mat", b"\x00\x01\x02"),
    ("greedy", "b.mat", b"nan 0 0\n0 1 0\n0 0 1\n"),
    ("afni", "a.1D", b"1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 0\n"),
    ("afni", "b.1D", b"1 0 0 0 0 1 0 0 0 0 0 0\n"),
    ("freesurfer", "a.lta", b"type = 0\nnxforms = 1\n"),
    ("freesurfer", "a.dat", b"subject\n1\n1\n"),
    ("freesurfer", "a.mgz", b"\x1f\x8b\x08"),
    ("freesurfer", "a.m3z", b"anything"),
    ("learn2reg", "a.npz", b"PK\x03\x04"),
    ("learn2reg", "a.nii.gz", b"\x1f\x8b\x08"),
    ("voxelmorph", "a.npz", b""),
    ("voxelmorph", "a.nii.gz", b"text"),
]


@pytest.mark.parametrize(("name", "file", "content"), DAMAGED)
def test_damaged_files_are_refused_by_name(tmp_path, name, file, content):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=file):
        read_transform(tmp_path / file, fixed=GRIDS["RAS"], moving=GRIDS["LAS"], format=name)
    told(name).recognises(tmp_path / file)
    told(name).could_be(tmp_path / file)


# FSL -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intent", [2007, 2008, 2009, 2016])
def test_coefficients_of_fnirt_are_refused_with_the_way_out(tmp_path, intent):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    image.header["intent_code"] = intent
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"coefficients.*fnirtfileutils"):
        read_transform(tmp_path / "a.nii.gz")


def test_warps_that_could_be_steps_or_positions_are_asked_about(tmp_path):
    grid = GRIDS["oblique"]
    wild = Affine.from_parts(rotation=(0.0, 0.0, 2.0), centre_mm=grid.centre.tolist())
    write_transform(tmp_path / "a.nii.gz", wild, fixed=grid, moving=grid, format="fsl")
    with pytest.raises(ValueError, match="--from fsl:relative"):
        read_transform(tmp_path / "a.nii.gz", fixed=grid, moving=grid)
    again = read_transform(tmp_path / "a.nii.gz", fixed=grid, moving=grid, format="fsl:relative")
    assert largest_gap(again, wild, grid.centres()) < 1e-4
    wrong = read_transform(tmp_path / "a.nii.gz", fixed=grid, moving=grid, format="fsl:absolute")
    assert largest_gap(wrong, wild, grid.centres()) > 1


def test_warps_on_other_voxels_than_the_fixed_image_are_refused(tmp_path):
    grid = GRIDS["RAS"]
    write_transform(tmp_path / "a.nii.gz", field_on(grid), moving=grid, format="fsl")
    with pytest.raises(ValueError, match="another grid"):
        read_transform(tmp_path / "a.nii.gz", fixed=GRIDS["LPS"], moving=grid)
    header = nibabel.load(tmp_path / "a.nii.gz").header
    header["sform_code"] = header["qform_code"] = 0  # as old convertwarp left it
    nibabel.save(nibabel.Nifti1Image(np.zeros((*grid.shape, 3), np.float32), None, header), tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match="--fixed"):
        read_transform(tmp_path / "b.nii.gz", moving=grid)
    assert read_transform(tmp_path / "b.nii.gz", fixed=grid, moving=grid).grid == grid


def test_fsl_mm_are_flipped_by_the_sign_of_the_determinant():
    forward, mirrored = GRIDS["RAS"], GRIDS["LAS"]
    assert fsl.voxel_to_fsl(forward)[0].tolist() == [-1, 0, 0, 5]
    assert fsl.voxel_to_fsl(mirrored)[0].tolist() == [1, 0, 0, 0]


# NiftyReg ------------------------------------------------------------------------------------------------------------


def write_niftyreg(path, vectors, grid, kind, num_steps=0.0):
    intent = niftyreg.Intent(niftyreg.VECTOR_INTENT, niftyreg.NAME, (float(kind), float(num_steps), 0.0))
    niftyreg.nifti_vectors.write(path, niftyreg.components_last(vectors, 5), grid, intent)


def test_dense_velocities_are_integrated_and_their_sign_turns_them_back(tmp_path):
    grid = GRIDS["oblique"]
    velocity = field_on(grid, largest=0.2).displacement
    for sign in (1, -1):
        write_niftyreg(tmp_path / "a.nii", velocity, grid, niftyreg.DISPLACEMENT_VELOCITY, 6 * sign)
        expected = StationaryVelocity(sign * velocity, grid, num_steps=6)
        assert largest_gap(read_transform(tmp_path / "a.nii"), expected, grid.centres()) < 1e-5
    write_niftyreg(tmp_path / "a.nii", velocity, grid, niftyreg.DISPLACEMENT_VELOCITY)
    assert read_transform(tmp_path / "a.nii").num_steps == 6
    write_niftyreg(tmp_path / "a.nii", 100 * velocity, grid, niftyreg.DISPLACEMENT_VELOCITY)
    assert read_transform(tmp_path / "a.nii").num_steps > 6


def test_control_points_reach_beyond_their_lattice(tmp_path):
    grid = GRIDS["RAS"]
    moves = torch.ones(3, *grid.shape) * torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    write_niftyreg(tmp_path / "a.nii", moves + grid.centres().movedim(-1, 0), grid, niftyreg.SPLINE)
    spline = read_transform(tmp_path / "a.nii")
    assert isinstance(spline, BSpline)
    points = grid.to_world([[0.0, 0.0, 0.0], [-1.0, 3.0, 3.0], [2.0, 2.0, 8.0]])
    assert torch.allclose(spline(points) - points, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), atol=1e-5)


def test_niftyreg_refuses_what_it_cannot_say(tmp_path):
    grid, flat = GRIDS["RAS"], GRIDS["2-D"]
    zeros = torch.zeros(3, *grid.shape)
    write_niftyreg(tmp_path / "a.nii", zeros, grid, 9)
    with pytest.raises(ValueError, match="kind 9"):
        read_transform(tmp_path / "a.nii")
    write_niftyreg(tmp_path / "a.nii", zeros, grid, niftyreg.SPLINE_VELOCITY)
    with pytest.raises(ValueError, match="--fixed"):
        read_transform(tmp_path / "a.nii")
    write_niftyreg(tmp_path / "a.nii", zeros * torch.nan, grid, niftyreg.DEFORMATION)
    with pytest.raises(ValueError, match="NaN"):
        read_transform(tmp_path / "a.nii")
    write_transform(tmp_path / "a.txt", affine(), format="niftyreg")
    with pytest.raises(ValueError, match="along z"):
        read_transform(tmp_path / "a.txt", fixed=flat, format="niftyreg")
    write_niftyreg(tmp_path / "a.nii", torch.zeros(2, *flat.shape), flat, niftyreg.DISPLACEMENT)
    image = nibabel.load(tmp_path / "a.nii")
    image.set_sform(np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]), 1)
    nibabel.save(image, tmp_path / "b.nii")
    with pytest.raises(ValueError, match="x-y plane"):
        read_transform(tmp_path / "b.nii")


@pytest.mark.parametrize("grid", ["oblique", "LAS", "2-D"])
def test_velocities_return_as_velocities(tmp_path, grid):
    velocity = StationaryVelocity(field_on(GRIDS[grid], largest=0.2).displacement, GRIDS[grid], num_steps=5)
    path = tmp_path / "a.nii.gz"
    write_transform(path, velocity, fixed=GRIDS[grid], format="niftyreg", kind="velocity")
    again = read_transform(path)
    assert isinstance(again, StationaryVelocity)
    assert again.num_steps == 5
    assert largest_gap(again, velocity, GRIDS[grid].centres()) < 1e-4


def splined(fixed, step=2, *, before=1, beyond=3):
    """A cubic spline with a node at the first voxel, and some before it and beyond the last."""
    matrix = fixed.voxel_to_world.clone()
    matrix[:-1, :-1] *= step
    shape = tuple(-(-(n - 1) // step) + before + beyond for n in fixed.shape)
    lattice = Grid(shape, matrix).crop([-before] * fixed.num_dims, [n - before for n in shape])
    return BSpline(smooth_noise(fixed.num_dims, *shape, largest=1.0, sigma=1).double(), lattice)


@pytest.mark.parametrize("grid", ["oblique", "LAS", "sheared", "2-D"])
@pytest.mark.parametrize(("before", "beyond"), [(1, 2), (3, 4)])
def test_control_points_return(tmp_path, grid, before, beyond):
    fixed, path = GRIDS[grid], tmp_path / "a.nii.gz"
    spline = splined(fixed, before=before, beyond=beyond)
    written = write_transform(path, spline, fixed=fixed, format="niftyreg", kind="control-points")
    again = read_transform(path)
    assert isinstance(again, BSpline)
    assert written.notes == ()
    assert largest_gap(again, spline, inner_points(fixed, margin=0.1)) < 1e-4


def test_velocities_and_control_points_that_niftyreg_cannot_hold(tmp_path):
    fixed, path = GRIDS["RAS"], tmp_path / "a.nii"
    words = {"format": "niftyreg", "fixed": fixed}
    with pytest.raises(ValueError, match="stationary velocity"):
        write_transform(path, field_on(fixed), kind="velocity", **words)
    with pytest.raises(ValueError, match="voxels of the fixed image"):
        write_transform(path, StationaryVelocity(torch.zeros(3, 5, 5, 5), Grid.from_spacing((5, 5, 5), 1.0)),
                        kind="velocity", **words)  # fmt: skip
    with pytest.raises(ValueError, match="cubic B-spline"):
        write_transform(path, affine(), kind="control-points", **words)
    with pytest.raises(ValueError, match="--fixed"):
        write_transform(path, splined(fixed), format="niftyreg", kind="control-points")
    for spline in (splined(fixed, before=0, beyond=4), splined(fixed, beyond=1), splined(GRIDS["LAS"])):
        with pytest.raises(ValueError, match="one step before"):
            write_transform(path, spline, kind="control-points", **words)
    assert not path.exists()


# FreeSurfer ----------------------------------------------------------------------------------------------------------


def lta(tmp_path, **changes):
    write_transform(tmp_path / "a.lta", affine(), fixed=GRIDS["RAS"], moving=GRIDS["LAS"], kind="vox2vox")
    text = (tmp_path / "a.lta").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "a.lta").write_text(text)
    return tmp_path / "a.lta"


def test_lta_of_other_types_and_several_transforms_are_refused(tmp_path):
    for old, new in (("type      = 0", "type      = 14"), ("nxforms   = 1", "nxforms   = 2")):
        with pytest.raises(ValueError, match="lta_convert"):
            read_transform(lta(tmp_path, **{old: new}))


def test_lta_that_does_not_describe_its_images_asks_for_them(tmp_path):
    path = lta(tmp_path, **{"valid = 1": "valid = 0"})
    with pytest.raises(ValueError, match="--moving"):
        read_transform(path)
    again = read_transform(path, fixed=GRIDS["RAS"], moving=GRIDS["LAS"])
    assert largest_gap(again, affine(), GRIDS["RAS"].centres()) < 1e-8


def test_lta_without_images_holds_ras(tmp_path):
    write_transform(tmp_path / "a.lta", affine())
    assert "valid = 0" in (tmp_path / "a.lta").read_text()
    assert largest_gap(read_transform(tmp_path / "a.lta"), affine(), GRIDS["RAS"].centres()) < 1e-8
    with pytest.raises(ValueError, match="no shear"):
        write_transform(tmp_path / "b.lta", affine(), fixed=GRIDS["sheared"], moving=GRIDS["RAS"])


def test_register_dat_agrees_with_nibabels_tkregister_matrix(tmp_path):
    fixed, moving = GRIDS["LAS"], GRIDS["oblique"]
    headers = [nibabel.MGHImage(np.zeros(g.shape, np.uint8), g.voxel_to_world.numpy()).header for g in (fixed, moving)]
    ras, tkregister = ([getattr(h, f"get_vox2ras{word}")() for h in headers] for word in ("", "_tkr"))
    to_moving = np.linalg.inv(ras[1]) @ affine().matrix.numpy() @ ras[0]
    matrix = tkregister[1] @ to_moving @ np.linalg.inv(tkregister[0])
    rows = "\n".join(" ".join(map(repr, row)) for row in matrix.astype(float).tolist())
    (tmp_path / "register.dat").write_text(f"subject\n1.0\n2.0\n0.15\n{rows}\nround\n")
    again = read_transform(tmp_path / "register.dat", fixed=fixed, moving=moving)
    assert largest_gap(again, affine(), fixed.centres()) < 1e-3  # nibabel's header is float32
    with pytest.raises(ValueError, match="--fixed"):
        read_transform(tmp_path / "register.dat")


def test_images_in_mgz_are_no_warps(tmp_path):
    nibabel.save(nibabel.MGHImage(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), tmp_path / "a.mgz")
    assert not mgz_warps.is_warp(tmp_path / "a.mgz")
    with pytest.raises(ValueError, match="not a warp"):
        read_transform(tmp_path / "a.mgz", format="freesurfer")


# AFNI ----------------------------------------------------------------------------------------------------------------


def test_oblique_images_are_straightened_about_voxel_0():
    from pullback.io.afni import straightened

    grid = GRIDS["oblique"]
    straight = straightened(grid)
    assert torch.equal(straight.origin, grid.origin)
    assert torch.allclose(straight.spacing_mm, grid.spacing_mm)
    assert sorted(straight.direction.abs().flatten().tolist()) == [0.0] * 6 + [1.0] * 3
    assert float((straight.direction * grid.direction).sum()) > 2
    for name in ("RAS", "LAS", "LPS", "AIR", "anisotropic"):
        assert straightened(GRIDS[name]).same_as(GRIDS[name], 1e-9)


# Fields in voxels ----------------------------------------------------------------------------------------------------


def test_half_resolution_says_what_it_lost(tmp_path):
    grid = Grid.from_spacing((12, 14, 10), (1.0, 1.5, 2.0))
    field = field_on(grid)
    written = write_transform(tmp_path / "a.npz", field, fixed=grid, moving=grid, format="learn2reg")
    again = read_transform(tmp_path / "a.npz", fixed=grid, moving=grid)
    assert "on average" in written.notes[-1]
    assert largest_gap(again, written.transform, grid.centres()) < 1e-6
    assert 1e-4 < largest_gap(again, field, grid.centres()) < 0.5
    with np.load(tmp_path / "a.npz") as file:
        assert (file["arr_0"].shape, file["arr_0"].dtype) == ((3, 6, 7, 5), np.float16)
    odd = GRIDS["RAS"]
    with pytest.raises(ValueError, match="even"):
        write_transform(tmp_path / "b.npz", field_on(odd), fixed=odd, moving=odd, format="learn2reg")


def test_images_of_two_shapes_are_refused(tmp_path):
    fixed, moving = GRIDS["RAS"], GRIDS["RAS"].resize((5, 5, 5))
    for name, file in (("learn2reg", "a.nii.gz"), ("voxelmorph", "a.npz")):
        with pytest.raises(ValueError, match="one shape"):
            write_transform(tmp_path / file, field_on(fixed), fixed=fixed, moving=moving, format=name)


def test_pickled_arrays_are_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", vol=np.array([{"a": 1}], dtype=object))
    for name in ("voxelmorph", "learn2reg"):
        with pytest.raises(ValueError, match=r"a\.npz"):
            read_transform(tmp_path / "a.npz", fixed=GRIDS["RAS"], moving=GRIDS["RAS"], format=name)


def test_components_that_could_come_first_or_last_are_asked_about(tmp_path):
    grid = Grid.from_spacing((3, 3, 3))
    field = DisplacementField(torch.arange(81.0).reshape(3, 3, 3, 3) / 81, grid)
    for kind in ("channels-first", "channels-last"):
        write_transform(tmp_path / "a.npz", field, fixed=grid, moving=grid, format="voxelmorph", kind=kind)
        with pytest.raises(ValueError, match=f"--from voxelmorph:{kind}"):
            read_transform(tmp_path / "a.npz", fixed=grid, moving=grid)
        again = read_transform(tmp_path / "a.npz", fixed=grid, moving=grid, format=f"voxelmorph:{kind}")
        assert torch.allclose(again.displacement, field.displacement, atol=1e-6)
