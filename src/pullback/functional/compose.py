"""Composing, inverting and exponentiating dense displacements, all in voxels of one lattice."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pullback.functional.lifting import as_array, empty_like_shape, has_kernels
from pullback.functional.sample import warp
from pullback.kernels import sampling


def compose(outer: Tensor, inner: Tensor, *, out: Tensor | None = None) -> Tensor:
    r"""The displacement of `outer` after `inner`: $w(x) = v(x) + u(x + v(x))$, differentiable.

    Args:
        outer: u, ``(B, D, *shape)`` in voxels; beyond the edges its outer values are repeated.
        inner: v, ``(B, D, *shape)``, applied first.
        out: Where to write, when no gradient is needed; neither of the inputs.
    """
    tracked = torch.is_grad_enabled() and (outer.requires_grad or inner.requires_grad)
    if tracked or not has_kernels(outer, inner) or outer.ndim != 5:
        result = inner + warp(outer, inner)
        return result if out is None else out.copy_(result)
    out = empty_like_shape(*inner.shape) if out is None else out
    for b in range(outer.shape[0]):
        sampling.compose(as_array(outer[b]), as_array(inner[b]), out[b].numpy())
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
    """How well an iterative inverse does: lengths of ``v(x) + u(x + v(x))``, in voxels.

    Attributes:
        mean: Mean residual.
        maximum: Largest residual.
        num_steps: Iterations made.
    """

    mean: float
    maximum: float
    num_steps: int


def invert(
    displacement: Tensor,
    *,
    initial: Tensor | None = None,
    max_steps: int = 60,
    tolerance_voxels: float = 0.01,
) -> tuple[Tensor, Inversion]:
    r"""Invert a displacement by the fixed-point iteration $v \leftarrow v - \alpha (v + u(x + v))$.

    The step $\alpha$ is 1 and is halved when the largest residual stops falling, so that steep but invertible fields
    converge too. The answer is the iterate with the smallest maximum.

    Args:
        displacement: u, ``(B, D, *shape)`` in voxels.
        initial: Where to start (default: -u).
        max_steps: Iterations at most.
        tolerance_voxels: Stop when the largest residual is below this.

    Returns:
        v on the same lattice, and its residual.

    Reference:
        Chen et al., A simple fixed-point approach to invert a deformation field, Medical Physics 35 (2008),
        doi:10.1118/1.2816107.
    """
    inverse = (-displacement if initial is None else initial).clone()
    residual = torch.empty_like(inverse)
    best, best_inverse, step, stalled, num_steps = float("inf"), inverse, 1.0, 0, 0
    for num_steps in range(1, max_steps + 1):
        compose(displacement, inverse, out=residual)
        largest = float(_lengths(residual).max())
        if largest < best:
            stalled = 0 if largest < 0.9 * best else stalled + 1
            best, best_inverse = largest, inverse.clone()
        else:
            stalled += 1
        if best < tolerance_voxels or step < 0.05:
            break
        if stalled >= 3:
            inverse, step, stalled = best_inverse.clone(), step / 2, 0
            compose(displacement, inverse, out=residual)
        inverse.sub_(residual, alpha=step)
    lengths = _lengths(compose(displacement, best_inverse))
    mean = float(lengths.cpu().numpy().mean(dtype="float64"))
    return best_inverse, Inversion(mean, float(lengths.max()), num_steps)


def _lengths(field: Tensor) -> Tensor:
    """Euclidean length of each vector, ``(B, *shape)``."""
    return torch.linalg.vector_norm(field, dim=1)
