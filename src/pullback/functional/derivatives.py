"""Spatial derivatives of images and fields."""

import numpy as np
import torch
from torch import Tensor

from pullback.functional import reference
from pullback.functional.lifting import as_array, empty_like_shape, has_kernels, lift_field
from pullback.kernels import derivatives


def jacobian_determinant(displacement: Tensor) -> Tensor:
    r"""$\det \partial (x + u(x)) / \partial x$ at every voxel, central differences, one-sided at the edges.

    Args:
        displacement: ``(B, D, *shape)`` in voxels. (In mm on any grid the determinant is the same.)

    Returns:
        ``(B, *shape)``; 1 where nothing changes, at or below 0 where the map folds.
    """
    num_dims = displacement.ndim - 2
    field = lift_field(displacement, num_dims)
    if not has_kernels(displacement) or displacement.requires_grad:
        determinant = reference.jacobian_determinant(field)
    else:
        determinant = empty_like_shape(field.shape[0], *field.shape[2:])
        for b in range(field.shape[0]):
            derivatives.jacobian_determinant(as_array(field[b]), determinant[b].numpy())
    return determinant if num_dims == 3 else determinant.squeeze(-3)


def multiply_by_gradient(values: Tensor, image: Tensor, *, out: Tensor | None = None) -> Tensor:
    r"""$g(x) \nabla m(x)$: how a change of intensity asks the voxels to move. 3-D only (lift 2-D first).

    Args:
        values: g, ``(B, 1, I, J, K)``.
        image: m, ``(B, 1, I, J, K)``; its gradient is by central differences per voxel.
        out: Where to write, ``(B, 3, I, J, K)``.
    """
    if not has_kernels(values, image):
        result = values * reference.gradient(image)
        return result if out is None else out.copy_(result)
    out = empty_like_shape(values.shape[0], 3, *values.shape[2:]) if out is None else out
    for b in range(values.shape[0]):
        derivatives.multiply_by_gradient(as_array(values[b, 0]), as_array(image[b, 0]), out[b].numpy())
    return out


def largest_length(field: Tensor) -> float:
    """The length of the longest vector of ``(B, 3, I, J, K)``."""
    if not has_kernels(field):
        return float(torch.linalg.vector_norm(field, dim=1).max())
    largest = 0.0
    for b in range(field.shape[0]):
        squares = np.empty(field.shape[2], dtype=np.float32)
        derivatives.largest_squared_norm(as_array(field[b]), squares)
        largest = max(largest, float(np.sqrt(squares.max())))
    return largest


def relax(field: Tensor, shear: float, volume: float, *, out: Tensor | None = None) -> Tensor:
    r"""$u + \mu \nabla^2 u + \kappa \nabla (\nabla \cdot u)$ in voxels: one step of an elastic body towards rest.

    Args:
        field: u, ``(B, D, *shape)``; the edges are repeated.
        shear: $\mu$.
        volume: $\kappa$ (Lame's $\lambda + \mu$); stable while $12 \mu + 4.5 \kappa < 2$.
        out: Where to write, when no gradient is needed; not `field` itself.
    """
    lifted = lift_field(field, field.ndim - 2)
    if not has_kernels(field) or field.requires_grad:
        result = reference.relax(lifted, shear, volume)
        result = result if field.ndim == 5 else result[:, 1:, 0]
        return result if out is None else out.copy_(result)
    target = empty_like_shape(*lifted.shape) if out is None or field.ndim == 4 else out
    for b in range(field.shape[0]):
        derivatives.relax(as_array(lifted[b]), np.float32(shear), np.float32(volume), target[b].numpy())
    if field.ndim == 5:
        return target
    return target[:, 1:, 0] if out is None else out.copy_(target[:, 1:, 0])


def affine_derivative(moving: Tensor, matrix: np.ndarray, values: Tensor) -> np.ndarray:
    r"""Derivative of $\sum_x g(x) m(A x)$ by the ``(3, 4)`` matrix A, float64; volumes ``(1, 1, I, J, K)``.

    Only on the CPU and in float32: the affine stage runs there on every machine.
    """
    partial = np.empty((values.shape[2], 3, 4))
    derivatives.affine_derivative(as_array(moving[0, 0]), matrix, as_array(values[0, 0]), partial)
    return partial.sum(axis=0)
