"""The Coordinate Translator: where in the moving features lies what the fixed features show here?

Paper: Liu et al., Coordinate Translator for learning deformable medical image registration, MMMI 2022,
doi:10.1007/978-3-031-18814-5_10. The author's class is in github.com/yihao6/vfa, read at 2025-04-22.

Every fixed token is compared with candidate tokens of the moving image by a plain dot product; the softmax of the
scores weighs the candidates' coordinates. There are no weights to learn in that. A positional encoding beside the
learned features makes each voxel match itself before anything is learned.

Memory: the softmax runs along the candidates with a running maximum, so that no copy of the features per candidate is
made; the derivative goes through the candidates a second time and keeps nothing but the sums.

What differs, and why: angles are the paper's (each axis by its own size; the author's class takes the largest size for
all). Positions go on beyond the border, where features are zero, as in the author's class: only so are the candidates
of a voxel at the border symmetric, and the start the identity there too. With all voxels as candidates the start is not
the identity, whatever the paper says: the cosines of neighbours are nearly equal, the softmax is nearly flat, and
coordinates shrink towards the middle.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pullback.checks import check_at_least
from pullback.functional import match_window
from pullback.networks.blocks import CONVOLUTION

BLOCK = 1024
"""Voxels at a time when every voxel is a candidate of every other."""


class CoordinateTranslator(nn.Module):
    """Two feature maps to the displacement that brings the moving one onto the fixed one.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels of the features.
        num_tokens: Channels that are compared, ``2 * num_dims`` or more.
        radii: Half widths in voxels, per axis, of the window of candidates: ``(1, 1, 1)`` is 3x3x3, ``(1, 1, 0)`` is
            3x3 in the axial plane of a lattice along R, A, S; None takes all voxels.
        weight_std: Of the projection's first weights; 0 as in the paper starts with the positions alone.

    Raises:
        ValueError: If the numbers do not fit each other.
    """

    def __init__(
        self,
        num_dims: int,
        num_inputs: int,
        num_tokens: int,
        radii: Sequence[int] | None,
        *,
        weight_std: float = 0.0,
    ) -> None:
        super().__init__()
        if radii is not None and (len(radii) != num_dims or min(radii) < 0 or not any(radii)):
            raise ValueError(
                f"`radii` is {tuple(radii)}, but a window needs {num_dims} half widths of 0 or more, one above 0."
            )
        self.radii = None if radii is None else tuple(radii)
        self.encoding = PositionalEncoding(num_dims, num_inputs, num_tokens, weight_std=weight_std)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Match features.

        Args:
            fixed: ``(B, C, *S)``.
            moving: The same shape.

        Returns:
            ``(B, D, *S)`` in voxels of this lattice: the matching coordinate minus the voxel's own.
        """
        radii = self.radii or (0,) * (fixed.ndim - 2)
        tokens, candidates = self.encoding(fixed), self.encoding(moving, radii)
        return match_everywhere(tokens, candidates) if self.radii is None else match_window(tokens, candidates, radii)


class PositionalEncoding(nn.Module):
    r"""A projection of the features plus $\alpha$ times the position, cosine and sine of $\pi x_i / (d_i - 1)$.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels of the features.
        num_tokens: Channels that come out; those beyond ``2 * num_dims`` hold no position.
        weight_std: Of the projection's first weights.

    Raises:
        ValueError: If the tokens are too few, or `weight_std` is below 0.
    """

    def __init__(self, num_dims: int, num_inputs: int, num_tokens: int, *, weight_std: float = 0.0) -> None:
        super().__init__()
        if num_tokens < 2 * num_dims:
            raise ValueError(f"`num_tokens` is {num_tokens}, but positions need {2 * num_dims} or more channels.")
        check_at_least("weight_std", weight_std, 0)
        self.projection = CONVOLUTION[num_dims](num_inputs, num_tokens, 1, bias=False)
        nn.init.normal_(self.projection.weight, std=weight_std)
        self.bias = nn.Parameter(torch.zeros(num_tokens))
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, features: Tensor, radii: Sequence[int] | None = None) -> Tensor:
        """``(B, C, *S)`` to tokens ``(B, T, *(S + 2 radii))``: outside the lattice features are zero."""
        shape = tuple(features.shape[2:])
        radii = (0,) * len(shape) if radii is None else tuple(radii)
        tokens = self.projection(features)
        tokens = nnf.pad(tokens, [r for radius in reversed(radii) for r in (radius, radius)])
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))  # scores need more than half precision
        position = encode_positions(shape, radii, tokens.shape[1], like=tokens)
        return tokens + self.bias.reshape(1, -1, *[1] * len(shape)) + self.alpha * position


def encode_positions(shape: Sequence[int], radii: Sequence[int], num_tokens: int, *, like: Tensor) -> Tensor:
    """Cosines, then sines, then zeros, ``(1, num_tokens, *(S + 2 radii))``; the lattice's first voxel is at angle 0.

    Axes of one or two voxels count as three, so that the two sides of a voxel differ.
    """
    num_dims = len(shape)
    sizes = [n + 2 * r for n, r in zip(shape, radii, strict=True)]
    position = torch.zeros(1, num_tokens, *sizes, dtype=like.dtype, device=like.device)
    for axis, (size, radius) in enumerate(zip(shape, radii, strict=True)):
        steps = torch.arange(-radius, size + radius, dtype=like.dtype, device=like.device)
        angle = (math.pi / max(size - 1, 2) * steps).reshape([-1 if a == axis else 1 for a in range(num_dims)])
        position[:, axis] = angle.cos()
        position[:, num_dims + axis] = angle.sin()
    return position


def match_everywhere(tokens: Tensor, candidates: Tensor) -> Tensor:
    """The same with all voxels as candidates: ``softmax(F M^T) G_I`` minus the identity grid, in blocks of voxels.

    Args:
        tokens: ``(B, T, *S)`` of the fixed image.
        candidates: The same shape, of the moving image.
    """
    shape = tuple(tokens.shape[2:])
    axes = [torch.arange(n, dtype=tokens.dtype, device=tokens.device) for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    rows, columns = tokens.flatten(2).mT, candidates.flatten(2)
    blocks = [
        checkpoint(_expected_place, block, columns, places, use_reentrant=False) for block in rows.split(BLOCK, dim=1)
    ]
    return (torch.cat(blocks, dim=1).mT - places).reshape(tokens.shape[0], len(shape), *shape)


def _expected_place(rows: Tensor, columns: Tensor, places: Tensor) -> Tensor:
    with torch.autocast(rows.device.type, enabled=False):
        return torch.softmax(rows @ columns, dim=-1) @ places.T
