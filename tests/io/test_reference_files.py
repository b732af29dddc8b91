"""Files that other tools wrote, and the points that those tools map with them: read, we map them alike.

``tests/data/transforms/<tool>/points.json`` names the tool, its version, the script that made the files, and for each
file points of the fixed world and where the tool takes them (RAS mm).
"""

import functools
import json
from pathlib import Path

import pytest
import torch

from pullback.io import itk, read_transform
from pullback.io.registry import FORMATS
from pullback.space import Grid

FOLDER = Path(__file__).parents[1] / "data" / "transforms"
TOOLS = sorted(path.parent.name for path in FOLDER.glob("*/points.json"))


@functools.cache
def entries(tool):
    return json.loads((FOLDER / tool / "points.json").read_text(encoding="utf-8"))["files"]


FILES = [(tool, name) for tool in TOOLS for name in entries(tool)]


def grid_of(entry, which):
    grid = entry.get(which)
    return None if grid is None else Grid(tuple(grid["shape"]), torch.tensor(grid["voxel_to_world"]).double())


def gap_mm(tool, name, read=None):
    """How far our images of the points are from the tool's, at most."""
    entry = entries(tool)[name]
    grids = {which: grid_of(entry, which) for which in ("fixed", "moving")}
    form = entry["format"] if entry.get("ask") else None
    transform = read_transform(FOLDER / tool / name, format=form, **grids) if read is None else read(entry, grids)
    points, mapped = (torch.tensor(entry[key], dtype=torch.float64) for key in ("points", "mapped"))
    return float(torch.linalg.vector_norm(transform(points) - mapped, dim=-1).max())


@pytest.mark.parametrize(("tool", "name"), FILES)
def test_points_go_where_the_tool_takes_them(tool, name):
    assert gap_mm(tool, name) < entries(tool)[name]["tolerance_mm"]


@pytest.mark.parametrize(("tool", "name"), FILES)
def test_every_file_moves_its_points(tool, name):
    """A file near the identity could not tell a right reading from a wrong one."""
    entry = entries(tool)[name]
    points, mapped = (torch.tensor(entry[key], dtype=torch.float64) for key in ("points", "mapped"))
    assert float(torch.linalg.vector_norm(mapped - points, dim=-1).max()) > 0.1


@pytest.mark.parametrize(("tool", "name"), FILES)
def test_only_its_own_format_claims_a_file(tool, name):
    entry, path = entries(tool)[name], FOLDER / tool / name
    claims = [form.name for form in FORMATS if form.recognises(path)]
    if entry.get("ask"):
        assert claims == []
        assert entry["format"] in [form.name for form in FORMATS if form.could_be(path)]
        with pytest.raises(ValueError, match="--from"):
            read_transform(path)
    else:
        assert claims == [entry["format"]]


# Planted errors: each classic mistake must make the check above fail --------------------------------------------------

MISTAKES = {
    "LPS taken for RAS": lambda transform, signs: transform,
    "moving to fixed": lambda transform, signs: None,
}
EVERY_KIND = [
    ("itk", "euler-3d.tfm"),
    ("itk", "bspline-3d.tfm"),
    ("itk", "composite-3d.h5"),
    ("itk", "composite-2d.h5"),
    ("itk", "field.nii.gz"),
    ("itk", "field.mha"),
    ("ants", "affine-float.mat"),
    ("elastix", "TransformParameters.0.txt"),
    ("elastix", "TransformParameters.1.txt"),
]


@pytest.mark.parametrize(("tool", "name"), EVERY_KIND)
def test_lps_for_ras_is_caught(tool, name, monkeypatch):
    monkeypatch.setattr(itk, "LPS", (1.0, 1.0, 1.0))
    assert gap_mm(tool, name) > 10 * entries(tool)[name]["tolerance_mm"]
