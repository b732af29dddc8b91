"""Files at the edge: images, label maps, points and transforms, to and from RAS+ mm. Nothing is computed here."""

from pullback.io.images import image_from, labels_from, read_image, read_labels, write_image
from pullback.io.learn2reg_fields import read_voxel_displacement, write_voxel_displacement
from pullback.io.points import read_keypoints, read_points, write_points
from pullback.io.transforms import read_transform, write_transform

__all__ = [
    "image_from",
    "labels_from",
    "read_image",
    "read_keypoints",
    "read_labels",
    "read_points",
    "read_transform",
    "read_voxel_displacement",
    "write_image",
    "write_points",
    "write_transform",
    "write_voxel_displacement",
]
