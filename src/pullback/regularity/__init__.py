"""How a deformation may bend: smoothing and energies."""

from pullback.regularity.abstract import AbstractRegularity
from pullback.regularity.bending import Bending
from pullback.regularity.diffusion import Diffusion
from pullback.regularity.elasticity import Elasticity
from pullback.regularity.gaussian import Gaussian

__all__ = ["AbstractRegularity", "Bending", "Diffusion", "Elasticity", "Gaussian"]
