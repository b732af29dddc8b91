"""Rotations: right-handed, like SciPy, back and forth."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pullback.functional.rotations import cross_matrix, rotation_from_vector, vector_from_rotation

VECTORS = [
    (0.0, 0.0, 0.0),
    (1e-9, -2e-9, 1e-9),
    (1e-6, 0.0, 0.0),
    (3e-4, 1e-4, -2e-4),
    (0.3, -0.2, 0.9),
    (1.0, 2.0, 1.5),
    (0.0, 0.0, math.pi - 1e-3),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors_go_to_matrices_and_back(vector):
    matrix = rotation_from_vector(np.array(vector))
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), rtol=0, atol=1e-12)
    np.testing.assert_allclose(vector_from_rotation(matrix), vector, rtol=0, atol=1e-10)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.7, -2.9, math.pi])
def test_angles_go_to_matrices_and_back_in_the_plane(angle):
    matrix = rotation_from_vector(np.array([angle]))
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert vector_from_rotation(matrix)[0] == pytest.approx(angle)


def test_positive_angles_turn_x_towards_y():
    quarter = math.pi / 2
    np.testing.assert_allclose(rotation_from_vector(np.array([0, 0, quarter])) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(rotation_from_vector(np.array([quarter])) @ [1, 0], [0, 1], atol=1e-15)


def test_the_cross_matrix_is_the_cross_product():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([-0.5, 4.0, 0.25])
    np.testing.assert_allclose(cross_matrix(a) @ b, np.cross(a, b))
