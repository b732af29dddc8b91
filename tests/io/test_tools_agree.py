"""The tools themselves, where they are installed, map points and resample images with the files that we write."""

import io
import itertools

import nibabel
import numpy as np
import pytest
import torch

from examples import GRIDS, smooth_noise
from pullback.data import Image
from pullback.io import write_image, write_transform
from pullback.transforms import Affine, DisplacementField, warp

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
NAMES = ("RAS", "LAS", "LPS", "oblique", "anisotropic")
FIXED = {name: GRIDS[name].resize((12, 14, 10)) for name in NAMES}
MOVING = {name: GRIDS[name].resize((11, 9, 13)) for name in NAMES}
PAIRS = [(fixed, moving) for fixed, moving in itertools.product(NAMES, NAMES) if "oblique" in (fixed, moving)]
PAIRS += [("RAS", "LAS"), ("LAS", "RAS"), ("anisotropic", "LPS")]
TILT = Affine.from_parts(
    rotation=(0.1, -0.05, 0.2), scaling=(1.1, 0.9, 1.05), shear=(0.02, 0.03, -0.01), translation_mm=(3.0, -4.0, 5.0)
)
TOLERANCE_MM = 1e-3


def field_on(grid, largest=2.0):
    return DisplacementField(smooth_noise(grid.num_dims, *grid.shape, largest=largest, sigma=3), grid)


def empty(grid):
    """A NIfTI of nibabel's with the exact grid."""
    return nibabel.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.voxel_to_world.numpy())


def largest(gap):
    return float(np.abs(np.asarray(gap)).max())


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_fslpy_maps_alike(tmp_path, fixed, moving):
    image = pytest.importorskip("fsl.data.image", reason="fslpy is not installed").Image
    from fsl.transform import flirt, fnirt

    grids = {"fixed": FIXED[fixed], "moving": MOVING[moving]}
    theirs = [image(np.zeros(g.shape, np.float32), xform=g.voxel_to_world.numpy()) for g in grids.values()]
    write_transform(tmp_path / "a.mat", TILT, **grids, format="fsl")
    matrix = flirt.fromFlirt(flirt.readFlirt(tmp_path / "a.mat"), theirs[1], theirs[0], "world", "world")
    assert largest(np.linalg.inv(matrix) - TILT.matrix.numpy()) < TOLERANCE_MM
    field, points = field_on(grids["fixed"]), grids["fixed"].centres().reshape(-1, 3)
    for kind in ("relative", "absolute"):
        write_transform(tmp_path / "a.nii.gz", field, **grids, format="fsl", kind=kind)
        read = fnirt.readFnirt(str(tmp_path / "a.nii.gz"), theirs[1], theirs[0], defType=kind)
        assert largest(read.transform(points.numpy(), "world", "world") - field(points).numpy()) < TOLERANCE_MM


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_nitransforms_maps_alike(tmp_path, fixed, moving):
    pytest.importorskip("nitransforms", reason="nitransforms is not installed")
    from nitransforms.io import afni, fsl, lta

    grids = {"fixed": FIXED[fixed], "moving": MOVING[moving]}
    images = {"reference": empty(grids["fixed"]), "moving": empty(grids["moving"])}
    matrices = []
    for kind in ("ras2ras", "vox2vox"):
        write_transform(tmp_path / "a.lta", TILT, **grids, kind=kind)
        matrices += lta.FSLinearTransformArray.from_filename(tmp_path / "a.lta").to_ras()
    write_transform(tmp_path / "a.mat", TILT, **grids, format="fsl")
    matrices.append(fsl.FSLLinearTransform.from_filename(tmp_path / "a.mat").to_ras(**images))
    grids = {"fixed": GRIDS[fixed], "moving": GRIDS[moving]}  # it rounds oblique voxel sizes to 1e-4 mm, AFNI does not
    images = {"reference": empty(grids["fixed"]), "moving": empty(grids["moving"])}
    write_transform(tmp_path / "a.1D", TILT, **grids)
    matrices.append(afni.AFNILinearTransformArray.from_filename(tmp_path / "a.1D").to_ras(**images)[0])
    for matrix in matrices:
        assert largest(matrix - TILT.matrix.numpy()) < TOLERANCE_MM


@pytest.mark.parametrize("fixed", NAMES)
def test_surfa_maps_alike(tmp_path, fixed, monkeypatch):
    monkeypatch.setattr(np, "fromstring", lambda text, dtype=float, **_: np.frombuffer(text, dtype=dtype))
    surfa = pytest.importorskip("surfa", reason="surfa is not installed")
    grids = {"fixed": FIXED[fixed], "moving": MOVING["oblique"]}
    for kind in ("ras2ras", "vox2vox"):
        write_transform(tmp_path / "a.lta", TILT, **grids, kind=kind)
        read = surfa.load_affine(str(tmp_path / "a.lta")).convert(space="world")
        assert largest(np.linalg.inv(read.matrix) - TILT.matrix.numpy()) < TOLERANCE_MM
    field = field_on(grids["fixed"])
    write_transform(tmp_path / "a.mgz", field, **grids)
    positions = surfa.load_warp(str(tmp_path / "a.mgz")).convert(surfa.Warp.Format.abs_ras).data
    assert largest(positions - field(grids["fixed"].centres()).numpy()) < TOLERANCE_MM


@pytest.mark.parametrize("name", ["RAS", "LAS", "LPS", "oblique", "anisotropic", "2-D", "2-D oblique"])
def test_greedy_resamples_alike(tmp_path, name):
    picsl_greedy = pytest.importorskip("picsl_greedy", reason="picsl_greedy is not installed")
    grid = GRIDS[name].resize(tuple(3 * n for n in GRIDS[name].shape))
    num_dims = grid.num_dims
    tool = (picsl_greedy.Greedy3D if num_dims == 3 else picsl_greedy.Greedy2D)()
    angles = (0.05, -0.03, 0.1) if num_dims == 3 else (0.1,)
    linear = Affine.from_parts(rotation=angles, centre_mm=grid.centre.tolist(), num_dims=num_dims)
    moving = Image(smooth_noise(1, *grid.shape, sigma=2.0), grid)
    write_image(tmp_path / "m.nii.gz", moving)
    for file, transform in (("a.mat", linear), ("a.nii.gz", field_on(grid, 1.5 * float(grid.spacing_mm.min())))):
        write_transform(tmp_path / file, transform, format="greedy")
        images = f"-rf {tmp_path / 'm.nii.gz'} -rm {tmp_path / 'm.nii.gz'} {tmp_path / 'o.nii.gz'}"
        tool.execute(f"-threads 1 {images} -r {tmp_path / file}", out=io.StringIO())
        theirs = nibabel.load(tmp_path / "o.nii.gz").get_fdata().reshape(grid.shape)
        ours = warp(moving, transform, onto=grid).tensor[0].numpy()
        voxels = grid.to_voxel(transform(grid.centres()))
        inside = ((voxels > 0.01) & (voxels < torch.tensor(grid.shape) - 1.01)).all(dim=-1).numpy()
        assert inside.mean() > 0.5
        assert largest((theirs - ours)[inside]) < 1e-4  # of values up to 1
