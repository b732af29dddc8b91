"""Fourier-Net+: the images themselves are band-limited first; alone, or as a cascade of up to four.

Paper: Jia et al., Fourier-Net+: leveraging band-limited representation for efficient 3D medical image registration,
2023, arXiv:2307.02997. Code: github.com/xi-jia/Fourier-Net (2024-10-11) and, for the variant with skips of 2024,
github.com/xi-jia/Fourier-Net-Plus (2026-01-16).

Both images lose their waves above half of the band and shrink to half the size; a small network sees them and gives
a patch, continued to the full lattice as in Fourier-Net. In a cascade each further stage, with weights of its own, sees
the moving image warped by all stages before it (the original image, once) and band-limited again.

Variants: ``plain`` (2023): no skips, a patch of a quarter of the size; 220,733 parameters per stage with 8 start
channels, 880,109 with 16. ``skip`` (2024): skips, and a patch of half the size; 281,601 and 1,123,441.

What differs, and why: see :mod:`pullback.networks.fourier_net`; likewise shrinking the images keeps their intensities
(the original's grow by 8, in 2-D by 4; option `input_gain`), and fields repeat their edge while stages are composed
(option `outside`). The diffeomorphic cascade integrates each stage's velocity and composes the diffeomorphisms; the
original composes the velocities as if they were displacements, and integrates the result (option
`is_integrated_once`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pullback import functional
from pullback.checks import check_at_least, check_choice
from pullback.networks import composition
from pullback.networks.blocks import EncoderDecoder, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, encoder_decoder_layers, key_map, rename
from pullback.networks.parametrisation import BandLimited, Velocity
from pullback.networks.registry import family
from pullback.networks.symnet import encoder_widths

VARIANTS = ("plain", "skip")


def stage_widths(variant: str, start_channels: int) -> tuple[list[tuple[int, int]], list[tuple[bool, Sequence[int]]]]:
    """Widths of a stage's encoder and decoder."""
    c = start_channels
    encoder = [*encoder_widths(c)[:3], (8 * c, 4 * c)]
    if check_choice("variant", variant, VARIANTS) == "plain":
        return encoder, [(False, (4 * c, 2 * c)), (False, (c,))]
    return encoder, [(True, (4 * c, 2 * c)), (True, (2 * c, 2 * c)), (True, (2 * c, c))]


class FourierNetPlus(AbstractNetwork):
    """See the module; arguments as in :func:`fourier_net_plus`."""

    are_levels_composed = True

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        variant: str,
        num_stages: int,
        band: BandLimited,
        velocity: Velocity | None,
        is_integrated_once: bool,
        input_gain: float,
        outside: str,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=16)
        check_at_least("num_stages", num_stages, 1)
        widths = stage_widths(variant, start_channels)
        stages = [EncoderDecoder(num_dims, 2 * num_channels, *widths, nn.PReLU) for _ in range(num_stages)]
        heads = [head(num_dims, start_channels, num_dims, bias=False, std=head_std) for _ in range(num_stages)]
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)
        self.band = band
        self.velocity = velocity
        self.is_integrated_once = is_integrated_once
        self.input_gain = input_gain
        self.outside = check_choice("outside", outside, composition.OUTSIDE)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`, `levels` (each stage's own), for Diff `velocities`, and `velocity` where one field is it."""
        low_fixed = self._limit(fixed)
        total: Tensor | None = None
        levels: list[Tensor] = []
        velocities: list[Tensor] = []
        for stage, last in zip(self.stages, self.heads, strict=True):
            warped = moving if total is None else composition.warp(moving, total, outside=self.outside)
            patch = last(stage(torch.cat([self._limit(warped), low_fixed], dim=1)))
            field = self.band(patch, tuple(fixed.shape[2:]))
            if self.velocity is not None and not self.is_integrated_once:
                velocities.append(field)
                field = self.velocity(field)["displacement"]
            levels.append(field)
            total = field if total is None else composition.compose(total, field, outside=self.outside)
        if self.velocity is not None and self.is_integrated_once:
            return self.velocity(total) | {"velocities": [total]}
        state: State = {"displacement": total, "levels": levels}
        if self.velocity is not None:
            state["velocities"] = velocities
            state |= self._inverse(velocities)
        return state

    def _inverse(self, velocities: list[Tensor]) -> State:
        """The inverse, stage by stage from the last to the first, if it is asked for; a single stage's velocity."""
        single: State = {"velocity": velocities[0]} if len(velocities) == 1 else {}
        if not self.velocity.is_bidirectional:
            return single
        inverse: Tensor | None = None
        for velocity in velocities:  # (f1 o f2)^-1 = f2^-1 o f1^-1
            field = composition.exponential(-velocity, num_squarings=self.velocity.num_squarings)
            inverse = field if inverse is None else composition.compose(field, inverse, outside=self.outside)
        return single | {"inverse_displacement": inverse}

    def _limit(self, image: Tensor) -> Tensor:
        """The image without the upper half of its band, on the lattice of half the size."""
        half = tuple(size // 2 for size in image.shape[2:])
        paired = self.band.is_nyquist_paired
        return self.input_gain * functional.fourier_resize(image, half, is_nyquist_paired=paired)


@family(
    "fourier-net-plus",
    published=(
        ({"start_channels": 8}, 220_733),
        ({"start_channels": 16}, 880_109),
        ({"start_channels": 16, "num_stages": 4}, 3_520_436),
        ({"start_channels": 8, "variant": "skip"}, 281_601),
        ({"start_channels": 16, "variant": "skip"}, 1_123_441),
    ),
)
def fourier_net_plus(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 16,
    variant: str = "plain",
    num_stages: int = 1,
    gain: float = 1.0,
    unit: str = "voxels",
    is_nyquist_paired: bool = True,
    input_gain: float = 1.0,
    outside: str = "edge",
    head_std: float = 1e-5,
) -> FourierNetPlus:
    """Fourier-Net+: band-limited images in, band-limited displacement out, K stages.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: 8 or 16 in the papers.
        variant: ``plain`` or ``skip``.
        num_stages: K, with weights of their own.
        gain: Of the patches.
        unit: ``voxels`` or ``normalised``, of the patches after the gain.
        is_nyquist_paired: Of the images' and the patches' resizing.
        input_gain: Of the band-limited images.
        outside: ``edge`` or ``zeros``, when stages are composed and the moving image is warped between them.
        head_std: Of the last convolutions' first weights.
    """
    return FourierNetPlus(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        variant=variant,
        num_stages=num_stages,
        band=BandLimited(gain, unit, is_nyquist_paired),
        velocity=None,
        is_integrated_once=False,
        input_gain=input_gain,
        outside=outside,
        head_std=head_std,
    )


@family("fourier-net-plus-diff", published=(({"start_channels": 8}, 220_733), ({"start_channels": 16}, 880_109)))
def fourier_net_plus_diff(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 16,
    variant: str = "plain",
    num_stages: int = 1,
    num_squarings: int = 7,
    is_bidirectional: bool = False,
    is_integrated_once: bool = False,
    gain: float = 1.0,
    unit: str = "voxels",
    is_nyquist_paired: bool = True,
    input_gain: float = 1.0,
    outside: str = "edge",
    head_std: float = 1e-5,
) -> FourierNetPlus:
    """Fourier-Net+ with velocities: each stage a diffeomorphism, composed.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: 8 or 16 in the papers.
        variant: ``plain`` or ``skip``.
        num_stages: K, with weights of their own.
        num_squarings: Of each velocity.
        is_bidirectional: Give the inverse too.
        is_integrated_once: Compose the stages' velocities as if they were displacements and integrate the result, as
            the published code does; not a composition of diffeomorphisms.
        gain: Of the patches.
        unit: ``voxels`` or ``normalised``, of the patches after the gain.
        is_nyquist_paired: Of the images' and the patches' resizing.
        input_gain: Of the band-limited images.
        outside: ``edge`` or ``zeros``, when stages are composed and the moving image is warped between them.
        head_std: Of the last convolutions' first weights.
    """
    return FourierNetPlus(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        variant=variant,
        num_stages=num_stages,
        band=BandLimited(gain, unit, is_nyquist_paired),
        velocity=Velocity(num_squarings, 1, is_bidirectional),
        is_integrated_once=is_integrated_once,
        input_gain=input_gain,
        outside=outside,
        head_std=head_std,
    )


@key_map("fourier-net-plus")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The codes' checkpoints of both variants; fields and images are zero outside in 3-D, and repeat in 2-D."""
    first = tensors["net1.eninput.0.weight"]
    num_dims, start_channels = first.ndim - 2, first.shape[0]
    num_stages = len({name.split(".")[0] for name in tensors})
    variant = "skip" if "net1.up3.0.weight" in tensors else "plain"
    convolutions = (2, 1) if variant == "plain" else (2, 2, 2)
    layers: list[tuple[str, str]] = []
    for stage in range(num_stages):
        within = f"net{stage + 1}."
        layers += encoder_decoder_layers(4, convolutions, within=within, ours=f"stages.{stage}")
        layers.append((f"{within}dc9.0", f"heads.{stage}"))
    settings = {
        "num_dims": num_dims,
        "num_channels": first.shape[1] // 2,
        "start_channels": start_channels,
        "variant": variant,
        "num_stages": num_stages,
        "gain": (4.0 if variant == "plain" else 2.0) ** -num_dims,
        "unit": "normalised",
        "is_nyquist_paired": False,
        "input_gain": 2.0**num_dims,
        "outside": "zeros" if num_dims == 3 else "edge",
    }
    renamed = rename(tensors, layers)
    return Transcript(settings, renamed, (160, 192, 224)[:num_dims], "LIA" if num_dims == 3 else "RA")


@key_map("fourier-net-plus-diff")
def _from_published_diff(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The same files; the composed velocities are integrated once."""
    plain = _from_published(tensors, config)
    return replace(plain, settings=plain.settings | {"is_integrated_once": True, "num_squarings": 7})
