"""A network asked about mirror images of a pair too: the mean of its answers errs less than each."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch

from pullback.networks.contract import AbstractNetwork, State


class Mirrored(AbstractNetwork):
    """The mean displacement over a pair and its mirror images along some axes, all 2^n of them.

    The answer to a mirrored pair is then the mirrored answer, on lattices that need no padding. It takes 2^n times as
    long as the network alone.

    Args:
        network: Its weights are shared, not copied.
        axes: Spatial axes, from 0.

    Raises:
        ValueError: If an axis is not there or stands twice, or there is none; in a call, if the family gives a matrix.
    """

    def __init__(self, network: AbstractNetwork, axes: Sequence[int]) -> None:
        super().__init__(num_dims=network.num_dims, num_channels=network.num_channels, multiple=network.multiple)
        if not axes or len(set(axes)) < len(axes) or any(not 0 <= axis < network.num_dims for axis in axes):
            raise ValueError(
                f"`axes` is {list(axes)}, but one or more different axes of 0 to {network.num_dims - 1} are needed."
            )
        self.network = network
        self.family = network.family
        self.settings = network.settings
        self.axes = tuple(sorted(axes))
        self.mirrors = [chosen for n in range(len(axes) + 1) for chosen in combinations(self.axes, n)]

    def state_of(self, fixed: torch.Tensor, moving: torch.Tensor, **conditions: Any) -> State:
        """The ``displacement`` alone; a mean has no levels, and its velocity is unknown."""
        total: torch.Tensor | float = 0.0
        for mirror in self.mirrors:
            dims = [2 + axis for axis in mirror]
            state = self.network(fixed.flip(dims), moving.flip(dims), **conditions)
            if "matrix" in state:
                raise ValueError(f"The family '{self.family}' gives a matrix, and the mean of matrices is not its map.")
            displacement = state["displacement"].flip(dims)
            signs = [-1.0 if axis in mirror else 1.0 for axis in range(self.num_dims)]
            total = total + displacement * displacement.new_tensor(signs).reshape(-1, *[1] * self.num_dims)
        return {"displacement": total / len(self.mirrors)}
