"""Checks of ``formats.py``: ITK's files against SimpleITK and ANTs, elastix's against transformix, X5's against
nitransforms.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from format_cases import (
    READ,
    WRITTEN,
    Check,
    Difference,
    Geometry,
    affine_of,
    chain_of,
    field_of,
    largest_mm,
    largest_percent,
    moving_image,
    points_of,
    spline_of,
)
from pullback.io import read_transform, write_image, write_transform
from pullback.transforms import AbstractTransform, warp

SIGNS = np.array([-1.0, -1.0, 1.0])
"""RAS to LPS and back: here the tools are the judges, so their frame is written out once more."""

Make = Callable[[Geometry], AbstractTransform]


# SimpleITK ------------------------------------------------------------------------------------------------------------


def simpleitk_reads(geometry: Geometry, folder: Path, *, make: Make, suffix: str) -> Difference:
    """A file of ours in SimpleITK: points and an image."""
    transform, path = make(geometry), folder / f"a{suffix}"
    write_transform(path, transform)
    return by_simpleitk(geometry, folder, transform, _itk_transform(path))


def simpleitk_writes(geometry: Geometry, folder: Path, *, kind: str, suffix: str) -> Difference:
    """A file of SimpleITK read by us."""
    theirs, path = theirs_of(geometry, kind), folder / f"a{suffix}"
    # SimpleITK's own object is the judge: version 2.5 cannot read a ComposeScaleSkewVersor3DTransform back
    if suffix in (".nii.gz", ".mha", ".nrrd"):
        field = SimpleITK.DisplacementFieldTransform(theirs).GetDisplacementField()
        SimpleITK.WriteImage(SimpleITK.Cast(field, SimpleITK.sitkVectorFloat32), str(path))
    else:
        SimpleITK.WriteTransform(theirs, str(path))
    return by_simpleitk(geometry, folder, read_transform(path), theirs)


def by_simpleitk(geometry: Geometry, folder: Path, ours: AbstractTransform, theirs: SimpleITK.Transform) -> Difference:
    """Points and an image through ours and through a transform of SimpleITK."""
    points, signs = points_of(geometry), SIGNS[: geometry.num_dims]
    mapped = [signs * theirs.TransformPoint((signs * point).tolist()) for point in points.numpy()]
    moving, fixed = _image_files(geometry, folder)
    images = [SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32) for path in (moving, fixed)]
    warped = SimpleITK.Resample(*images, theirs, SimpleITK.sitkLinear, 0.0, SimpleITK.sitkFloat32)
    percent = largest_percent(geometry, ours, SimpleITK.GetArrayFromImage(warped).T)
    return Difference(largest_mm(ours(points), np.array(mapped)), percent)


def _itk_transform(path: Path) -> SimpleITK.Transform:
    if path.name.endswith((".nii.gz", ".mha", ".nrrd")):
        return SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(str(path), SimpleITK.sitkVectorFloat64))
    return SimpleITK.ReadTransform(str(path))


def theirs_of(geometry: Geometry, kind: str) -> SimpleITK.Transform:
    """A transform that SimpleITK itself makes, with its centre in the image."""
    num_dims, signs = geometry.num_dims, SIGNS[: geometry.num_dims]
    if kind == "field":
        return _their_field(geometry)
    if kind == "composite":
        whole = SimpleITK.CompositeTransform(num_dims)
        for part in ("euler", "bspline", "field"):
            whole.AddTransform(theirs_of(geometry, part))
        return whole
    if kind == "bspline":
        return _their_spline(geometry)
    transform = LINEAR[kind](num_dims)
    start = np.array(transform.GetParameters())
    transform.SetParameters((start + np.random.default_rng(7).uniform(0.03, 0.1, len(start))).tolist())
    if hasattr(transform, "SetCenter"):
        transform.SetCenter((signs * geometry.fixed.centre.numpy()).tolist())
    return transform


LINEAR: dict[str, Callable[[int], SimpleITK.Transform]] = {
    "translation": SimpleITK.TranslationTransform,
    "euler": lambda n: SimpleITK.Euler3DTransform() if n == 3 else SimpleITK.Euler2DTransform(),
    "versor rigid": lambda n: SimpleITK.VersorRigid3DTransform(),
    "similarity": lambda n: SimpleITK.Similarity3DTransform() if n == 3 else SimpleITK.Similarity2DTransform(),
    "scale": SimpleITK.ScaleTransform,
    "scale versor": lambda n: SimpleITK.ScaleVersor3DTransform(),
    "scale skew versor": lambda n: SimpleITK.ScaleSkewVersor3DTransform(),
    "compose scale skew versor": lambda n: SimpleITK.ComposeScaleSkewVersor3DTransform(),
    "affine": SimpleITK.AffineTransform,
}
ONLY_3D = ("versor rigid", "scale versor", "scale skew versor", "compose scale skew versor")


def _their_field(geometry: Geometry) -> SimpleITK.DisplacementFieldTransform:
    num_dims, grid = geometry.num_dims, geometry.fixed
    values = field_of(geometry).displacement.movedim(0, -1).numpy() * SIGNS[:num_dims]
    order = (*reversed(range(num_dims)), num_dims)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.transpose(order)).astype(np.float64), isVector=True)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin((SIGNS[:num_dims] * grid.origin.numpy()).tolist())
    image.SetDirection((SIGNS[:num_dims, None] * grid.direction.numpy()).ravel().tolist())
    return SimpleITK.DisplacementFieldTransform(image)


def _their_spline(geometry: Geometry) -> SimpleITK.BSplineTransform:
    num_dims, grid = geometry.num_dims, geometry.fixed
    outer = grid.crop([-2] * num_dims, [n + 2 for n in grid.shape])
    spline = SimpleITK.BSplineTransform(num_dims, 3)
    spline.SetTransformDomainOrigin((SIGNS[:num_dims] * outer.origin.numpy()).tolist())
    spline.SetTransformDomainDirection((SIGNS[:num_dims, None] * grid.direction.numpy()).ravel().tolist())
    extent = (np.array(outer.shape) - 1) * grid.spacing_mm.numpy()
    spline.SetTransformDomainPhysicalDimensions(extent.tolist())
    spline.SetTransformDomainMeshSize([5] * num_dims)
    spline.SetParameters(np.random.default_rng(8).normal(size=len(spline.GetParameters())).tolist())
    return spline


# ANTs -----------------------------------------------------------------------------------------------------------------


def ants_reads(geometry: Geometry, folder: Path, *, make: Make, suffix: str) -> Difference:
    """A file of ours in ANTs: points and an image."""
    transform, path = make(geometry), folder / f"a{suffix}"
    write_transform(path, transform)
    return by_ants(geometry, folder, transform, [path])


def ants_reads_a_list(geometry: Geometry, folder: Path) -> Difference:
    """A warp and a matrix of ours, in the order that antsApplyTransforms wants."""
    whole = chain_of(geometry)
    paths = [folder / "0GenericAffine.mat", folder / "1Warp.nii.gz"]
    for part, path in zip(whole.parts, paths, strict=True):
        write_transform(path, part)
    return by_ants(geometry, folder, whole, paths)


def ants_writes(geometry: Geometry, folder: Path) -> Difference:
    """The files of a registration by ANTs (affine and SyN) read by us."""
    import ants

    moving, fixed = _image_files(geometry, folder)
    images = [ants.image_read(str(path)) for path in (fixed, moving)]
    found = ants.registration(
        *images,
        "SyN",
        outprefix=str(folder / "ants"),
        reg_iterations=(4, 2),
        aff_iterations=(20, 10, 5, 0),
        random_seed=1,
    )
    paths = [Path(name) for name in reversed(found["fwdtransforms"])]
    whole = read_transform(paths[0]) @ read_transform(paths[1])
    return by_ants(geometry, folder, whole, paths)


def by_ants(geometry: Geometry, folder: Path, ours: AbstractTransform, paths: list[Path]) -> Difference:
    """Points and an image through ours and through a list of files, outermost first, in ANTs."""
    import ants
    import pandas

    names = [str(path) for path in reversed(paths)]  # ants applies the first to the fixed point first
    points, signs = points_of(geometry), SIGNS[: geometry.num_dims]
    axes = "xyz"[: geometry.num_dims]
    frame = pandas.DataFrame(points.numpy() * signs, columns=list(axes))
    mapped = ants.apply_transforms_to_points(geometry.num_dims, frame, names)[list(axes)].to_numpy() * signs
    moving, fixed = (ants.image_read(str(path)) for path in _image_files(geometry, folder))
    warped = ants.apply_transforms(fixed, moving, transformlist=names, interpolator="linear").numpy()
    return Difference(largest_mm(ours(points), mapped), largest_percent(geometry, ours, warped))


# elastix --------------------------------------------------------------------------------------------------------------


def transformix_reads(geometry: Geometry, folder: Path, *, make: Make) -> Difference:
    """A parameter file of ours in transformix: the field at the voxels and an image."""
    transform, path = make(geometry), folder / "a.txt"
    write_transform(path, transform, fixed=geometry.fixed, format="elastix")
    return by_transformix(geometry, folder, transform, [path])


def elastix_writes(geometry: Geometry, folder: Path, *, kinds: tuple[str, ...]) -> Difference:
    """The parameter files of a short registration by elastix read by us."""
    import itk

    moving, fixed = (itk.imread(str(path), itk.F) for path in _image_files(geometry, folder))
    parameters = itk.ParameterObject.New()
    for kind in kinds:
        entries = parameters.GetDefaultParameterMap(kind, 1, 12.0)
        entries["MaximumNumberOfIterations"], entries["NumberOfSpatialSamples"] = ["8"], ["200"]
        parameters.AddParameterMap(entries)
    itk.elastix_registration_method(
        fixed, moving, parameter_object=parameters, output_directory=str(folder), log_to_console=False
    )
    paths = [folder / f"TransformParameters.{number}.txt" for number in range(len(kinds))]
    return by_transformix(geometry, folder, read_transform(paths[-1]), paths)


def by_transformix(geometry: Geometry, folder: Path, ours: AbstractTransform, paths: list[Path]) -> Difference:
    """Voxel centres and an image through ours and through transformix."""
    import itk

    parameters = itk.ParameterObject.New()
    for path in paths:
        parameters.AddParameterFile(str(path))
    last = parameters.GetNumberOfParameterMaps() - 1
    parameters.SetParameter(last, "ResampleInterpolator", "FinalLinearInterpolator")
    moving, _ = _image_files(geometry, folder)
    transformix = itk.TransformixFilter.New(itk.imread(str(moving), itk.F))
    transformix.SetTransformParameterObject(parameters)
    transformix.SetComputeDeformationField(True)
    transformix.SetLogToConsole(False)
    transformix.Update()
    num_dims = geometry.num_dims
    field = itk.array_from_image(transformix.GetOutputDeformationField()) * SIGNS[:num_dims]
    theirs = geometry.fixed.centres().numpy() + field.transpose(*reversed(range(num_dims)), num_dims)
    warped = itk.array_from_image(transformix.GetOutput()).T
    return Difference(largest_mm(ours(geometry.fixed.centres()), theirs), largest_percent(geometry, ours, warped))


# X5 -------------------------------------------------------------------------------------------------------------------


def nitransforms_reads(geometry: Geometry, folder: Path, *, make: Make) -> Difference:
    """An X5 of ours in nitransforms: points (voxel centres, since it interpolates fields with cubic splines)."""
    transform, path = make(geometry), folder / "a.x5"
    write_transform(path, transform, fixed=geometry.fixed)
    points = points_of(geometry, centres=True)
    return Difference(largest_mm(transform(points), _nitransforms(path, transform).map(points.numpy())))


def nitransforms_writes(geometry: Geometry, folder: Path, *, kind: str) -> Difference:
    """An X5 of nitransforms read by us."""
    import nitransforms

    path, grid = folder / "a.x5", geometry.fixed
    reference = nibabel.Nifti1Image(np.zeros(grid.shape, dtype=np.float32), grid.voxel_to_world.numpy())
    affine = nitransforms.linear.Affine(affine_of(geometry).matrix.numpy(), reference=reference)
    vectors = field_of(geometry).displacement.movedim(0, -1).numpy()
    field = nitransforms.nonlinear.DenseFieldTransform(vectors, reference=reference)
    if kind == "chain":
        whole = nitransforms.manip.TransformChain([field, affine])
        whole.to_filename(path)
    else:
        whole = affine if kind == "affine" else field
        nitransforms.io.x5.to_filename(path, [whole.to_x5()])
    points = points_of(geometry, centres=True)
    return Difference(largest_mm(read_transform(path)(points), whole.map(points.numpy())))


def _nitransforms(path: Path, transform: AbstractTransform) -> object:
    import nitransforms

    nodes = nitransforms.io.x5.from_filename(path)
    if len(nodes) > 1:
        return nitransforms.manip.TransformChain.from_filename(path)
    if nodes[0].type == "linear":
        return nitransforms.linear.from_x5(nodes)
    return nitransforms.nonlinear.from_x5(nodes)


def _image_files(geometry: Geometry, folder: Path) -> tuple[Path, Path]:
    """The moving image, and on the fixed grid what a small turn and shift make of it, as files."""
    moving, fixed = folder / "moving.nii.gz", folder / "fixed.nii.gz"
    image = moving_image(geometry)
    write_image(moving, image)
    write_image(fixed, warp(image, affine_of(geometry), onto=geometry.fixed))
    return moving, fixed


def _written(form: str, content: str, package: str, run: Callable, *num_dims: int, **options: object) -> Check:
    return Check(form, content, WRITTEN, package, partial(run, **options), num_dims or (2, 3))


def _read(form: str, content: str, package: str, run: Callable, *num_dims: int, **options: object) -> Check:
    return Check(form, content, READ, package, partial(run, **options), num_dims or (2, 3))


CHECKS: tuple[Check, ...] = (
    *(
        _written("itk", f"affine {suffix}", "SimpleITK", simpleitk_reads, make=affine_of, suffix=suffix)
        for suffix in (".tfm", ".mat", ".h5")
    ),
    *(
        _written("itk", f"displacement field {suffix}", "SimpleITK", simpleitk_reads, make=field_of, suffix=suffix)
        for suffix in (".nii.gz", ".mha", ".nrrd", ".h5")
    ),
    *(
        _written("itk", f"B-spline {suffix}", "SimpleITK", simpleitk_reads, make=spline_of, suffix=suffix)
        for suffix in (".tfm", ".h5")
    ),
    _written("itk", "chain of affine and field .h5", "SimpleITK", simpleitk_reads, make=chain_of, suffix=".h5"),
    *(
        _read(
            "itk",
            f"{kind} .tfm",
            "SimpleITK",
            simpleitk_writes,
            *((3,) if kind in ONLY_3D else ()),
            kind=kind,
            suffix=".tfm",
        )
        for kind in LINEAR
    ),
    _read("itk", "affine .mat", "SimpleITK", simpleitk_writes, kind="affine", suffix=".mat"),
    _read("itk", "euler .mat", "SimpleITK", simpleitk_writes, kind="euler", suffix=".mat"),
    *(
        _read("itk", f"displacement field {suffix}", "SimpleITK", simpleitk_writes, kind="field", suffix=suffix)
        for suffix in (".nii.gz", ".mha", ".nrrd", ".h5")
    ),
    *(
        _read("itk", f"B-spline {suffix}", "SimpleITK", simpleitk_writes, kind="bspline", suffix=suffix)
        for suffix in (".tfm", ".h5")
    ),
    _read("itk", "composite of three .h5", "SimpleITK", simpleitk_writes, kind="composite", suffix=".h5"),
    _written("itk", "affine .mat", "antspyx", ants_reads, make=affine_of, suffix=".mat"),
    _written("itk", "displacement field .nii.gz", "antspyx", ants_reads, make=field_of, suffix=".nii.gz"),
    _written("itk", "chain of affine and field .h5", "antspyx", ants_reads, make=chain_of, suffix=".h5"),
    _written("itk", "list of field .nii.gz and affine .mat", "antspyx", ants_reads_a_list),
    _read("itk", "1Warp.nii.gz and 0GenericAffine.mat of SyN", "antspyx", ants_writes),
    _written("elastix", "affine", "itk-elastix", transformix_reads, make=affine_of),
    *(
        _written(
            "elastix", f"B-spline of order {n}", "itk-elastix", transformix_reads, make=partial(spline_of, order=n)
        )
        for n in (1, 2, 3)
    ),
    *(
        _read("elastix", " then ".join(kinds), "itk-elastix", elastix_writes, kinds=kinds)
        for kinds in (("translation",), ("rigid",), ("affine",), ("rigid", "bspline"))
    ),
    *(
        _written("x5", name, "nitransforms", nitransforms_reads, 3, make=make)
        for name, make in (
            ("affine", affine_of),
            ("displacement field", field_of),
            ("B-spline", spline_of),
            ("chain of affine and field", chain_of),
        )
    ),
    *(_read("x5", name, "nitransforms", nitransforms_writes, 3, kind=name) for name in ("affine", "field", "chain")),
)
