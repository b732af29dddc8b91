"""Points: exact round trips, LPS, odd headers, and errors that name the line."""

import os

import numpy as np
import pytest
import SimpleITK
import torch

from pullback.data import Points
from pullback.io import read_image, read_points, write_points


def random_points(num_dims, names=None):
    """Numbers with no short decimal form, some of them awkward."""
    generator = torch.Generator().manual_seed(0)
    coordinates = torch.rand((6, num_dims), generator=generator, dtype=torch.float64) * 200 - 100
    coordinates[0] = torch.tensor([1 / 3, -0.0, 1e-300][:num_dims], dtype=torch.float64)
    coordinates[1] = torch.tensor([1e22, 5e-324, 0.1][:num_dims], dtype=torch.float64)
    return Points(coordinates, names)


def written(tmp_path, text):
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("lps", [False, True])
@pytest.mark.parametrize("names", [None, ["a", "b, c", 'd "e"', "", "f", "Ä"]])
def test_points_return_to_the_last_bit(tmp_path, num_dims, lps, names):
    points = random_points(num_dims, names)
    write_points(tmp_path / "a.csv", points, lps=lps)
    again = read_points(tmp_path / "a.csv", lps=lps, num_dims=num_dims)
    assert torch.equal(again.coordinates, points.coordinates)
    assert (again.names is None) if names is None else (list(again.names) == names)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_lps_changes_the_signs_of_x_and_y(tmp_path, num_dims):
    points = random_points(num_dims)
    write_points(tmp_path / "a.csv", points, lps=True)
    signs = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)[:num_dims]
    assert torch.equal(read_points(tmp_path / "a.csv", num_dims=num_dims).coordinates, points.coordinates * signs)


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z\n1,2,3\n4,5,6\n",
        "X,Y,Z\r\n1,2,3\r\n\r\n4,5,6\r\n",
        ",X,Y,Z\n1,1,2,3\n2,4,5,6\n",
        "\ufeffz, y ,x,t\n3,2,1,0\n 6 ,5,4.0,0\n\n",
        "x;y;z\n1;2;3\n4;5;6\n",
        "x,y,z\n1,2,3,\n4,5,6, ,\n",
        "t\tx\ty\tz\n0\t1\t2\t3\n0\t4\t5\t6e0",
    ],
)
def test_headers_of_all_kinds(tmp_path, text):
    points = read_points(written(tmp_path, text))
    assert points.coordinates.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert points.names is None


@pytest.mark.parametrize("column", ["name", "Label", " NAME "])
def test_names_are_kept(tmp_path, column):
    points = read_points(written(tmp_path, f"x,{column},y,z,note\n1,tip,2,3,!\n4,root,5,6\n"))
    assert list(points.names) == ["tip", "root"]


def test_flat_points(tmp_path):
    path = written(tmp_path, ",X,Y\n1,59,72\n2,122,108\n")
    assert read_points(path, num_dims=2).coordinates.tolist() == [[59, 72], [122, 108]]
    assert read_points(written(tmp_path, "x,y,z,t\n1,2,0,0\n"), num_dims=2).coordinates.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"line 3: z is 4"):
        read_points(written(tmp_path, "x,y,z\n1,2,0\n1,2,4\n"), num_dims=2)


def test_pixels_of_a_photograph_are_lps_points(tmp_path):
    rows = np.zeros((20, 30), dtype=np.uint8)
    rows[12, 7] = 255
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(rows), str(tmp_path / "a.png"))
    image = read_image(tmp_path / "a.png")
    points = read_points(written(tmp_path, "x,y\n7,12\n"), lps=True, num_dims=2)
    voxel = image.grid.to_voxel(points.coordinates)[0].long().tolist()
    assert voxel == [7, 12]
    assert image.tensor[0, voxel[0], voxel[1]] == 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("x,y,z\n", "no point"),
        ("a,b,c\n1,2,3\n", r"line 1, has the columns \['a', 'b', 'c'\].*x, y, z missing"),
        ("1,2,3\n4,5,6\n", "add a header line"),
        ("x,y\n1,2\n", "line 1, has no column z, but 3-D points are needed"),
        ("x,y,z\n1,2,3\n4,oops,6\n", "line 3: y is 'oops'"),
        ("x,y,z\n\n1,2,3\n4,5\n", "line 4: z is ''"),
        ("x,y,z\n1,nan,3\n", "line 2: y is 'nan'"),
        ("x,y,z\n1,2,-inf\n", "line 2: z is '-inf'"),
        ("x,y,z\n1,2,3\n1,5,2,5,3,5\n", "line 3 has 6 cells, but the header 3; with decimal commas"),
        ("x,y,z,x\n1,2,3,4\n", "line 1, has the column x 2 times"),
        ("x,y,z,name,Name\n1,2,3,a,b\n", "line 1, has the column name 2 times"),
        ("x,y,z\n1_0,2,3\n", "line 2: x is '1_0'"),
    ],
)
def test_errors_name_the_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_points(path)
    assert str(path) in str(caught.value)


def test_other_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_points(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="num_dims"):
        read_points(written(tmp_path, "x,y,z\n1,2,3\n"), num_dims=4)
    (tmp_path / "b.csv").write_bytes(b"x,y,z\n\xff\xfe\x00\n")
    with pytest.raises(ValueError, match="not a CSV text file"):
        read_points(tmp_path / "b.csv")
    with pytest.raises(FileNotFoundError, match="create it first"):
        write_points(tmp_path / "nowhere" / "a.csv", random_points(3))


def test_writing_takes_the_place_of_files_only(tmp_path):
    points, pipe, link = random_points(3), tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="device or a pipe"):
        write_points(pipe, points)
    assert pipe.is_fifo()
    (tmp_path / "real.csv").write_text("old")
    link.symlink_to("real.csv")
    write_points(link, points)
    assert link.is_symlink()
    assert torch.equal(read_points(tmp_path / "real.csv").coordinates, points.coordinates)


@pytest.mark.parametrize("name", ["a.fcsv", "a.mrk.json", "a.nii.gz", "a"])
def test_points_are_csv(tmp_path, name: str):
    with pytest.raises(ValueError, match="written as CSV"):
        write_points(tmp_path / name, random_points(3))


def test_failure_leaves_nothing(tmp_path):
    points = random_points(3, ["a", "b", "c", "d", "e", "f"])
    object.__setattr__(points, "names", ["a", "b"])
    with pytest.raises(IndexError):
        write_points(tmp_path / "a.csv", points)
    assert list(tmp_path.iterdir()) == []
