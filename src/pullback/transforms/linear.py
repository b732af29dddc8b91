r"""Linear transforms: translation, rigid, similarity and affine maps of the world.

All are $y = A (x - c) + c + t$ with a centre c (default: the origin). An affine is composed from, and decomposed into,
translation, rotation, scaling and shear in this order: $A = R\,S\,H$, with R a rotation, S a diagonal of scales, and H
upper triangular with ones on its diagonal. The shear acts first, then the scaling, the rotation, the translation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pullback.checks import as_float64
from pullback.functional.rotations import rotation_from_vector, vector_from_rotation
from pullback.space import apply_matrix
from pullback.transforms.abstract import AbstractTransform

ORTHOGONALITY = 1e-6


class AbstractLinear(AbstractTransform):
    """A map by a homogeneous matrix.

    Attributes:
        matrix: ``(D+1, D+1)`` float64, fixed world mm to moving world mm.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor | np.ndarray | Sequence) -> None:
        """Take a homogeneous matrix ``(D+1, D+1)``.

        Raises:
            ValueError: If it is not homogeneous, not finite, singular, or not of this class's kind.
        """
        matrix = as_float64(matrix)
        size = matrix.shape[0] if matrix.ndim == 2 else 0
        if matrix.shape not in ((3, 3), (4, 4)):
            raise ValueError(
                f"`matrix` has shape {tuple(matrix.shape)}, but (3, 3) for 2-D or (4, 4) for 3-D is needed."
            )
        if not torch.isfinite(matrix).all():
            raise ValueError("`matrix` holds NaN or infinite numbers.")
        if not torch.allclose(matrix[-1], torch.eye(size, dtype=torch.float64)[-1]):
            raise ValueError(f"The last row of `matrix` is {matrix[-1].tolist()}, but 0 ... 0 1 is needed.")
        if abs(torch.linalg.det(matrix[:-1, :-1])) < 1e-12:
            raise ValueError("`matrix` is singular: it flattens the world and has no inverse.")
        self.matrix = matrix
        self._check_kind()

    def _check_kind(self) -> None:
        """Raise ValueError if the matrix is of a more general kind than the class."""

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return self.matrix.shape[0] - 1

    @property
    def linear(self) -> Tensor:
        """The ``(D, D)`` part that moves vectors."""
        return self.matrix[:-1, :-1]

    @property
    def translation(self) -> Tensor:
        """Where the world's origin goes, ``(D,)`` mm."""
        return self.matrix[:-1, -1]

    def map_points(self, points: Tensor) -> Tensor:
        """Map points ``(N, D)`` in mm."""
        return apply_matrix(self.matrix, points)

    def determinant_at(self, points: Tensor) -> Tensor:
        """The same everywhere: the determinant of the matrix."""
        return torch.linalg.det(self.linear).expand(len(points))

    def inverse(self) -> Self:
        """The inverse, of the same kind."""
        return type(self)(torch.linalg.inv(self.matrix))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({np.array2string(self.matrix.numpy(), precision=5, suppress_small=True)})"


class Affine(AbstractLinear):
    """Any invertible linear map: 6 degrees of freedom in 2-D, 12 in 3-D."""

    @classmethod
    def from_parts(
        cls,
        *,
        translation_mm: Sequence[float] | None = None,
        rotation: Sequence[float] | None = None,
        scaling: Sequence[float] | None = None,
        shear: Sequence[float] | None = None,
        centre_mm: Sequence[float] | None = None,
        num_dims: int = 3,
    ) -> Self:
        """Compose from translation, rotation, scaling and shear.

        Args:
            translation_mm: ``(D,)``, default 0.
            rotation: Rotation vector in radians, ``(3,)`` (2-D: ``(1,)``), default 0.
            scaling: ``(D,)``, default 1.
            shear: Upper triangle of H row by row, ``(xy, xz, yz)`` (2-D: ``(xy,)``), default 0.
            centre_mm: The point about which rotation, scaling and shear act, default the origin.
            num_dims: 2 or 3.

        Raises:
            ValueError: If a part has another number of values.
        """
        num_angles = num_dims * (num_dims - 1) // 2
        upper = np.eye(num_dims)
        upper[np.triu_indices(num_dims, 1)] = _part("shear", shear, num_angles)
        rotation = _part("rotation", rotation, num_angles)
        scales = _part("scaling", scaling, num_dims, default=1.0)
        centre = _part("centre_mm", centre_mm, num_dims)
        translation = _part("translation_mm", translation_mm, num_dims)
        matrix = np.eye(num_dims + 1)
        matrix[:-1, :-1] = rotation_from_vector(rotation) @ np.diag(scales) @ upper
        matrix[:-1, -1] = centre + translation - matrix[:-1, :-1] @ centre
        return cls(matrix)

    def decompose(self, centre_mm: Sequence[float] | None = None) -> "AffineParts":
        """Take apart into translation, rotation, scaling and shear about a centre (default: the origin).

        A reflection shows as a negative first scale.
        """
        linear = self.linear.numpy()
        rotation, upper = np.linalg.qr(linear)
        signs = np.sign(np.diag(upper))
        rotation, upper = rotation * signs, upper * signs[:, None]
        if np.linalg.det(rotation) < 0:
            rotation[:, 0] *= -1
            upper[0] *= -1
        scales = np.diag(upper).copy()
        shear = (upper / scales[:, None])[np.triu_indices(self.num_dims, 1)]
        centre = np.zeros(self.num_dims) if centre_mm is None else np.asarray(centre_mm, dtype=np.float64)
        translation = self.matrix[:-1, -1].numpy() + linear @ centre - centre
        return AffineParts(translation, vector_from_rotation(rotation), scales, shear, centre)


@dataclass(frozen=True)
class AffineParts:
    """The parts of an affine, as :meth:`Affine.from_parts` takes them: mm, radians, factors, factors, mm."""

    translation_mm: np.ndarray
    rotation: np.ndarray
    scaling: np.ndarray
    shear: np.ndarray
    centre_mm: np.ndarray


class Similarity(Affine):
    """Rotation, one scale for all axes, translation: 4 degrees of freedom in 2-D, 7 in 3-D."""

    def _check_kind(self) -> None:
        gram = self.linear.T @ self.linear
        scale = torch.diagonal(gram).mean()
        if (gram / scale - torch.eye(self.num_dims, dtype=torch.float64)).abs().max() > ORTHOGONALITY:
            raise ValueError(f"`matrix` shears or scales its axes differently: it is no {type(self).__name__.lower()}.")
        if torch.linalg.det(self.linear) < 0:
            raise ValueError(f"`matrix` reflects the world: it is no {type(self).__name__.lower()}.")


class Rigid(Similarity):
    """Rotation and translation: 3 degrees of freedom in 2-D, 6 in 3-D."""

    def _check_kind(self) -> None:
        super()._check_kind()
        if abs(torch.linalg.det(self.linear) - 1) > ORTHOGONALITY * 10:
            raise ValueError("`matrix` changes volumes: it is a similarity, not rigid.")


class Translation(Rigid):
    """A shift by a vector in mm: 2 or 3 degrees of freedom."""

    def _check_kind(self) -> None:
        if (self.linear - torch.eye(self.num_dims, dtype=torch.float64)).abs().max() > ORTHOGONALITY:
            raise ValueError("`matrix` does more than translate.")

    @classmethod
    def by(cls, vector_mm: Sequence[float] | Tensor) -> Self:
        """The translation by a vector ``(D,)`` in mm."""
        vector = np.asarray(vector_mm, dtype=np.float64)
        matrix = np.eye(len(vector) + 1)
        matrix[:-1, -1] = vector
        return cls(matrix)


def _part(name: str, numbers: Sequence[float] | None, size: int, default: float = 0.0) -> np.ndarray:
    """One part of an affine as float64 numbers, or `default` everywhere."""
    if numbers is None:
        return np.full(size, default)
    part = as_float64(numbers).numpy()
    if part.shape != (size,):
        raise ValueError(f"`{name}` has shape {part.shape}, but ({size},) is needed.")
    return part


def identity(num_dims: int = 3) -> Translation:
    """The transform that leaves every point where it is."""
    return Translation.by([0.0] * num_dims)
