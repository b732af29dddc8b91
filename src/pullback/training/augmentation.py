"""Random changes of training pairs, made on the device, a batch at a time, from a generator that the step seeds.

What moves an image moves its labels. Everything geometric is put together into one displacement and sampled once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pullback import functional
from pullback.checks import check_choice, check_each_at_least
from pullback.networks import affine

SIDES = ("fixed", "moving")


@dataclass(frozen=True)
class RandomAffine:
    """Bounds of a random affine map about the middle of the lattice; each number is drawn evenly within them.

    Attributes:
        rotation_degrees: About each axis.
        scaling: Each axis is stretched by a factor from ``1 / (1 + scaling)`` to ``1 + scaling``.
        shear: Each off-diagonal of an upper triangle.
        translation_voxels: Along each axis.
    """

    rotation_degrees: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    translation_voxels: float = 0.0

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "rotation_degrees", "scaling", "shear", "translation_voxels")

    @property
    def is_on(self) -> bool:
        """Whether anything may change."""
        return any((self.rotation_degrees, self.scaling, self.shear, self.translation_voxels))

    def draw(self, batch: int, num_dims: int, generator: torch.Generator) -> Tensor:
        """Matrices ``(B, D, D + 1)`` on the generator's device, in voxels about the middle of the lattice."""
        device = generator.device

        def even(*shape: int) -> Tensor:
            return 2 * torch.rand(batch, *shape, generator=generator, device=device) - 1

        angles = even(num_dims * (num_dims - 1) // 2) * float(np.radians(self.rotation_degrees))
        turn = affine.rotations(angles, num_dims)
        scales = torch.exp(even(num_dims) * float(np.log1p(self.scaling)))
        upper = torch.triu(even(num_dims, num_dims) * self.shear, diagonal=1)
        upper = upper + torch.eye(num_dims, device=device)
        linear = turn @ (scales[:, :, None] * upper)
        return torch.cat([linear, even(num_dims, 1) * self.translation_voxels], dim=2)


@dataclass(frozen=True)
class Augmentation:
    """What may change; everything off by default.

    Attributes:
        flips: Axes along which a pair is mirrored, both images alike, with probability one half each.
        shared: Affine map of the pair, both images alike.
        own: Affine map of each image for itself, on top.
        again: Affine map of a second copy of the moving image, which the network sees too; terms compare both answers.
        deformation_voxels: Largest displacement of a smooth random deformation of each image for itself; its strength
            is drawn evenly up to this.
        deformation_width_voxels: Distance of its random vectors.
        gamma: Intensities (0 and more, 1 stays) to the power of ``exp(g)``, g drawn evenly within plus and minus this.
        bias: Factor of a smooth field from ``1 - bias`` to ``1 + bias``.
        bias_width_voxels: Distance of its random numbers.
        noise: Standard deviation of white noise, drawn evenly up to this, in units of the normalised images.
    """

    flips: tuple[int, ...] = ()
    shared: RandomAffine = field(default_factory=RandomAffine)
    own: RandomAffine = field(default_factory=RandomAffine)
    again: RandomAffine = field(default_factory=RandomAffine)
    deformation_voxels: float = 0.0
    deformation_width_voxels: float = 12.0
    gamma: float = 0.0
    bias: float = 0.0
    bias_width_voxels: float = 24.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "deformation_voxels", "gamma", "bias", "noise")
        check_each_at_least(1, self, "deformation_width_voxels", "bias_width_voxels")
        if len(set(self.flips)) < len(self.flips):
            raise ValueError(f"`flips` is {list(self.flips)}, but each axis may stand there once.")

    @property
    def moves(self) -> bool:
        """Whether anything geometric but flips is on."""
        return self.shared.is_on or self.own.is_on or self.deformation_voxels > 0

    def __call__(
        self,
        images: tuple[Tensor, Tensor],
        labels: tuple[Tensor, Tensor] | None,
        generator: torch.Generator,
        known: Tensor | None = None,
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None, Tensor | None]:
        """Change a batch of pairs.

        Args:
            images: Fixed and moving, ``(B, C, *S)``.
            labels: Their labels, one-hot ``(B, L, *S)``, or None.
            generator: On the images' device; the same seed gives the same pairs.
            known: Displacement ``(B, D, *S)`` in voxels that leads from fixed to moving, if one is known. It follows
                affine maps and flips, not a smooth deformation, which a recipe with a teacher may not have.

        Returns:
            The same, changed; labels are sampled linearly.
        """
        fields: tuple[Tensor | None, ...] = (None, None)
        if self.moves:
            matrices, fields = zip(*self._maps(images[0], generator), strict=True)
            known = None if known is None else _carried(known, *matrices, fields[0])
        changed = tuple(self._intensities(_move(i, f), generator) for i, f in zip(images, fields, strict=True))
        moved = None if labels is None else tuple(_move(one, f) for one, f in zip(labels, fields, strict=True))
        flips = [torch.rand(len(images[0]), generator=generator, device=generator.device) < 0.5 for _ in self.flips]
        for axis, chosen in zip(self.flips, flips, strict=True):
            changed = tuple(_flip(one, 2 + axis, chosen) for one in changed)
            moved = None if moved is None else tuple(_flip(one, 2 + axis, chosen) for one in moved)
            known = None if known is None else _flip_vectors(known, axis, chosen)
        return changed, moved, known

    def seen_again(self, moving: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The second copy of a moving image ``(B, C, *S)``, and the voxel matrices from it to the first."""
        shape = tuple(moving.shape[2:])
        matrix = about_voxel_0(self.again.draw(len(moving), len(shape), generator), shape)
        second = functional.warp(moving, affine.displacement_of(matrix, shape))
        return {"moving_again": second, "again_matrix": matrix}

    def _maps(self, image: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """For each side the linear part ``(B, D, D + 1)``, about the middle of the lattice, and the displacement."""
        batch, num_dims, shape = len(image), image.ndim - 2, tuple(image.shape[2:])
        shared = self.shared.draw(batch, num_dims, generator)
        if not self.own.is_on and not self.deformation_voxels:
            return 2 * [(shared, affine_displacement(shared, shape))]
        maps = []
        for _ in range(2):
            own = self.own.draw(batch, num_dims, generator)
            matrix = _together(shared, own)
            displacement = affine_displacement(matrix, shape)
            if self.deformation_voxels:
                strength = self.deformation_voxels * torch.rand(batch, generator=generator, device=image.device)
                displacement = displacement + smooth_noise(
                    batch, num_dims, shape, self.deformation_width_voxels, generator
                ) * strength.reshape(-1, *[1] * (num_dims + 1))
            maps.append((matrix, displacement))
        return maps

    def _intensities(self, image: Tensor, generator: torch.Generator) -> Tensor:
        each = (len(image), *[1] * (image.ndim - 1))

        def drawn() -> Tensor:
            return torch.rand(each, generator=generator, device=image.device)

        if self.gamma:
            image = image.clamp(min=0) ** torch.exp((2 * drawn() - 1) * self.gamma)
        if self.bias:
            field_ = smooth_noise(len(image), 1, tuple(image.shape[2:]), self.bias_width_voxels, generator)
            image = image * (1 + self.bias * field_)
        if self.noise:
            white = torch.randn(image.shape, generator=generator, device=image.device)
            image = image + self.noise * drawn() * white
        return image


@dataclass(frozen=True)
class Simulation:
    """Pairs whose true map is known: one image is made from the moving one by a random map.

    Attributes:
        affine: The linear part.
        deformation_voxels: Largest displacement of the smooth part.
        deformation_width_voxels: Distance of its random vectors.
        makes: ``fixed``: the fixed image becomes the moving one seen through the map. ``moving``: the pair is together
            by the recipe's alignment; the moving image is carried away, the map brings it back, and the state still has
            it as it was under `registered`. Only for affine maps.
    """

    affine: RandomAffine = field(default_factory=lambda: RandomAffine(15.0, 0.15, 0.05, 4.0))
    deformation_voxels: float = 0.0
    deformation_width_voxels: float = 12.0
    makes: str = "fixed"

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "deformation_voxels")
        check_each_at_least(1, self, "deformation_width_voxels")
        if check_choice("makes", self.makes, SIDES) == "moving" and self.deformation_voxels:
            raise ValueError(
                f"`deformation_voxels` is {self.deformation_voxels}, but `makes` is 'moving', which needs the inverse "
                "map and so takes affine ones alone; set it to 0."
            )

    def __call__(self, moving: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A displacement ``(B, D, *S)`` in voxels, and the voxel matrices ``(B, D + 1, D + 1)`` of its linear part."""
        batch, num_dims, shape = len(moving), moving.ndim - 2, tuple(moving.shape[2:])
        matrix = self.affine.draw(batch, num_dims, generator)
        displacement = affine_displacement(matrix, shape)
        if self.deformation_voxels:
            displacement = displacement + self.deformation_voxels * smooth_noise(
                batch, num_dims, shape, self.deformation_width_voxels, generator
            )
        return displacement, about_voxel_0(matrix, shape)

    def draw(self, batch: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The linear part alone: voxel matrices ``(B, D + 1, D + 1)``."""
        return about_voxel_0(self.affine.draw(batch, len(shape), generator), shape)


def carry_away(images: Sequence[Tensor], matrix: Tensor) -> list[Tensor]:
    """Images ``(B, C, *S)`` that the voxel matrices ``(B, D + 1, D + 1)`` bring back."""
    back = affine.displacement_of(torch.linalg.inv(matrix), tuple(images[0].shape[2:]))
    return [functional.warp(image, back) for image in images]


def affine_displacement(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``A x - x`` for matrices ``(B, D, D + 1)`` about the middle of a lattice, ``(B, D, *shape)`` in voxels."""
    axes = [torch.arange(n, dtype=matrix.dtype, device=matrix.device) - (n - 1) / 2 for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    moved = torch.einsum("brc,c...->br...", matrix[:, :, :-1], points)
    return moved + matrix[:, :, -1].reshape(*matrix.shape[:2], *[1] * len(shape)) - points


def smooth_noise(batch: int, channels: int, shape: tuple[int, ...], width: float, generator: torch.Generator) -> Tensor:
    """Random smooth fields ``(B, channels, *shape)`` with a largest magnitude of 1 each.

    Normal numbers on a lattice of one number every `width` voxels, interpolated and smoothed.
    """
    coarse = [max(2, int(np.ceil((n - 1) / width)) + 1) for n in shape]
    numbers = torch.randn(batch, channels, *coarse, generator=generator, device=generator.device)
    matrix = np.diag([*((c - 1) / max(n - 1, 1) for c, n in zip(coarse, shape, strict=True)), 1.0])
    still = torch.zeros(batch, len(shape), *shape, device=generator.device)
    smooth = functional.gaussian_smooth(functional.warp(numbers, still, matrix), width / 3)
    largest = smooth.abs().flatten(1).amax(1).clamp(min=1e-6)
    return smooth / largest.reshape(-1, *[1] * (smooth.ndim - 1))


def _move(image: Tensor, displacement: Tensor | None) -> Tensor:
    return image if displacement is None else functional.warp(image, displacement)


def _flip(tensor: Tensor, axis: int, chosen: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (tensor.ndim - 1)), tensor.flip(axis), tensor)


def _carried(known: Tensor, fixed: Tensor, moving: Tensor, displacement: Tensor) -> Tensor:
    r"""What a known displacement becomes where both images were moved: $P_m^{-1}(P_f x + u(P_f x)) - x$.

    Args:
        known: $u$, ``(B, D, *S)`` in voxels.
        fixed, moving: $P_f$ and $P_m$, ``(B, D, D + 1)`` about the middle of the lattice.
        displacement: $P_f x - x$, ``(B, D, *S)``.
    """
    shape = tuple(known.shape[2:])
    back = torch.linalg.inv(moving[:, :, :-1])
    gap = fixed[:, :, -1] - moving[:, :, -1]
    both = torch.cat([back @ fixed[:, :, :-1], torch.einsum("brc,bc->br", back, gap)[:, :, None]], dim=2)
    return affine_displacement(both, shape) + torch.einsum(
        "brc,bc...->br...", back, functional.warp(known, displacement)
    )


def _flip_vectors(vectors: Tensor, axis: int, chosen: Tensor) -> Tensor:
    """Displacements ``(B, D, *S)`` of mirrored images."""
    signs = torch.ones(vectors.shape[1], device=vectors.device)
    signs[axis] = -1
    mirrored = vectors.flip(2 + axis) * signs.reshape(-1, *[1] * (vectors.ndim - 2))
    return torch.where(chosen.reshape(-1, *[1] * (vectors.ndim - 1)), mirrored, vectors)


def _together(outer: Tensor, inner: Tensor) -> Tensor:
    """`outer` after `inner`, both ``(B, D, D + 1)``."""
    linear = outer[:, :, :-1] @ inner
    return linear + torch.cat([torch.zeros_like(outer[:, :, :-1]), outer[:, :, -1:]], dim=2)


def about_voxel_0(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Voxel matrices ``(B, D + 1, D + 1)`` of matrices ``(B, D, D + 1)`` about the middle of a lattice."""
    return affine.matrix_about(matrix[:, :, :-1], matrix[:, :, -1], affine.origin_of(shape, "middle", matrix))
