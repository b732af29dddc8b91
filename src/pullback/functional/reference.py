"""The same operations in plain PyTorch: the path of CUDA and float64 tensors, and what the kernels are tested against.

Everything here is differentiable. Volumes are ``(B, C, I, J, K)``, fields ``(B, 3, I, J, K)`` in voxels.
"""

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor


def positions_of(displacement: Tensor, matrix: np.ndarray | Tensor) -> Tensor:
    """Voxel positions ``matrix (x + displacement(x))``, shape ``(B, 3, I, J, K)``."""
    axes = [torch.arange(n, dtype=displacement.dtype, device=displacement.device) for n in displacement.shape[2:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement
    if np.array_equal(np.asarray(matrix), np.eye(4)[:3]):  # the usual case; the matrix would make the device wait
        return points
    matrix = torch.as_tensor(np.asarray(matrix), dtype=displacement.dtype, device=displacement.device)
    turned = torch.einsum("rc,bcijk->brijk", matrix[:, :3], points)
    return turned + matrix[:, 3].reshape(1, 3, 1, 1, 1)


def sample_linear(image: Tensor, positions: Tensor, fill: float | None) -> Tensor:
    """Trilinear samples of ``image`` at voxel `positions`.

    The only place with normalised coordinates: voxel x of n becomes ``(2 x + 1) / n - 1`` (``align_corners=False``,
    which is defined for n = 1 too), and the axes are reversed, once.
    """
    along = [(2 * p + 1) / n - 1 for p, n in zip(positions.unbind(1), image.shape[2:], strict=True)]
    normalised = torch.stack(along[::-1], dim=-1)
    values = nnf.grid_sample(image, normalised, mode="bilinear", padding_mode="border", align_corners=False)
    if fill is None:
        return values
    sizes = torch.tensor(image.shape[2:], dtype=positions.dtype, device=positions.device).reshape(1, 3, 1, 1, 1)
    inside = ((positions >= -0.5) & (positions < sizes - 0.5)).all(dim=1, keepdim=True)
    return torch.where(inside, values, torch.full_like(values, fill))


def warp(image: Tensor, displacement: Tensor, matrix: np.ndarray | Tensor, fill: float | None) -> Tensor:
    """``image(matrix (x + displacement(x)))``."""
    return sample_linear(image, positions_of(displacement, matrix), fill)


def convolve(volumes: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Filter along one spatial axis (0, 1, 2) with centred `taps`, repeating the edges."""
    radius = len(taps) // 2
    padding = [0, 0, 0, 0, 0, 0]
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
    shape = [1, 1, 1, 1, 1]
    shape[axis + 2] = len(taps)
    channels = volumes.shape[1]
    kernel = taps.to(volumes).reshape(shape).repeat(channels, 1, 1, 1, 1)
    return nnf.conv3d(nnf.pad(volumes, padding, mode="replicate"), kernel, groups=channels)


def box_sum(volumes: Tensor, radii: tuple[int, int, int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels, cut at the edges."""
    padding = [r for radius in reversed(radii) for r in (radius, radius)]  # by hand: the pool takes no window above n
    sums = nnf.pad(volumes, padding)
    for axis, radius in enumerate(radii):
        size = [2 * radius + 1 if a == axis else 1 for a in range(3)]
        sums = nnf.avg_pool3d(sums, size, stride=1) * size[axis] if radius else sums
    return sums


def local_correlation(
    fixed: Tensor, warped: Tensor, weights: Tensor | None, radii: tuple[int, int, int], noises: tuple, squared: bool
) -> Tensor:
    """Local correlation of every window, ``(B, C, I, J, K)``, times the weight of its centre.

    `noises` are what is added to the variances and to the covariance, and the contrast by which windows count.
    """
    noise, shared_noise, contrast = noises
    ones = torch.ones_like(fixed) if weights is None else weights.expand_as(fixed)
    count = box_sum(ones, radii).clamp(min=1.0)
    mean_f, mean_w = box_sum(ones * fixed, radii) / count, box_sum(ones * warped, radii) / count
    clean_var_f = (box_sum(ones * fixed * fixed, radii) / count - mean_f**2).clamp(min=0)
    var_f = clean_var_f + noise
    var_w = (box_sum(ones * warped * warped, radii) / count - mean_w**2).clamp(min=0) + noise
    covariance = box_sum(ones * fixed * warped, radii) / count - mean_f * mean_w + shared_noise
    correlation = covariance**2 / (var_f * var_w) if squared else covariance / (var_f * var_w).sqrt()
    return ones * correlation * (clean_var_f / (clean_var_f + contrast) if contrast > 0 else 1.0)


def gradient(image: Tensor) -> Tensor:
    """Central differences of ``(B, 1, I, J, K)``, ``(B, 3, I, J, K)``; zero at the edges along each axis's ends.

    Along K the two end voxels are zero; along I and J they are half the one-sided difference, as in the kernel.
    """
    parts = []
    for axis in (2, 3, 4):
        n = image.shape[axis]
        index = torch.arange(n, device=image.device)
        high, low = (index + 1).clamp(max=n - 1), (index - 1).clamp(min=0)
        parts.append((image.index_select(axis, high) - image.index_select(axis, low)) / 2)
    result = torch.cat(parts, dim=1)
    edge = torch.ones(image.shape[-1], dtype=image.dtype, device=image.device)
    edge[0] = edge[-1] = 0
    return torch.cat([result[:, :2], result[:, 2:] * edge], dim=1)


def jacobian_determinant(field: Tensor) -> Tensor:
    """Determinant of d(x + u) / dx, ``(B, I, J, K)``: central differences, one-sided at the edges."""
    columns = []
    for axis in (2, 3, 4):
        n = field.shape[axis]
        index = torch.arange(n, device=field.device)
        high, low = (index + 1).clamp(max=n - 1), (index - 1).clamp(min=0)
        shape = [1] * 5
        shape[axis] = n
        span = (high - low).clamp(min=1).to(field.dtype).reshape(shape)
        columns.append((field.index_select(axis, high) - field.index_select(axis, low)) / span)
    (a, d, g), (b, e, h), (c, f, i) = (column.unbind(1) for column in columns)
    a, e, i = a + 1, e + 1, i + 1  # by hand: a library's determinant of millions of small matrices is far slower
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def relax(field: Tensor, shear: float, volume: float) -> Tensor:
    """``(B, 3, I, J, K)`` plus weighted Laplacian and gradient of the divergence; compact second differences."""

    def shift(x: Tensor, axis: int, by: int) -> Tensor:
        n = x.shape[axis]
        return x.index_select(axis, (torch.arange(n, device=x.device) + by).clamp(0, n - 1))

    def second(x: Tensor, axis: int) -> Tensor:
        return shift(x, axis, 1) - 2 * x + shift(x, axis, -1)

    def mixed(x: Tensor, axis: int, other: int) -> Tensor:
        slope = (shift(x, other, 1) - shift(x, other, -1)) / 2
        return (shift(slope, axis, 1) - shift(slope, axis, -1)) / 2

    results = []
    for c in range(3):
        part, others = field[:, c : c + 1], [d for d in range(3) if d != c]
        by_volume = second(part, c + 2) + sum(mixed(field[:, d : d + 1], c + 2, d + 2) for d in others)
        results.append(part + shear * sum(second(part, d) for d in (2, 3, 4)) + volume * by_volume)
    return torch.cat(results, dim=1)
