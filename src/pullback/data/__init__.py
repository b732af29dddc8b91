"""What is registered: images, label maps, points and pairs of them."""

from pullback.data.image import AbstractVoxels, Image, LabelMap
from pullback.data.pair import Pair
from pullback.data.points import Points, check_points
from pullback.data.shapes import c_shape_pair

__all__ = ["AbstractVoxels", "Image", "LabelMap", "Pair", "Points", "c_shape_pair", "check_points"]
