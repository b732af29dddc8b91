"""Images seen through voxel matrices, differentiable in the matrices."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.functional import reference
from pullback.functional.lifting import as_array, has_kernels, lift_field, lift_volumes
from pullback.kernels import affine_sampling as kernels


def warp_by_matrix(image: Tensor, matrix: Tensor) -> Tensor:
    r"""$w(x) = m(A x)$, trilinear, the edge repeated outside: :func:`warp` for a map that needs no displacement.

    On the CPU in 3-D and float32 a compiled loop visits only where the image is not zero, and the derivative by the
    matrix is a sum of its own; no field is made.

    Args:
        image: ``(B, C, *shape)``; on the fast path without a derivative.
        matrix: ``(B, D + 1, D + 1)`` homogeneous, from output voxels to image voxels.

    Returns:
        ``(B, C, *shape)``.

    Raises:
        ValueError: If a matrix holds NaN or infinite numbers.
    """
    num_dims = image.ndim - 2
    if not matrix.is_meta and not matrix.isfinite().all():
        raise ValueError("`matrix` holds NaN or infinite numbers; did the training diverge? Lower its learning rate.")
    if num_dims == 3 and has_kernels(image, matrix) and not image.requires_grad:
        return _WarpByMatrix.apply(image, matrix)
    axes = [torch.arange(n, dtype=matrix.dtype, device=matrix.device) for n in image.shape[2:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    shift = matrix[:, :-1, -1].reshape(len(matrix), num_dims, *[1] * num_dims)
    positions = torch.einsum("brc,c...->br...", matrix[:, :-1, :-1], points) + shift
    warped = reference.sample_linear(lift_volumes(image, num_dims), lift_field(positions, num_dims), None)
    return warped if num_dims == 3 else warped.squeeze(-3)


class _WarpByMatrix(torch.autograd.Function):
    """The compiled loops."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, matrix: Tensor) -> Tensor:
        out = np.zeros(image.shape, np.float32)
        boxes = np.empty((len(image), 3, 2), np.int64)
        for b in range(len(image)):
            volumes = as_array(image[b])
            kernels.box_of(np.abs(volumes).max(axis=0) if len(volumes) > 1 else volumes[0], boxes[b])
            kernels.warp(volumes, _rows(matrix[b]), boxes[b], out[b])
        ctx.save_for_backward(image, matrix)
        ctx.boxes = boxes
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor]:
        image, matrix = ctx.saved_tensors
        by_matrix = torch.zeros_like(matrix)
        for b in range(len(image)):
            partial = np.empty((image.shape[2], 3, 4))
            kernels.warp_by_matrix(as_array(image[b]), _rows(matrix[b]), ctx.boxes[b], as_array(upstream[b]), partial)
            by_matrix[b, :3] = torch.from_numpy(partial.sum(axis=0))
        return None, by_matrix


def _rows(matrix: Tensor) -> np.ndarray:
    return matrix[:3].detach().double().numpy()
