"""X5: what we write comes back, in nitransforms' layout, and damage is said."""

import h5py
import numpy as np
import pytest

from pullback.io import read_transform, write_transform
from pullback.io.registry import recognise
from pullback.transforms import Chain, DisplacementField
from transform_files import affine, field_on, grid_of, largest_gap, points_in, spline_on

KINDS = ("RAS", "LPS", "oblique", "anisotropic")


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_everything_returns(tmp_path, kind, num_dims):
    grid, path = grid_of(kind, num_dims), tmp_path / "a.x5"
    points = points_in(grid)
    chain = Chain((affine(num_dims), field_on(grid), spline_on(grid)))
    for transform in (affine(num_dims), field_on(grid), spline_on(grid), chain):
        write_transform(path, transform, fixed=grid)
        assert recognise(path).name == "x5"
        assert largest_gap(read_transform(path)(points), transform(points)) < 1e-9


def test_layout(tmp_path):
    grid = grid_of("oblique", 3)
    write_transform(tmp_path / "a.x5", Chain((affine(3), field_on(grid))))
    with h5py.File(tmp_path / "a.x5") as file:
        assert file.attrs["Format"] == "X5"
        assert file["TransformChain/0"][()] == b"1/0"  # the field, node 1, acts first
        node = file["TransformGroup/1"]
        assert (node.attrs["Type"], node.attrs["Representation"]) == ("nonlinear", "displacements")
        assert node["Transform"].shape == (*grid.shape, 3)
        assert np.allclose(node["Domain/Mapping"], grid.voxel_to_world)
        assert node["DimensionKinds"][()].tolist() == [b"space", b"space", b"space", b"vector"]


def test_absolute_positions_are_read(tmp_path):
    grid = grid_of("oblique", 3)
    field = DisplacementField(field_on(grid).displacement.double(), grid)
    write_transform(tmp_path / "a.x5", field)
    with h5py.File(tmp_path / "a.x5", "r+") as file:
        node = file["TransformGroup/0"]
        node["Transform"][...] += grid.centres().numpy()
        node.attrs["Representation"] = "deformations"
    points = points_in(grid)
    assert largest_gap(read_transform(tmp_path / "a.x5")(points), field(points)) < 1e-9


def test_what_cannot_be_read(tmp_path):
    path = tmp_path / "a.x5"
    write_transform(path, Chain((affine(3), field_on(grid_of("RAS", 3)))))
    with h5py.File(path, "r+") as file:
        del file["TransformChain"]
    with pytest.raises(ValueError, match="2 transforms and 0 chains"):
        read_transform(path)
    write_transform(path, affine(3))
    with h5py.File(path, "r+") as file:
        file["TransformGroup/0"].attrs["Type"] = "composite"
    with pytest.raises(ValueError, match="type 'composite'"):
        read_transform(path)
    with h5py.File(path, "r+") as file:
        file["TransformGroup/0"].attrs["ArrayLength"] = 7
    with pytest.raises(ValueError, match="series of transforms"):
        read_transform(path)
    with h5py.File(path, "r+") as file:
        file.attrs["Version"] = 2
    with pytest.raises(ValueError, match="no X5 of version 1"):
        read_transform(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated or corrupt"):
        read_transform(path)


def test_what_cannot_be_written(tmp_path):
    grid = grid_of("RAS", 3)
    with pytest.raises(ValueError, match="order 2"):
        write_transform(tmp_path / "a.x5", spline_on(grid, 2))
    with pytest.raises(ValueError, match="inverse B-spline"):
        write_transform(tmp_path / "a.x5", ~spline_on(grid))
    assert list(tmp_path.iterdir()) == []
