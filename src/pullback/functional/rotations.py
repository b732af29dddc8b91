"""Rotations: vectors, matrices and their derivatives; one sign convention, right-handed, in 2-D and 3-D."""

import math

import numpy as np
from scipy.spatial.transform import Rotation


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    r"""Rotation $\exp([\omega]_\times)$ by Rodrigues' formula.

    Args:
        vector: Axis times angle in radians, ``(3,)``; in 2-D the angle alone, ``(1,)``.

    Returns:
        ``(D, D)`` rotation matrix.
    """
    if len(vector) == 1:
        c, s = math.cos(vector[0]), math.sin(vector[0])
        return np.array([[c, -s], [s, c]])
    angle = float(np.linalg.norm(vector))
    cross = cross_matrix(vector)
    if angle < 1e-6:
        return np.eye(3) + cross + 0.5 * cross @ cross
    return np.eye(3) + math.sin(angle) / angle * cross + (1 - math.cos(angle)) / angle**2 * cross @ cross


def vector_from_rotation(matrix: np.ndarray) -> np.ndarray:
    """Inverse of :func:`rotation_from_vector`; the angle is in [0, pi] (2-D: (-pi, pi])."""
    if len(matrix) == 2:
        return np.array([math.atan2(matrix[1, 0], matrix[0, 0])])
    return Rotation.from_matrix(matrix).as_rotvec()


def cross_matrix(vector: np.ndarray) -> np.ndarray:
    r"""The matrix $[\omega]_\times$ with $[\omega]_\times x = \omega \times x$."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
