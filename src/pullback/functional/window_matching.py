"""Where within a window of candidates lies what a voxel shows: an expected offset under a softmax."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.autograd.function import once_differentiable

from pullback.functional.lifting import as_array, empty_like_shape, has_kernels, lift_volumes
from pullback.kernels import window_matching as kernels

PLANES = 4
"""Of a slab at least; see :func:`pullback.kernels.window_matching.backward`."""


def match_window(tokens: Tensor, candidates: Tensor, radii: Sequence[int], bonuses: Tensor | None = None) -> Tensor:
    r"""$\sum_o p_o(x) \, o$ over the offsets of a window, $p$ the softmax of $t(x) \cdot c(x + o) + b_o$.

    No copy of the candidates per offset is made, and of the scores nothing is kept for the derivatives but the
    logarithm of their exponentials' sum: they are computed again. On the CPU in float32 it is one compiled loop.

    Args:
        tokens: t, ``(B, T, *S)`` of the fixed image.
        candidates: c, ``(B, T, *(S + 2 radii))`` of the moving image, with those beyond the border.
        radii: Half widths of the window in voxels.
        bonuses: b, ``(B, number of offsets)``, the last axis of the window fastest; none if None.

    Returns:
        ``(B, D, *S)`` in voxels, at most `radii` along each axis.
    """
    num_dims, radii = tokens.ndim - 2, tuple(radii)
    if bonuses is None:
        bonuses = tokens.new_zeros(len(tokens), math.prod(2 * r + 1 for r in radii))
    if torch.compiler.is_compiling():
        return _sum_window(tokens, candidates, bonuses, radii)[0]
    if not has_kernels(tokens, candidates, bonuses):
        return _Window.apply(tokens, candidates, bonuses, radii)
    lifted = (lift_volumes(tokens, num_dims), lift_volumes(candidates, num_dims))
    expected = _CompiledWindow.apply(*lifted, bonuses, (0,) * (3 - num_dims) + radii)
    return expected if num_dims == 3 else expected[:, 1:].squeeze(-3)


class _CompiledWindow(torch.autograd.Function):
    """The compiled loops; everything has three axes."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, candidates: Tensor, bonuses: Tensor, radii: tuple[int, ...]) -> Tensor:
        batch, _, size_i, size_j, size_k = tokens.shape
        lines = (size_i, size_j, candidates.shape[4])
        expected, logarithm = empty_like_shape(batch, 3, *lines), empty_like_shape(batch, 1, *lines)
        ctx.radii, ctx.widths = radii, np.array([2 * r + 1 for r in radii])
        given = (_widened(tokens, radii), as_array(candidates), as_array(bonuses), ctx.widths)
        kernels.forward(*given, expected.numpy(), logarithm.numpy())
        ctx.save_for_backward(tokens, candidates, bonuses, expected, logarithm)
        return expected[..., :size_k].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        tokens, candidates, bonuses, expected, logarithm = ctx.saved_tensors
        planes, wide = max(PLANES, int(ctx.widths[0])), _widened(tokens, ctx.radii)
        by_tokens, by_candidates = np.zeros_like(wide), np.zeros(tuple(candidates.shape), np.float32)
        by_bonuses = np.zeros((len(tokens), -(-tokens.shape[2] // planes), bonuses.shape[1]))
        arrays = (wide, as_array(candidates), as_array(bonuses), ctx.widths, as_array(expected), as_array(logarithm))
        upstream = _widened(upstream, ctx.radii)
        kernels.backward(*arrays, upstream, planes, by_tokens, by_candidates, by_bonuses)
        by_bonuses = torch.from_numpy(by_bonuses.sum(1)).to(bonuses.dtype)
        return torch.from_numpy(by_tokens[..., : tokens.shape[4]]), torch.from_numpy(by_candidates), by_bonuses, None


def _widened(volumes: Tensor, radii: tuple[int, ...]) -> np.ndarray:
    """Lines as long as those of the candidates."""
    return as_array(nnf.pad(volumes.detach(), [0, 2 * radii[2]]))


def _shifted(padded: Tensor, offset: tuple[int, ...], radii: tuple[int, ...]) -> Tensor:
    """A view of the values at ``x + offset`` for all voxels x of the lattice."""
    for axis, (step, radius) in enumerate(zip(offset, radii, strict=True), start=2):
        padded = padded.narrow(axis, radius + step, padded.shape[axis] - 2 * radius)
    return padded


def _scores(
    tokens: Tensor, candidates: Tensor, bonuses: Tensor, radii: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, ...], Tensor]]:
    """Number, offset and scores ``(B, 1, *S)`` of each candidate in turn."""
    for number, offset in enumerate(itertools.product(*(range(-r, r + 1) for r in radii))):
        own = bonuses[:, number].reshape(-1, 1, *[1] * len(radii))
        yield number, offset, (tokens * _shifted(candidates, offset, radii)).sum(1, keepdim=True) + own


def _sum_window(tokens: Tensor, candidates: Tensor, bonuses: Tensor, radii: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The expected offset, and the logarithm of the sum of all exponentials, by a running softmax."""
    top = tokens.new_full((tokens.shape[0], 1, *tokens.shape[2:]), -math.inf)
    total = torch.zeros_like(top)
    moved = [torch.zeros_like(top) for _ in radii]
    for _, offset, score in _scores(tokens, candidates, bonuses, radii):
        highest = torch.maximum(top, score)
        kept, share = (top - highest).exp(), (score - highest).exp()
        total = total * kept + share
        moved = [part * kept + step * share if step else part * kept for part, step in zip(moved, offset, strict=True)]
        top = highest
    return torch.cat([part / total for part in moved], dim=1), top + total.log()


class _Window(torch.autograd.Function):
    """The expected offset with a derivative that computes the scores again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, candidates: Tensor, bonuses: Tensor, radii: tuple[int, ...]) -> Tensor:
        expected, logarithm = _sum_window(tokens, candidates, bonuses, radii)
        ctx.save_for_backward(tokens, candidates, bonuses, expected, logarithm)
        ctx.radii = radii
        return expected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        tokens, candidates, bonuses, expected, logarithm = ctx.saved_tensors
        by_tokens, by_candidates = torch.zeros_like(tokens), torch.zeros_like(candidates)
        by_bonuses = torch.zeros_like(bonuses)
        mean = (upstream * expected).sum(1, keepdim=True)
        for number, offset, score in _scores(tokens, candidates, bonuses, ctx.radii):
            along = sum(step * upstream[:, axis : axis + 1] for axis, step in enumerate(offset) if step)
            by_score = (score - logarithm).exp() * (along - mean)
            by_tokens.addcmul_(by_score, _shifted(candidates, offset, ctx.radii))
            _shifted(by_candidates, offset, ctx.radii).addcmul_(by_score, tokens)
            by_bonuses[:, number] = by_score.flatten(1).sum(1)
        return by_tokens, by_candidates, by_bonuses, None
