"""Linear elasticity, by explicit steps."""

import math

from torch import Tensor

from pullback.functional import relax
from pullback.regularity.abstract import AbstractRegularity

LARGEST_STIFFNESS = 1.5
"""12 shear + 4.5 volume of one step; at 2 it would be unstable."""


class Elasticity(AbstractRegularity):
    r"""After each update the displacement relaxes: $u \leftarrow u + \mu \nabla^2 u + \kappa \nabla (\nabla \cdot u)$.

    One step down the energy of a linear elastic body with Lame's constants $\mu$ and $\lambda = \kappa - \mu$. The
    second term resists growing and shrinking, not shearing and turning: structures that lie apart can still be brought
    together, at a far smaller spread of the Jacobian determinant than by smoothing alone (``docs/accuracy.md``).

    Args:
        shear: $\mu$, in squared voxels of the level.
        volume: $\kappa$, in squared voxels of the level.
        fluid_volume: The same second term on each update before it is composed.

    Reference:
        Christensen et al., Deformable templates using large deformation kinematics, IEEE Transactions on Image
        Processing 5 (1996), doi:10.1109/83.536892 (the operator of its viscous fluid).
    """

    def __init__(self, shear: float = 0.05, volume: float = 0.08, fluid_volume: float = 0.2) -> None:
        if min(shear, volume, fluid_volume) < 0:
            raise ValueError(
                f"The weights are {shear} (shear), {volume} (volume) and {fluid_volume} (fluid_volume), but 0 or more "
                "is needed."
            )
        self.shear, self.volume, self.fluid_volume = shear, volume, fluid_volume

    def scaled(self, smoothness: float) -> "Elasticity":
        """The same with weights, which are squared widths, times the square of that."""
        return Elasticity(*(weight * smoothness**2 for weight in (self.shear, self.volume, self.fluid_volume)))

    def smooth_update(self, update: Tensor, scratch: Tensor) -> Tensor:
        """The second term alone."""
        return _relax(update, scratch, 0.0, self.fluid_volume)

    def smooth_field(self, displacement: Tensor, scratch: Tensor) -> Tensor:
        """Both terms."""
        return _relax(displacement, scratch, self.shear, self.volume)


def _relax(field: Tensor, scratch: Tensor, shear: float, volume: float) -> Tensor:
    """As many steps as keep it stable, to and fro between `field` and `scratch`; returns the one that holds the end."""
    stiffness = 12 * shear + 4.5 * volume
    num_steps = math.ceil(stiffness / LARGEST_STIFFNESS)
    for _ in range(num_steps):
        relax(field, shear / num_steps, volume / num_steps, out=scratch)
        field, scratch = scratch, field
    return field
