"""Transforms one after another."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pullback.transforms.abstract import AbstractTransform
from pullback.transforms.linear import AbstractLinear, Affine


@dataclass(frozen=True, eq=False)
class Chain(AbstractTransform):
    """``Chain((a, b))(x) == a(b(x))``: the last part acts first.

    Raises:
        ValueError: If there is no part, or parts differ in dimension.
    """

    parts: tuple[AbstractTransform, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("A chain needs at least one transform.")
        _check_dimensions(self.parts)

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.parts[0].num_dims

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm, last part first."""
        for part in reversed(self.parts):
            points = part.map_points(points)
        return points

    def determinant_at(self, points: Tensor) -> Tensor:
        """The product of the parts' determinants, each where the points have come to (chain rule)."""
        determinant = torch.ones(len(points), dtype=torch.float64)
        for part in reversed(self.parts):
            determinant = determinant * part.determinant_at(points)
            points = part.map_points(points)
        return determinant

    def inverse(self) -> AbstractTransform:
        """The parts' inverses in the opposite order."""
        return chain(*(part.inverse() for part in reversed(self.parts)))


def chain(*parts: AbstractTransform) -> AbstractTransform:
    """Chain transforms (the last acts first), flattening chains and multiplying neighbouring matrices.

    Raises:
        ValueError: If there is no part, or parts differ in dimension.
    """
    _check_dimensions(parts)
    flat: list[AbstractTransform] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Chain) else (part,):
            last = flat[-1] if flat else None
            if isinstance(last, AbstractLinear) and isinstance(piece, AbstractLinear):
                flat[-1] = _product(last, piece)
            else:
                flat.append(piece)
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))


def _check_dimensions(parts: tuple[AbstractTransform, ...]) -> None:
    numbers = [part.num_dims for part in parts]
    if len(set(numbers)) > 1:
        *first, last = map(str, numbers)
        raise ValueError(
            f"The transforms have {', '.join(first)} and {last} dimensions, but in a chain all must agree."
        )


def _product(outer: AbstractLinear, inner: AbstractLinear) -> AbstractLinear:
    """Product of two linear maps, of the narrowest class that holds both."""
    for kind in type(outer).__mro__:
        if issubclass(type(inner), kind) and issubclass(kind, Affine):
            return kind(outer.matrix @ inner.matrix)
    return Affine(outer.matrix @ inner.matrix)
