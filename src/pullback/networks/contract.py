"""What every registration network is: two images in, a named state out, all in voxels of one lattice.

The state holds what a family computes, by these names only:

==========================  ==========================================================================================
``displacement``            ``(B, D, *S)``, always there: fixed voxel x goes to moving voxel ``x + u(x)``; components
                            in the order of the tensor axes
``inverse_displacement``    ``(B, D, *S)``: from moving to fixed
``velocity``                ``(B, D, *S)``: stationary velocity, whose exponential at time 1 is `displacement` (for
                            symmetric families, at their `time`: `half_displacement`)
``inverse_velocity``        ``(B, D, *S)``: the velocity of the other direction, where it is not minus the first
``half_displacement``       ``(B, D, *S)``: from the half-way space to moving
``inverse_half_displacement``  ``(B, D, *S)``: from the half-way space to fixed
``moving_to_half``          ``(B, D, *S)``: the inverse of `half_displacement`, as well as the family finds it
``fixed_to_half``           ``(B, D, *S)``: the inverse of `inverse_half_displacement`, likewise
``mean``, ``log_variance``  ``(B, D, *L)``: of a probabilistic family's velocity, on the lattice where it is integrated,
                            in voxels of that lattice
``matrix``                  ``(B, D+1, D+1)``: voxel matrix from fixed to moving, of affine families
``fixed_points``            ``(B, K, D)``: points found in fixed, in voxels, of families that find points
``moving_points``           ``(B, K, D)``: the corresponding points, found in moving
``velocities``              list of ``(B, D, *S)``: the velocity of each stage of a cascade, first to last
``levels``                  list of ``(B, D, *S)``: what each stage of a cascade or pyramid added, first to last
``smoothness``              ``(B,)`` from 0 to 1: how smooth a family that can be told was told to be, pair by pair
==========================  ==========================================================================================

A network knows no millimetres, files or devices.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from pullback.checks import check_at_least

State = dict[str, Tensor | list[Tensor]]

STATE_NAMES = (
    "displacement",
    "inverse_displacement",
    "velocity",
    "inverse_velocity",
    "half_displacement",
    "inverse_half_displacement",
    "moving_to_half",
    "fixed_to_half",
    "mean",
    "log_variance",
    "matrix",
    "fixed_points",
    "moving_points",
    "velocities",
    "levels",
    "smoothness",
)


class AbstractNetwork(nn.Module, ABC):
    """A registration network; subclasses implement :meth:`state_of`, callers call the network itself.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each of the two images.
        multiple: Each size of the lattice must be a multiple of this; :func:`pullback.networks.run_padded` pads.

    Attributes:
        family: The name under which :func:`pullback.networks.build` makes it.
        settings: The keyword arguments that rebuild it, all JSON values. Both are set by `build`.
        are_levels_composed: Whether the answer is the composition of the state's `levels`, the last acting first.
    """

    are_levels_composed = False

    def __init__(self, *, num_dims: int, num_channels: int, multiple: int) -> None:
        super().__init__()
        if num_dims not in (2, 3):
            raise ValueError(f"`num_dims` is {num_dims}, but networks are 2-D or 3-D.")
        check_at_least("num_channels", num_channels, 1)
        self.num_dims = num_dims
        self.num_channels = num_channels
        self.multiple = multiple
        self.family = ""
        self.settings: dict[str, Any] = {}

    def forward(self, fixed: Tensor, moving: Tensor, **conditions: Any) -> State:
        """Register a batch of pairs.

        Args:
            fixed: ``(B, C, *S)`` float32, normalised as in training.
            moving: The same shape.
            **conditions: What the family can be told besides the images; anything else is a `TypeError`.

        Returns:
            The named state of this module's docstring.

        Raises:
            ValueError: If the images differ in shape, or the shape does not fit.
        """
        self._check("fixed", fixed)
        self._check("moving", moving)
        if fixed.shape != moving.shape:
            raise ValueError(
                f"`fixed` has shape {tuple(fixed.shape)} and `moving` {tuple(moving.shape)}, but a network needs both "
                f"on one lattice; resample one onto the other first."
            )
        return self.state_of(fixed, moving, **conditions)

    @abstractmethod
    def state_of(self, fixed: Tensor, moving: Tensor, **conditions: Any) -> State:
        """The state for images that fit; see :meth:`forward`."""

    def _check(self, name: str, image: Tensor) -> None:
        if image.ndim != self.num_dims + 2 or image.shape[1] != self.num_channels:
            raise ValueError(
                f"`{name}` has shape {tuple(image.shape)}, but this network takes (batch, {self.num_channels} "
                f"channel{'s' * (self.num_channels > 1)}, {self.num_dims} spatial axes)."
            )
        if any(size % self.multiple for size in image.shape[2:]):
            raise ValueError(
                f"`{name}` has spatial shape {tuple(image.shape[2:])}, but each size must be a multiple of "
                f"{self.multiple}; pad it, or call networks.run_padded."
            )
