"""Affine maps of the families that give one: from a network's numbers to a voxel matrix, and on to a displacement.

Products of small matrices are sums of products here: mixed precision would round a matrix product to eight bits, which
is a voxel and more at the far end of a lattice.
"""

import itertools

import torch
from torch import Tensor, nn

from pullback.checks import check_choice, check_positive

ORIGINS = ("corner", "middle")
"""About which point a linear part turns and stretches: voxel 0, or the middle of the lattice."""


def num_numbers(num_dims: int) -> int:
    """Of an affine map: 6 or 12."""
    return num_dims * (num_dims + 1)


def numbers_head(inputs: int, outputs: int, *, std: float, bias: bool = True) -> nn.Linear:
    """The last layer: weights drawn from a narrow normal distribution, so that a new network is the identity."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=check_positive("head_std", std))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of small matrices ``(..., R, K)`` and ``(..., K, C)``, never in half precision."""
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


def from_numbers(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Linear part ``(B, D, D)`` and translation ``(B, D)`` of a matrix's rows less the identity, ``(B, D, D + 1)``."""
    linear = numbers[..., :-1] + torch.eye(numbers.shape[1], device=numbers.device)
    return linear, numbers[..., -1]


def linear_of_factors(angles: Tensor, scales: Tensor, shears: Tensor) -> Tensor:
    """``Shear @ Scale @ Rotation``, ``(B, D, D)``.

    Args:
        angles: ``(B, D (D - 1) / 2)`` in radians, see :func:`rotations`.
        scales: ``(B, D)``: factors along the axes, 1 stays.
        shears: ``(B, D (D - 1) / 2)``: the upper triangle, row by row.
    """
    num_dims = scales.shape[1]
    shear = torch.eye(num_dims, device=scales.device).repeat(len(scales), 1, 1)
    for n, (row, column) in enumerate(itertools.combinations(range(num_dims), 2)):
        shear[:, row, column] = shears[:, n]
    return product(shear, scales[:, :, None] * rotations(angles, num_dims))


def rotations(angles: Tensor, num_dims: int) -> Tensor:
    """Rotations ``(B, D, D)`` by angles ``(B, 1)`` or, about the three axes in turn, ``(B, 3)``, in radians."""
    cosines, sines = angles.cos(), angles.sin()
    planes = [(0, 1)] if num_dims == 2 else [(1, 2), (0, 2), (0, 1)]
    result = torch.eye(num_dims, device=angles.device).expand(len(angles), -1, -1)
    for n, (i, j) in enumerate(planes):
        turn = torch.eye(num_dims, device=angles.device).repeat(len(angles), 1, 1)
        turn[:, i, i] = turn[:, j, j] = cosines[:, n]
        turn[:, i, j], turn[:, j, i] = -sines[:, n], sines[:, n]
        result = product(turn, result)
    return result


def matrix_about(linear: Tensor, translation: Tensor, centre: Tensor) -> Tensor:
    """The matrix ``(B, D + 1, D + 1)`` of ``x -> centre + linear (x - centre) + translation``.

    Args:
        linear: ``(B, D, D)``.
        translation: ``(B, D)`` in voxels.
        centre: ``(B, D)`` or ``(D,)`` in voxels.
    """
    num_dims = linear.shape[-1]
    eye = torch.eye(num_dims + 1, device=linear.device)
    shift = translation - ((linear - eye[:-1, :-1]) * centre.unsqueeze(-2)).sum(-1)
    rows = torch.cat([linear, shift[:, :, None]], dim=2)
    return torch.cat([rows, eye[-1:].expand(len(linear), -1, -1)], dim=1)


def origin_of(shape: tuple[int, ...], origin: str, like: Tensor) -> Tensor:
    """The point ``(D,)`` in voxels that an entry of `ORIGINS` names."""
    is_middle = check_choice("origin", origin, ORIGINS) == "middle"
    return like.new_tensor([(n - 1) / 2 if is_middle else 0.0 for n in shape])


def translated(matrix: Tensor, centre: Tensor) -> Tensor:
    """The matrix ``(B, D + 1, D + 1)`` in coordinates whose origin is `centre`, ``(D,)`` in voxels."""
    eye = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    moved = matrix.clone()
    moved[:, :-1, -1] += ((matrix - eye)[:, :-1, :-1] * centre).sum(-1)
    return moved


def on_coarse(matrix: Tensor, factor: int) -> Tensor:
    """A voxel matrix ``(B, D + 1, D + 1)`` in voxels of a lattice of `factor` times their size, means of blocks."""
    moved = translated(matrix, matrix.new_full((matrix.shape[-1] - 1,), (factor - 1) / 2))
    scale = torch.ones_like(matrix)
    scale[:, :-1, -1] = 1 / factor
    return moved * scale


def displacement_of(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``A x - x``, ``(B, D, *shape)``, of voxel matrices ``(B, D + 1, D + 1)``; 0 to the bit for the identity."""
    num_dims = len(shape)
    gap = matrix[:, :-1] - torch.eye(num_dims + 1, device=matrix.device, dtype=matrix.dtype)[:-1]
    each = (len(matrix), num_dims, *[1] * num_dims)
    result = gap[:, :, -1].reshape(each)
    for axis, size in enumerate(shape):
        index = torch.arange(size, dtype=matrix.dtype, device=matrix.device)
        index = index.reshape([size if a == axis else 1 for a in range(num_dims)])
        result = result + gap[:, :, axis].reshape(each) * index
    return result


def fit(points: Tensor, offsets: Tensor, weights: Tensor, *, ridge: float) -> Tensor:
    r"""The matrix ``(B, D + 1, D + 1)`` of the least $\sum_i w_i \|A p_i - (p_i + o_i)\|^2 + r \|A - I\|^2$.

    Args:
        points: ``(N, D)`` or ``(B, N, D)`` in voxels.
        offsets: ``(B, D, N)`` in voxels: from each point to its match.
        weights: ``(B, N)``, 0 and more, with a sum of 1.
        ridge: In squared voxels; keeps points that lie in a plane from making the matrix singular.
    """
    num_dims = points.shape[-1]
    centre = (weights[:, :, None] * points).sum(1)
    shift = (weights[:, None] * offsets).sum(2)
    away = (points - centre[:, None]).movedim(1, 2)
    weighted = weights[:, None] * away
    eye = torch.eye(num_dims, device=points.device)
    spread = (weighted[:, :, None] * away[:, None]).sum(-1) + check_positive("ridge", ridge) * eye
    joint = (weighted[:, :, None] * (offsets - shift[:, :, None])[:, None]).sum(-1)
    return matrix_about(torch.linalg.solve(spread, joint).mT + eye, shift, centre)


def fit_rigid(points: Tensor, matches: Tensor, *, ridge: float) -> Tensor:
    """The turn and shift ``(B, D + 1, D + 1)`` that bring points ``(B, N, D)`` nearest to their matches, in voxels.

    A turn, never a mirror image: matches that lie in a plane, such as those of a network that cannot tell left from
    right, still say which. Points that say nothing give no turn.

    Args:
        points, matches: ``(B, N, D)`` in voxels.
        ridge: In squared voxels, as for :func:`fit`.

    Reference:
        Kabsch, Acta Crystallographica A 1976, doi:10.1107/S0567739476001873.
    """
    centre, other = points.mean(dim=1, keepdim=True), matches.mean(dim=1, keepdim=True)
    away = (points - centre).double()  # mixed precision would round a product of single precision
    joint = away.mT @ (matches - other).double() / points.shape[1]
    u, _, vt = torch.linalg.svd(joint + check_positive("ridge", ridge) * torch.eye(points.shape[2]).to(joint))
    signs = torch.ones_like(u[:, 0])
    signs[:, -1] = torch.linalg.det(u @ vt).sign()
    turn = ((u * signs[:, None]) @ vt).mT.to(points)
    return matrix_about(turn, (other - centre)[:, 0], centre[:, 0])
