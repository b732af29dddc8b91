"""What is registered: images, label maps, points and pairs of them."""

from pullback.data.image import AbstractVoxels, Image, LabelMap
from pullback.data.pair import Pair
from pullback.data.points import Points

__all__ = ["AbstractVoxels", "Image", "LabelMap", "Pair", "Points"]
