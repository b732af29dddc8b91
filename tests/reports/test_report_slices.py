"""The planes of a report: orientation, shape and place."""

import itertools

import numpy as np
import PIL.Image
import pytest
import torch

from pullback.data import Image
from pullback.io import read_image
from pullback.io.slices import matrix_in_plane
from pullback.reports import fields
from pullback.reports.drawings import Drawings
from pullback.reports.slices import MIDDLE, choose_planes
from pullback.space import Grid, Reorientation

ORIENTATIONS = [
    Reorientation((0, 1, 2), (False, False, False)),  # RAS
    Reorientation((0, 1, 2), (True, False, False)),  # LAS
    Reorientation((0, 1, 2), (True, True, False)),  # LPS
    Reorientation((1, 2, 0), (True, True, False)),  # PIR
    Reorientation((2, 0, 1), (False, True, True)),
]
LEFT_ANTERIOR_SUPERIOR_MM = (-6.0, 8.0, 5.0)
PICTURE_HALVES = {"axial": ("top", "right"), "coronal": ("top", "right"), "sagittal": ("top", "left")}


def planted(grid: Grid, where_mm) -> Image:
    """A dim ellipsoid about the world's origin with one bright ball."""
    centres = grid.centres()
    half = torch.tensor(grid.shape) * grid.spacing_mm / 2.2
    body = ((centres / half).square().sum(-1) < 1).float() * 0.4
    ball = ((centres - torch.tensor(where_mm, dtype=torch.float64)).square().sum(-1) < 16).float()
    return Image((body + ball)[None], grid)


def brightest(picture: np.ndarray) -> tuple[float, float]:
    """Mean row and column of the brightest pixels, as fractions of the picture."""
    rows, columns = np.nonzero(picture > 0.7 * picture.max())
    return (rows.mean() + 0.5) / picture.shape[0], (columns.mean() + 0.5) / picture.shape[1]


def planes_through(image: Image, where_mm):
    """The middle planes, moved to a world position."""
    for plane in choose_planes(image):
        if plane.number == MIDDLE:
            index = round(float(plane.grid.to_voxel([where_mm])[0, plane.axes[2]]))
            yield type(plane)(**{**vars(plane), "index": index})


@pytest.mark.parametrize("reorientation", ORIENTATIONS)
@pytest.mark.parametrize("spacing", [1.0, (1.0, 1.2, 3.0)])
def test_storage_does_not_change_the_picture(make_grid, reorientation, spacing):
    image = planted(make_grid((30, 34, 26), spacing), LEFT_ANTERIOR_SUPERIOR_MM)
    stored = image.reorient(reorientation)
    for one, other in zip(choose_planes(image), choose_planes(stored), strict=True):
        assert (one.name, one.number, one.index) == (other.name, other.number, other.index)
        assert one.shape_pixels == other.shape_pixels
        assert one.edges == other.edges
        assert np.array_equal(one.cut(image.tensor), other.cut(stored.tensor))
        assert np.array_equal(one.draw(image.tensor), other.draw(stored.tensor))
    levels, others = fixed_pictures(image), fixed_pictures(stored)
    assert all(np.array_equal(one, other) for one, other in zip(levels, others, strict=True))


def fixed_pictures(image: Image) -> list[np.ndarray]:
    """All fixed pictures of a view that holds nothing but one image."""
    from pullback.reports import RegistrationView

    shape = image.grid.shape
    view = RegistrationView(image, image, image, image, torch.zeros(len(shape), *shape), torch.ones(shape))
    drawings = Drawings(view)
    return [drawings.levels("fixed", plane) for plane in drawings.planes]


@pytest.mark.parametrize("reorientation", ORIENTATIONS)
@pytest.mark.parametrize("spacing", [1.0, (1.0, 1.2, 2.5)])
def test_left_anterior_superior_is_where_radiologists_expect_it(make_grid, reorientation, spacing):
    image = planted(make_grid((34, 34, 26), spacing), LEFT_ANTERIOR_SUPERIOR_MM).reorient(reorientation)
    seen = {}
    for plane in planes_through(image, LEFT_ANTERIOR_SUPERIOR_MM):
        row, column = brightest(plane.draw(image.tensor)[0])
        seen[plane.name] = ("top" if row < 0.45 else "bottom", "left" if column < 0.45 else "right")
        x, y = plane.project(torch.tensor([LEFT_ANTERIOR_SUPERIOR_MM], dtype=torch.float64))[0]
        rows, columns = plane.shape_pixels
        assert (y / rows, x / columns) == pytest.approx((row, column), abs=0.03)
    assert seen == PICTURE_HALVES


def test_letters_say_the_same_as_the_pictures(make_grid):
    planes = {plane.name: plane.edges for plane in choose_planes(planted(make_grid((20, 22, 24)), (0, 0, 0)))}
    assert planes == {
        "axial": ("R", "L", "A", "P"),
        "coronal": ("R", "L", "S", "I"),
        "sagittal": ("A", "P", "S", "I"),
    }


def test_oblique_grids_are_drawn_by_their_nearest_axes(make_grid):
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    image = planted(make_grid((30, 30, 24), 1.0, turn @ np.diag([-1.0, -1.0, 1.0])), LEFT_ANTERIOR_SUPERIOR_MM)
    axial = next(planes_through(image, LEFT_ANTERIOR_SUPERIOR_MM))
    row, column = brightest(axial.draw(image.tensor)[0])
    assert row < 0.5 < column


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 3.0), (2.0, 0.7, 0.7)])
def test_pixels_are_square(make_grid, spacing):
    planes = choose_planes(planted(make_grid((40, 30, 20), spacing), (0, 0, 0)))
    per_mm = {round(side / mm, 1) for plane in planes for side, mm in zip(plane.shape_pixels[::-1], plane.size_mm)}  # noqa: B905
    assert max(per_mm) / min(per_mm) == pytest.approx(1.0, abs=0.03)
    assert max(max(plane.shape_pixels) for plane in planes) == 448


def test_planes_go_through_the_foreground(make_grid):
    grid = make_grid((60, 60, 60))
    ball = (grid.centres() - torch.tensor([15.0, -12.0, 8.0], dtype=torch.float64)).square().sum(-1) < 49
    image = Image(1000.0 * ball[None] - 1000.0, grid)  # air is not 0 in CT
    middle = {plane.name: plane.position_mm for plane in choose_planes(image) if plane.number == MIDDLE}
    assert middle == pytest.approx({"axial": 8.0, "coronal": -12.0, "sagittal": 15.0}, abs=1.5)
    for plane in choose_planes(image):
        assert plane.cut(image.tensor).max() == 0.0
    assert len({(plane.name, plane.index) for plane in choose_planes(image)}) == 9


@pytest.mark.parametrize("shape", [*itertools.permutations((1, 12, 16)), (1, 1, 9), (1, 1, 1), (2, 2, 2)])
def test_thin_volumes_keep_the_planes_that_show_something(make_grid, shape):
    image = Image(torch.rand(1, *shape), make_grid(shape))
    planes = choose_planes(image)
    assert any(plane.number == MIDDLE for plane in planes)
    if sorted(shape)[1] > 1 and 1 in shape:
        assert len(planes) == 1
    for plane in planes:
        assert plane.draw(image.tensor).shape == (1, *plane.shape_pixels)


def test_a_photograph_looks_like_the_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 33, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.png")
    image = read_image(tmp_path / "photo.png")
    (plane,) = choose_planes(image)
    assert plane.edges is None
    assert np.array_equal(np.moveaxis(plane.cut(image.tensor), 0, -1), pixels)


def test_2d_and_3d_files_of_one_slice_look_alike(make_grid):
    values = torch.rand(1, 18, 22)
    (flat,) = choose_planes(Image(values, make_grid((18, 22))))
    (deep,) = choose_planes(Image(values[..., None], make_grid((18, 22, 1))))
    assert flat.edges == deep.edges == ("R", "L", "A", "P")
    assert np.array_equal(flat.cut(values), deep.cut(values[..., None]))


def test_2d_letters_follow_the_plane_of_the_slice(make_grid):
    coronal = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    _, notes = matrix_in_plane(coronal, "scan.nii")
    (plane,) = choose_planes(Image(torch.rand(1, 8, 9), make_grid((8, 9)), {"notes": notes}))
    assert plane.edges == ("R", "L", "S", "I")


@pytest.mark.parametrize("reorientation", ORIENTATIONS)
def test_grid_lines_move_with_the_displacement(make_grid, reorientation):
    image = planted(make_grid((30, 34, 26), (1.0, 1.0, 2.0)), (0, 0, 0)).reorient(reorientation)
    still = torch.zeros(3, *image.grid.shape)
    right_and_up = still.clone()
    right_and_up[0], right_and_up[2] = 3.0, 4.0  # mm towards Right and Superior
    coronal = next(plane for plane in choose_planes(image) if plane.name == "coronal" and plane.number == MIDDLE)
    before, after = (first_point(fields.grid_path(field, coronal, 5.0)) for field in (still, right_and_up))
    pixels_per_mm = coronal.shape_pixels[0] / coronal.size_mm[1]
    moved_mm = (np.array(after) - before) / fields.TENTHS / pixels_per_mm
    assert moved_mm == pytest.approx([-3.0, -4.0], abs=0.05)  # patient right is left, up is less y


def first_point(path: str) -> tuple[int, int]:
    """Where an SVG path starts."""
    x, y = path[1:].split("l")[0].split()
    return int(x), int(y)


def test_a_grid_without_displacement_is_straight(make_grid):
    image = planted(make_grid((30, 34, 26)), (0, 0, 0))
    plane = choose_planes(image)[0]
    for line in fields.grid_path(torch.zeros(3, 30, 34, 26), plane, 5.0).split("M")[1:]:
        steps = np.array(line.split("l")[1].split(), dtype=int).reshape(-1, 2)
        assert (steps[:, 0] == 0).all() or (steps[:, 1] == 0).all()


def test_the_jacobian_map_is_symmetric_about_one_and_marks_folding(make_grid):
    image = planted(make_grid((20, 20, 20)), (0, 0, 0))
    plane = next(plane for plane in choose_planes(image) if plane.number == MIDDLE)
    assert not fields.nonpositive(torch.ones(20, 20, 20), plane).any()
    jacobian = torch.ones(20, 20, 20)
    jacobian[3, 16, plane.index] = 0.0  # left (x < 0) and anterior
    bad = fields.nonpositive(jacobian, plane)
    row, column = brightest(bad.astype(float))
    assert row < 0.3
    assert column > 0.7
    colours = fields.jacobian_map(fields.log_jacobian(jacobian, plane), bad, 2.0)
    assert np.allclose(colours[bad], fields.hex_to_rgb(fields.ALARM))
    twice, half = (fields.log_jacobian(torch.full((20, 20, 20), value), plane) for value in (2.0, 0.5))
    assert np.allclose(twice, -half)
    assert fields.jacobian_limit([twice]) == 2.0


def test_slices_go_through_a_small_part_that_is_seen(make_grid):
    image = Image(torch.ones(1, 40, 48, 44) + torch.rand(1, 40, 48, 44) / 10, make_grid((40, 48, 44)))
    seen = torch.zeros(image.grid.shape, dtype=torch.bool)
    seen[4:12, 30:40, 20:26] = True
    assert all(plane.cut(seen).any() for plane in choose_planes(image, seen))
    usual = [plane.index for plane in choose_planes(image)]
    for shown in (torch.ones_like(seen), torch.zeros_like(seen)):
        assert [plane.index for plane in choose_planes(image, shown)] == usual
