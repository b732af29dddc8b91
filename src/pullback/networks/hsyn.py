"""HSyN: both images to the mean space between them, level by level, and a network that inverts displacements.

Paper: Sha et al., Hierarchical symmetric normalization registration using deformation-inverse network, MICCAI 2024.
Code: github.com/QingRui-Sha/HSyN holds one line of a README and no code (2024-07-02), so that all numbers that the
paper does not state are ours, and are settings.

SN-Net: one U-Net ``g`` per level, called twice: ``g(moving, fixed)`` is the displacement from the mean space to moving,
``g(fixed, moving)`` the one to fixed. Three levels, on images of a quarter, half and the full size: each sees both
images warped by what the levels before gave, and its fields are composed with theirs. DI-Net: a U-Net that takes a
displacement and gives its inverse. The answer is ``u(x) = u_moving(x + w(x)) + w(x)`` with w the inverse of u_fixed.

The two learn independently, as in the paper: no gradient passes from an inverse to SN-Net. Coarse levels first: the
condition `num_levels` of a call says how many levels take part, from the coarsest on.

Chosen by us: VoxelMorph's U-Net with strides, without its deepest step on each coarser level, so that the coarsest
features of all levels lie on one lattice; DI-Net has the finest level's. Parameters in 3-D: 957,916, of which DI-Net
302,707.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pullback import functional
from pullback.checks import check_at_least, check_choice
from pullback.networks import composition
from pullback.networks.blocks import UNet, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.parametrisation import resize_field
from pullback.networks.registry import family

ENCODER = (16, 32, 32, 32)
DECODER = (32, 32, 32, 32, 32, 16, 16)
INVERSIONS = ("network", "fixed-point")


class SymmetricNormalisation(nn.Module):
    """SN-Net of one level: a displacement of each of two images, by one network that sees them in both orders.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        unet: Widths and downsampling of :class:`pullback.networks.blocks.UNet`.
        head_std: Of the last convolution's first weights.
        is_symmetric: If not, the second displacement is zero, and the first has the whole way to go.
    """

    def __init__(
        self, num_dims: int, num_channels: int, unet: dict[str, Any], *, head_std: float, is_symmetric: bool
    ) -> None:
        super().__init__()
        self.unet = UNet(num_dims, 2 * num_channels, **unet)
        self.head = head(num_dims, self.unet.num_outputs, num_dims, std=head_std)
        self.is_symmetric = is_symmetric

    def forward(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements of `moving` and of `fixed`, ``(B, D, *S)`` each."""
        pair = torch.cat([moving, fixed], dim=1)
        if not self.is_symmetric:
            field = _at_least_single(self.head(self.unet(pair)))
            return field, torch.zeros_like(field)
        both = torch.cat([pair, torch.cat([fixed, moving], dim=1)])
        first, second = _at_least_single(self.head(self.unet(both))).chunk(2)
        return first, second


class DeformationInverse(nn.Module):
    """DI-Net: a displacement in voxels to its inverse on the same lattice.

    Args:
        num_dims: 2 or 3.
        unet: Widths and downsampling of :class:`pullback.networks.blocks.UNet`.
        head_std: Of the last convolution's first weights.
        is_residual: Whether the network gives what minus the displacement lacks; the paper's gives the inverse.
        num_passes: How often it is asked, 1 in the paper. What remains after a pass is a small displacement, whose
            inverse by the same network comes before what is known: errors shrink quadratically.
    """

    def __init__(
        self, num_dims: int, unet: dict[str, Any], *, head_std: float, is_residual: bool, num_passes: int = 1
    ) -> None:
        super().__init__()
        self.unet = UNet(num_dims, num_dims, **unet)
        self.head = head(num_dims, self.unet.num_outputs, num_dims, std=head_std)
        self.is_residual, self.num_passes = is_residual, num_passes

    def forward(self, displacement: Tensor) -> Tensor:
        """``(B, D, *S)`` to w with ``w(x) + displacement(x + w(x))`` near 0."""
        inverse = self._asked(displacement)
        for _ in range(self.num_passes - 1):
            rest = composition.compose(displacement, inverse)
            inverse = composition.compose(inverse, self._asked(rest))
        return inverse

    def _asked(self, displacement: Tensor) -> Tensor:
        field = _at_least_single(self.head(self.unet(displacement)))
        return field - displacement if self.is_residual else field


def _at_least_single(field: Tensor) -> Tensor:
    """Half precision ends where a network does: coordinates need more."""
    return field.to(torch.promote_types(field.dtype, torch.float32))


class HSyN(AbstractNetwork):
    """See the module; arguments as in :func:`hsyn`; without `inverse` the inverses are computed."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        levels: Sequence[SymmetricNormalisation],
        inverse: DeformationInverse | None,
    ) -> None:
        factors = [2**number for number in range(len(levels))][::-1]
        multiples = [factor * level.unet.multiple for factor, level in zip(factors, levels, strict=True)]
        if inverse is not None:
            multiples.append(inverse.unet.multiple)
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=max(multiples))  # all powers of two
        self.factors = factors
        self.levels = nn.ModuleList(levels)
        self.inverse = inverse
        self.is_symmetric = levels[0].is_symmetric

    def state_of(self, fixed: Tensor, moving: Tensor, *, num_levels: int = 0) -> State:
        """Half-way displacements, their inverses, and both displacements composed of them.

        Args:
            fixed: ``(B, C, *S)``.
            moving: The same shape.
            num_levels: How many levels take part, coarse to fine; 0 is all.

        Raises:
            ValueError: If there are not so many levels.
        """
        to_moving, to_fixed = self._halves(fixed, moving, self._check_levels(num_levels))
        from_moving = self._inverted(to_moving)
        from_fixed = self._inverted(to_fixed) if self.is_symmetric else to_fixed  # which is zero
        return {
            "displacement": composition.compose(to_moving, from_fixed),
            "inverse_displacement": composition.compose(to_fixed, from_moving),
            "half_displacement": to_moving,
            "inverse_half_displacement": to_fixed,
            "moving_to_half": from_moving,
            "fixed_to_half": from_fixed,
        }

    def _check_levels(self, num_levels: int) -> int:
        if not 0 <= num_levels <= len(self.levels):
            raise ValueError(
                f"`num_levels` is {num_levels}, but this network has {len(self.levels)}; give 1 to that, or 0 for all."
            )
        return num_levels or len(self.levels)

    def _halves(self, fixed: Tensor, moving: Tensor, num_levels: int) -> tuple[Tensor, Tensor]:
        """The displacements from the mean space to moving and to fixed, on the full lattice."""
        to_moving = to_fixed = None
        for level, factor in list(zip(self.levels, self.factors, strict=True))[:num_levels]:
            here, there = (functional.block_mean(image, [factor] * self.num_dims) for image in (fixed, moving))
            if to_moving is None:
                to_moving, to_fixed = level(there, here)
                continue
            shape = tuple(here.shape[2:])
            to_moving, to_fixed = resize_field(to_moving, shape), resize_field(to_fixed, shape)
            steps = level(composition.warp(there, to_moving), composition.warp(here, to_fixed))
            to_moving, to_fixed = (composition.compose(f, s) for f, s in zip((to_moving, to_fixed), steps, strict=True))
        full = tuple(fixed.shape[2:])
        return resize_field(to_moving, full), resize_field(to_fixed, full)

    def _inverted(self, displacement: Tensor) -> Tensor:
        given = displacement.detach()
        return functional.invert(given)[0] if self.inverse is None else self.inverse(given)


@family("hsyn")
def hsyn(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    num_levels: int = 3,
    is_symmetric: bool = True,
    encoder: Sequence[int] | None = None,
    decoder: Sequence[int] | None = None,
    downsampling: str = "stride",
    inversion: str = "network",
    is_inverse_residual: bool = False,
    num_inverse_passes: int = 1,
    head_std: float = 1e-5,
) -> HSyN:
    """HSyN: hierarchical symmetric normalisation with a network that inverts.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        num_levels: 3 in the paper; 1 is its ablation without levels.
        is_symmetric: Whether both images move; false is the paper's ablation without symmetric normalisation, where
            moving goes all the way and the half-way displacement of fixed is zero.
        encoder: Widths of the finest level's U-Net, fine to coarse.
        decoder: Widths, coarse to fine.
        downsampling: ``stride`` or ``pool``.
        inversion: ``network`` (DI-Net) or ``fixed-point`` (:func:`pullback.functional.invert`, on the CPU, exact,
            nothing to learn).
        is_inverse_residual: Whether DI-Net gives what minus the displacement lacks; the paper's gives the inverse.
        num_inverse_passes: How often DI-Net is asked; 1 in the paper, see :class:`DeformationInverse`.
        head_std: Of the last convolutions' first weights.
    """
    check_at_least("num_levels", num_levels, 1)
    check_at_least("num_inverse_passes", num_inverse_passes, 1)
    check_choice("inversion", inversion, INVERSIONS)
    if inversion == "fixed-point" and is_inverse_residual:
        raise ValueError("`is_inverse_residual` is true, but `inversion` is 'fixed-point', which has no network.")
    if inversion == "fixed-point" and num_inverse_passes > 1:
        raise ValueError(f"`num_inverse_passes` is {num_inverse_passes}, but `inversion` is 'fixed-point': no network.")
    widths = tuple(encoder or ENCODER), tuple(decoder or DECODER)
    unets = [_without_deepest(*widths, downsampling, coarser) for coarser in range(num_levels)][::-1]
    inverse = DeformationInverse(
        num_dims, unets[-1], head_std=head_std, is_residual=is_inverse_residual, num_passes=num_inverse_passes
    )
    return HSyN(
        num_dims=num_dims,
        num_channels=num_channels,
        levels=[
            SymmetricNormalisation(num_dims, num_channels, unet, head_std=head_std, is_symmetric=is_symmetric)
            for unet in unets
        ],
        inverse=inverse if inversion == "network" else None,
    )


def _without_deepest(encoder: Sequence[int], decoder: Sequence[int], downsampling: str, num: int) -> dict[str, Any]:
    """A U-Net without its `num` deepest steps; at least one stays."""
    num = min(num, len(encoder) - 1)
    return {"encoder": encoder[: len(encoder) - num], "decoder": decoder[num:], "downsampling": downsampling}
