r"""The rigid, similarity or affine map of the least squared distance $\sum_i \|T(x_i) - y_i\|^2$ between landmarks.

All functions take any number of sets of landmarks at once, which a search for the consensus needs.
"""

import torch
from torch import Tensor

from pullback.transforms import AbstractLinear, Affine, Rigid, Similarity

LINEAR_CLASSES: dict[str, type[AbstractLinear]] = {"rigid": Rigid, "similarity": Similarity, "affine": Affine}
FLAT = 1e-7
"""Landmarks whose extent along an axis is this share of the longest have none along it."""


def num_needed(kind: str, num_dims: int) -> int:
    """Landmarks without which the map does not follow."""
    return num_dims + 1 if kind == "affine" else num_dims


def is_degenerate(fixed: Tensor, kind: str) -> Tensor:
    """Whether sets of landmarks ``(..., N, D)`` lie so that the map does not follow, ``(...)`` bool.

    An affine map needs landmarks that span space, the others two axes less one: turns about a line do not show on it.
    """
    extents = torch.linalg.svdvals(fixed - fixed.mean(-2, keepdim=True))
    needed = fixed.shape[-1] if kind == "affine" else fixed.shape[-1] - 1
    return extents[..., needed - 1] <= FLAT * extents[..., 0].clamp(min=torch.finfo(torch.float64).tiny)


def matrices_of(kind: str, fixed: Tensor, moving: Tensor) -> Tensor:
    """The best maps of a kind as world matrices ``(..., D + 1, D + 1)`` float64.

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        fixed, moving: Corresponding landmarks ``(..., N, D)`` float64 in mm.

    Reference:
        Umeyama, IEEE TPAMI 13(4), 1991, doi:10.1109/34.88573, for the first two.
    """
    fixed_middle, moving_middle = fixed.mean(-2, keepdim=True), moving.mean(-2, keepdim=True)
    x, y = fixed - fixed_middle, moving - moving_middle
    linear = _affine(x, y) if kind == "affine" else _turned(x, y, is_scaled=kind == "similarity")
    num_dims = fixed.shape[-1]
    matrix = torch.eye(num_dims + 1, dtype=torch.float64).expand(*fixed.shape[:-2], -1, -1).clone()
    matrix[..., :-1, :-1] = linear
    matrix[..., :-1, -1] = (moving_middle.mT - linear @ fixed_middle.mT)[..., 0]
    return matrix


def _affine(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.lstsq(x, y, driver="gelsd").solution.mT if x.ndim == 2 else (torch.linalg.pinv(x) @ y).mT


def _turned(x: Tensor, y: Tensor, *, is_scaled: bool) -> Tensor:
    """Rotation, with a scale if asked for; never a mirror image."""
    u, stretches, vt = torch.linalg.svd(y.mT @ x)
    signs = torch.ones_like(stretches)
    signs[..., -1] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u * signs.unsqueeze(-2) @ vt
    if not is_scaled:
        return rotation
    scale = (stretches * signs).sum(-1) / x.square().sum((-2, -1))
    return scale[..., None, None] * rotation
