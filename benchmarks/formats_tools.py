"""Checks of ``formats.py``: FSL against fslpy, FreeSurfer against surfa and nitransforms, greedy, NiftyReg, AFNI
against nitransforms, Learn2Reg's arithmetic and VoxelMorph.

NiftyReg is no package: its programs (reg_transform, reg_resample, reg_f3d) are taken from the PATH. Its ``-flow`` is
left out, because it fills the field from memory that it did not clear (NaN now and then); a good one is in
``tests/data``.
"""

import io
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage

from format_cases import (
    READ,
    WRITTEN,
    Check,
    Difference,
    Geometry,
    affine_of,
    field_of,
    largest_mm,
    largest_percent,
    moving_image,
    points_of,
)
from pullback.io import read_transform, write_image, write_transform
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, BSpline, StationaryVelocity

Make = Callable[[Geometry], AbstractTransform]


def _empty(grid: Grid) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(np.zeros(grid.shape, np.float32), grid.voxel_to_world.numpy())


def _by_matrix(geometry: Geometry, ours: AbstractTransform, theirs: np.ndarray) -> Difference:
    points = points_of(geometry)
    return Difference(largest_mm(ours(points), Affine(theirs)(points)))


def _files(geometry: Geometry, folder: Path) -> tuple[Path, Path]:
    """The fixed and the moving image on disk."""
    image = moving_image(geometry)
    write_image(folder / "moving.nii.gz", image)
    write_image(folder / "fixed.nii.gz", image.with_tensor(torch.zeros(1, *geometry.fixed.shape), geometry.fixed))
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def _both(geometry: Geometry) -> dict[str, Grid]:
    return {"fixed": geometry.fixed, "moving": geometry.moving}


# FSL ------------------------------------------------------------------------------------------------------------------


def _of_fslpy(geometry: Geometry) -> tuple:
    from fsl.data.image import Image

    grids = (geometry.moving, geometry.fixed)
    return tuple(Image(np.zeros(grid.shape, np.float32), xform=grid.voxel_to_world.numpy()) for grid in grids)


def fslpy_matrix(geometry: Geometry, folder: Path, *, way: str) -> Difference:
    """A FLIRT matrix."""
    from fsl.transform import flirt

    images, transform, path = _of_fslpy(geometry), affine_of(geometry), folder / "a.mat"
    if way == READ:
        to_fixed = np.linalg.inv(transform.matrix.numpy())
        flirt.writeFlirt(flirt.toFlirt(to_fixed, *images, "world", "world"), path)
        return _by_matrix(geometry, read_transform(path, **_both(geometry), format="fsl"), transform.matrix.numpy())
    write_transform(path, transform, **_both(geometry), format="fsl")
    world = flirt.fromFlirt(flirt.readFlirt(path), *images, "world", "world")
    return _by_matrix(geometry, transform, np.linalg.inv(world))


def fslpy_warp(geometry: Geometry, folder: Path, *, kind: str) -> Difference:
    """A dense warp of ours, read by fslpy, which takes the nearest vector: compared at voxel centres."""
    from fsl.transform import fnirt

    transform, path, points = field_of(geometry), folder / "a.nii.gz", points_of(geometry, centres=True)
    write_transform(path, transform, **_both(geometry), format="fsl", kind=kind)
    theirs = fnirt.readFnirt(str(path), *_of_fslpy(geometry), defType=kind)
    return Difference(largest_mm(transform(points), theirs.transform(points.numpy(), "world", "world")))


# FreeSurfer -----------------------------------------------------------------------------------------------------------


def _surfa() -> object:
    np.fromstring = lambda text, dtype=float, **_: np.frombuffer(text, dtype=dtype)  # surfa 0.6.3 with numpy 2.3
    import surfa

    return surfa


def _geometries(geometry: Geometry) -> list:
    surfa, grids = _surfa(), (geometry.moving, geometry.fixed)
    return [surfa.ImageGeometry(grid.shape, vox2world=grid.voxel_to_world.numpy()) for grid in grids]


def surfa_lta(geometry: Geometry, folder: Path, *, kind: str, way: str) -> Difference:
    """An LTA between voxels or RAS mm."""
    surfa, transform, path = _surfa(), affine_of(geometry), folder / "a.lta"
    if way == READ:
        theirs = surfa.Affine(np.linalg.inv(transform.matrix.numpy()), *_geometries(geometry), space="world")
        theirs.convert(space="vox" if kind == "vox2vox" else "world").save(str(path))
        return _by_matrix(geometry, read_transform(path), transform.matrix.numpy())
    write_transform(path, transform, **_both(geometry), kind=kind)
    return _by_matrix(geometry, transform, np.linalg.inv(surfa.load_affine(str(path)).convert(space="world").matrix))


def surfa_warp(geometry: Geometry, folder: Path, *, way: str, kind: str = "disp_ras") -> Difference:
    """A warp in ``.mgz``, at voxel centres; ours also resamples an image."""
    surfa, transform, path = _surfa(), field_of(geometry), folder / "a.mgz"
    positions = transform(geometry.fixed.centres())
    if way == READ:
        vectors = transform.displacement.movedim(0, -1).numpy()
        steps = surfa.Warp(vectors, *_geometries(geometry), format=surfa.Warp.Format.disp_ras)
        steps.convert(getattr(surfa.Warp.Format, kind)).save(str(path))
        return Difference(largest_mm(read_transform(path)(geometry.fixed.centres()), positions))
    write_transform(path, transform, **_both(geometry))
    theirs, (_, moving) = surfa.load_warp(str(path)), _files(geometry, folder)
    warped = theirs(surfa.load_volume(str(moving))).data.reshape(geometry.fixed.shape)
    percent = largest_percent(geometry, transform, warped)
    return Difference(largest_mm(positions, theirs.convert(surfa.Warp.Format.abs_ras).data), percent)


def nitransforms_lta(geometry: Geometry, folder: Path, *, kind: str) -> Difference:
    """An LTA of ours."""
    from nitransforms.io.lta import FSLinearTransformArray

    write_transform(folder / "a.lta", affine_of(geometry), **_both(geometry), kind=kind)
    theirs = FSLinearTransformArray.from_filename(folder / "a.lta").to_ras()[0]
    return _by_matrix(geometry, affine_of(geometry), theirs)


# AFNI -----------------------------------------------------------------------------------------------------------------


def nitransforms_afni(geometry: Geometry, folder: Path, *, way: str) -> Difference:
    """A matrix, straightened where an image is oblique; nitransforms writes six digits."""
    from nitransforms.io.afni import AFNILinearTransformArray

    transform, path = affine_of(geometry), folder / "a.aff12.1D"
    images = {"reference": _empty(geometry.fixed), "moving": _empty(geometry.moving)}
    if way == READ:
        AFNILinearTransformArray.from_ras(transform.matrix.numpy()[None], **images).to_filename(path)
    else:
        write_transform(path, transform, **_both(geometry))
    theirs = AFNILinearTransformArray.from_filename(path).to_ras(**images)[0]
    return _by_matrix(geometry, read_transform(path, **_both(geometry)), theirs)


# greedy ---------------------------------------------------------------------------------------------------------------


def _run_greedy(geometry: Geometry, command: str) -> None:
    import picsl_greedy

    tool = picsl_greedy.Greedy3D if geometry.num_dims == 3 else picsl_greedy.Greedy2D
    tool().execute(f"-threads 1 -V 0 {command}", out=io.StringIO())


def greedy_uses(geometry: Geometry, folder: Path, *, make: Make, suffix: str) -> Difference:
    """A file of ours resamples an image and maps the points of a mesh."""
    transform, path = make(geometry), folder / f"a{suffix}"
    write_transform(path, transform, format="greedy")
    return _by_greedy(geometry, folder, transform, path)


def greedy_makes(geometry: Geometry, folder: Path, *, options: str, suffix: str) -> Difference:
    """A file that a registration of greedy's wrote."""
    fixed, path = _files(geometry, folder)[0], folder / f"a{suffix}"
    write_image(fixed, moving_image(geometry).with_tensor(moving_image(geometry).tensor, geometry.moving))
    other = Geometry(geometry.name, geometry.moving, geometry.moving)
    bent = folder / "bent.nii.gz"
    write_transform(folder / "b.nii.gz", field_of(other))
    _run_greedy(geometry, f"-rf {fixed} -rm {fixed} {bent} -r {folder / 'b.nii.gz'}")
    _run_greedy(geometry, f"-i {fixed} {bent} -m SSD -n 20 {options} -o {path}")
    return _by_greedy(other, folder, read_transform(path, format="greedy"), path)


def _by_greedy(geometry: Geometry, folder: Path, ours: AbstractTransform, path: Path) -> Difference:
    fixed, moving = _files(geometry, folder)
    points, before, after = points_of(geometry).numpy(), folder / "before.vtk", folder / "after.vtk"
    _write_vtk(before, points)
    _run_greedy(geometry, f"-rf {fixed} -rm {moving} {folder / 'out.nii.gz'} -rs {before} {after} -r {path}")
    words = after.read_text().split("POINTS", 1)[1].split()[2 : 2 + 3 * len(points)]
    mapped = np.array(words, dtype=float).reshape(-1, 3)[:, : geometry.num_dims]
    warped = np.asarray(nibabel.load(folder / "out.nii.gz").dataobj).reshape(geometry.fixed.shape)
    return Difference(largest_mm(ours(torch.from_numpy(points)), mapped), largest_percent(geometry, ours, warped))


def _write_vtk(path: Path, points: np.ndarray) -> None:
    solid = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    rows = [" ".join(repr(float(x)) for x in row) for row in solid]
    head = ["# vtk DataFile Version 2.0", "points", "ASCII", "DATASET POLYDATA", f"POINTS {len(points)} double"]
    vertices = [f"VERTICES {len(points)} {2 * len(points)}", *(f"1 {n}" for n in range(len(points)))]
    path.write_text("\n".join([*head, *rows, *vertices, ""]))


# NiftyReg -------------------------------------------------------------------------------------------------------------


def niftyreg_uses(geometry: Geometry, folder: Path, *, make: Make, suffix: str, kind: str | None = None) -> Difference:
    """A file of ours: reg_transform says where it takes voxels, reg_resample makes an image."""
    transform, path = make(geometry), folder / f"a{suffix}"
    write_transform(path, transform, fixed=geometry.fixed, format="niftyreg", kind=kind)
    return _by_niftyreg(geometry, folder, transform, path)


def velocity_of(geometry: Geometry) -> StationaryVelocity:
    """A smooth velocity on the fixed grid."""
    field = field_of(geometry)
    return StationaryVelocity(field.displacement, field.grid, num_steps=6)


def control_points_of(geometry: Geometry) -> BSpline:
    """A cubic B-spline with a node at every fourth voxel, and two before the fixed image and beyond it."""
    fixed, step = geometry.fixed, 4
    matrix = fixed.voxel_to_world.clone()
    matrix[:-1, :-1] *= step
    stop = [-(-(n - 1) // step) + 3 for n in fixed.shape]
    grid = Grid(fixed.shape, matrix).crop([-2] * fixed.num_dims, stop)
    steps = field_of(geometry).displacement_on(grid)
    return BSpline(steps.to(torch.float64), grid)


def niftyreg_makes(geometry: Geometry, folder: Path, *, options: tuple[str, ...], result: str = "-cpp") -> Difference:
    """Control points that reg_f3d wrote, or a field that reg_transform made of them."""
    fixed, moving = _files(geometry, folder)
    image, path = moving_image(geometry), folder / "a.nii.gz"
    write_image(moving, image)
    write_transform(folder / "bend.nii.gz", field_of(Geometry("", geometry.moving, geometry.moving)), format="niftyreg")
    _run("reg_resample", "-ref", moving, "-flo", moving, "-trans", folder / "bend.nii.gz", "-res", fixed)
    same = Geometry(geometry.name, geometry.moving, geometry.moving)
    made = ("reg_f3d", "-ref", fixed, "-flo", moving, "-cpp", path, "-res", folder / "r.nii.gz", *options)
    _run(*made, "-maxit", 20, "-ln", 1, "-sx", -5, "-be", 0.001)
    if result != "-cpp":
        _run("reg_transform", "-ref", fixed, result, path, folder / "dense.nii.gz")
        path = folder / "dense.nii.gz"
    return _by_niftyreg(same, folder, read_transform(path, fixed=geometry.moving), path)


def _by_niftyreg(geometry: Geometry, folder: Path, ours: AbstractTransform, path: Path) -> Difference:
    fixed, moving = _files(geometry, folder)
    _run("reg_transform", "-ref", fixed, "-def", path, folder / "d.nii.gz")
    _run("reg_resample", "-ref", fixed, "-flo", moving, "-trans", path, "-res", folder / "r.nii.gz", "-inter", 1)
    theirs = np.asarray(nibabel.load(folder / "d.nii.gz").dataobj).reshape(*geometry.fixed.shape, geometry.num_dims)
    warped = np.asarray(nibabel.load(folder / "r.nii.gz").dataobj).reshape(geometry.fixed.shape)
    mm = largest_mm(ours(geometry.fixed.centres()), theirs)
    return Difference(mm, largest_percent(geometry, ours, warped))


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


# Fields in voxels -----------------------------------------------------------------------------------------------------


def _same_shape(geometry: Geometry) -> Geometry:
    return Geometry(geometry.name, geometry.fixed, geometry.moving.resize(geometry.fixed.shape))


def learn2reg_uses(geometry: Geometry, folder: Path, *, suffix: str) -> Difference:
    """The evaluation's own lines: enlarge (v1), add to the voxels, interpolate the moving image."""
    geometry = _same_shape(geometry)
    path = folder / f"disp_0001_0002{suffix}"
    written = write_transform(path, field_of(geometry), **_both(geometry), format="learn2reg")
    if suffix == ".npz":
        steps = np.stack([ndimage.zoom(c.astype(np.float32), 2, order=2) for c in np.load(path)["arr_0"]])
    else:
        steps = np.moveaxis(nibabel.load(path).get_fdata(), -1, 0)
    voxels = np.indices(geometry.fixed.shape) + steps
    warped = ndimage.map_coordinates(moving_image(geometry).tensor[0].numpy(), voxels, order=1)
    mapped = geometry.moving.to_world(np.moveaxis(voxels, 0, -1))
    percent = largest_percent(geometry, written.transform, warped)
    return Difference(largest_mm(written.transform(geometry.fixed.centres()), mapped), percent)


def voxelmorph_uses(geometry: Geometry, folder: Path, *, kind: str) -> Difference:
    """VoxelMorph's own function carries images of the voxel indices, and an image, along."""
    from voxelmorph.functional import spatial_transform

    geometry, path = _same_shape(geometry), folder / "a.npz"
    transform = field_of(geometry)
    write_transform(path, transform, **_both(geometry), format="voxelmorph", kind=kind)
    steps = np.load(path)["vol"]
    steps = torch.from_numpy(steps if kind == "channels-first" else np.moveaxis(steps, -1, 0).copy())
    channels = torch.cat(
        [torch.from_numpy(np.float32(np.indices(geometry.fixed.shape))), moving_image(geometry).tensor]
    )
    *indices, warped = spatial_transform(channels, steps, non_spatial_dims=(0,), padding_mode="border").numpy()
    landed = geometry.moving.to_voxel(transform(geometry.fixed.centres()))
    inside = ((landed >= 0) & (landed <= torch.tensor(geometry.moving.shape) - 1)).all(dim=-1)
    mapped = geometry.moving.to_world(np.stack(indices, axis=-1))[inside]
    mm = largest_mm(transform(geometry.fixed.centres())[inside], mapped)
    return Difference(mm, largest_percent(geometry, transform, warped))


def _checks() -> tuple[Check, ...]:
    fsl = [
        Check("fsl", "FLIRT matrix .mat", way, "fslpy", partial(fslpy_matrix, way=way), (3,)) for way in (WRITTEN, READ)
    ]
    fsl += [
        Check("fsl", f"{kind} warp .nii.gz", WRITTEN, "fslpy", partial(fslpy_warp, kind=kind), (3,))
        for kind in ("relative", "absolute")
    ]
    freesurfer = [
        Check("freesurfer", f"{kind} .lta", way, "surfa", partial(surfa_lta, kind=kind, way=way), (3,))
        for kind in ("ras2ras", "vox2vox")
        for way in (WRITTEN, READ)
    ]
    freesurfer += [
        Check("freesurfer", f"{kind} .lta", WRITTEN, "nitransforms", partial(nitransforms_lta, kind=kind), (3,))
        for kind in ("ras2ras", "vox2vox")
    ]
    freesurfer += [Check("freesurfer", "warp .mgz", WRITTEN, "surfa", partial(surfa_warp, way=WRITTEN), (3,))]
    freesurfer += [
        Check("freesurfer", f"warp .mgz, {kind}", READ, "surfa", partial(surfa_warp, way=READ, kind=kind), (3,))
        for kind in ("abs_crs", "disp_crs", "abs_ras", "disp_ras")
    ]
    afni = [
        Check("afni", "matrix .aff12.1D", way, "nitransforms", partial(nitransforms_afni, way=way), (3,))
        for way in (WRITTEN, READ)
    ]
    return (*fsl, *freesurfer, *afni, *_greedy(), *_niftyreg(), *_voxels())


def _greedy() -> list[Check]:
    uses = {"matrix .mat": (affine_of, ".mat"), "warp .nii.gz": (field_of, ".nii.gz")}
    makes = {
        "matrix .mat": ("-a -ia-identity -dof 12", ".mat"),
        "warp .nii.gz, exact": ("-wp 0", ".nii.gz"),
        "warp .nii.gz, rounded to 0.1 voxel": ("", ".nii.gz"),
    }
    checks = [
        Check("greedy", name, WRITTEN, "picsl_greedy", partial(greedy_uses, make=make, suffix=suffix))
        for name, (make, suffix) in uses.items()
    ]
    return checks + [
        Check("greedy", name, READ, "picsl_greedy", partial(greedy_makes, options=options, suffix=suffix))
        for name, (options, suffix) in makes.items()
    ]


def _niftyreg() -> list[Check]:
    uses = {
        "matrix .txt": {"make": affine_of, "suffix": ".txt"},
        "deformation .nii.gz": {"make": field_of, "suffix": ".nii.gz", "kind": "deformation"},
        "displacement .nii.gz": {"make": field_of, "suffix": ".nii.gz", "kind": "displacement"},
        "velocity .nii.gz": {"make": velocity_of, "suffix": ".nii.gz", "kind": "velocity"},
        "control points .nii.gz": {"make": control_points_of, "suffix": ".nii.gz", "kind": "control-points"},
    }
    makes = {
        "control points": {"options": ()},
        "velocity control points": {"options": ("-vel",)},
        "deformation": {"options": (), "result": "-def"},
        "displacement": {"options": (), "result": "-disp"},
    }
    checks = [
        Check("niftyreg", name, WRITTEN, "NiftyReg", partial(niftyreg_uses, **words)) for name, words in uses.items()
    ]
    return checks + [
        Check("niftyreg", f"{name} .nii.gz", READ, "NiftyReg", partial(niftyreg_makes, **words))
        for name, words in makes.items()
    ]


def _voxels() -> list[Check]:
    checks = [
        Check("learn2reg", name, WRITTEN, "scipy", partial(learn2reg_uses, suffix=suffix), (3,))
        for name, suffix in (("v2 .nii.gz", ".nii.gz"), ("v1 .npz", ".npz"))
    ]
    return checks + [
        Check("voxelmorph", f"{kind} .npz", WRITTEN, "voxelmorph", partial(voxelmorph_uses, kind=kind))
        for kind in ("channels-last", "channels-first")
    ]


CHECKS = _checks()
