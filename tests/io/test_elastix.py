"""elastix's parameter files: what we write comes back, and what cannot be read or written is said."""

import pytest

from pullback.io import read_transform, write_transform
from pullback.io.registry import recognise
from pullback.transforms import Affine, Chain
from transform_files import affine, field_on, grid_of, largest_gap, points_in, spline_on

KINDS = ("RAS", "LPS", "oblique", "anisotropic")


@pytest.fixture
def written(tmp_path):
    """The text of a written matrix, and the path."""
    path = tmp_path / "a.txt"
    write_transform(path, affine(3), fixed=grid_of("oblique", 3), format="elastix")
    return path


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_matrices_and_splines_return(tmp_path, kind, num_dims):
    grid, path = grid_of(kind, num_dims), tmp_path / "a.txt"
    write_transform(path, affine(num_dims), fixed=grid, format="elastix")
    assert recognise(path).name == "elastix"
    assert largest_gap(read_transform(path).matrix, affine(num_dims).matrix) < 1e-9
    for order in (1, 2, 3):
        spline = spline_on(grid, order)
        write_transform(path, spline, fixed=grid, format="elastix")
        points = points_in(grid)
        assert largest_gap(read_transform(path)(points), spline(points)) < 1e-9


def test_a_chain_goes_through_its_files(tmp_path):
    grid = grid_of("oblique", 3)
    near = Affine.from_parts(translation_mm=(1.0, -2.0, 0.5), rotation=(0.1, 0.0, 0.05))
    write_transform(tmp_path / "0.txt", near, fixed=grid, format="elastix")
    write_transform(tmp_path / "1.txt", spline_on(grid), fixed=grid, format="elastix")
    changed(tmp_path / "1.txt", "NoInitialTransform", "/elsewhere/0.txt")
    read, points = read_transform(tmp_path / "1.txt"), points_in(grid)
    assert largest_gap(read(points), spline_on(grid)(near(points))) < 1e-9
    changed(tmp_path / "1.txt", "Compose", "Add")
    with pytest.raises(ValueError, match="only Compose can be read"):
        read_transform(tmp_path / "1.txt")
    (tmp_path / "0.txt").unlink()
    changed(tmp_path / "1.txt", "Add", "Compose")
    with pytest.raises(FileNotFoundError, match="put it beside"):
        read_transform(tmp_path / "1.txt")


def test_files_that_name_each_other_end(written):
    other = written.with_name("b.txt")
    other.write_text(written.read_text().replace("NoInitialTransform", "a.txt"))
    changed(written, "NoInitialTransform", "b.txt")
    with pytest.raises(ValueError, match="its own initial transform"):
        read_transform(written)


def test_the_spelling_before_5_1(tmp_path, written):
    write_transform(tmp_path / "1.txt", spline_on(grid_of("RAS", 3)), fixed=grid_of("RAS", 3), format="elastix")
    changed(tmp_path / "1.txt", "InitialTransformParameterFileName", "InitialTransformParametersFileName")
    changed(tmp_path / "1.txt", "NoInitialTransform", "a.txt")
    assert isinstance(read_transform(tmp_path / "1.txt"), Chain)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("AffineTransform", "SplineKernelTransform", "'SplineKernelTransform', but of elastix only"),
        ("(MovingImageDimension 3)", "(MovingImageDimension 2)", "3-D to 2-D"),
        ('(UseDirectionCosines "true")', '(UseDirectionCosines "false")', "ignores the direction"),
        ("(CenterOfRotationPoint 0.0 0.0 0.0)", "(CenterOfRotationPoint 0.0 0.0)", "2 numbers"),
        ("(CenterOfRotationPoint 0.0 0.0 0.0)", "(CenterOfRotationPoint a b c)", "something else than numbers"),
        ("(TransformParameters ", "(TransformParameters 1.0 ", "truncated or corrupt"),
        ("(FixedImageDimension 3)", "", "no entry"),
    ],
)
def test_what_cannot_be_read(written, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_transform(changed(written, old, new), format="elastix")


def test_cyclic_splines_are_refused(tmp_path):
    write_transform(tmp_path / "a.txt", spline_on(grid_of("RAS", 3)), fixed=grid_of("RAS", 3), format="elastix")
    changed(tmp_path / "a.txt", '(UseCyclicTransform "false")', '(UseCyclicTransform "true")')
    with pytest.raises(ValueError, match="cyclic"):
        read_transform(tmp_path / "a.txt")


def test_what_cannot_be_written(tmp_path):
    grid = grid_of("RAS", 3)
    with pytest.raises(ValueError, match="needs the fixed image"):
        write_transform(tmp_path / "a.txt", affine(3), format="elastix")
    for transform in (field_on(grid), Chain((affine(3), spline_on(grid)))):
        with pytest.raises(ValueError, match="one matrix or one B-spline"):
            write_transform(tmp_path / "a.txt", transform, fixed=grid, format="elastix")
    with pytest.raises(ValueError, match="no kinds"):
        write_transform(tmp_path / "a.txt", affine(3), fixed=grid, format="elastix", kind="affine")
    assert list(tmp_path.iterdir()) == []
