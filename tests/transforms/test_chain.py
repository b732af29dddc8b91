"""Chains: order, collapse, inverses and the chain rule."""

import pytest
import torch

from examples import inner_points, oblique_axes, smooth_noise
from pullback.data import Points
from pullback.space import Grid
from pullback.transforms import (
    Affine,
    BSpline,
    Chain,
    DisplacementField,
    Rigid,
    StationaryVelocity,
    ThinPlateSpline,
    Translation,
    chain,
    identity,
)

GRID = Grid.from_spacing((20, 18, 16), (1.0, 1.5, 2.0), origin=(-10, -12, -14), direction=oblique_axes())
AFFINE = Affine.from_parts(rotation=[0.1, -0.05, 0.1], scaling=[1.05, 0.95, 1.1], shear=[0.05, 0, 0.1])
RIGID = Rigid.from_parts(rotation=[0.0, 0.1, -0.1], translation_mm=[0.5, -1.0, 0.3])
FIELD = DisplacementField.from_voxels(smooth_noise(3, *GRID.shape, largest=1.2), GRID)
FLOW = StationaryVelocity(0.8 * FIELD.displacement, GRID)
POINTS = inner_points(GRID, margin=5)


def test_the_last_part_acts_first():
    assert torch.equal((AFFINE @ FIELD)(POINTS), AFFINE(FIELD(POINTS)))
    assert torch.equal((FIELD @ AFFINE)(POINTS), FIELD(AFFINE(POINTS)))
    assert not torch.allclose((AFFINE @ FIELD)(POINTS), (FIELD @ AFFINE)(POINTS), atol=1e-3)


def test_grouping_does_not_matter():
    left, right = (AFFINE @ FIELD) @ FLOW, AFFINE @ (FIELD @ FLOW)
    assert (
        [type(p) for p in left.parts]
        == [type(p) for p in right.parts]
        == [Affine, DisplacementField, StationaryVelocity]
    )
    assert torch.equal(left(POINTS), right(POINTS))


def test_neighbouring_matrices_become_one():
    collapsed = chain(AFFINE, RIGID @ FIELD, FLOW @ RIGID, Translation.by([1, 2, 3]), identity())
    assert [type(p) for p in collapsed.parts] == [Affine, DisplacementField, StationaryVelocity, Rigid]
    step_by_step = AFFINE(RIGID(FIELD(FLOW(RIGID(POINTS + torch.tensor([1.0, 2.0, 3.0]).double())))))
    torch.testing.assert_close(collapsed(POINTS), step_by_step)


def test_a_chain_of_matrices_is_a_matrix():
    assert isinstance(chain(AFFINE, RIGID, AFFINE), Affine)
    assert chain(FIELD) is FIELD


def test_the_inverse_turns_the_order_around():
    transform = AFFINE @ FIELD @ RIGID @ FLOW
    inverse = ~transform
    assert [type(p) for p in inverse.parts] == [StationaryVelocity, Rigid, DisplacementField, Affine]
    torch.testing.assert_close(inverse(transform(POINTS)), POINTS, rtol=0, atol=0.1)


def test_determinants_multiply_where_the_points_have_come_to():
    transform = AFFINE @ FIELD @ RIGID
    expected = AFFINE.determinant_at(POINTS) * FIELD.determinant_at(RIGID(POINTS)) * RIGID.determinant_at(POINTS)
    torch.testing.assert_close(transform.determinant_at(POINTS), expected)
    assert not torch.allclose(FIELD.determinant_at(RIGID(POINTS)), FIELD.determinant_at(POINTS), atol=1e-3)


def test_determinants_are_the_derivative_of_the_map():
    # Far inside a voxel's cell the map is smooth; the field's central differences are within a few per cent of it.
    transform = AFFINE @ FLOW @ RIGID
    step = 0.5
    columns = []
    for axis in torch.eye(3, dtype=torch.float64):
        columns.append((transform(POINTS + step * axis) - transform(POINTS - step * axis)) / (2 * step))
    numeric = torch.linalg.det(torch.stack(columns, dim=-1))
    torch.testing.assert_close(transform.determinant_at(POINTS), numeric, rtol=0.05, atol=0.0)


def test_empty_and_mixed_chains_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Chain(())
    with pytest.raises(ValueError, match="dimensions"):
        Chain((identity(2), FIELD))
    with pytest.raises(ValueError, match=r"The transforms have 3, 3 and 2 dimensions"):
        chain(AFFINE, RIGID, identity(2))
    with pytest.raises(ValueError, match=r"have 3 and 2 dimensions"):
        AFFINE @ identity(2)


def test_transforms_are_data_without_gradient():
    def tracked(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().clone().requires_grad_()

    grid = Grid(GRID.shape, tracked(GRID.voxel_to_world))
    field = DisplacementField(tracked(FIELD.displacement), grid)
    flow = StationaryVelocity(tracked(FLOW.velocity), grid)
    plate = ThinPlateSpline.fit(tracked(POINTS[:30]), tracked(FIELD(POINTS[:30])))
    plate = ThinPlateSpline(tracked(plate.landmarks), tracked(plate.weights), Affine(tracked(plate.affine.matrix)))
    spline = BSpline(tracked(FIELD.displacement), grid)
    points = tracked(POINTS)
    for transform in (Affine(tracked(AFFINE.matrix)), field, flow, plate, spline):
        moved = (transform @ field)(points)
        assert not moved.requires_grad
        assert torch.equal(moved, (transform @ field)(POINTS))
    assert not Points(points).coordinates.requires_grad
    assert points.requires_grad
