"""Makes the reference files of this folder's tools, with the tools themselves, from synthetic input.

    PYTHONPATH=src:tests python tests/data/transforms/make_tools.py niftyreg greedy freesurfer fsl afni learn2reg \
        voxelmorph

``points.json`` beside the files of a tool holds, for each file, points of the fixed world and where the tool itself
takes them, RAS mm. Needed are: NiftyReg (reg_transform and reg_f3d on the PATH; made with 2.1.2, commit d518b8ac,
compiled from its sources), picsl_greedy 1.4.0.3, surfa 0.6.3, fslpy 3.29.1, nitransforms 25.1.0, voxelmorph 0.3.4.
Learn2Reg's evaluation script is no package: its arithmetic is SciPy's.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage

from pullback.data import Image
from pullback.io import write_image
from pullback.space import Grid
from pullback.transforms import Affine, DisplacementField, warp

HERE = Path(__file__).parent
NUM_POINTS = 12


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

    def __init__(self, name: str, made_by: str) -> None:
        self.path = HERE / name
        self.path.mkdir(exist_ok=True)
        self.head = {"made_by": made_by, "command": f"make_tools.py {name}"}
        self.files: dict[str, dict] = {}

    def add(
        self,
        file: str,
        points: np.ndarray,
        mapped: np.ndarray,
        *,
        fixed: Grid | None = None,
        moving: Grid | None = None,
        form: str | None = None,
        ask: bool = False,
        tolerance_mm: float = 1e-4,
    ) -> None:
        """Remember where a file takes points ``(N, D)``, and with which grids it is to be read."""
        entry = {"format": form or self.path.name, "ask": ask, "tolerance_mm": tolerance_mm}
        for which, grid in (("fixed", fixed), ("moving", moving)):
            known = None if grid is None else {"shape": grid.shape, "voxel_to_world": grid.voxel_to_world.tolist()}
            entry[which] = known
        entry |= {"points": np.round(points, 9).tolist(), "mapped": np.round(mapped, 9).tolist()}
        self.files[file] = entry

    def save(self) -> None:
        """Write all of them."""
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(self.files.items())]
        head = json.dumps(self.head, indent=1).removesuffix("\n}")
        text = head + ',\n "files": {\n' + ",\n".join(lines) + "\n }\n}\n"
        (self.path / "points.json").write_text(text, encoding="utf-8")


def run(*words: object) -> None:
    """Run a program, quietly unless it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words}\n{done.stdout}\n{done.stderr}")


# NiftyReg ------------------------------------------------------------------------------------------------------------


def niftyreg() -> None:
    """Matrices, fields, control points and velocities, with and without an affine start, in 3-D and 2-D."""
    folder = Folder("niftyreg", "NiftyReg 2.1.2, commit d518b8ac")
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
    options = {"spline": (), "velocity": ("-vel",), "velocity_affine": ("-vel", "-aff", start)}
    for kind, extra in options.items():
        made = folder.path / f"{name}_{kind}.nii.gz"
        register = ("reg_f3d", "-ref", fixed, "-flo", moving, "-cpp", made, "-res", work / "result.nii.gz")
        run(*register, "-maxit", 2, "-ln", 1, "-sx", -4, *extra)
        for lattice in folder.path.glob(f"{name}_{kind}*.nii.gz"):  # with -vel there is one for the way back, too
            bend_control_points(lattice, grid.num_dims)
    (folder.path / f"{name}_velocity_affine_backward.nii.gz").unlink()
    for kind, option in {"deformation": "-def", "displacement": "-disp", "flow": "-flow"}.items():
        source = folder.path / f"{name}_{'velocity' if kind == 'flow' else 'spline'}.nii.gz"
        run("reg_transform", "-ref", fixed, option, source, folder.path / f"{name}_{kind}.nii.gz")
    for made in (start, *sorted(folder.path.glob(f"{name}_*.nii.gz"))):
        run("reg_transform", "-ref", fixed, "-def", made, work / "positions.nii.gz")
        voxels = some_voxels(grid)
        index = tuple(voxels.T) if grid.num_dims == 3 else (*voxels.T, 0)
        positions = np.asarray(nibabel.load(work / "positions.nii.gz").dataobj)[(*index, 0)]
        needs_grid = made == start or "velocity" in made.name
        tolerance_mm = 1e-3 if "velocity" in made.name or "flow" in made.name else 1e-4  # NiftyReg's float32
        options = {"ask": made == start, "fixed": grid if needs_grid else None, "tolerance_mm": tolerance_mm}
        folder.add(made.name, grid.to_world(voxels).numpy(), positions, **options)


def bend_control_points(path: Path, num_dims: int) -> None:
    """Move the control points of a lattice that NiftyReg made by up to 2 mm, so that there is something to evaluate."""
    image = nibabel.load(path)
    indices = np.indices(image.shape[:3]).astype(np.float32)
    moves = [1.2 * np.sin(indices[(d + 1) % num_dims] + d) + 0.8 * np.cos(indices[d]) for d in range(num_dims)]
    values = np.asarray(image.dataobj) + np.float32(np.stack(moves, axis=-1))[:, :, :, None]
    header = image.header.copy()
    nibabel.save(nibabel.Nifti1Image(values, None, header), path)


# greedy --------------------------------------------------------------------------------------------------------------


def greedy() -> None:
    """An affine and two warps of a registration, one of them rounded as greedy does by default."""
    import picsl_greedy

    folder = Folder("greedy", "picsl_greedy 1.4.0.3")
    for name, kind in (("oblique", picsl_greedy.Greedy3D), ("flat", picsl_greedy.Greedy2D)):
        with tempfile.TemporaryDirectory() as work:
            greedy_on(grids()[name], name, kind(), folder, Path(work))
    folder.save()


def greedy_on(grid: Grid, name: str, tool: object, folder: Folder, work: Path) -> None:
    """Register an image to a bent one, and let greedy itself map points."""
    fixed, moving, before, after = (work / word for word in ("f.nii.gz", "m.nii.gz", "before.vtk", "after.vtk"))
    write_image(fixed, blobs(grid))
    write_image(moving, warp(blobs(grid), bend(grid), onto=grid))
    both, path = f"-threads 1 -i {fixed} {moving} -m SSD", folder.path / name
    tool.execute(f"{both} -a -ia-identity -n 50 -dof 12 -o {path}_affine.mat", out=io.StringIO())
    tool.execute(f"{both} -n 20 -o {path}_rounded.nii.gz", out=io.StringIO())
    tool.execute(f"{both} -n 20 -wp 0 -o {path}_exact.nii.gz", out=io.StringIO())
    points = grid.to_world(some_voxels(grid)).numpy()
    write_vtk(before, points)
    for made, form in (("affine.mat", "greedy"), ("rounded.nii.gz", "itk"), ("exact.nii.gz", "itk")):
        command = f"-threads 1 -rf {moving} -rs {before} {after} -r {path}_{made}"
        tool.execute(command, out=io.StringIO())
        folder.add(f"{name}_{made}", points, read_vtk(after, *points.shape), form=form, ask=form == "greedy")


def write_vtk(path: Path, points: np.ndarray) -> None:
    """Points as a mesh of nothing but vertices."""
    solid = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    rows = [" ".join(repr(float(x)) for x in row) for row in solid]
    vertices = [f"1 {n}" for n in range(len(points))]
    lines = ["# vtk DataFile Version 2.0", "points", "ASCII", "DATASET POLYDATA", f"POINTS {len(points)} double", *rows]
    path.write_text("\n".join([*lines, f"VERTICES {len(points)} {2 * len(points)}", *vertices, ""]))


def read_vtk(path: Path, num: int, num_dims: int) -> np.ndarray:
    """The points of a mesh."""
    words = path.read_text().split("POINTS", 1)[1].split()[2:]
    return np.array(words[: 3 * num], dtype=float).reshape(num, 3)[:, :num_dims]


# FreeSurfer ----------------------------------------------------------------------------------------------------------


def freesurfer() -> None:
    """LTA between voxels and between RAS mm, and a warp in the four meanings of its vectors."""
    np.fromstring = lambda text, dtype=float, **_: np.frombuffer(text, dtype=dtype)  # surfa 0.6.3 with numpy 2.3
    import surfa

    folder = Folder("freesurfer", "surfa 0.6.3")
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
    positions = steps.convert(surfa.Warp.Format.abs_ras).data[tuple(some_voxels(fixed).T)]
    folder.add("nifti.nii.gz", points, positions, form="itk")
    folder.save()


# FSL -----------------------------------------------------------------------------------------------------------------


def fsl() -> None:
    """A FLIRT matrix and dense warps for both signs of the determinant of either image."""
    from fsl.data.image import Image as FSLImage
    from fsl.transform import affine, flirt, fnirt, nonlinear

    folder = Folder("fsl", "fslpy 3.29.1")
    for name, other in (("RAS", "LAS"), ("LAS", "RAS"), ("RAS", "oblique"), ("LAS", "LAS")):
        fixed, moving = grids()[name], grids()[other]
        in_fsl = [FSLImage(np.zeros(g.shape, np.float32), xform=g.voxel_to_world.numpy()) for g in (fixed, moving)]
        to_fixed = torch.linalg.inv(tilt().matrix).numpy()
        matrix = flirt.toFlirt(to_fixed, in_fsl[1], in_fsl[0], "world", "world")
        flirt.writeFlirt(matrix, folder.path / f"{name}_{other}.mat")
        points = fixed.to_world(some_voxels(fixed)).numpy()
        images = {"fixed": fixed, "moving": moving}
        world = flirt.fromFlirt(flirt.readFlirt(folder.path / f"{name}_{other}.mat"), *in_fsl[::-1], "world", "world")
        mapped = affine.transform(points, np.linalg.inv(world))
        folder.add(f"{name}_{other}.mat", points, mapped, **images, ask=True)
        for kind in ("relative", "absolute"):
            path = folder.path / f"{name}_{other}_{kind}.nii.gz"
            steps = bend(fixed).displacement.movedim(0, -1).numpy()
            world = nonlinear.DeformationField(
                steps,
                in_fsl[1],
                in_fsl[0],
                srcSpace="world",
                refSpace="world",
                defType="relative",
                header=in_fsl[0].header,
            )
            made = nonlinear.convertDeformationSpace(world, "fsl", "fsl")
            data = made.data if kind == "relative" else nonlinear.convertDeformationType(made, "absolute")
            image = nibabel.Nifti1Image(np.float32(data), fixed.voxel_to_world.numpy())
            image.header["intent_code"] = 2006
            nibabel.save(image, path)
            again = fnirt.readFnirt(str(path), in_fsl[1], in_fsl[0], defType=kind)
            folder.add(path.name, points, again.transform(points, "world", "world"), **images)
    folder.save()


# AFNI ----------------------------------------------------------------------------------------------------------------


def afni() -> None:
    """A matrix between straight images, and one for an oblique moving image."""
    from nitransforms.io.afni import AFNILinearTransformArray

    folder = Folder("afni", "nitransforms 25.1.0")
    for name in ("LAS", "oblique"):
        fixed, moving = grids()["RAS"], grids()[name]
        images = [nibabel.Nifti1Image(np.zeros(g.shape, np.uint8), g.voxel_to_world.numpy()) for g in (fixed, moving)]
        made = AFNILinearTransformArray.from_ras(tilt().matrix.numpy()[None], reference=images[0], moving=images[1])
        made.to_filename(folder.path / f"{name}.aff12.1D")
        read = AFNILinearTransformArray.from_filename(folder.path / f"{name}.aff12.1D")
        matrix = torch.from_numpy(read.to_ras(reference=images[0], moving=images[1])[0])
        points = fixed.to_world(some_voxels(fixed))
        mapped = Affine(matrix)(points).numpy()
        folder.add(f"{name}.aff12.1D", points.numpy(), mapped, fixed=fixed, moving=moving)
    folder.save()


# Fields in voxels ----------------------------------------------------------------------------------------------------


def images_of_one_shape(num_dims: int) -> tuple[Grid, Grid]:
    """A fixed and a moving grid of the same even shape, apart in the world."""
    if num_dims == 2:
        return grids()["flat"], Grid.from_spacing((14, 12), (1.5, 2.0), origin=(-9, -13))
    return (grids()[name].resize((8, 10, 6)) for name in ("RAS", "oblique"))


def learn2reg() -> None:
    """Both versions, mapped as the evaluation does it."""
    folder = Folder("learn2reg", "SciPy 1.15.3, as evaluation.py of MDL-UzL/L2R uses it")
    fixed, moving = images_of_one_shape(3)
    voxels = some_voxels(fixed)
    steps = np.float32(bend(fixed).displacement.numpy() / 2)
    half = np.float16(steps[:, ::2, ::2, ::2])
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(steps, 0, -1), np.eye(4)), folder.path / "disp_0001_0002.nii.gz")
    np.savez_compressed(folder.path / "disp_0001_0002.npz", half)
    enlarged = np.stack([ndimage.zoom(component.astype(np.float32), 2, order=2) for component in half])
    for file, full in (("disp_0001_0002.nii.gz", steps), ("disp_0001_0002.npz", enlarged)):
        sampled = np.stack([ndimage.map_coordinates(c, voxels.T.astype(float), order=0) for c in full], axis=-1)
        mapped = moving.to_world(voxels + sampled).numpy()
        points = fixed.to_world(voxels).numpy()
        folder.add(file, points, mapped, fixed=fixed, moving=moving, ask=file.endswith("gz"))
    folder.save()


def voxelmorph() -> None:
    """Components first and last, 2-D and 3-D; VoxelMorph's own function takes images of the voxel indices along."""
    from voxelmorph.functional import spatial_transform
    from voxelmorph.py.utils import save_volfile

    folder = Folder("voxelmorph", "voxelmorph 0.3.4")
    for num_dims in (2, 3):
        fixed, moving = images_of_one_shape(num_dims)
        steps = bend(fixed).displacement / 4
        indices = torch.from_numpy(np.float32(np.indices(fixed.shape)))
        carried = spatial_transform(indices, steps, non_spatial_dims=(0,)).numpy()
        inner = np.random.default_rng(0).integers(2, np.array(fixed.shape) - 2, (NUM_POINTS, num_dims))
        points, mapped = fixed.to_world(inner).numpy(), moving.to_world(carried[(slice(None), *inner.T)].T).numpy()
        images = {"fixed": fixed, "moving": moving}
        last = np.moveaxis(steps.numpy(), 0, -1)
        for file, values in (("first", steps.numpy()), ("last", last)):
            save_volfile(values, str(folder.path / f"{file}_{num_dims}d.nii.gz"))
        save_volfile(last, str(folder.path / f"last_{num_dims}d.npz"))
        for file, ask in (("first", True), ("last", True), ("last", False)):
            name = f"{file}_{num_dims}d.{'nii.gz' if ask else 'npz'}"
            folder.add(name, points, mapped, **images, ask=ask)
    folder.save()


TOOLS = (niftyreg, greedy, freesurfer, fsl, afni, learn2reg, voxelmorph)

if __name__ == "__main__":
    for tool in TOOLS:
        if tool.__name__ in sys.argv[1:]:
            tool()
