"""2-D images that a file places in 3-D: coordinates in the plane of the slice.

The two axes of a plane are those world axes that lie nearest to it, laid into it. So an axial slice has world x and y,
a coronal one x and z, and parallel slices share their coordinates.
"""

import numpy as np

AXIS_NAMES = ("Right", "Anterior", "Superior")
LARGEST_TILT = 1e-6
"""One minus the cosine between the normal of a slice and world z up to which it counts as a plane of world x and y."""


def matrix_in_plane(affine: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The ``(3, 3)`` voxel-to-plane matrix (mm) of a slice with this ``(4, 4)`` RAS matrix; a note if not axial.

    Raises:
        ValueError: If the first two axes of the matrix span no plane.
    """
    plane = _plane(affine, where)
    flat = np.eye(3)
    flat[:2, :2] = plane[:2] @ affine[:3, :2]
    flat[:2, 2] = plane[:2] @ affine[:3, 3]
    if abs(plane[2, 2]) >= 1 - LARGEST_TILT:
        return flat, ()
    first, second = (AXIS_NAMES[int(np.argmax(np.abs(axis)))] for axis in plane[:2])
    note = f"The slice is not a plane of world x and y; its 2-D coordinates lie in it, along {first} and {second}."
    return flat, (note,)


def matrix_in_world(flat: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Put a ``(3, 3)`` voxel-to-plane matrix back into the plane of the slice with this ``(4, 4)`` RAS matrix."""
    plane = _plane(affine, "like")
    embedded = affine.copy()
    embedded[:3, :2] = plane[:2].T @ flat[:2, :2]
    embedded[:3, 3] = plane[:2].T @ flat[:2, 2] + plane[2] * (plane[2] @ affine[:3, 3])
    return embedded


def _plane(affine: np.ndarray, where: str) -> np.ndarray:
    """Rows: the two axes of 2-D coordinates and the normal of a slice, unit vectors in RAS."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = np.linalg.norm(normal)
    if not np.isfinite(length) or length == 0:
        raise ValueError(
            f"'{where}' does not say where its voxels are: its matrix {affine[:3, :2].tolist()} is singular; correct "
            "the "
            "header (sform, qform or pixdim) first."
        )
    normal = normal / length
    kept = np.delete(np.arange(3), np.argmax(np.abs(normal)))
    first = np.eye(3)[kept[0]] - normal * normal[kept[0]]
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    return np.stack([first, second if second[kept[1]] > 0 else -second, normal])
