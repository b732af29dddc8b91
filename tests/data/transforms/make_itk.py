"""Make the reference files of SimpleITK, ANTs, itk-elastix and nitransforms, and the points that these tools map.

Run: ``python tests/data/transforms/make_itk.py`` with SimpleITK, antspyx, itk-elastix and nitransforms installed, and
``src`` and ``tests`` on PYTHONPATH. All input is synthetic.
"""

import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import ants
import itk
import nibabel
import nitransforms
import numpy as np
import SimpleITK
from nitransforms.manip import TransformChain

from examples import oblique_axes, turn
from pullback.space import Grid

HERE = Path(__file__).parent
SIGNS = np.array([-1.0, -1.0, 1.0])
"""RAS to LPS and back."""
GENERATOR = np.random.default_rng(11)
GRIDS = {
    2: Grid.from_spacing((7, 6), (2.0, 1.5), origin=(-20.0, 35.0), direction=turn(20) @ np.diag([-1.0, 1.0])),
    3: Grid.from_spacing((6, 5, 4), (2.0, 1.5, 3.0), origin=(-20.0, 35.0, 50.0), direction=oblique_axes()),
}


class Folder:
    """The files of one tool and what it says about them."""

    def __init__(self, name: str, package: str) -> None:
        self.path = HERE / name
        self.path.mkdir(exist_ok=True)
        version = importlib.metadata.version(package)
        self.content: dict = {"made_by": f"{package} {version}", "command": "make_itk.py", "files": {}}

    def note(self, name: str, form: str, mapping: Callable, num_dims: int, *, centres: bool = False) -> None:
        """Remember where the tool takes points: random ones of the oblique grid, or its voxel centres."""
        points = points_of(num_dims, centres)
        self.content["files"][name] = {
            "format": form,
            "points": np.round(points, 9).tolist(),
            "mapped": np.round(np.asarray(mapping(points)), 9).tolist(),
            "tolerance_mm": 1e-4,
        }

    def close(self) -> None:
        """Write the points."""
        head = {key: value for key, value in self.content.items() if key != "files"}
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in self.content["files"].items()]
        text = json.dumps(head, indent=1)[:-2] + ',\n "files": {\n' + ",\n".join(lines) + "\n }\n}\n"
        (self.path / "points.json").write_text(text)


def points_of(num_dims: int, centres: bool) -> np.ndarray:
    """RAS points ``(8, D)`` within the grid of that many dimensions."""
    grid = GRIDS[num_dims]
    voxels = GENERATOR.uniform(0.2, np.array(grid.shape) - 1.2, (8, num_dims))
    return grid.to_world(np.rint(voxels) if centres else voxels).numpy()


def by_simpleitk(transform: SimpleITK.Transform) -> Callable:
    """RAS points through a transform of SimpleITK."""
    signs = SIGNS[: transform.GetDimension()]
    return lambda points: [signs * transform.TransformPoint((signs * point).tolist()) for point in points]


def itk_geometry(num_dims: int) -> tuple[list, list, list]:
    """Spacing, origin and direction of the grid as ITK says them."""
    grid, signs = GRIDS[num_dims], SIGNS[:num_dims]
    direction = signs[:, None] * grid.direction.numpy()
    return grid.spacing_mm.tolist(), (signs * grid.origin.numpy()).tolist(), direction.ravel().tolist()


def random_field(num_dims: int) -> SimpleITK.Image:
    """Vectors of a few mm on the grid."""
    shape = GRIDS[num_dims].shape[::-1]
    field = SimpleITK.GetImageFromArray(GENERATOR.normal(size=(*shape, num_dims)) * 2, isVector=True)
    spacing, origin, direction = itk_geometry(num_dims)
    field.SetSpacing(spacing)
    field.SetOrigin(origin)
    field.SetDirection(direction)
    return field


def random_spline(num_dims: int) -> SimpleITK.BSplineTransform:
    """A cubic spline over a bit more than the grid."""
    spacing, origin, direction = itk_geometry(num_dims)
    cosines = np.reshape(direction, (num_dims, num_dims))
    spline = SimpleITK.BSplineTransform(num_dims, 3)
    spline.SetTransformDomainOrigin((np.array(origin) - cosines @ np.array(spacing)).tolist())
    spline.SetTransformDomainDirection(direction)
    extent = (np.array(GRIDS[num_dims].shape) + 1) * spacing
    spline.SetTransformDomainPhysicalDimensions(extent.tolist())
    spline.SetTransformDomainMeshSize([2] * num_dims)
    spline.SetParameters(GENERATOR.normal(size=len(spline.GetParameters())).tolist())
    return spline


def linear_transforms() -> dict[str, SimpleITK.Transform]:
    """Every linear kind of SimpleITK."""
    zyx = SimpleITK.Euler3DTransform()
    zyx.SetComputeZYX(True)
    kinds = {
        "translation-3d": SimpleITK.TranslationTransform(3),
        "euler-2d": SimpleITK.Euler2DTransform(),
        "euler-3d": SimpleITK.Euler3DTransform(),
        "euler-3d-zyx": zyx,
        "versor": SimpleITK.VersorTransform(),
        "versor-rigid-3d": SimpleITK.VersorRigid3DTransform(),
        "similarity-2d": SimpleITK.Similarity2DTransform(),
        "similarity-3d": SimpleITK.Similarity3DTransform(),
        "scale-versor-3d": SimpleITK.ScaleVersor3DTransform(),
        "scale-skew-versor-3d": SimpleITK.ScaleSkewVersor3DTransform(),
        "compose-scale-skew-versor-3d": SimpleITK.ComposeScaleSkewVersor3DTransform(),
        "scale-3d": SimpleITK.ScaleTransform(3),
        "affine-2d": SimpleITK.AffineTransform(2),
        "affine-3d": SimpleITK.AffineTransform(3),
    }
    for transform in kinds.values():
        start = np.array(transform.GetParameters())
        transform.SetParameters((start + GENERATOR.uniform(0.05, 0.2, len(start))).tolist())
        if hasattr(transform, "SetCenter"):
            transform.SetCenter([11.0, -7.0, 3.0][: transform.GetDimension()])
    return kinds


def make_itk() -> None:
    """Linear kinds as text, some as .mat and .h5, fields, splines and composites."""
    folder = Folder("itk", "SimpleITK")

    def write(transform: SimpleITK.Transform, name: str) -> None:
        SimpleITK.WriteTransform(transform, str(folder.path / name))
        folder.note(name, "itk", by_simpleitk(transform), transform.GetDimension())

    linear = linear_transforms()
    for name, transform in linear.items():
        write(transform, f"{name}.tfm")
    for name in ("euler-3d-zyx", "scale-skew-versor-3d", "similarity-2d"):
        write(linear[name], f"{name}.mat")
    for num_dims in (2, 3):
        write(random_spline(num_dims), f"bspline-{num_dims}d.tfm")
        composite = SimpleITK.CompositeTransform(num_dims)
        for part in (linear[f"affine-{num_dims}d"], SimpleITK.DisplacementFieldTransform(random_field(num_dims))):
            composite.AddTransform(part)
        write(composite, f"composite-{num_dims}d.h5")
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        field = random_field(3)
        SimpleITK.WriteImage(SimpleITK.Cast(field, SimpleITK.sitkVectorFloat32), str(folder.path / f"field{suffix}"))
        folder.note(f"field{suffix}", "itk", by_simpleitk(SimpleITK.DisplacementFieldTransform(field)), 3)
    folder.close()


def make_ants() -> None:
    """A matrix in double and in float, as ANTs writes it."""
    folder = Folder("ants", "antspyx")
    for precision in ("float", "double"):
        transform = ants.create_ants_transform(
            transform_type="AffineTransform",
            precision=precision,
            dimension=3,
            matrix=np.eye(3) + 0.1 * GENERATOR.normal(size=(3, 3)),
            translation=GENERATOR.normal(size=3) * 5,
            center=np.array([3.0, -2.0, 7.0]),
        )
        ants.write_transform(transform, str(folder.path / f"affine-{precision}.mat"))

        def mapping(points: np.ndarray, transform: object = transform) -> list:
            return [SIGNS * transform.apply_to_point((SIGNS * point).tolist()) for point in points]

        folder.note(f"affine-{precision}.mat", "itk", mapping, 3)
    folder.close()


def make_elastix() -> None:
    """Parameter files of a registration (Euler, then B-spline) of two blobs, and transformix's field of them."""
    folder = Folder("elastix", "itk-elastix")
    spacing, origin, direction = itk_geometry(3)
    k, j, i = np.mgrid[:12, :12, :12]
    blobs = [np.exp(-((i - 6 - s) ** 2 + (j - 5 + s) ** 2 + (k - 6) ** 2) / 9.0).astype(np.float32) for s in (0, 1)]
    fixed, moving = (itk.image_from_array(blob) for blob in blobs)
    for image in (fixed, moving):
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(np.reshape(direction, (3, 3)))
    parameters = itk.ParameterObject.New()
    for kind, iterations in (("rigid", "10"), ("bspline", "10")):
        entries = parameters.GetDefaultParameterMap(kind, 1, 16.0)
        entries["MaximumNumberOfIterations"] = [iterations]
        entries["NumberOfSpatialSamples"] = ["300"]
        parameters.AddParameterMap(entries)
    with tempfile.TemporaryDirectory() as temporary:
        itk.elastix_registration_method(
            fixed, moving, parameter_object=parameters, output_directory=temporary, log_to_console=False
        )
        for number in (0, 1):
            text = (Path(temporary) / f"TransformParameters.{number}.txt").read_text()
            text = text.replace(f"{temporary}/", "")  # the initial transform lies beside, wherever the folder goes
            (folder.path / f"TransformParameters.{number}.txt").write_text(text)
            mapping = by_transformix(folder.path, number)
            folder.note(f"TransformParameters.{number}.txt", "elastix", mapping, 3, centres=True)
    folder.close()


def by_transformix(folder: Path, last: int) -> Callable:
    """Voxel centres of the oblique grid through transformix's deformation field."""
    grid = GRIDS[3]
    spacing, origin, direction = itk_geometry(3)
    parameters = itk.ParameterObject.New()
    for number in range(last + 1):
        parameters.AddParameterFile(str(folder / f"TransformParameters.{number}.txt"))
    image = itk.image_from_array(np.zeros((12, 12, 12), dtype=np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(np.reshape(direction, (3, 3)))
    transformix = itk.TransformixFilter.New(image)
    transformix.SetTransformParameterObject(parameters)
    transformix.SetComputeDeformationField(True)
    transformix.SetLogToConsole(False)
    transformix.Update()
    field = itk.array_from_image(transformix.GetOutputDeformationField())

    def mapping(points: np.ndarray) -> np.ndarray:
        i, j, k = np.rint(grid.to_voxel(points).numpy()).astype(int).T
        return points + SIGNS * field[k, j, i]

    return mapping


def make_x5() -> None:
    """A matrix, a dense field, a B-spline, and a chain, by nitransforms."""
    folder = Folder("x5", "nitransforms")
    grid = GRIDS[3]
    reference = nibabel.Nifti1Image(np.zeros(grid.shape, dtype=np.float32), grid.voxel_to_world.numpy())
    matrix = np.eye(4)
    matrix[:3] += 0.1 * GENERATOR.normal(size=(3, 4))
    affine = nitransforms.linear.Affine(matrix, reference=reference)
    values = GENERATOR.normal(size=(*grid.shape, 3)).astype(np.float32)
    dense = nitransforms.nonlinear.DenseFieldTransform(values, reference=reference)
    lattice = nibabel.Nifti1Image(
        GENERATOR.normal(size=(6, 6, 6, 3)).astype(np.float32),
        grid.crop((-5, -5, -5), (1, 1, 1)).coarsen((1, 1, 1)).voxel_to_world.numpy() @ np.diag([3.0, 3.0, 3.0, 1.0]),
    )
    spline = nitransforms.nonlinear.BSplineFieldTransform(lattice, reference=reference)
    for name, transform in (("affine", affine), ("dense", dense), ("bspline", spline)):
        nitransforms.io.x5.to_filename(folder.path / f"{name}.x5", [transform.to_x5()])
        folder.note(f"{name}.x5", "x5", transform.map, 3, centres=True)
    chain = TransformChain([dense, affine])
    (folder.path / "chain.x5").unlink(missing_ok=True)
    chain.to_filename(folder.path / "chain.x5")
    folder.note("chain.x5", "x5", chain.map, 3, centres=True)
    folder.close()


if __name__ == "__main__":
    make_itk()
    make_ants()
    make_elastix()
    make_x5()
