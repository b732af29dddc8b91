"""How networks chain displacements; everything goes through `functional`."""

import numpy as np
import torch.nn.functional as nnf
from torch import Tensor

from pullback import functional
from pullback.checks import check_choice

OUTSIDE = ("edge", "zeros")
"""What a field holds beyond the lattice: its outermost values, or zeros as in several published codes."""


def compose(outer: Tensor, inner: Tensor, *, outside: str = "edge") -> Tensor:
    """The displacement of `outer` after `inner`, ``inner(x) + outer(x + inner(x))``.

    Args:
        outer: ``(B, D, *S)`` in voxels.
        inner: The same, applied first.
        outside: ``edge``, or ``zeros``: beyond the lattice `outer` falls to zero within one voxel. That shrinks fields
            near the border; only for weights that were trained so.
    """
    if check_choice("outside", outside, OUTSIDE) == "edge":
        return functional.compose(outer, inner)
    return inner + warp(outer, inner, outside=outside)


def warp(image: Tensor, displacement: Tensor, *, outside: str = "edge") -> Tensor:
    """Sample `image` at ``x + displacement(x)``; see :func:`compose` for `outside`."""
    if check_choice("outside", outside, OUTSIDE) == "edge":
        return functional.warp(image, displacement)
    num_dims = image.ndim - 2
    matrix = np.eye(num_dims + 1)
    matrix[:-1, -1] = 1  # the lattice begins one voxel into the padded one
    return functional.warp(nnf.pad(image, [1] * (2 * num_dims)), displacement, matrix)


def exponential(velocity: Tensor, *, num_squarings: int, outside: str = "edge") -> Tensor:
    """``exp(v)`` by scaling and squaring; see :func:`compose` for `outside`."""
    if check_choice("outside", outside, OUTSIDE) == "edge":
        return functional.exponential(velocity, num_steps=num_squarings)
    displacement = velocity / 2**num_squarings
    for _ in range(num_squarings):
        displacement = compose(displacement, displacement, outside=outside)
    return displacement
