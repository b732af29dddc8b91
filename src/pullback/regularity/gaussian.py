"""Gaussian smoothing of updates (fluid) and of the whole field (elastic)."""

from torch import Tensor

from pullback.functional import gaussian_smooth
from pullback.regularity.abstract import AbstractRegularity


class Gaussian(AbstractRegularity):
    """Smooth each update and, after composing it, the whole displacement, by Gaussians.

    Smoothing the update alone lets a shape flow as far as it likes; smoothing the field pulls it back to smoothness.

    Args:
        fluid_voxels: Standard deviation for updates, in voxels of the level.
        elastic_voxels: Standard deviation for the field, in voxels of the level.

    Reference:
        Vercauteren et al., Diffeomorphic demons, NeuroImage 45 (2009), doi:10.1016/j.neuroimage.2008.10.040.
    """

    def __init__(self, fluid_voxels: float = 1.7, elastic_voxels: float = 0.0) -> None:
        if fluid_voxels < 0 or elastic_voxels < 0:
            raise ValueError(
                f"The widths of smoothing are {fluid_voxels} and {elastic_voxels}, but 0 or more is needed."
            )
        self.fluid_voxels, self.elastic_voxels = fluid_voxels, elastic_voxels

    def scaled(self, smoothness: float) -> "Gaussian":
        """The same with widths so many times as large."""
        return Gaussian(self.fluid_voxels * smoothness, self.elastic_voxels * smoothness)

    def smooth_update(self, update: Tensor, scratch: Tensor) -> Tensor:
        """Fluid smoothing, in place."""
        if self.fluid_voxels == 0:
            return update
        return gaussian_smooth(update, self.fluid_voxels, out=update, scratch=scratch)

    def smooth_field(self, displacement: Tensor, scratch: Tensor) -> Tensor:
        """Elastic smoothing, in place."""
        if self.elastic_voxels == 0:
            return displacement
        return gaussian_smooth(displacement, self.elastic_voxels, out=displacement, scratch=scratch)
