"""Images and label maps: round trips, the same points as SimpleITK, and one clear line for all that is wrong."""

import errno
import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import torch

from pullback.data import Image, LabelMap
from pullback.io import image_from, labels_from, read_image, read_labels, write_image
from pullback.io.atomic import replacing
from pullback.space import Grid, axis_codes

SHAPE = (5, 6, 7)
FLIPS = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "RAI": (1, 1, -1)}
NAMES_3D = (*FLIPS, "PIR", "oblique", "anisotropic", "thin")
SUFFIXES_3D = (".nii", ".nii.gz", ".nrrd", ".mha")


def rotation(degrees=20.0):
    """A rotation about a skew axis."""
    axis = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def grid_3d(name):
    """Grids of every kind an image comes in."""
    origin = (11.5, -22.25, 33.0)
    if name in FLIPS:
        return Grid.from_spacing(SHAPE, (1.0, 1.5, 2.0), origin=origin, direction=np.diag(FLIPS[name]))
    if name == "PIR":
        return Grid.from_spacing(SHAPE, (1.0, 1.5, 2.0), origin=origin, direction=[[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    if name == "oblique":
        return Grid.from_spacing(SHAPE, (0.9, 1.1, 3.0), origin=origin, direction=rotation() @ np.diag([-1, 1, 1]))
    if name == "anisotropic":
        return Grid.from_spacing(SHAPE, (0.35, 0.35, 6.0), origin=origin)
    if name == "thin":
        return Grid.from_spacing((5, 1, 7), (1.0, 2.0, 3.0), origin=origin)
    sheared = rotation() @ np.array([[1.0, 0.2, 0.0], [0.0, 1.1, 0.1], [0.0, 0.0, 2.0]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = sheared, origin
    return Grid(SHAPE, torch.from_numpy(matrix))


def grid_2d(name):
    """2-D grids."""
    angle = np.radians(25.0)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    directions = {"RA": np.eye(2), "LP": -np.eye(2), "LA": np.diag([-1, 1]), "turned": turned}
    return Grid.from_spacing((8, 9), (0.7, 1.3), origin=(12.0, -7.0), direction=directions[name])


def image_on(grid, num_channels=1, dtype=torch.float32):
    """An image of random numbers."""
    generator = torch.Generator().manual_seed(0)
    return Image(torch.rand((num_channels, *grid.shape), generator=generator, dtype=dtype) * 200, grid)


def same_points_in_simpleitk(path, grid, tolerance=1e-3):
    """Whether SimpleITK puts voxels of a file where the grid does."""
    image = SimpleITK.ReadImage(str(path))
    assert image.GetSize() == grid.shape
    generator = np.random.default_rng(1)
    indices = generator.uniform(0, 1, (20, grid.num_dims)) * (np.array(grid.shape) - 1)
    points = np.array([image.TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in indices])
    signs = np.array([-1, -1, 1])[: grid.num_dims]
    return np.abs(points * signs - grid.to_world(torch.from_numpy(indices)).numpy()).max() < tolerance


# Round trips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES_3D)
@pytest.mark.parametrize("name", NAMES_3D)
def test_volume_returns_with_same_values_and_points(tmp_path, name, suffix):
    image = image_on(grid_3d(name))
    path = tmp_path / f"a{suffix}"
    write_image(path, image)
    again = read_image(path)
    assert torch.equal(again.tensor, image.tensor)
    assert again.grid.same_as(image.grid, 1e-5)
    assert again.tensor.is_contiguous()
    assert again.name == "a"
    assert again.header["notes"] == ()
    assert same_points_in_simpleitk(path, image.grid)


@pytest.mark.parametrize("suffix", SUFFIXES_3D)
@pytest.mark.parametrize("name", ["RA", "LP", "LA", "turned"])
def test_slice_returns_with_same_values_and_points(tmp_path, name, suffix):
    image = image_on(grid_2d(name))
    path = tmp_path / f"a{suffix}"
    write_image(path, image)
    again = read_image(path)
    assert torch.equal(again.tensor, image.tensor)
    assert again.grid.same_as(image.grid, 1e-5)
    assert same_points_in_simpleitk(path, image.grid)


@pytest.mark.parametrize("suffix", SUFFIXES_3D)
@pytest.mark.parametrize("grid", [grid_3d("oblique"), grid_2d("turned")], ids=["3d", "2d"])
def test_channels_return(tmp_path, grid, suffix):
    image = image_on(grid, num_channels=3)
    path = tmp_path / f"a{suffix}"
    write_image(path, image)
    again = read_image(path)
    assert torch.equal(again.tensor, image.tensor)
    assert again.grid.same_as(grid, 1e-5)
    assert SimpleITK.ReadImage(str(path)).GetNumberOfComponentsPerPixel() == 3


def test_sheared_grid_fits_only_the_sform(tmp_path):
    image = image_on(grid_3d("sheared"))
    write_image(tmp_path / "a.nii.gz", image)
    again = read_image(tmp_path / "a.nii.gz")
    assert again.grid.same_as(image.grid, 1e-5)
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    for suffix in (".nrrd", ".mha"):
        with pytest.raises(ValueError, match=r"sheared.*NIfTI"):
            write_image(tmp_path / f"a{suffix}", image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_every_data_type_reads_exactly(tmp_path, dtype, suffix):
    values = (np.arange(4 * 5 * 6).reshape(4, 5, 6) % 101).astype(dtype)
    image = SimpleITK.GetImageFromArray(values.T.copy())
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))
    read = read_image(tmp_path / f"a{suffix}")
    assert read.tensor.dtype == torch.float32
    assert read.header["dtype"] == dtype
    assert np.array_equal(read.tensor[0].numpy(), values)
    labels = read_labels(tmp_path / f"a{suffix}")
    assert labels.tensor.dtype == torch.int32
    assert np.array_equal(labels.tensor[0].numpy(), values)


@pytest.mark.parametrize("value", [2**24 + 1, 0.1, 1e300, -(2**31)], ids=["odd", "tenth", "huge", "lowest"])
def test_float64_only_where_float32_would_change_a_value(value):
    values = np.array([[0.0, 1.0], [2.0, value]])
    image = image_from(values)
    assert image.tensor.dtype == (torch.float32 if value == -(2**31) else torch.float64)
    assert np.array_equal(image.tensor[0].numpy(), values)
    whole = image_from(np.array([[0, 2**24 + 1]], dtype=np.int32))
    assert whole.tensor.tolist() == [[[0.0, 2.0**24 + 1]]]


def test_float64_images_stay_float64_on_disk(tmp_path):
    image = image_on(grid_3d("RAS"), dtype=torch.float64)
    for suffix in SUFFIXES_3D:
        write_image(tmp_path / f"a{suffix}", image)
        assert torch.equal(read_image(tmp_path / f"a{suffix}").tensor, image.tensor)


@pytest.mark.parametrize(("highest", "wanted"), [(200, "uint8"), (300, "int16"), (40000, "uint16"), (70000, "int32")])
def test_labels_take_the_smallest_integer_type(tmp_path, highest, wanted):
    labels = LabelMap(torch.tensor([[[[0, 1], [5, highest]]]], dtype=torch.int32), Grid.from_spacing((1, 2, 2)))
    write_image(tmp_path / "a.nii.gz", labels)
    assert nibabel.load(tmp_path / "a.nii.gz").get_data_dtype() == wanted
    assert torch.equal(read_labels(tmp_path / "a.nii.gz").tensor, labels.tensor)


def test_labels_keep_their_type_while_it_fits(tmp_path):
    values = np.array([[[0, 3], [7, 9]]], dtype=np.uint16)
    labels = labels_from(nibabel.Nifti1Image(values, np.eye(4)))
    write_image(tmp_path / "a.nii", labels)
    assert nibabel.load(tmp_path / "a.nii").get_data_dtype() == np.uint16
    grown = labels.with_tensor(labels.tensor * 10000)
    write_image(tmp_path / "a.nii", grown)
    assert nibabel.load(tmp_path / "a.nii").get_data_dtype() == np.int32
    huge = LabelMap(torch.tensor([[[0, 2**40]]]), Grid.from_spacing((1, 2)))
    write_image(tmp_path / "b.nii", huge)
    again = read_labels(tmp_path / "b.nii")
    assert again.tensor.dtype == torch.int64
    assert torch.equal(again.tensor, huge.tensor)


def test_float_labels_are_integers_again(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.array([[[0, 3], [7, 9]]], dtype=np.float32), np.eye(4)), tmp_path / "a.nii")
    labels = read_labels(tmp_path / "a.nii")
    assert labels.labels == [3, 7, 9]
    write_image(tmp_path / "b.nii", labels)
    assert nibabel.load(tmp_path / "b.nii").get_data_dtype() == np.uint8


# NIfTI headers -------------------------------------------------------------------------------------------------------


def nifti(tmp_path, values=None, affine=None, name="in.nii.gz", **fields):
    """A file with some header fields set behind nibabel's back, which would mend them."""
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32) if values is None else values
    affine = grid_3d("oblique").voxel_to_world.numpy() if affine is None else affine
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    contents = image.to_bytes()
    header = nibabel.Nifti1Header(contents[:348], check=False)
    for field, value in fields.items():
        header[field] = value
    contents = header.binaryblock + contents[348:]
    (tmp_path / name).write_bytes(gzip.compress(contents) if name.endswith(".gz") else contents)
    return tmp_path / name


def form_fields(path):
    header = nibabel.load(path).header
    names = (
        "qform_code",
        "sform_code",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "quatern_c",
        "quatern_d",
        "xyzt_units",
    )
    fields = {name: np.array(header[name]).tolist() for name in (*names, "qoffset_x", "qoffset_y", "qoffset_z")}
    return fields | {"pixdim": header["pixdim"][:4].tolist()}


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (0, 4), (3, 0), (0, 0)])
def test_same_grid_repeats_the_forms_bit_by_bit(tmp_path, codes):
    path = nifti(tmp_path, qform_code=codes[0], sform_code=codes[1], xyzt_units=10, descrip=b"told")
    image = read_image(path)
    other = image_on(image.grid)
    write_image(tmp_path / "out.nii.gz", other, like=image)
    assert form_fields(tmp_path / "out.nii.gz") == form_fields(path)
    assert nibabel.load(tmp_path / "out.nii.gz").header["descrip"].tobytes().startswith(b"told")
    assert read_image(tmp_path / "out.nii.gz").grid == image.grid
    write_image(tmp_path / "self.nii.gz", image)
    assert form_fields(tmp_path / "self.nii.gz") == form_fields(path)


@pytest.mark.parametrize(("codes", "wanted"), [((2, 1), (2, 1)), ((0, 4), (4, 4)), ((3, 0), (3, 3)), ((0, 0), (1, 1))])
def test_other_grid_keeps_codes(tmp_path, codes, wanted):
    image = read_image(nifti(tmp_path, qform_code=codes[0], sform_code=codes[1]))
    coarse = image_on(image.grid.coarsen((2, 2, 2)))
    write_image(tmp_path / "out.nii.gz", coarse, like=image)
    header = nibabel.load(tmp_path / "out.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == wanted
    assert np.allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    assert read_image(tmp_path / "out.nii.gz").grid.same_as(coarse.grid, 1e-4)


def test_shifted_grid_of_the_same_shape_is_another_grid(tmp_path):
    image = read_image(nifti(tmp_path))
    shifted = image_on(image.grid.crop((0, 0, 1), (5, 6, 8)))
    write_image(tmp_path / "out.nii.gz", shifted, like=image)
    assert read_image(tmp_path / "out.nii.gz").grid.same_as(shifted.grid, 1e-4)


def test_images_without_nifti_header_get_code_one_and_mm(tmp_path):
    write_image(tmp_path / "a.nii.gz", image_on(grid_3d("oblique")))
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(("unit", "mm"), [(1, 1000.0), (3, 0.001)], ids=["metre", "micron"])
def test_units_become_mm_and_return(tmp_path, unit, mm):
    affine = grid_3d("LPS").voxel_to_world.numpy().copy()
    affine[:3] /= mm
    path = nifti(tmp_path, affine=affine, xyzt_units=unit)
    image = read_image(path)
    assert image.grid.same_as(grid_3d("LPS"), 1e-4)
    assert "millimetres" in image.header["notes"][0]
    write_image(tmp_path / "same.nii", image)
    assert form_fields(tmp_path / "same.nii") == form_fields(path)
    coarse = image_on(image.grid.coarsen((2, 1, 2)))
    write_image(tmp_path / "other.nii", coarse, like=image)
    assert int(nibabel.load(tmp_path / "other.nii").header["xyzt_units"]) == unit
    assert read_image(tmp_path / "other.nii").grid.same_as(coarse.grid, 1e-4)


def test_contradicting_forms_are_noted_and_the_sform_used(tmp_path):
    path = nifti(tmp_path)
    image = nibabel.load(path)
    for step, noted in ((1, False), (3, True)):
        sform = image.affine.copy()
        sform[:3, 3] += image.affine[:3, 0] * 0.05 * step
        image.set_sform(sform, 1)
        nibabel.save(image, tmp_path / "b.nii")
        read = read_image(tmp_path / "b.nii")
        assert np.allclose(read.grid.voxel_to_world.numpy(), sform, atol=1e-5)
        assert any("qform" in note for note in read.header["notes"]) == noted


def test_missing_forms_are_noted(tmp_path):
    path = nifti(tmp_path, qform_code=0, sform_code=0)
    image = read_image(path)
    assert "neither sform nor qform" in image.header["notes"][0]
    assert np.allclose(image.grid.voxel_to_world.numpy(), nibabel.load(path).affine)


def test_scaling_is_applied(tmp_path):
    stored = np.arange(5 * 6 * 7, dtype=np.int16).reshape(SHAPE)
    path = nifti(tmp_path, stored, scl_slope=0.5, scl_inter=-3.0)
    image = read_image(path)
    assert image.tensor.dtype == torch.float32
    assert np.array_equal(image.tensor[0].numpy(), stored * 0.5 - 3)
    assert image.header["dtype"] == "int16"
    write_image(tmp_path / "b.nii", image)
    assert torch.equal(read_image(tmp_path / "b.nii").tensor, image.tensor)
    with pytest.raises(ValueError, match="whole numbers"):
        read_labels(path)


def test_scaled_integers_far_from_zero_stay_apart(tmp_path):
    stored = np.arange(24).reshape(2, 3, 4)
    path = nifti(tmp_path, stored.astype(np.int16), scl_slope=1.0, scl_inter=2e7)
    assert np.array_equal(read_image(path).tensor[0].numpy(), stored + 20_000_000)
    assert np.array_equal(read_labels(path).tensor[0].numpy(), stored + 20_000_000)


def test_big_endian_and_pair_and_nifti2(tmp_path):
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    affine = grid_3d("oblique").voxel_to_world.numpy()
    for kind, name in (
        (nibabel.Nifti1Pair, "a.hdr"),
        (nibabel.Nifti2Image, "b.nii.gz"),
        (nibabel.Nifti1Image, "c.nii"),
    ):
        header = kind.header_class(endianness=">") if kind is nibabel.Nifti1Image else None
        image = kind(values, affine, header)
        image.set_qform(affine, 2)
        nibabel.save(image, tmp_path / name)
        read = read_image(tmp_path / name)
        assert np.array_equal(read.tensor[0].numpy(), values)
        write_image(tmp_path / "out.nii.gz", read)
        assert form_fields(tmp_path / "out.nii.gz") == form_fields(tmp_path / name)
        assert torch.equal(read_image(tmp_path / "out.nii.gz").tensor, read.tensor)
    assert np.array_equal(read_image(tmp_path / "a.img").tensor[0].numpy(), values)


def test_freesurfer_volume_reads(tmp_path):
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    affine = grid_3d("oblique").voxel_to_world.numpy().astype(np.float32)
    nibabel.save(nibabel.MGHImage(values, affine), tmp_path / "a.mgz")
    image = read_image(tmp_path / "a.mgz")
    assert np.array_equal(image.tensor[0].numpy(), values)
    assert image.grid.same_as(grid_3d("oblique"), 1e-4)
    with pytest.raises(ValueError, match="read only"):
        write_image(tmp_path / "b.mgz", image)


def test_rgb_becomes_channels(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    packed = values.copy().view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])).reshape(SHAPE)
    nibabel.save(nibabel.Nifti1Image(packed, np.eye(4)), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert image.header["dtype"] == "uint8"
    assert np.array_equal(np.moveaxis(image.tensor.numpy(), 0, -1), values)


# 2-D -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1)])
def test_axial_slice_has_world_x_and_y(tmp_path, shape):
    affine = np.diag([-0.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = (4.0, 5.0, 60.0)
    path = nifti(tmp_path, np.ones(shape, np.float32) * np.arange(8).reshape(8, *[1] * (len(shape) - 1)), affine)
    image = read_image(path)
    assert image.tensor.shape == (1, 8, 9)
    assert image.grid.voxel_to_world.tolist() == [[-0.5, 0, 4], [0, 2, 5], [0, 0, 1]]
    assert image.header["notes"] == ()
    write_image(tmp_path / "out.nii.gz", image)
    assert form_fields(tmp_path / "out.nii.gz") == form_fields(path)
    assert nibabel.load(tmp_path / "out.nii.gz").shape == shape
    fine = image_on(image.grid.resize((16, 18)))
    write_image(tmp_path / "fine.nii.gz", fine, like=image)
    assert read_image(tmp_path / "fine.nii.gz").grid.same_as(fine.grid, 1e-5)
    assert nibabel.load(tmp_path / "fine.nii.gz").affine[2, 3] == 60


def test_coronal_slice_has_coordinates_in_its_plane(tmp_path):
    affine = np.array([[-2.0, 0, 0, 7], [0, 0, 1, 30], [0, 3, 0, -8], [0, 0, 0, 1]])
    path = nifti(tmp_path, np.random.default_rng(0).random((8, 9, 1)).astype(np.float32), affine)
    image = read_image(path)
    assert image.grid.voxel_to_world.tolist() == [[-2, 0, 7], [0, 3, -8], [0, 0, 1]]
    assert "along Right and Superior" in image.header["notes"][0]
    coarse = image_on(image.grid.coarsen((2, 2)))
    write_image(tmp_path / "out.nii.gz", coarse, like=image)
    wanted = affine @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert np.allclose(nibabel.load(tmp_path / "out.nii.gz").affine, wanted)


def test_oblique_slice_keeps_distances(tmp_path):
    grid = grid_3d("oblique")
    path = nifti(tmp_path, np.random.default_rng(0).random((5, 6, 1)).astype(np.float32))
    image = read_image(path)
    corners = torch.tensor([[0.0, 0], [4, 0], [0, 5], [4, 5]], dtype=torch.float64)
    flat = torch.cdist(*[image.grid.to_world(corners)] * 2)
    lifted = torch.cat([corners, torch.zeros(4, 1, dtype=torch.float64)], dim=1)
    assert torch.allclose(flat, torch.cdist(*[grid.to_world(lifted)] * 2), atol=1e-4)


def test_other_formats_say_themselves_whether_they_are_flat(tmp_path):
    values = np.random.default_rng(0).random((1, 6, 5)).astype(np.float32)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(tmp_path / "a.mha"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values[0]), str(tmp_path / "b.mha"))
    assert read_image(tmp_path / "a.mha").grid.shape == (5, 6, 1)
    assert read_image(tmp_path / "b.mha").grid.shape == (5, 6)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_pixels_lie_where_simpleitk_puts_them(tmp_path, suffix, num_channels):
    shape = (8, 9) if num_channels == 1 else (8, 9, 3)
    rows = (np.arange(np.prod(shape)).reshape(shape) % 251).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(rows).save(path)
    image = read_image(path)
    assert image.grid.shape == (9, 8)
    assert image.header["dtype"] == "uint8"
    assert same_points_in_simpleitk(path, image.grid, 1e-12)
    stored = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(float)
    read = np.moveaxis(image.tensor.numpy(), 0, -1).swapaxes(0, 1).reshape(shape)
    assert np.abs(read - stored).max() <= (4 if suffix == ".jpg" else 0)  # two decoders of JPEG
    if suffix != ".jpg":
        write_image(tmp_path / f"b{suffix}", image)
        assert torch.equal(read_image(tmp_path / f"b{suffix}").tensor, image.tensor)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("is_colour", [False, True])
def test_sixteen_bits_are_kept(tmp_path, suffix, is_colour):
    rows = np.random.default_rng(0).integers(0, 65535, (8, 9, 3) if is_colour else (8, 9)).astype(np.uint16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rows, isVector=is_colour), str(tmp_path / f"a{suffix}"))
    image = read_image(tmp_path / f"a{suffix}")
    assert image.header["dtype"] == "uint16"
    assert np.array_equal(np.moveaxis(image.tensor.numpy(), 0, -1).swapaxes(0, 1).reshape(rows.shape), rows)
    write_image(tmp_path / f"b{suffix}", image)
    assert torch.equal(read_image(tmp_path / f"b{suffix}").tensor, image.tensor)


def test_alpha_palette_and_bilevel(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (8, 9, 4)).astype(np.uint8)
    PIL.Image.fromarray(rows).save(tmp_path / "a.png")
    assert np.array_equal(
        np.moveaxis(read_image(tmp_path / "a.png").tensor.numpy(), 0, -1).swapaxes(0, 1), rows[..., :3]
    )
    palette = PIL.Image.fromarray((rows[..., 0] % 4).astype(np.uint8), mode=None).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata((rows[..., 0] % 4).ravel().tolist())
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").num_channels == 3
    assert np.array_equal(read_labels(tmp_path / "p.png").tensor[0].numpy().T, rows[..., 0] % 4)
    PIL.Image.fromarray(rows[..., 0] > 100).save(tmp_path / "m.png")
    assert np.array_equal(read_labels(tmp_path / "m.png").tensor[0].numpy().T, rows[..., 0] > 100)


def test_written_pixels_are_rounded_and_clipped(tmp_path):
    grid = read_pixel_grid(tmp_path)
    tensor = torch.tensor([[[-5.0, 0.4, 0.6], [254.6, 255.4, 300.0]]])
    write_image(tmp_path / "a.png", Image(tensor, grid))
    assert read_image(tmp_path / "a.png").tensor.tolist() == [[[0, 0, 1], [255, 255, 255]]]
    write_image(tmp_path / "a.tif", Image(tensor, grid))
    assert torch.equal(read_image(tmp_path / "a.tif").tensor, tensor)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_labels_as_pixels(tmp_path, suffix):
    grid = read_pixel_grid(tmp_path)
    for highest in (200, 40000):
        labels = LabelMap(torch.tensor([[[0, 1, 2], [3, 4, highest]]], dtype=torch.int32), grid)
        write_image(tmp_path / f"a{suffix}", labels)
        assert torch.equal(read_labels(tmp_path / f"a{suffix}").tensor, labels.tensor)
    with pytest.raises(ValueError, match="JPEG changes values"):
        write_image(tmp_path / "a.jpg", labels)
    with pytest.raises(ValueError, match="cannot hold the labels"):
        write_image(tmp_path / f"a{suffix}", labels.with_tensor(labels.tensor.to(torch.int64) * 100000))


def test_pixels_cannot_hold_another_grid_or_four_channels(tmp_path):
    with pytest.raises(ValueError, match="cannot hold where"):
        write_image(tmp_path / "a.png", image_on(grid_2d("RA")))
    with pytest.raises(ValueError, match="4 channels"):
        write_image(tmp_path / "a.png", image_on(read_pixel_grid(tmp_path), 4))


def test_several_pages_are_refused(tmp_path):
    pages = [PIL.Image.fromarray(np.full((4, 5), n, np.uint8)) for n in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="3 pages"):
        read_image(tmp_path / "a.tif")


def read_pixel_grid(tmp_path):
    PIL.Image.fromarray(np.arange(6, dtype=np.uint8).reshape(3, 2)).save(tmp_path / "pixels.png")
    return read_image(tmp_path / "pixels.png").grid


@pytest.mark.parametrize(("name", "as_name"), [("a.nii.gz", "b.nii"), ("a.nii", "b.nii.gz")])
def test_nifti_is_read_whether_its_name_says_compressed_or_not(tmp_path, name: str, as_name: str):
    image = Image(torch.arange(24.0).reshape(1, 2, 3, 4), Grid.from_spacing((2, 3, 4), 2.0))
    write_image(tmp_path / name, image)
    (tmp_path / name).rename(tmp_path / as_name)
    again = read_image(tmp_path / as_name)
    assert torch.equal(again.tensor, image.tensor)
    assert again.grid.same_as(image.grid)


# DICOM ---------------------------------------------------------------------------------------------------------------


def write_series(
    folder, values, *, spacing=(0.5, 0.75), step=(0.0, 0.0, 2.5), uid="1.2.826.0.1.3680043.2.1125.1", first=0
):
    """Write slices the way SimpleITK's own example does; positions are LPS mm."""
    folder.mkdir(exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n, rows in enumerate(values):
        image = SimpleITK.GetImageFromArray(rows)
        image.SetSpacing(spacing)
        position = [10.0 + step[0] * n, 20.0 + step[1] * n, 30.0 + step[2] * n]
        tags = {"0008|0060": "CT", "0020|000e": uid, "0020|000d": "1.2.826.0.1.3680043.2.1125.9", "0020|0013": str(n)}
        tags |= {"0008|0018": f"{uid}.{n + 1}", "0008|0016": "1.2.840.10008.5.1.4.1.1.2"}
        tags |= {"0020|0032": "\\".join(map(str, position)), "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0052": f"{uid}.77"}
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{first + 90 - n:03d}.dcm"))
        writer.Execute(image)


def slices(num=4):
    return np.random.default_rng(0).integers(-1000, 2000, (num, 6, 5)).astype(np.int16)


def test_dicom_series_from_folder_or_file(tmp_path):
    values = slices()
    write_series(tmp_path / "ct", values)
    image = read_image(tmp_path / "ct")
    assert np.array_equal(image.tensor[0].numpy(), values.T)
    wanted = [[-0.5, 0, 0, -10], [0, -0.75, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    assert np.allclose(image.grid.voxel_to_world.numpy(), wanted)
    assert torch.equal(read_image(tmp_path / "ct" / "089.dcm").tensor, image.tensor)
    renamed = tmp_path / "ct" / "IM0001"
    (tmp_path / "ct" / "090.dcm").rename(renamed)
    assert torch.equal(read_image(renamed).tensor, image.tensor)


def test_dicom_with_two_series_wants_a_file(tmp_path):
    write_series(tmp_path / "ct", slices(3))
    write_series(tmp_path / "ct", slices(2), uid="1.2.826.0.1.3680043.2.1125.2", first=500)
    with pytest.raises(ValueError, match="2 DICOM series"):
        read_image(tmp_path / "ct")
    assert read_image(tmp_path / "ct" / "590.dcm").grid.shape == (5, 6, 2)


def test_dicom_with_a_missing_slice_is_refused(tmp_path):
    write_series(tmp_path / "ct", slices(5))
    (tmp_path / "ct" / "088.dcm").unlink()
    with pytest.raises(ValueError, match="uneven distances"):
        read_image(tmp_path / "ct")


@pytest.mark.parametrize("number", ["090", "088", "086"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_dicom_with_a_slice_cut_short_is_refused(tmp_path, number: str, share: float):
    write_series(tmp_path / "ct", slices(5))
    path = tmp_path / "ct" / f"{number}.dcm"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"truncated or corrupt, '{number}.dcm'"):
        read_image(tmp_path / "ct")


def test_dicom_beside_other_files_is_read(tmp_path):
    write_series(tmp_path / "ct", slices(5))
    (tmp_path / "ct" / "notes.txt").write_text("a note")
    (tmp_path / "ct" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"1.2.840.10008.1.3.10" + b"\0" * 2000)
    assert read_image(tmp_path / "ct").grid.shape == (5, 6, 5)


def test_dicom_of_which_only_the_reader_knows_positions_is_checked_too(tmp_path):
    folder = tmp_path / "mr"
    folder.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n in (0, 1, 2, 4, 5):
        image = SimpleITK.GetImageFromArray(slices(1))
        image.SetOrigin((0.0, 0.0, 3.0 * n))
        tags = {"0008|0060": "MR", "0020|000e": "1.2.3.4", "0020|000d": "1.2.9", "0008|0018": f"1.2.3.4.{n}"}
        tags |= {"0008|0016": "1.2.840.10008.5.1.4.1.1.4.1", "0020|0013": str(n)}  # enhanced MR
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{n}.dcm"))
        writer.Execute(image)
    with pytest.raises(ValueError, match="uneven distances"):
        read_image(folder)


def test_dicom_of_a_tilted_gantry_is_sheared_not_straightened(tmp_path):
    write_series(tmp_path / "ct", slices(), step=(0.0, 1.0, 2.5))
    image = read_image(tmp_path / "ct")
    assert not image.grid.is_orthonormal()
    assert np.allclose(image.grid.voxel_to_world[:3, 2].numpy(), [0, -1, 2.5])


def test_one_dicom_slice_is_flat(tmp_path):
    write_series(tmp_path / "xray", slices(1))
    image = read_image(tmp_path / "xray")
    assert np.array_equal(image.tensor[0].numpy(), slices(1)[0].T)
    assert np.allclose(image.grid.voxel_to_world.numpy(), [[-0.5, 0, -10], [0, -0.75, -20], [0, 0, 1]])


def test_folder_without_dicom(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(ValueError, match="no DICOM series"):
        read_image(tmp_path)


# Other libraries' objects --------------------------------------------------------------------------------------------


def test_objects_of_other_libraries():
    grid = grid_3d("oblique")
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    from_nibabel = image_from(nibabel.Nifti1Image(values, grid.voxel_to_world.numpy()))
    assert from_nibabel.grid.same_as(grid, 1e-5)
    signs = np.diag([-1, -1, 1])
    other = SimpleITK.GetImageFromArray(values.T.copy())
    other.SetSpacing(grid.spacing_mm.tolist())
    other.SetOrigin((signs @ grid.origin.numpy()).tolist())
    other.SetDirection((signs @ grid.direction.numpy()).ravel().tolist())
    from_simpleitk = image_from(other)
    assert from_simpleitk.grid.same_as(grid, 1e-9)
    for image in (from_nibabel, from_simpleitk, image_from(values), image_from(torch.from_numpy(values))):
        assert np.array_equal(image.tensor[0].numpy(), values)
    assert axis_codes(image_from(values).grid) == "RAS"
    assert image_from(from_nibabel) is from_nibabel
    assert image_from(values[0] > 0.5).tensor.dtype == torch.float32
    assert image_from(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)).tensor.dtype == torch.float32


def test_labels_of_other_libraries(tmp_path):
    values = np.array([[0, 1], [2, 3]])
    labels = labels_from(values)
    write_image(tmp_path / "a.nii.gz", labels)
    for obj in (
        labels,
        str(tmp_path / "a.nii.gz"),
        values.astype(np.float64),
        SimpleITK.GetImageFromArray(values.T.copy()),
    ):
        assert labels_from(obj).labels == [1, 2, 3]
    assert labels_from(values > 0).labels == [1]


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.float64])
def test_masked_voxels_are_invalid(dtype):
    values = np.ma.masked_equal(np.array([[1, 2, 3], [4, 9, 6]], dtype=dtype), 9)
    image = image_from(values)
    assert image.tensor.tolist() == [[[1, 2, 3], [4, 0, 6]]]
    assert image.header["invalid"].tolist() == [[False, False, False], [False, True, False]]
    with pytest.raises(ValueError, match="masked voxels"):
        labels_from(values)
    assert labels_from(np.ma.masked_array([[1, 2]])).labels == [1, 2]
    assert "invalid" not in image_from(np.ma.masked_array([[1, 2]])).header


def test_reading_gives_tensors_of_its_own():
    values = np.ones((3, 4), dtype=np.float32)
    values[0, 0] = 2
    image = image_from(values)
    values[:] = 7
    assert image.tensor.max() == 2


@pytest.mark.parametrize("obj", [None, 3, [[1, 2], [3, 4]]])
def test_other_objects_are_refused(obj):
    with pytest.raises(TypeError, match="nibabel or SimpleITK"):
        image_from(obj)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 5), (0, 4)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"needed"):
        image_from(np.zeros(shape))


# Real data -----------------------------------------------------------------------------------------------------------

DATA = Path("/work/shared/data")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")
@pytest.mark.parametrize(
    "name",
    [
        "slices/labelled/01_image.nii.gz",
        "slices/unlabelled/oasis2d_0000.nrrd",
        "histology/Izd2-29-041-w35_HE.jpg",
        "brains/native-2mm/1000_image.nii.gz",
        "brains/heads-2mm/1000_image.nii.gz",
        "mouse/images/tg4510_tp3_10_20130523_UT.nii.gz",
        "hippocampus/images/hippocampus_011.nii.gz",
    ],
)
def test_real_images_lie_where_simpleitk_puts_them(name):
    image = read_image(DATA / name)
    theirs = SimpleITK.ReadImage(str(DATA / name))
    if not name.endswith(".jpg"):  # print resolution counts as spacing there
        assert same_points_in_simpleitk(DATA / name, image.grid)
    values = np.moveaxis(SimpleITK.GetArrayFromImage(theirs).reshape(*image.grid.shape[::-1], -1), -1, 0)
    gaps = np.abs(image.tensor.numpy() - values.swapaxes(1, -1))
    assert gaps.mean() < 2 if name.endswith(".jpg") else gaps.max() == 0  # two decoders disagree about chroma


# Values that are no numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_nan_becomes_zero_and_is_marked(tmp_path, suffix):
    image = image_on(grid_3d("RAS"), num_channels=2)
    image.tensor[0, 1, 2, 3] = float("nan")
    image.tensor[1, 1, 2, 3] = float("inf")
    image.tensor[1, 0, 0, 0] = -float("inf")
    write_image(tmp_path / f"a{suffix}", image)
    read = read_image(tmp_path / f"a{suffix}")
    assert read.header["invalid"].nonzero().tolist() == [[0, 0, 0], [1, 2, 3]]
    assert "2 voxels" in read.header["notes"][0]
    assert torch.equal(read.tensor, image.tensor.nan_to_num(0.0, 0.0, 0.0))


def test_constant_images_are_noted():
    assert "constant" in image_from(np.full((3, 4), 5)).header["notes"][0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_without_a_finite_value_are_refused(value):
    with pytest.raises(ValueError, match="no finite value"):
        image_from(np.full((3, 4), value))


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_labels_with_fractions_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"whole numbers"):
        labels_from(np.array([[0.0, 1.0, value]]))


def test_labels_with_channels_are_refused(tmp_path):
    write_image(tmp_path / "a.nii", image_on(grid_3d("RAS"), 2))
    with pytest.raises(ValueError, match="2 channels"):
        read_labels(tmp_path / "a.nii")


def test_complex_values_are_refused(tmp_path):
    values = np.ones(SHAPE, np.complex64)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    for obj in (tmp_path / "a.nii.gz", values, SimpleITK.GetImageFromArray(values)):
        with pytest.raises(ValueError, match="complex"):
            image_from(obj)


# Files that are wrong ------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    for reader in (read_image, read_labels):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            reader(tmp_path / "a.nii.gz")


def test_unknown_suffix(tmp_path):
    (tmp_path / "a.docx").write_text("hello")
    with pytest.raises(ValueError, match=r"'\.docx'.*\.nii\.gz"):
        read_image(tmp_path / "a.docx")
    with pytest.raises(ValueError, match=r"'\.docx'.*\.nii\.gz"):
        write_image(tmp_path / "b.docx", image_from(np.eye(3)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg", ".tif", ".mgz", ".dcm"])
@pytest.mark.parametrize("part", [0.0, 0.05, 0.5, 0.9])
def test_truncated_files_are_one_clear_error(tmp_path, suffix, part):
    path = tmp_path / f"a{suffix}"
    values = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    if suffix in (".png", ".jpg", ".tif"):
        PIL.Image.fromarray(values).save(path)
    elif suffix == ".mgz":
        nibabel.save(nibabel.MGHImage(np.random.default_rng(0).random((9, 10, 11)).astype(np.float32), np.eye(4)), path)
    elif suffix == ".dcm":
        write_series(tmp_path, slices(1))
        (tmp_path / "090.dcm").rename(path)
    else:
        write_image(path, image_on(grid_3d("RAS")))
    contents = path.read_bytes()
    path.write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(ValueError, match=r"truncated or corrupt|no DICOM series") as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg", ".tif", ".mgz"])
def test_text_under_a_wrong_name_is_one_clear_error(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_text("not an image at all\n" * 100)
    with pytest.raises(ValueError, match="truncated or corrupt"):
        read_image(tmp_path / f"a{suffix}")


def test_flipped_bits_in_gzip_are_found(tmp_path):
    path = tmp_path / "a.nii.gz"
    contents = bytearray(gzip.compress(nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4)).to_bytes(), 0))
    contents[len(contents) - 100] ^= 1
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="truncated or corrupt"):
        read_image(path)


def test_time_series_are_refused(tmp_path):
    for shape in ((4, 5, 6, 3), (4, 5, 6, 2, 3)):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
        with pytest.raises(ValueError, match=r"volumes.*slicer"):
            read_image(tmp_path / "a.nii.gz")
    SimpleITK.WriteImage(SimpleITK.Image([3, 4, 5, 6], SimpleITK.sitkFloat32), str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match=r"extract a volume"):
        read_image(tmp_path / "a.mha")
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 1), np.float32), np.eye(4)), tmp_path / "b.nii.gz")
    assert read_image(tmp_path / "b.nii.gz").grid.shape == (4, 5, 6)


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_broken_voxel_sizes_are_refused(tmp_path, size, name):
    path = nifti(tmp_path, name=name, sform_code=0, pixdim=[1, size, 1, 1, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="voxel sizes"):
        read_image(path)
    path = nifti(tmp_path, name=name, qform_code=0, pixdim=[1, size, 1, 1, 0, 0, 0, 0])
    assert read_image(path).grid.same_as(grid_3d("oblique"), 1e-4)


@pytest.mark.parametrize("shape", [SHAPE, (5, 6)])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_broken_sform_is_refused(tmp_path, value, shape):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    path = nifti(tmp_path, np.ones(shape, np.float32), affine, srow_x=[value, 0, 0, 0])
    with pytest.raises(ValueError, match="does not say where"):
        read_image(path)


def test_broken_geometry_of_metaimage_is_refused(tmp_path):
    write_image(tmp_path / "a.mha", Image(image_on(grid_3d("RAS")).tensor, Grid.from_spacing(SHAPE)))
    contents = (tmp_path / "a.mha").read_bytes()
    assert b"ElementSpacing = 1 1 1" in contents
    for bad in (b"0 1 1", b"nan 1 1"):
        (tmp_path / "b.mha").write_bytes(contents.replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = " + bad))
        with pytest.raises(ValueError, match=r"corrupt.*[Ss]pacing"):
            read_image(tmp_path / "b.mha")


def test_empty_images_are_refused():
    with pytest.raises(ValueError, match="empty"):
        image_from(nibabel.Nifti1Image(np.zeros((0, 4, 5), np.float32), np.eye(4)))
    with pytest.raises(ValueError, match="empty"):
        image_from(SimpleITK.Image(0, 4, SimpleITK.sitkFloat32))


# Writing whole or not at all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.EIO, "bad disk")])
def test_failure_half_way_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.endswith(".nii.gz")
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error if isinstance(error, type) else OSError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("suffix", "target"),
    [
        (".nii.gz", "nibabel.Nifti1Image.to_filename"),
        (".nrrd", "SimpleITK.WriteImage"),
        (".png", "PIL.Image.Image.save"),
    ],
)
def test_writers_leave_nothing_behind(tmp_path, monkeypatch, suffix, target):
    image = Image(image_on(read_pixel_grid(tmp_path)).tensor, read_pixel_grid(tmp_path))
    (tmp_path / "pixels.png").unlink()

    def fill_disk(*arguments, **options):
        name = next(str(argument) for argument in arguments if str(argument).startswith(str(tmp_path)))
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(target, fill_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        write_image(tmp_path / f"a{suffix}", image)
    assert f"a{suffix}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_places_are_refused(tmp_path):
    image = image_on(grid_3d("RAS"))
    with pytest.raises(FileNotFoundError, match="does not exist; create it"):
        write_image(tmp_path / "nowhere" / "a.nii.gz", image)
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_image(tmp_path / "folder.nii.gz", image)
    for suffix in (".mhd", ".nhdr", ".hdr"):
        with pytest.raises(ValueError, match="cannot be written"):
            write_image(tmp_path / f"a{suffix}", image)
    with pytest.raises(TypeError, match="Image or a LabelMap"):
        write_image(tmp_path / "a.nii.gz", image.tensor)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    image = image_on(grid_3d("oblique"))
    for suffix in SUFFIXES_3D:
        write_image(tmp_path / f"a{suffix}", image)
        write_image(tmp_path / f"b{suffix}", image)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
