"""Fourier-Net and Fourier-Net-Diff: a contracting network and a band-limited displacement or velocity.

Paper: Jia et al., Fourier-Net: fast image registration with band-limited deformation, AAAI 2023,
doi:10.1609/aaai.v37i1.25182. Code: github.com/xi-jia/Fourier-Net, read at 2024-10-11.

The encoder is SYMNet's with PReLU; the decoder stops at a quarter of the resolution, where a last convolution gives a
patch of samples per component. The patch's Fourier series, continued with zeros, is the field on the full lattice.
Parameters in 3-D: 1,050,800 with 8 start channels, 4,198,352 with 16; in 2-D 357,408 and 1,427,376.

What differs, and why: the original's padding divides the field by the ratio of voxels (64 in 3-D, 16 in 2-D, where it
multiplies the patch by 64 first) and its field counts in half lattices; here samples are voxels and stay what they
are. Even patches leave an unpaired wave there whose imaginary part is dropped; here it is paired. A batch is a batch.
Six layers that the original builds and never calls are not built. The last convolution starts near zero, so a new
network is the identity. The original's numbers are the options `gain`, `unit` and `is_nyquist_paired`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pullback.networks.blocks import EncoderDecoder, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, encoder_decoder_layers, key_map, rename
from pullback.networks.parametrisation import BandLimited, Velocity
from pullback.networks.registry import family
from pullback.networks.symnet import decoder_widths, encoder_widths


class FourierNet(AbstractNetwork):
    """See the module; arguments as in :func:`fourier_net`; with `velocity` the field is integrated."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        band: BandLimited,
        velocity: Velocity | None,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=16)
        widths = encoder_widths(start_channels), decoder_widths(start_channels)[:2]
        self.backbone = EncoderDecoder(num_dims, 2 * num_channels, *widths, nn.PReLU)
        self.head = head(num_dims, self.backbone.num_outputs, num_dims, bias=False, std=head_std)
        self.band = band
        self.velocity = velocity

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`, and for Diff `velocity` and perhaps `inverse_displacement`."""
        patch = self.head(self.backbone(torch.cat([moving, fixed], dim=1)))
        field = self.band(patch, tuple(fixed.shape[2:]))
        return {"displacement": field} if self.velocity is None else self.velocity(field)


@family(
    "fourier-net",
    published=(
        ({"start_channels": 8}, 1_050_800),
        ({"start_channels": 16}, 4_198_352),
        ({"start_channels": 8, "num_dims": 2}, 357_408),
        ({"start_channels": 16, "num_dims": 2}, 1_427_376),
    ),
)
def fourier_net(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 16,
    gain: float = 1.0,
    unit: str = "voxels",
    is_nyquist_paired: bool = True,
    head_std: float = 1e-5,
) -> FourierNet:
    """Fourier-Net: band-limited displacement from a network that stops at a quarter of the resolution.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: 8 (small) or 16 in the paper.
        gain: Of the patch; a larger one learns faster and less evenly.
        unit: ``voxels`` or ``normalised``, of the patch after the gain.
        is_nyquist_paired: See the module.
        head_std: Of the last convolution's first weights.
    """
    band = BandLimited(gain, unit, is_nyquist_paired)
    return FourierNet(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        band=band,
        velocity=None,
        head_std=head_std,
    )


@family("fourier-net-diff", published=(({"start_channels": 8}, 1_050_800), ({"start_channels": 16}, 4_198_352)))
def fourier_net_diff(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 16,
    num_squarings: int = 7,
    is_bidirectional: bool = False,
    gain: float = 1.0,
    unit: str = "voxels",
    is_nyquist_paired: bool = True,
    head_std: float = 1e-5,
) -> FourierNet:
    """Fourier-Net-Diff: band-limited stationary velocity, integrated at full resolution.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: 8 (small) or 16 in the paper.
        num_squarings: Of the velocity.
        is_bidirectional: Give the inverse too.
        gain: Of the patch.
        unit: ``voxels`` or ``normalised``, of the patch after the gain.
        is_nyquist_paired: See the module.
        head_std: Of the last convolution's first weights.
    """
    return FourierNet(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        band=BandLimited(gain, unit, is_nyquist_paired),
        velocity=Velocity(num_squarings, 1, is_bidirectional),
        head_std=head_std,
    )


@key_map("fourier-net", "fourier-net-diff")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints: the padding's gain, half lattices as unit, the dropped wave; unused layers are left."""
    first = tensors["eninput.0.weight"]
    num_dims = first.ndim - 2
    layers = encoder_decoder_layers(5, (2, 2), decoder_prefix="r_", ours="backbone")
    unused = ("r_up3", "r_up4", "r_dc5", "r_dc6", "r_dc7", "r_dc8")
    settings = {
        "num_dims": num_dims,
        "num_channels": first.shape[1] // 2,
        "start_channels": first.shape[0],
        "gain": 64 / 4**2 if num_dims == 2 else 1 / 4**3,  # the 2-D code multiplies its patch by 64 first
        "unit": "normalised",
        "is_nyquist_paired": False,
    }
    renamed = rename(tensors, [*layers, ("rr_dc9.0", "head")], unused=unused)
    return Transcript(settings, renamed, (160, 192, 224)[:num_dims], "LIA" if num_dims == 3 else "RA")
