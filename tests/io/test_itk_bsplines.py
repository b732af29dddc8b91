"""B-splines in ITK's files: SimpleITK and we map the same points, whoever wrote the file."""

import numpy as np
import pytest
import SimpleITK
import torch

from pullback.io import read_transform, write_transform
from pullback.transforms import BSpline, Chain
from transform_files import affine, field_on, grid_of, largest_gap, mapped_by_simpleitk, points_in, spline_on

KINDS = ("RAS", "LPS", "oblique", "anisotropic")


def simpleitk_spline(num_dims, order=3):
    """A spline of SimpleITK on an oblique domain, with random coefficients."""
    spline = SimpleITK.BSplineTransform(num_dims, order)
    grid = grid_of("oblique", num_dims)
    spline.SetTransformDomainOrigin((grid.origin.numpy() * [-1, -1, 1][:num_dims]).tolist())
    spline.SetTransformDomainDirection((np.diag([-1, -1, 1][:num_dims]) @ grid.direction.numpy()).ravel().tolist())
    spline.SetTransformDomainPhysicalDimensions([30.0, 20.0, 40.0][:num_dims])
    spline.SetTransformDomainMeshSize([4, 3, 5][:num_dims])
    generator = np.random.default_rng(8)
    spline.SetParameters(generator.normal(size=len(spline.GetParameters())).tolist())
    return spline


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".mat"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_theirs_are_read(tmp_path, num_dims, suffix, order):
    spline = simpleitk_spline(num_dims, order)
    SimpleITK.WriteTransform(spline, str(tmp_path / f"a{suffix}"))
    read = read_transform(tmp_path / f"a{suffix}")
    assert isinstance(read, BSpline)
    assert read.order == order
    points = points_in(read.grid, outside=1.0)
    assert largest_gap(mapped_by_simpleitk(spline, points), read(points)) < 1e-9


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_ours_are_read_by_simpleitk(tmp_path, num_dims, kind, suffix):
    grid = grid_of(kind, num_dims)
    for order in (1, 2, 3):
        spline = spline_on(grid, order)
        write_transform(tmp_path / f"a{suffix}", spline)
        points = points_in(grid)
        assert largest_gap(mapped_by_simpleitk(tmp_path / f"a{suffix}", points), spline(points)) < 1e-9
        again = read_transform(tmp_path / f"a{suffix}")
        assert torch.equal(again.coefficients, spline.coefficients)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_chains_keep_their_order(tmp_path, suffix):
    grid = grid_of("oblique", 3)
    near = torch.eye(4, dtype=torch.float64)
    near[0, 3], near[1, 0] = 3.0, 0.05
    chain = Chain((type(affine(3))(near), spline_on(grid)))
    write_transform(tmp_path / f"a{suffix}", chain)
    points = points_in(grid)
    assert largest_gap(mapped_by_simpleitk(tmp_path / f"a{suffix}", points), chain(points)) < 1e-9
    assert largest_gap(read_transform(tmp_path / f"a{suffix}")(points), chain(points)) < 1e-9
    swapped = Chain(tuple(reversed(chain.parts)))
    assert largest_gap(swapped(points), chain(points)) > 0.1


def test_fields_do_not_go_into_text_with_splines(tmp_path):
    grid = grid_of("RAS", 3)
    with pytest.raises(ValueError, match="a deformation would be lost"):
        write_transform(tmp_path / "a.tfm", Chain((spline_on(grid), field_on(grid))))
    with pytest.raises(TypeError, match="inverse B-spline"):
        write_transform(tmp_path / "a.h5", ~spline_on(grid))


def test_damaged_splines_are_named(tmp_path):
    SimpleITK.WriteTransform(simpleitk_spline(2), str(tmp_path / "a.tfm"))
    text = (tmp_path / "a.tfm").read_text()
    (tmp_path / "b.tfm").write_text(text.replace("_double_2_2", "_double_2_2_5"))
    with pytest.raises(ValueError, match="`order` is 5"):
        read_transform(tmp_path / "b.tfm")
    (tmp_path / "b.tfm").write_text(text.replace("FixedParameters: 7", "FixedParameters: 8"))
    with pytest.raises(ValueError, match="truncated or corrupt"):
        read_transform(tmp_path / "b.tfm")
