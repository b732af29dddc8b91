"""Values of images at positions between voxels."""

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pullback.checks import check_choice
from pullback.functional import reference
from pullback.functional.lifting import as_array, empty_like_shape, has_kernels, lift_field, lift_matrix, lift_volumes
from pullback.kernels import points as point_kernels
from pullback.kernels import sampling, sampling_gradients

INTERPOLATIONS = ("linear", "nearest", "cubic", "label")


def sample(
    image: Tensor,
    positions: Tensor,
    *,
    interpolation: str = "linear",
    fill: float | None = 0.0,
    is_prefiltered: bool = False,
) -> Tensor:
    """Sample an image at voxel positions; not differentiable.

    Args:
        image: ``(C, *shape)`` on the CPU, any real type.
        positions: ``(..., D)`` float64 voxel coordinates.
        interpolation: ``linear``; ``nearest`` (halves go up); ``cubic`` (cubic B-spline, mirrored edges); or ``label``
            (of the labels within two voxels the one with most Gaussian weight: the label set is kept, borders are
            smooth).
        fill: Value at positions more than half a voxel outside the outer centres (ITK's rule); None repeats the edge
            (linear only).
        is_prefiltered: For ``cubic``: `image` holds the coefficients of :func:`spline_coefficients` already.

    Returns:
        ``(C, ...)`` of the image's type (integers are rounded).

    Raises:
        ValueError: If the interpolation is unknown or cannot repeat the edge.
    """
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    dtype = np.dtype(str(image.dtype).removeprefix("torch."))
    if interpolation == "cubic" and not is_prefiltered:
        image = spline_coefficients(image)
    if fill is None and interpolation != "linear":
        raise ValueError(f"`fill` is None, which repeats the edge, but '{interpolation}' interpolation cannot.")
    num_dims = image.ndim - 1
    volumes = as_array(lift_volumes(image, num_dims))
    if interpolation == "linear" and not image.is_floating_point():
        volumes = volumes.astype(np.float64)
    flat = positions.detach().reshape(-1, num_dims).to("cpu", torch.float64).numpy().T
    lifted = np.zeros((3, flat.shape[1]))
    lifted[3 - num_dims :] = flat
    out = np.empty((volumes.shape[0], flat.shape[1]), dtype=volumes.dtype)
    if interpolation == "linear":
        value = volumes.dtype.type(0 if fill is None else fill)
        point_kernels.sample_linear(volumes, lifted, value, fill is None, out)
    else:
        for volume, row in zip(volumes, out, strict=True):
            _sample_one(volume, lifted, interpolation, volume.dtype.type(fill), row)
    return torch.from_numpy(_as_type(out, dtype)).reshape(len(out), *positions.shape[:-1])


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Interpolated values in the type of the image; integers are rounded, and kept within their range."""
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(values.dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.rint(values).clip(limits.min, limits.max)
    return values.astype(dtype, copy=False)


def _sample_one(volume: np.ndarray, positions: np.ndarray, interpolation: str, fill: Any, out: np.ndarray) -> None:
    if interpolation == "nearest":
        point_kernels.sample_nearest(volume, positions, fill, out)
    elif interpolation == "label":
        point_kernels.sample_labels(volume, positions, fill, out)
    else:
        point_kernels.sample_cubic(volume, positions, fill, out)


def spline_coefficients(image: Tensor) -> Tensor:
    """Coefficients of the cubic B-spline through the voxels of ``(C, *shape)``, mirrored at the edges, float64."""
    channels = [ndimage.spline_filter(c, order=3, output=np.float64, mode="mirror") for c in image.detach().numpy()]
    return torch.from_numpy(np.stack(channels))


def warp(
    image: Tensor,
    displacement: Tensor,
    matrix: Tensor | np.ndarray | None = None,
    *,
    fill: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    r"""Sample an image at displaced voxels: $w(x) = m(A (x + u(x)))$, trilinear, differentiable in image and field.

    Args:
        image: ``(B, C, *shape)``.
        displacement: ``(B, D, *out_shape)`` in voxels of the output, components in the order of the axes.
        matrix: ``(D+1, D+1)`` from output voxels to image voxels (default: identity).
        fill: Value outside the image by more than half a voxel; None repeats the edge.
        out: Where to write, when no gradient is needed.

    Returns:
        ``(B, C, *out_shape)``.
    """
    num_dims = image.ndim - 2
    matrix = lift_matrix(np.eye(num_dims + 1) if matrix is None else matrix, num_dims)
    image_3d, field = lift_volumes(image, num_dims), lift_field(displacement, num_dims)
    if not has_kernels(image, displacement):
        warped = reference.warp(image_3d, field, matrix, fill)
    elif out is not None:
        _run_warp(image_3d, field, matrix, fill, lift_volumes(out, num_dims))
        return out
    else:
        warped = _Warp.apply(image_3d, field, matrix, fill)
    return warped if num_dims == 3 else warped.squeeze(-3)


def _run_warp(image: Tensor, field: Tensor, matrix: np.ndarray, fill: float | None, out: Tensor) -> None:
    if not np.isfinite(matrix).all():  # the compiled loop would read outside of the image
        raise ValueError("`matrix` holds NaN or infinite numbers.")
    target = out.numpy()
    for b in range(image.shape[0]):
        for c in range(image.shape[1]):
            sampling.warp(as_array(image[b, c]), as_array(field[b]), matrix, fill, target[b, c])


class _Warp(torch.autograd.Function):
    """The compiled warp with its derivatives by the image and by the displacement."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, field: Tensor, matrix: np.ndarray, fill: float | None) -> Tensor:
        out = empty_like_shape(*image.shape[:2], *field.shape[2:])
        _run_warp(image, field, matrix, fill, out)
        ctx.save_for_backward(image, field)
        ctx.matrix, ctx.fill = matrix, fill
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        image, field = ctx.saved_tensors
        if ctx.fill is not None:
            inside = reference.sample_linear(
                torch.ones_like(image[:, :1]), reference.positions_of(field, ctx.matrix), 0.0
            )
            upstream = upstream * inside
        upstream = upstream.contiguous()
        by_image = torch.zeros_like(image, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        by_field = torch.empty_like(field, memory_format=torch.contiguous_format) if ctx.needs_input_grad[1] else None
        for b in range(image.shape[0]):
            u, d = as_array(upstream[b]), as_array(field[b])
            if by_image is not None:
                sampling_gradients.warp_by_image(d, ctx.matrix, u, by_image[b].numpy())
            if by_field is not None:
                sampling_gradients.warp_by_displacement(as_array(image[b]), d, ctx.matrix, u, by_field[b].numpy())
        return by_image, by_field, None, None
