"""The U-Net that Fourier-Net is compared with: the same encoder, and a learned decoder up to full resolution.

Not of a paper of its own: source 000 and the Fourier-Net paper (doi:10.1609/aaai.v37i1.25182) argue that a decoder of
learned layers can be replaced by a band-limited one. This is that decoder, SYMNet's, with PReLU, so that everything up
to a quarter of the resolution is the same as in :mod:`pullback.networks.fourier_net` and only what follows differs.
"""

import torch
from torch import Tensor, nn

from pullback.checks import check_choice
from pullback.networks.blocks import EncoderDecoder, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.parametrisation import Displacement, Velocity
from pullback.networks.registry import family
from pullback.networks.symnet import decoder_widths, encoder_widths


class UNetControl(AbstractNetwork):
    """See the module; arguments as in :func:`unet_control`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        parametrisation: Displacement | Velocity,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=16)
        widths = encoder_widths(start_channels), decoder_widths(start_channels)
        self.backbone = EncoderDecoder(num_dims, 2 * num_channels, *widths, nn.PReLU)
        self.head = head(num_dims, self.backbone.num_outputs, num_dims, bias=False, std=head_std)
        self.parametrisation = parametrisation

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`, and with velocities `velocity` and perhaps `inverse_displacement`."""
        return self.parametrisation(self.head(self.backbone(torch.cat([moving, fixed], dim=1))))


@family("unet-control")
def unet_control(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 16,
    parametrisation: str = "displacement",
    num_squarings: int = 7,
    is_bidirectional: bool = False,
    head_std: float = 1e-5,
) -> UNetControl:
    """U-Net with Fourier-Net's encoder and a decoder up to full resolution.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: As of the Fourier-Net it is compared with.
        parametrisation: ``displacement`` or ``velocity``.
        num_squarings: Of the velocity.
        is_bidirectional: Give the inverse too; only with velocities.
        head_std: Of the last convolution's first weights.
    """
    if check_choice("parametrisation", parametrisation, ("displacement", "velocity")) == "velocity":
        meaning: Displacement | Velocity = Velocity(num_squarings, 1, is_bidirectional)
    elif is_bidirectional:
        raise ValueError(
            "`is_bidirectional` is true, but `parametrisation` is 'displacement', which gives no inverse; take "
            "'velocity'."
        )
    else:
        meaning = Displacement()
    return UNetControl(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        parametrisation=meaning,
        head_std=head_std,
    )
