"""Makes the reference files of this folder's tools, with the tools themselves, from synthetic input.

    PYTHONPATH=src:tests python tests/data/transforms/make_tools.py niftyreg greedy freesurfer fsl afni

``points.npz`` beside the files of a tool holds, for each file, points of the fixed world and where the tool itself
takes them, RAS mm. Needed are: NiftyReg (reg_transform, reg_f3d on the PATH; made with 2.1.2, commit d518b8ac),
picsl_greedy 1.4.0.3, surfa 0.6.3, fslpy 3.29.1, nitransforms 25.1.0.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch

from pullback.data import Image
from pullback.io import read_image, write_image
from pullback.space import Grid
from pullback.transforms import Affine, DisplacementField, warp

HERE = Path(__file__).parent
NUM_POINTS = 40


def grids() -> dict[str, Grid]:
    """Small fixed and moving grids: both signs of the determinant, anisotropic, oblique, and 2-D."""
    c, s = np.cos(0.3), np.sin(0.3)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([-1.0, 1, 1])
    return {
        "RAS": Grid.from_spacing((9, 8, 7), (2.0, 2.5, 3.0), origin=(-10, -8, 5)),
        "LAS": Grid.from_spacing((8, 9, 7), (2.0, 3.0, 2.5), origin=(9, -12, -4), direction=np.diag([-1.0, 1, 1])),
        "oblique": Grid.from_spacing((7, 9, 8), (3.0, 2.0, 2.5), origin=(12, -7, -6), direction=turned),
        "flat": Grid.from_spacing((14, 12), (2.0, 1.5), origin=(-12, -9)),
    }


def blobs(grid: Grid) -> Image:
    """A smooth image with structure in all directions."""
    points = (grid.centres() - grid.centre) / 6
    values = torch.exp(-(points**2).sum(dim=-1) / 3) * (2 + torch.sin(2 * points).sum(dim=-1))
    return Image((100 * values[None]).to(torch.float32), grid)


def bend(grid: Grid) -> DisplacementField:
    """A smooth displacement of up to about 3 mm."""
    points = (grid.centres() - grid.centre) / 8
    vectors = 1.5 * torch.sin(points.flip(-1) + torch.arange(grid.num_dims)) + 0.8 * torch.cos(points)
    return DisplacementField(vectors.movedim(-1, 0).to(torch.float32).contiguous(), grid)


def tilt(num_dims: int = 3) -> Affine:
    """An affine without symmetry."""
    angles, scaling = ((0.1, -0.05, 0.2) if num_dims == 3 else (0.2,)), (1.1, 0.9, 1.05)[:num_dims]
    return Affine.from_parts(
        rotation=angles, scaling=scaling, translation_mm=(3.0, -4.0, 5.0)[:num_dims], num_dims=num_dims
    )


def some_voxels(grid: Grid) -> np.ndarray:
    """Indices of random voxels, ``(N, D)``."""
    return np.random.default_rng(0).integers(0, grid.shape, (NUM_POINTS, grid.num_dims))


class Folder:
    """The folder of one tool, and what its files do to points."""

    def __init__(self, name: str) -> None:
        self.path = HERE / name
        self.path.mkdir(exist_ok=True)
        self.points: dict[str, np.ndarray] = {}

    def add(self, file: str, fixed: np.ndarray, moving: np.ndarray) -> None:
        """Remember where a file takes points ``(N, D)``."""
        self.points |= {f"{file} fixed": np.asarray(fixed, float), f"{file} moving": np.asarray(moving, float)}

    def save(self) -> None:
        """Write all of them."""
        np.savez_compressed(self.path / "points.npz", **self.points)


def run(*words: object) -> None:
    """Run a program, quietly unless it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words}\n{done.stdout}\n{done.stderr}")


# NiftyReg ------------------------------------------------------------------------------------------------------------


def niftyreg() -> None:
    """Matrices, fields, control points and velocities, with and without an affine start, in 3-D and 2-D."""
    folder = Folder("niftyreg")
    for name in ("oblique", "flat"):
        with tempfile.TemporaryDirectory() as work:
            niftyreg_on(grids()[name], name, folder, Path(work))
    folder.save()


def niftyreg_on(grid: Grid, name: str, folder: Folder, work: Path) -> None:
    """Let NiftyReg register an image to a bent one, and say where each of its files takes voxels."""
    fixed, moving, start = work / "fixed.nii.gz", work / "moving.nii.gz", folder.path / f"{name}_affine.txt"
    write_image(fixed, blobs(grid))
    write_image(moving, warp(blobs(grid), bend(grid), onto=grid))
    matrix = np.eye(4)
    axes = [*range(grid.num_dims), 3]
    matrix[np.ix_(axes, axes)] = torch.linalg.inv(tilt(grid.num_dims).matrix).numpy() * 0.05 + 0.95 * np.eye(len(axes))
    np.savetxt(work / "backwards.txt", matrix)
    run("reg_transform", "-invAff", work / "backwards.txt", start)
    options = {"spline": (), "velocity": ("-vel",), "spline_affine": ("-aff", start)}
    options["velocity_affine"] = ("-vel", "-aff", start)
    for kind, extra in options.items():
        made = folder.path / f"{name}_{kind}.nii.gz"
        register = ("reg_f3d", "-ref", fixed, "-flo", moving, "-cpp", made, "-res", work / "result.nii.gz")
        run(*register, "-maxit", 10, "-ln", 1, "-sx", -4, "-be", 0.001, *extra)
    for kind, option in {"deformation": "-def", "displacement": "-disp", "flow": "-flow"}.items():
        source = folder.path / f"{name}_{'velocity' if kind == 'flow' else 'spline'}.nii.gz"
        run("reg_transform", "-ref", fixed, option, source, folder.path / f"{name}_{kind}.nii.gz")
    for made in (start, *sorted(folder.path.glob(f"{name}_*.nii.gz"))):
        run("reg_transform", "-ref", fixed, "-def", made, work / "positions.nii.gz")
        voxels = some_voxels(grid)
        index = tuple(voxels.T) if grid.num_dims == 3 else (*voxels.T, 0)
        positions = np.asarray(nibabel.load(work / "positions.nii.gz").dataobj)[(*index, 0)]
        folder.add(made.name, grid.to_world(voxels).numpy(), positions)


# greedy --------------------------------------------------------------------------------------------------------------


def greedy() -> None:
    """An affine and two warps, one of them rounded as greedy does by default, and images resampled with them."""
    import picsl_greedy

    folder = Folder("greedy")
    for name, kind in (("oblique", picsl_greedy.Greedy3D), ("flat", picsl_greedy.Greedy2D)):
        grid, tool = grids()[name], kind()
        fixed, moving = (folder.path / f"{name}_{word}.nii.gz" for word in ("fixed", "moving"))
        write_image(fixed, blobs(grid))
        write_image(moving, warp(blobs(grid), bend(grid), onto=grid))
        both, affine = f"-threads 1 -i {fixed} {moving}", folder.path / f"{name}_affine.mat"
        commands = [f"{both} -a -ia-identity -m SSD -n 50 -dof 12 -o {affine}"]
        for kind_of_warp, precision in (("rounded", ""), ("exact", "-wp 0")):
            commands += [f"{both} -m SSD -n 20 {precision} -o {folder.path / f'{name}_{kind_of_warp}.nii.gz'}"]
        for made in ("affine.mat", "rounded.nii.gz", "exact.nii.gz"):
            out = folder.path / f"{name}_by_{made.split('.')[0]}.nii.gz"
            commands += [f"-threads 1 -rf {fixed} -rm {moving} {out} -r {folder.path / f'{name}_{made}'}"]
        for command in commands:
            tool.execute(command, out=io.StringIO())
        fixed.unlink()


# FreeSurfer ----------------------------------------------------------------------------------------------------------


def freesurfer() -> None:
    """LTA between voxels and between RAS mm, and a warp in the four meanings of its vectors."""
    np.fromstring = lambda text, dtype=float, **_: np.frombuffer(text, dtype=dtype)  # surfa 0.6.3 with numpy 2.3
    import surfa

    folder = Folder("freesurfer")
    fixed, moving = grids()["RAS"], grids()["oblique"]
    geometries = [surfa.ImageGeometry(grid.shape, vox2world=grid.voxel_to_world.numpy()) for grid in (moving, fixed)]
    to_fixed = surfa.Affine(torch.linalg.inv(tilt().matrix).numpy(), *geometries, space="world")
    points = fixed.to_world(some_voxels(fixed)).numpy()
    for space in ("vox", "world"):
        to_fixed.convert(space=space).save(str(folder.path / f"{space}.lta"))
        folder.add(f"{space}.lta", points, to_fixed.inv().transform(points))
    vectors = bend(fixed).displacement.movedim(0, -1).numpy()
    steps = surfa.Warp(vectors, *geometries, format=surfa.Warp.Format.disp_ras)
    for kind in ("abs_crs", "disp_crs", "abs_ras", "disp_ras"):
        converted = steps.convert(getattr(surfa.Warp.Format, kind))
        converted.save(str(folder.path / f"{kind}.mgz"))
        positions = converted.convert(surfa.Warp.Format.abs_ras).data[tuple(some_voxels(fixed).T)]
        folder.add(f"{kind}.mgz", points, positions)
    steps.save(str(folder.path / "nifti.nii.gz"))
    folder.add("nifti.nii.gz", points, steps.convert(surfa.Warp.Format.abs_ras).data[tuple(some_voxels(fixed).T)])
    folder.save()


# FSL -----------------------------------------------------------------------------------------------------------------


def fsl() -> None:
    """A FLIRT matrix and dense warps for both signs of the determinant of either image."""
    from fsl.data.image import Image as FSLImage
    from fsl.transform import affine, flirt, fnirt, nonlinear

    folder = Folder("fsl")
    for name, other in (("RAS", "LAS"), ("LAS", "RAS"), ("RAS", "oblique"), ("LAS", "LAS")):
        fixed, moving = grids()[name], grids()[other]
        in_fsl = [FSLImage(np.zeros(g.shape, np.float32), xform=g.voxel_to_world.numpy()) for g in (fixed, moving)]
        to_fixed = torch.linalg.inv(tilt().matrix).numpy()
        matrix = flirt.toFlirt(to_fixed, in_fsl[1], in_fsl[0], "world", "world")
        flirt.writeFlirt(matrix, folder.path / f"{name}_{other}.mat")
        points = fixed.to_world(some_voxels(fixed)).numpy()
        folder.add(f"{name}_{other}.mat", points, affine.transform(points, np.linalg.inv(to_fixed)))
        for kind in ("relative", "absolute"):
            path = folder.path / f"{name}_{other}_{kind}.nii.gz"
            steps = bend(fixed).displacement.movedim(0, -1).numpy()
            world = nonlinear.DeformationField(
                steps, in_fsl[1], in_fsl[0], srcSpace="world", refSpace="world", defType="relative", header=in_fsl[0].header
            )
            made = nonlinear.convertDeformationSpace(world, "fsl", "fsl")
            data = made.data if kind == "relative" else nonlinear.convertDeformationType(made, "absolute")
            image = nibabel.Nifti1Image(np.float32(data), fixed.voxel_to_world.numpy())
            image.header["intent_code"] = 2006
            nibabel.save(image, path)
            again = fnirt.readFnirt(str(path), in_fsl[1], in_fsl[0], defType=kind)
            folder.add(path.name, points, again.transform(points, "world", "world"))
    folder.save()


# AFNI ----------------------------------------------------------------------------------------------------------------


def afni() -> None:
    """A matrix between straight images, and one for an oblique moving image."""
    from nitransforms.io.afni import AFNILinearTransformArray

    folder = Folder("afni")
    for name in ("LAS", "oblique"):
        fixed, moving = grids()["RAS"], grids()[name]
        images = [nibabel.Nifti1Image(np.zeros(g.shape, np.uint8), g.voxel_to_world.numpy()) for g in (fixed, moving)]
        made = AFNILinearTransformArray.from_ras(tilt().matrix.numpy()[None], reference=images[0], moving=images[1])
        made.to_filename(folder.path / f"{name}.aff12.1D")
        read = AFNILinearTransformArray.from_filename(folder.path / f"{name}.aff12.1D")
        matrix = torch.from_numpy(read.to_ras(reference=images[0], moving=images[1])[0])
        points = fixed.to_world(some_voxels(fixed))
        folder.add(f"{name}.aff12.1D", points.numpy(), Affine(matrix)(points).numpy())
    folder.save()


if __name__ == "__main__":
    for word in sys.argv[1:]:
        {"niftyreg": niftyreg, "greedy": greedy, "freesurfer": freesurfer, "fsl": fsl, "afni": afni}[word]()
