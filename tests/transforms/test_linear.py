"""Linear transforms: kinds, parts, products, inverses."""

import math

import numpy as np
import pytest
import torch

from examples import GRIDS, noise, turn
from pullback.functional.rotations import rotation_from_vector
from pullback.transforms import (
    AbstractLinear,
    Affine,
    Rigid,
    Similarity,
    StationaryVelocity,
    Translation,
    identity,
)

QUARTER = math.pi / 2

EXAMPLES: dict[str, AbstractLinear] = {
    "identity": identity(),
    "translation": Translation.by([1.0, -2.0, 30.0]),
    "rigid": Rigid.from_parts(rotation=[0.3, -0.2, 0.9], translation_mm=[5, 6, 7], centre_mm=[10, 20, 30]),
    "similarity": Similarity.from_parts(rotation=[0.3, 1.2, 0.1], scaling=[1.3] * 3, translation_mm=[5, 6, 7]),
    "affine": Affine.from_parts(
        rotation=[0.1, -0.4, 0.2], scaling=[0.8, 1.1, 1.5], shear=[0.2, -0.1, 0.3], translation_mm=[1, 2, 3]
    ),
    "reflection": Affine.from_parts(rotation=[0.1, 0.2, 0.3], scaling=[-1.2, 0.9, 1.0], shear=[0.1, 0.0, -0.2]),
    "2-D rigid": Rigid.from_parts(rotation=[0.7], translation_mm=[3, -4], num_dims=2),
    "2-D affine": Affine.from_parts(
        rotation=[-2.0], scaling=[0.7, 1.4], shear=[0.5], translation_mm=[3, 4], num_dims=2
    ),
    "2-D reflection": Affine.from_parts(rotation=[0.4], scaling=[-0.7, 1.4], shear=[0.5], num_dims=2),
}
every_transform = pytest.mark.parametrize("transform", EXAMPLES.values(), ids=EXAMPLES.keys())


def some_points(num_dims: int) -> torch.Tensor:
    return 50 * noise(4, 5, num_dims, dtype=torch.float64)


@every_transform
def test_the_inverse_undoes_it_and_is_of_the_same_kind(transform):
    points = some_points(transform.num_dims)
    assert type(~transform) is type(transform)
    torch.testing.assert_close((~transform)(transform(points)), points, rtol=0, atol=1e-9)
    torch.testing.assert_close((~transform @ transform)(points), points, rtol=0, atol=1e-9)
    torch.testing.assert_close((transform @ ~transform)(points), points, rtol=0, atol=1e-9)


@every_transform
@pytest.mark.parametrize("other", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_the_right_factor_acts_first(transform, other):
    if transform.num_dims != other.num_dims:
        with pytest.raises((ValueError, RuntimeError)):
            transform @ other
        return
    points = some_points(transform.num_dims)
    torch.testing.assert_close((transform @ other)(points), transform(other(points)), rtol=0, atol=1e-9)


@every_transform
def test_parts_make_the_matrix_again_about_any_centre(transform):
    for centre in (None, [10.0, -20.0, 35.0][: transform.num_dims]):
        affine = Affine(transform.matrix)
        parts = affine.decompose(centre)
        again = Affine.from_parts(
            translation_mm=parts.translation_mm,
            rotation=parts.rotation,
            scaling=parts.scaling,
            shear=parts.shear,
            centre_mm=parts.centre_mm,
            num_dims=affine.num_dims,
        )
        torch.testing.assert_close(again.matrix, affine.matrix, rtol=0, atol=1e-9)


def test_matrices_make_the_parts_again():
    given = {"rotation": [0.1, -0.4, 0.2], "scaling": [-0.8, 1.1, 1.5], "shear": [0.2, -0.1, 0.3]}
    parts = Affine.from_parts(**given, translation_mm=[1, 2, 3], centre_mm=[7, 8, 9]).decompose([7, 8, 9])
    for name, values in given.items():
        np.testing.assert_allclose(getattr(parts, name), values, atol=1e-12)
    np.testing.assert_allclose(parts.translation_mm, [1, 2, 3], atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num_dims", [2, 3])
def test_any_matrix_is_taken_apart_and_put_together(num_dims, seed):
    matrix = np.eye(num_dims + 1)
    matrix[:-1] = noise(num_dims, num_dims + 1, seed=seed).numpy()
    parts = Affine(matrix).decompose()
    assert (parts.scaling[1:] > 0).all()
    assert (parts.scaling[0] < 0) == (np.linalg.det(matrix) < 0)
    again = Affine.from_parts(**vars(parts), num_dims=num_dims)
    np.testing.assert_allclose(again.matrix.numpy(), matrix, rtol=0, atol=1e-9)


def test_the_shear_acts_first_then_the_scaling_then_the_rotation_then_the_translation():
    affine = Affine.from_parts(
        rotation=[0, 0, QUARTER], scaling=[2, 3, 4], shear=[0.5, 0, 0], translation_mm=[10, 0, 0]
    )
    # (0, 1, 0) is sheared to (0.5, 1, 0), scaled to (1, 3, 0), turned to (-3, 1, 0), moved to (7, 1, 0).
    np.testing.assert_allclose(affine([[0.0, 1.0, 0.0]]).numpy(), [[7, 1, 0]], atol=1e-12)


def test_positive_rotations_are_right_handed():
    np.testing.assert_allclose(Rigid.from_parts(rotation=[0, 0, QUARTER])([[1, 0, 0]]).numpy(), [[0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(Rigid.from_parts(rotation=[QUARTER], num_dims=2)([[1, 0]]).numpy(), [[0, 1]], atol=1e-12)


@pytest.mark.parametrize("kind", [Rigid, Similarity, Affine])
def test_the_centre_stays_where_it_is(kind):
    transform = kind.from_parts(rotation=[0.3, -0.2, 0.9], centre_mm=[10, 20, 30])
    np.testing.assert_allclose(transform([[10, 20, 30]]).numpy(), [[10, 20, 30]], atol=1e-12)


@every_transform
def test_the_determinant_is_that_of_the_matrix_everywhere(transform):
    grid = GRIDS["oblique" if transform.num_dims == 3 else "2-D oblique"]
    expected = float(np.linalg.det(transform.matrix.numpy()[:-1, :-1]))
    determinant = transform.jacobian_determinant(grid)
    assert determinant.shape == grid.shape
    torch.testing.assert_close(determinant, torch.full(grid.shape, expected))


@every_transform
def test_the_displacement_on_a_grid_is_what_the_points_move_by(transform):
    grid = GRIDS["oblique" if transform.num_dims == 3 else "2-D oblique"]
    displacement = transform.displacement_on(grid)
    assert displacement.shape == (grid.num_dims, *grid.shape)
    torch.testing.assert_close(displacement.movedim(0, -1).double(), transform(grid.centres()) - grid.centres())


@pytest.mark.parametrize(
    ("outer", "inner", "kind"),
    [
        ("translation", "translation", Translation),
        ("translation", "rigid", Rigid),
        ("rigid", "translation", Rigid),
        ("rigid", "similarity", Similarity),
        ("similarity", "identity", Similarity),
        ("affine", "rigid", Affine),
        ("translation", "affine", Affine),
    ],
)
def test_a_product_is_of_the_narrowest_kind_that_holds_both(outer, inner, kind):
    assert type(EXAMPLES[outer] @ EXAMPLES[inner]) is kind


def homogeneous(linear: np.ndarray) -> np.ndarray:
    matrix = np.eye(len(linear) + 1)
    matrix[:-1, :-1] = linear
    return matrix


@pytest.mark.parametrize(
    ("kind", "linear", "message"),
    [
        (Translation, turn(1), "more than translate"),
        (Translation, np.diag([1.0, 1.0, 1.01]), "more than translate"),
        (Rigid, 1.01 * np.eye(3), "changes volumes"),
        (Rigid, np.diag([1.0, 1.0, -1.0]), "reflects the world"),
        (Rigid, np.array([[1, 0.1], [0, 1]]), "it is no rigid"),
        (Similarity, np.diag([1.0, 1.0, 1.1]), "it is no similarity"),
        (Similarity, 2 * np.diag([1.0, -1.0]), "reflects the world"),
        (Similarity, rotation_from_vector(np.array([0.1, 0.2, 0.3])) @ np.triu(np.ones((3, 3))), "shears or scales"),
    ],
)
def test_kinds_refuse_more_general_matrices(kind, linear, message):
    with pytest.raises(ValueError, match=message):
        kind(homogeneous(linear))
    Affine(homogeneous(linear))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), r"\(3, 3\) for 2-D"),
        (np.eye(4)[:3], r"\(4, 4\) for 3-D"),
        (np.diag([1, np.nan, 1, 1]), "NaN or infinite"),
        (np.diag([1, 1, 1, 2.0]), "last row"),
        (np.diag([1, 0, 1, 1.0]), "singular"),
    ],
)
def test_what_is_no_map_of_the_world_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        Affine(matrix)


@pytest.mark.parametrize("name", ["translation_mm", "rotation", "scaling", "shear", "centre_mm"])
def test_parts_of_the_wrong_length_are_refused(name):
    for wrong in ([1.0], [1.0, 2.0, 3.0, 4.0], 1.0):
        with pytest.raises(ValueError, match=rf"`{name}` has shape .* but \(3,\) is needed"):
            Affine.from_parts(**{name: wrong})


def test_points_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\) is needed"):
        identity()([[1.0, 2.0]])


def test_only_transforms_are_chained():
    with pytest.raises(TypeError):
        identity() @ "a transform"


def test_a_velocity_of_another_dimension_is_refused():
    grid = GRIDS["2-D"]
    with pytest.raises(ValueError, match="dimensions"):
        identity(3) @ StationaryVelocity(torch.zeros(2, *grid.shape), grid)
