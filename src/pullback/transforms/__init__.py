"""Maps from the fixed world to the moving world, in mm, and what is done with them."""

from pullback.transforms.abstract import AbstractTransform
from pullback.transforms.bspline import BSpline, InverseBSpline
from pullback.transforms.chain import Chain, chain
from pullback.transforms.displacement import DisplacementField, to_voxel_vectors, to_world_vectors
from pullback.transforms.linear import AbstractLinear, Affine, AffineParts, Rigid, Similarity, Translation, identity
from pullback.transforms.thin_plate import InverseThinPlateSpline, ThinPlateSpline
from pullback.transforms.velocity import StationaryVelocity
from pullback.transforms.warp import warp, warp_points

__all__ = [
    "AbstractLinear",
    "AbstractTransform",
    "Affine",
    "AffineParts",
    "BSpline",
    "Chain",
    "DisplacementField",
    "InverseBSpline",
    "InverseThinPlateSpline",
    "Rigid",
    "Similarity",
    "StationaryVelocity",
    "ThinPlateSpline",
    "Translation",
    "chain",
    "identity",
    "to_voxel_vectors",
    "to_world_vectors",
    "warp",
    "warp_points",
]
