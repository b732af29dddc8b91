"""Files that other tools wrote, and the points that those tools map with them: read, we map them alike.

``tests/data/transforms/<tool>/points.json`` names the tool, its version, the script that made the files, and for each
file points of the fixed world and where the tool takes them (RAS mm).
"""

import functools
import json
from pathlib import Path

import pytest
import torch

from pullback.io import elastix, itk, read_transform, warps, x5
from pullback.io.registry import FORMATS
from pullback.space import Grid
from pullback.transforms import BSpline, Chain, DisplacementField, to_world_vectors

FOLDER = Path(__file__).parents[1] / "data" / "transforms"
TOOLS = sorted(path.parent.name for path in FOLDER.glob("*/points.json"))


@functools.cache
def entries(tool):
    return json.loads((FOLDER / tool / "points.json").read_text(encoding="utf-8"))["files"]


FILES = [(tool, name) for tool in TOOLS for name in entries(tool)]


def grid_of(entry, which):
    grid = entry.get(which)
    return None if grid is None else Grid(tuple(grid["shape"]), torch.tensor(grid["voxel_to_world"]).double())


def gap_mm(tool, name):
    """How far our images of the points are from the tool's, at most."""
    entry = entries(tool)[name]
    grids = {which: grid_of(entry, which) for which in ("fixed", "moving")}
    transform = read_transform(FOLDER / tool / name, format=entry["format"] if entry.get("ask") else None, **grids)
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


# Planted errors: each classic mistake makes the check above fail ------------------------------------------------------

MATRICES = [("itk", "euler-3d.tfm"), ("itk", "similarity-2d.mat"), ("ants", "affine-float.mat")]
CHAINS = [
    ("itk", "composite-3d.h5"),
    ("itk", "composite-2d.h5"),
    ("elastix", "TransformParameters.1.txt"),
    ("x5", "chain.x5"),
]
SPLINES = [("itk", "bspline-2d.tfm"), ("itk", "bspline-3d.tfm"), ("x5", "bspline.x5")]
FIELDS = [("itk", "field.nii.gz"), ("itk", "field.mha"), ("itk", "field.nrrd"), ("x5", "dense.x5")]
IN_LPS = [case for case in (*MATRICES, *CHAINS, *SPLINES, *FIELDS) if case[0] != "x5"]


def is_caught(tool, name):
    return gap_mm(tool, name) > 10 * entries(tool)[name]["tolerance_mm"]


def replace_everywhere(monkeypatch, name, value):
    """Plant a wrong class or function into every module that reads files under that name."""
    for module in (elastix, itk, warps, x5):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize(("tool", "name"), IN_LPS)
def test_lps_taken_for_ras_is_caught(tool, name, monkeypatch):
    monkeypatch.setattr(itk, "LPS", (1.0, 1.0, 1.0))
    assert is_caught(tool, name)


@pytest.mark.parametrize(("tool", "name"), [case for case in SPLINES + FIELDS if case[0] == "x5"])
def test_ras_taken_for_lps_is_caught(tool, name, monkeypatch):
    for kind in (BSpline, DisplacementField):
        replace_everywhere(
            monkeypatch,
            kind.__name__,
            lambda vectors, grid, *more, kind=kind: kind(
                vectors * torch.tensor([-1.0, -1.0, 1.0])[:, None, None, None], grid, *more
            ),
        )
    assert is_caught(tool, name)


@pytest.mark.parametrize(("tool", "name"), MATRICES + CHAINS + SPLINES + FIELDS)
def test_the_way_of_images_taken_for_that_of_points_is_caught(tool, name):
    entry = entries(tool)[name]
    transform = ~read_transform(FOLDER / tool / name)
    points, mapped = (torch.tensor(entry[key], dtype=torch.float64) for key in ("points", "mapped"))
    assert float((transform(points) - mapped).abs().max()) > 10 * entry["tolerance_mm"]


@pytest.mark.parametrize(("tool", "name"), CHAINS)
def test_a_swapped_order_is_caught(tool, name, monkeypatch):
    replace_everywhere(monkeypatch, "Chain", lambda parts: Chain(parts[::-1]))
    assert is_caught(tool, name)


@pytest.mark.parametrize(("tool", "name"), SPLINES + FIELDS + CHAINS[:2])
def test_half_a_voxel_is_caught(tool, name, monkeypatch):
    def shifted(grid):
        matrix = grid.voxel_to_world.clone()
        matrix[:-1, -1] += matrix[:-1, :-1].sum(dim=1) / 2
        return Grid(grid.shape, matrix)

    for kind in (BSpline, DisplacementField):
        replace_everywhere(
            monkeypatch,
            kind.__name__,
            lambda vectors, grid, *more, kind=kind: kind(vectors, shifted(grid), *more),
        )
    assert is_caught(tool, name)


@pytest.mark.parametrize(("tool", "name"), SPLINES + FIELDS + CHAINS[:2])
def test_voxels_taken_for_mm_are_caught(tool, name, monkeypatch):
    for kind in (BSpline, DisplacementField):
        replace_everywhere(
            monkeypatch,
            kind.__name__,
            lambda vectors, grid, *more, kind=kind: kind(to_world_vectors(vectors, grid), grid, *more),
        )
    assert is_caught(tool, name)
