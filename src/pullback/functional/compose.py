"""Composing, inverting and exponentiating dense displacements, all in voxels of one lattice."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pullback.functional.lifting import as_array, empty_like_shape, has_kernels, lift_field
from pullback.functional.sample import warp
from pullback.kernels import composition, inversion

BALANCE = 0.6
"""The share of the error at the voxels of a displacement that its inverse takes over (docs/accuracy.md)."""


def compose(outer: Tensor, inner: Tensor, *, scale: float = 1.0, out: Tensor | None = None) -> Tensor:
    r"""The displacement of `outer` after `inner`: $w(x) = s v(x) + u(x + s v(x))$, differentiable.

    Args:
        outer: u, ``(B, D, *shape)`` in voxels; beyond the edges its outer values are repeated.
        inner: v, ``(B, D, *shape)``, applied first.
        scale: s, a number.
        out: Where to write, when no gradient is needed; neither of the inputs.
    """
    tracked = torch.is_grad_enabled() and (outer.requires_grad or inner.requires_grad)
    if tracked or not has_kernels(outer, inner) or outer.ndim != 5:
        inner = inner if scale == 1 else inner * scale
        result = inner + warp(outer, inner)
        return result if out is None else out.copy_(result)
    out = empty_like_shape(*inner.shape) if out is None else out
    for b in range(outer.shape[0]):
        composition.compose(as_array(outer[b]), as_array(inner[b]), np.float32(scale), out[b].numpy())
    return out


def exponential(velocity: Tensor, *, num_steps: int = 7) -> Tensor:
    r"""Displacement of $\exp(v)$ by scaling and squaring: $v / 2^n$ composed with itself n times, differentiable.

    Args:
        velocity: ``(B, D, *shape)`` in voxels per unit time.
        num_steps: Squarings n.

    Reference:
        Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006,
        doi:10.1007/11866565_113.
    """
    displacement = velocity / 2**num_steps
    for _ in range(num_steps):
        displacement = compose(displacement, displacement)
    return displacement


@dataclass(frozen=True)
class Inversion:
    """How exact an inverse v of u is: lengths of ``v(x) + u(x + v(x))`` at the voxels, in voxels.

    Attributes:
        mean: Mean residual.
        maximum: Largest residual.
    """

    mean: float
    maximum: float


def invert(
    displacement: Tensor, *, start: Tensor | None = None, tolerance_voxels: float = 1e-3
) -> tuple[Tensor, Inversion]:
    r"""Invert a displacement: at every voxel y the v with $v = -u(y + v)$.

    The fixed point is found voxel by voxel with a damped Newton iteration on the trilinear interpolant, which stays
    exact where plain substitution diverges; where the map folds the nearest approach is taken, and the residual says
    so.

    Args:
        displacement: u, ``(B, D, *shape)`` float32 in voxels.
        start: A first guess of v, such as the inverse of a similar displacement (default: -u).
        tolerance_voxels: A voxel is done when its residual is below this.

    Returns:
        v on the same lattice, and its residual.

    Reference:
        Chen et al., A simple fixed-point approach to invert a deformation field, Medical Physics 35 (2008),
        doi:10.1118/1.2816107, with Newton's direction for the plain one.
    """
    num_dims = displacement.ndim - 2
    field = lift_field(displacement.detach().to("cpu", torch.float32), num_dims)
    inverse = empty_like_shape(*field.shape)
    remaining = np.empty((field.shape[0], *field.shape[2:]), dtype=np.float32)
    for b in range(field.shape[0]):
        guess = None
        if start is not None:
            guess = as_array(lift_field(start.detach().to("cpu", torch.float32), num_dims)[b])
            composition.gap(as_array(field[b]), guess, remaining[b])
        inversion.invert(as_array(field[b]), guess, tolerance_voxels, inverse[b].numpy(), remaining[b])
    result = inverse if num_dims == 3 else inverse[:, 1:, 0]
    quality = Inversion(float(remaining.mean(dtype=np.float64)), float(remaining.max()))
    return result.to(displacement.device, displacement.dtype).contiguous(), quality


def gap(outer: Tensor, inner: Tensor) -> Tensor:
    """How far `outer` is from undoing `inner`, ``|v(x) + u(x + v(x))|``: ``(B, 1, *shape)`` in voxels, no gradient.

    Args:
        outer: u, ``(B, D, *shape)`` in voxels; beyond the edges its outer values are repeated.
        inner: v, ``(B, D, *shape)``, applied first.
    """
    if not has_kernels(outer, inner) or outer.ndim != 5:
        return compose(outer.detach(), inner.detach()).square().sum(dim=1, keepdim=True).sqrt()
    out = empty_like_shape(inner.shape[0], 1, *inner.shape[2:])
    for b in range(outer.shape[0]):
        composition.gap(as_array(outer[b]), as_array(inner[b]), out[b, 0].numpy())
    return out


def balance_inverse(displacement: Tensor, inverse: Tensor) -> Tensor:
    r"""Spread the error of an inverse evenly: $v(y) - \lambda r(v^{-1} y)$ with $r(x) = u(x) + v(x + u(x))$.

    An inverse that is exact at its own voxels is wrong between them, where both fields are interpolated: going there
    and back from the voxels of `displacement` misses by r. Taking a share of that back makes the way from either
    lattice, and from points between the voxels, about equally good, and the whole better by a third.

    Args:
        displacement: u, ``(B, D, *shape)`` in voxels.
        inverse: v on the same lattice, from :func:`invert`.

    Returns:
        The new inverse, without a gradient.
    """
    displacement, inverse = displacement.detach(), inverse.detach()
    taken = warp(compose(inverse, displacement), inverse)
    return torch.sub(inverse, taken, alpha=BALANCE, out=taken)
