"""Landmarks of 3D Slicer and keypoints of Learn2Reg."""

import json

import pytest
import torch

from examples import GRIDS
from pullback.io import read_keypoints, read_points

HEAD = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n"
COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
ROWS = 'vtk_0,1,2,3,0,0,0,1,1,1,0,tip,,\nvtk_1,-4.5,5,6,0,0,0,1,1,1,0,"root, left",,,2,0\n'


def fcsv(system: str, columns: str = COLUMNS, rows: str = ROWS) -> str:
    return HEAD.format(system) + columns + rows


def markups(system: str | None, **more) -> str:
    points = [
        {"id": "1", "label": "tip", "position": [1, 2, 3.0], "positionStatus": "defined"},
        {"id": "2", "label": "root, left", "position": [-4.5, 5, 6]},
    ]
    return json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": points, **more}]})


def write(tmp_path, name: str, text: str):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "text", "sign"),
    [
        ("a.fcsv", fcsv("LPS"), -1),
        ("a.fcsv", fcsv("1", columns=""), -1),
        ("a.fcsv", fcsv("RAS"), 1),
        ("A.FCSV", fcsv("0"), 1),
        ("a.mrk.json", markups("LPS", coordinateUnits="mm"), -1),
        ("a.json", markups("RAS"), 1),
    ],
)
def test_files_say_their_own_system(tmp_path, name, text, sign):
    points = read_points(write(tmp_path, name, text))
    assert points.coordinates.tolist() == [[sign * 1, sign * 2, 3], [sign * -4.5, sign * 5, 6]]
    assert list(points.names) == ["tip", "root, left"]


def test_all_lists_of_a_file_are_read(tmp_path):
    lists = [json.loads(markups("LPS"))["markups"][0] for _ in range(2)]
    lists[1]["controlPoints"] = [{"label": "third", "position": [7, 8, 9]}]
    points = read_points(write(tmp_path, "a.mrk.json", json.dumps({"markups": lists})))
    assert points.coordinates.tolist() == [[-1, -2, 3], [4.5, -5, 6], [-7, -8, 9]]
    assert list(points.names) == ["tip", "root, left", "third"]
    lists[1]["coordinateSystem"] = "RAS"
    with pytest.raises(ValueError, match="lists in LPS and RAS"):
        read_points(write(tmp_path, "b.mrk.json", json.dumps({"markups": lists})))


def test_flat_landmarks(tmp_path):
    flat = "1,1,2,0,0,0,0,1,1,1,0,a,,\n"
    assert read_points(write(tmp_path, "a.fcsv", fcsv("RAS", rows=flat)), num_dims=2).coordinates.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="z is 3"):
        read_points(write(tmp_path, "b.fcsv", fcsv("RAS")), num_dims=2)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.fcsv", COLUMNS + ROWS, "coordinate system 'None'"),
        ("a.fcsv", fcsv("IJK"), "coordinate system 'IJK'"),
        ("a.fcsv", fcsv("RAS", rows=""), "no point"),
        ("a.fcsv", fcsv("RAS", rows="1,2,x,3\n"), r"line 4: 'x' stands there"),
        ("a.fcsv", fcsv("RAS", rows="1,2,1_0,3\n"), r"line 4: '1_0' stands there"),
        ("a.fcsv", fcsv("RAS", columns="# columns = id,a,b\n"), "x, y and z are needed"),
        ("a.json", "{}", "not a markups file"),
        ("a.json", "[1", "not a markups file"),
        ("a.json", '{"markups": []}', "no point"),
        ("a.json", '{"markups": [{"controlPoints": 3}]}', "not a markups file"),
        ("a.json", markups(None), "coordinate system"),
        ("a.json", markups("RAS", coordinateUnits="um"), "in um"),
        ("a.json", markups("RAS", controlPoints=[{"position": None}]), "point 1 has no position"),
        ("a.json", markups("RAS", controlPoints=[3]), "point 1 is 3"),
    ],
)
def test_errors(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_points(write(tmp_path, name, text))


def test_a_contradiction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leave `lps` out"):
        read_points(write(tmp_path, "a.fcsv", fcsv("RAS")), lps=True)
    assert len(read_points(write(tmp_path, "b.fcsv", fcsv("LPS")), lps=True)) == 2


def test_keypoints_are_voxels_of_their_image(tmp_path):
    grid = GRIDS["oblique"]
    path = write(tmp_path, "k.csv", "1.000,2.000,3.000\n0.5,4,2\n")
    expected = grid.to_world(torch.tensor([[1.0, 2, 3], [0.5, 4, 2]], dtype=torch.float64))
    assert torch.equal(read_keypoints(path, grid).coordinates, expected)
    with pytest.raises(ValueError, match="line 1 has 2 numbers"):
        read_keypoints(write(tmp_path, "b.csv", "1,2\n"), grid)
    with pytest.raises(ValueError, match="line 2: j is 'y'"):
        read_keypoints(write(tmp_path, "b.csv", "1,2,3\n1,y,3\n"), grid)
    with pytest.raises(ValueError, match="no point"):
        read_keypoints(write(tmp_path, "b.csv", ""), grid)
    with pytest.raises(FileNotFoundError):
        read_keypoints(tmp_path / "none.csv", grid)
