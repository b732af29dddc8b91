"""Transforms: SimpleITK and ANTs map the same points with the files we write, and we with those they write."""

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import SimpleITK
import torch

from pullback.data import Image
from pullback.io import read_image, read_transform, write_image, write_transform
from pullback.space import Grid
from pullback.transforms import (
    Affine,
    Chain,
    DisplacementField,
    Rigid,
    Similarity,
    StationaryVelocity,
    Translation,
    identity,
)
from transform_files import (
    TOLERANCE_MM,
    affine,
    affine_of,
    field_on,
    grid_of,
    largest_gap,
    mapped_by_simpleitk,
    points_in,
    simpleitk_field,
    turn,
)

LINEAR = (".h5", ".hdf5", ".txt", ".tfm", ".mat")
GRIDS = ("RAS", "LPS", "oblique", "anisotropic", "thin")


# Linear --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("suffix", LINEAR)
def test_affines_return_and_agree_with_simpleitk(tmp_path, suffix, num_dims):
    transform = affine(num_dims)
    path = tmp_path / f"a{suffix}"
    write_transform(path, transform)
    again = read_transform(path)
    assert isinstance(again, Affine)
    assert torch.equal(again.matrix, transform.matrix)
    points = points_in(grid_of("oblique", num_dims))
    assert largest_gap(mapped_by_simpleitk(path, points), transform(points)) < 1e-9


def itk_linear_transforms():
    """Every linear kind, with a centre off the origin and parameters off the identity."""
    yield SimpleITK.TranslationTransform(3, (4.0, -5.0, 6.0))
    yield SimpleITK.TranslationTransform(2, (4.0, -5.0))
    yield SimpleITK.Transform(3, SimpleITK.sitkIdentity)
    yield SimpleITK.Transform(2, SimpleITK.sitkIdentity)
    flat = [SimpleITK.Euler2DTransform(), SimpleITK.Similarity2DTransform(), SimpleITK.AffineTransform(2)]
    solid = [
        SimpleITK.AffineTransform(3),
        SimpleITK.Euler3DTransform(),
        SimpleITK.VersorTransform(),
        SimpleITK.VersorRigid3DTransform(),
        SimpleITK.Similarity3DTransform(),
        SimpleITK.ScaleVersor3DTransform(),
        SimpleITK.ScaleSkewVersor3DTransform(),
        SimpleITK.ComposeScaleSkewVersor3DTransform(),
        SimpleITK.ScaleTransform(3),
        SimpleITK.ScaleTransform(2),
    ]
    generator = np.random.default_rng(5)
    for transform in (*flat, *solid):
        start = np.array(transform.GetParameters())
        transform.SetParameters((start + generator.uniform(0.05, 0.2, len(start))).tolist())
        transform.SetCenter([11.0, -7.0, 3.0][: transform.GetDimension()])
        yield transform


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".mat"])
def test_every_linear_kind_of_itk_reads(tmp_path, suffix):
    for n, transform in enumerate(itk_linear_transforms()):
        path = tmp_path / f"{n}{suffix}"
        SimpleITK.WriteTransform(transform, str(path))
        points = points_in(grid_of("oblique", transform.GetDimension()))
        read = read_transform(path)
        assert isinstance(read, Affine), transform.GetName()
        assert largest_gap(read(points), mapped_by_simpleitk(transform, points)) < 1e-9, transform.GetName()


def test_float_and_old_names_read(tmp_path):
    transform = affine(3)
    write_transform(tmp_path / "a.mat", transform)
    contents = scipy.io.loadmat(tmp_path / "a.mat")
    parameters = contents["AffineTransform_double_3_3"].astype(np.float32)
    for kind in ("AffineTransform_float_3_3", "MatrixOffsetTransformBase_double_3_3"):
        scipy.io.savemat(tmp_path / "b.mat", {kind: parameters, "fixed": contents["fixed"]}, format="4")
        assert largest_gap(read_transform(tmp_path / "b.mat").matrix, transform.matrix) < 1e-4
    with h5py.File(tmp_path / "old.h5", "w") as file:  # names as ITK 4 spelled them
        for n, kind in enumerate(("CompositeTransform_double_3_3", "AffineTransform_double_3_3")):
            file.create_dataset(f"TransformGroup/{n}/TransformType", data=[kind], dtype=h5py.string_dtype("ascii"))
        file["TransformGroup/1/TranformParameters"] = contents["AffineTransform_double_3_3"].ravel()
        file["TransformGroup/1/TranformFixedParameters"] = np.zeros(3)
    assert torch.equal(read_transform(tmp_path / "old.h5").matrix, transform.matrix)


@pytest.mark.parametrize("suffix", [".txt", ".mat", ".tfm"])
def test_linear_chains_become_one_matrix(tmp_path, suffix):
    first, second = affine(3), Affine(torch.linalg.inv(affine(3).matrix) + torch.diag(torch.tensor([0.1, 0, 0, 0])))
    chain = Chain((first, Chain((second, first))))
    write_transform(tmp_path / f"a{suffix}", chain)
    points = points_in(grid_of("RAS", 3))
    assert largest_gap(read_transform(tmp_path / f"a{suffix}")(points), chain(points)) < 1e-9


# Fields and chains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("num_dims", "suffix"), [(2, ".h5"), (3, ".h5"), (2, ".nii.gz"), (3, ".nii.gz"), (3, ".nii")])
def test_fields_return_and_agree_with_simpleitk(tmp_path, name, num_dims, suffix):
    field = field_on(grid_of(name, num_dims))
    path = tmp_path / f"a{suffix}"
    write_transform(path, field)
    again = read_transform(path)
    assert isinstance(again, DisplacementField)
    assert torch.equal(again.displacement, field.displacement)
    assert again.grid.same_as(field.grid, 1e-5)
    points = points_in(field.grid)
    theirs = path
    if suffix != ".h5" and name != "thin":  # ITK takes a 2-D NIfTI of one row for 1-D
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkVectorFloat64)
        assert image.GetDimension() == num_dims
        theirs = SimpleITK.DisplacementFieldTransform(image)
    if name != "thin":
        assert largest_gap(mapped_by_simpleitk(theirs, points), field(points)) < TOLERANCE_MM


@pytest.mark.parametrize("name", ["RAS", "LPS", "oblique", "anisotropic"])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_composites_agree_with_simpleitk_inside_and_outside(tmp_path, name, num_dims):
    grid = grid_of(name, num_dims)
    chain = Chain((affine(num_dims), field_on(grid), Affine(torch.linalg.inv(affine(num_dims).matrix))))
    path = tmp_path / "a.h5"
    write_transform(path, chain)
    inside = affine(num_dims)(points_in(grid, outside=0.45))
    outside = affine(num_dims)(points_in(grid, outside=3.0))
    again = read_transform(path)
    assert [type(part) for part in again.parts] == [Affine, DisplacementField, Affine]
    assert torch.equal(again.parts[1].displacement, chain.parts[1].displacement)
    for points in (inside, outside):
        assert largest_gap(mapped_by_simpleitk(path, points), chain(points)) < TOLERANCE_MM
        assert largest_gap(again(points), chain(points)) < 1e-9


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_composites_of_simpleitk_read(tmp_path, suffix):
    grid = grid_of("oblique", 3)
    values = np.random.default_rng(6).normal(size=(*grid.shape, 3)) * 4
    rigid = SimpleITK.Euler3DTransform((5.0, 6.0, 7.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0))
    parts = [rigid, SimpleITK.DisplacementFieldTransform(simpleitk_field(grid, values)), SimpleITK.AffineTransform(3)]
    composite = SimpleITK.CompositeTransform(3)
    for part in parts if suffix == ".h5" else (parts[0], parts[2]):
        composite.AddTransform(part)
    SimpleITK.WriteTransform(composite, str(tmp_path / f"a{suffix}"))
    points = points_in(grid)
    read = read_transform(tmp_path / f"a{suffix}")
    assert isinstance(read, Chain)
    assert largest_gap(read(points), mapped_by_simpleitk(composite, points)) < TOLERANCE_MM


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_composites_in_composites_read_as_by_simpleitk(tmp_path, suffix):
    parts = [
        SimpleITK.TranslationTransform(3, (1.0, 2.0, 3.0)),
        SimpleITK.Euler3DTransform((5.0, 6.0, 7.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0)),
        SimpleITK.ScaleTransform(3, (1.1, 0.9, 1.2)),
    ]
    nested, inner = SimpleITK.CompositeTransform(3), SimpleITK.CompositeTransform(3)
    for part in parts[1:]:
        inner.AddTransform(part)
    nested.AddTransform(parts[0])
    nested.AddTransform(inner)
    flat, path = SimpleITK.CompositeTransform(nested), tmp_path / f"a{suffix}"
    flat.FlattenTransform()
    SimpleITK.WriteTransform(flat, str(path))  # it refuses to write the nested one
    _nest(path, before=2)
    points = points_in(grid_of("oblique", 3))
    assert len(read_transform(path).parts) == 3
    for theirs in (nested, path):
        assert largest_gap(read_transform(path)(points), mapped_by_simpleitk(theirs, points)) < 1e-9


def _nest(path, before):
    """Put the record of a composite before one of the parts."""
    if path.suffix == ".tfm":
        mark = f"#Transform {before}\n"
        composite = "Transform: CompositeTransform_double_3_3\n"
        path.write_text(path.read_text().replace(mark, f"{mark}{composite}#Transform 9\n"))
        return
    with h5py.File(path, "r+") as file:
        group = file["TransformGroup"]
        for number in sorted(map(int, group), reverse=True):
            if number >= before:
                group.move(str(number), str(number + 1))
        group.copy("0", str(before))


def test_warps_of_simpleitk_read(tmp_path):
    for num_dims in (2, 3):
        grid = grid_of("oblique", num_dims)
        values = np.random.default_rng(6).normal(size=(*grid.shape, num_dims)) * 4
        image = simpleitk_field(grid, values)
        SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
        points = points_in(grid)
        theirs = mapped_by_simpleitk(SimpleITK.DisplacementFieldTransform(image), points)
        assert largest_gap(read_transform(tmp_path / "a.nii.gz")(points), theirs) < TOLERANCE_MM


def test_warp_header_is_what_ants_wants(tmp_path):
    write_transform(tmp_path / "a.nii.gz", field_on(grid_of("oblique", 3)))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.shape == (6, 7, 8, 1, 3)
    assert int(image.header["intent_code"]) == 1007
    assert image.get_data_dtype() == np.float32
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    write_transform(tmp_path / "b.nii.gz", field_on(grid_of("oblique", 2)))
    assert nibabel.load(tmp_path / "b.nii.gz").shape == (6, 7, 1, 1, 2)


def test_displacements_of_intent_1006_are_ras(tmp_path):
    field = field_on(grid_of("oblique", 3))
    image = nibabel.Nifti1Image(
        field.displacement.movedim(0, -1)[:, :, :, None].numpy(), field.grid.voxel_to_world.numpy()
    )
    image.header.set_intent(1006, allow_unknown=True)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert torch.equal(read_transform(tmp_path / "a.nii.gz").displacement, field.displacement)
    points = points_in(field.grid)
    theirs = SimpleITK.DisplacementFieldTransform(
        SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"), SimpleITK.sitkVectorFloat64)
    )
    assert largest_gap(mapped_by_simpleitk(theirs, points), field(points)) < TOLERANCE_MM


def test_reference_turns_any_transform_into_a_warp(tmp_path):
    grid = grid_of("oblique", 3)
    chain = Chain((affine(3), field_on(grid)))
    fixed = Image(torch.rand((1, *grid.shape)), grid)
    write_image(tmp_path / "fixed.nii.gz", fixed)
    for n, reference in enumerate((grid, read_image(tmp_path / "fixed.nii.gz"))):
        write_transform(tmp_path / f"{n}.nii.gz", chain, fixed=reference)
        voxels = grid.centres().reshape(-1, 3)
        assert largest_gap(read_transform(tmp_path / f"{n}.nii.gz")(voxels), chain(voxels)) < TOLERANCE_MM
    with pytest.raises(ValueError, match="give the fixed image"):
        write_transform(tmp_path / "a.nii.gz", chain)
    with pytest.raises(ValueError, match="give the fixed image"):
        write_transform(tmp_path / "a.nii.gz", affine(3))


def test_ants_resamples_with_the_same_composite(tmp_path):
    ants = pytest.importorskip("ants", reason="antspyx is not installed")
    grid = grid_of("oblique", 3).resize((12, 14, 16))
    smooth = torch.sin(grid.centres() / 4).sum(dim=-1).to(torch.float32)
    write_image(tmp_path / "a.nii.gz", Image(smooth[None], grid))
    middle = torch.eye(4, dtype=torch.float64)
    middle[:3, :3] = torch.from_numpy(turn(3, 3.0))
    middle[:3, 3] = grid.centre - middle[:3, :3] @ grid.centre + 0.7
    chain = Chain((Affine(middle), field_on(grid_of("oblique", 3))))
    write_transform(tmp_path / "a.h5", chain)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    wanted = SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, SimpleITK.ReadTransform(str(tmp_path / "a.h5")))).T
    fixed = ants.image_read(str(tmp_path / "a.nii.gz"))
    for single in (False, True):
        warped = ants.apply_transforms(fixed, fixed, [str(tmp_path / "a.h5")], singleprecision=single).numpy()
        both = (warped != 0) & (wanted != 0)
        assert both.mean() > 0.3
        assert np.abs(warped - wanted)[both].max() < 1e-3


def test_velocities_are_written_as_their_fields(tmp_path):
    grid = grid_of("oblique", 3)
    velocity = StationaryVelocity(torch.ones(3, *grid.shape), grid)
    write_transform(tmp_path / "a.h5", Chain((affine(3), velocity)))
    points = points_in(grid)
    assert largest_gap(read_transform(tmp_path / "a.h5")(points), affine(3)(velocity(points))) < TOLERANCE_MM
    write_transform(tmp_path / "a.nii", velocity)
    assert isinstance(read_transform(tmp_path / "a.nii"), DisplacementField)


def test_every_linear_class_is_written(tmp_path):
    for transform in (
        identity(3),
        Translation.by((1.0, 2.0)),
        Rigid(affine_of(turn(3))),
        Similarity(affine_of(2 * turn(2))),
    ):
        for suffix in (".h5", ".txt", ".mat"):
            write_transform(tmp_path / f"a{suffix}", transform)
            assert torch.equal(read_transform(tmp_path / f"a{suffix}").matrix, transform.matrix)


# What cannot be read or written --------------------------------------------------------------------------------------


def test_sheared_grids_are_refused(tmp_path):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 1] = 0.2
    field = DisplacementField(torch.zeros(3, 4, 5, 6), Grid((4, 5, 6), matrix))
    for suffix in (".h5", ".nii.gz"):
        with pytest.raises(ValueError, match="sheared"):
            write_transform(tmp_path / f"a{suffix}", field)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".txt", ".tfm", ".mat"])
def test_fields_do_not_fit_into_matrix_files(tmp_path, suffix):
    with pytest.raises(ValueError, match="a deformation would be lost"):
        write_transform(tmp_path / f"a{suffix}", Chain((affine(3), field_on(grid_of("RAS", 3)))))


def test_unknown_kinds_are_named(tmp_path):
    (tmp_path / "b.tfm").write_text(
        "#Insight Transform File V1.0\nTransform: DreamTransform_double_3_3\nParameters: 1\n"
    )
    with pytest.raises(ValueError, match="DreamTransform"):
        read_transform(tmp_path / "b.tfm")
    with pytest.raises(TypeError, match="str"):
        write_transform(tmp_path / "c.h5", "a transform")


def test_suffixes_and_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_transform(tmp_path / "a.h5")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="no transform that is known here"):
        read_transform(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"'\.json'.*\.h5"):
        write_transform(tmp_path / "a.json", affine(3))
    with pytest.raises(FileNotFoundError, match="create it first"):
        write_transform(tmp_path / "nowhere" / "a.h5", affine(3))


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".mat", ".nii.gz"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.8])
def test_truncated_files_are_one_clear_error(tmp_path, suffix, part):
    path = tmp_path / f"a{suffix}"
    write_transform(path, affine(3) if suffix != ".nii.gz" else field_on(grid_of("RAS", 3)))
    contents = path.read_bytes()
    path.write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(ValueError, match="truncated or corrupt") as caught:
        read_transform(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_under_these_names(tmp_path):
    np.savetxt(tmp_path / "flirt.mat", np.eye(4))
    with pytest.raises(ValueError, match="text matrix"):
        read_transform(tmp_path / "flirt.mat", format="itk")
    np.savetxt(tmp_path / "plain.txt", np.eye(4))
    with pytest.raises(ValueError, match="first line"):
        read_transform(tmp_path / "plain.txt", format="itk")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(ValueError, match="no ITK transform"):
        read_transform(tmp_path / "other.h5")


def test_warps_must_say_what_they_are(tmp_path):
    def save(values, intent, name=""):
        image = nibabel.Nifti1Image(values.astype(np.float32), np.eye(4))
        image.header.set_intent(intent, name=name, allow_unknown=True)
        nibabel.save(image, tmp_path / "a.nii.gz")
        return tmp_path / "a.nii.gz"

    vectors = np.ones((4, 5, 6, 1, 3))
    with pytest.raises(ValueError, match=r"could be itk .*--from"):
        read_transform(save(vectors, 0))
    with pytest.raises(ValueError, match="NiftyReg"):
        read_transform(save(vectors, 1007, "NREG_TRANS"), format="itk")
    with pytest.raises(ValueError, match=r"shape \(4, 5, 6\)"):
        read_transform(save(vectors[..., 0, 0], 1007))
    with pytest.raises(ValueError, match=r"shape \(4, 5, 6, 1, 2\)"):
        read_transform(save(vectors[..., :2], 1007))
    with pytest.raises(ValueError, match="NaN"):
        read_transform(save(vectors * np.nan, 1007))


def test_composites_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.tfm"
    head, one = (
        "#Insight Transform File V1.0\n",
        "Transform: TranslationTransform_double_3_3\nParameters: 1 2 3\nFixedParameters:\n",
    )
    composite = "Transform: CompositeTransform_double_3_3\n"
    path.write_text(head + one + one)
    with pytest.raises(ValueError, match="2 transforms but no composite"):
        read_transform(path)
    for parts in (composite, composite + one + composite):  # SimpleITK leaves such a file when it fails on nesting
        path.write_text(head + parts)
        with pytest.raises(ValueError, match="without parts"):
            read_transform(path)
    path.write_text(head + "Transform: TranslationTransform_double_4_4\nParameters: 1 2 3 4\nFixedParameters:\n")
    with pytest.raises(ValueError, match="2-D or 3-D"):
        read_transform(path)
    path.write_text(head + "Transform: AffineTransform_double_3_3\nParameters: 1 2 3\nFixedParameters: 0 0 0\n")
    with pytest.raises(ValueError, match="3 other parameters"):
        read_transform(path)
    path.write_text(head + f"Transform: AffineTransform_double_3_3\nParameters: {'0 ' * 12}\nFixedParameters: 0 0 0\n")
    with pytest.raises(ValueError, match="no transform: `matrix` is singular"):
        read_transform(path)
    path.write_text(head + one.replace("1 2 3", "1 nan 3"))
    with pytest.raises(ValueError, match="NaN"):
        read_transform(path)


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("h5py.Group.create_dataset", fail)
    with pytest.raises(KeyboardInterrupt):
        write_transform(tmp_path / "a.h5", affine(3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["fixed", "moving"])
def test_a_path_is_no_grid(tmp_path, which):
    path = tmp_path / "a.h5"
    with pytest.raises(TypeError, match=f"`{which}` is a str, but an image"):
        write_transform(path, identity(), **{which: "image.nii.gz"})
    assert not path.exists()
    write_transform(path, identity())
    with pytest.raises(TypeError, match=f"`{which}` is a str, but an image"):
        read_transform(path, **{which: "image.nii.gz"})
