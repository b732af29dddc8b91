"""SYMNet: two velocities that carry both images to a space half-way between them.

Paper: Mok and Chung, Fast symmetric diffeomorphic image registration with convolutional neural networks, CVPR 2020,
doi:10.1109/CVPR42600.2020.00470. Code:
github.com/cwmok/Fast-Symmetric-Diffeomorphic-Image-Registration-with-Convolutional-Neural-Networks (MIT), 2022-07-07.

One network sees both images and gives two velocities by softsign, at most 100 voxels per unit time along each axis.
Each is integrated forwards and backwards; fixed to moving is the inverse of the way from half-way to fixed, followed
by the way from half-way to moving. Parameters: 1,124,448 with 8 start channels, 862,351 with 7.

What differs, and why: velocities are integrated to time 0.5 as in the paper (the code goes to 1, option `time`);
fields repeat their edge (zeros shrink them at the border, option `outside`); components are in the order of the tensor
axes (the code has the last axis first); a batch is a batch (the code normalises only its first sample); the last
convolutions start near zero, so a new network is the identity.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_at_least, check_choice, check_positive
from pullback.networks import composition
from pullback.networks.blocks import EncoderDecoder, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, encoder_decoder_layers, key_map, rename
from pullback.networks.registry import family


def encoder_widths(start_channels: int) -> list[tuple[int, int]]:
    """Widths of the encoder's five levels, fine to coarse; the Fourier-Nets and the U-Net control have the same."""
    c = int(check_positive("start_channels", start_channels))
    return [(c, c), (2 * c, 2 * c), (4 * c, 4 * c), (8 * c, 8 * c), (16 * c, 8 * c)]


def decoder_widths(start_channels: int) -> list[tuple[bool, Sequence[int]]]:
    """Widths of the decoder's four upsamplings, coarse to fine, all with the encoder's features."""
    c = start_channels
    return [(True, (8 * c, 4 * c)), (True, (4 * c, 2 * c)), (True, (4 * c, 2 * c)), (True, (2 * c, 2 * c))]


class SYMNet(AbstractNetwork):
    """See the module; arguments as in :func:`symnet`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        largest_velocity: float,
        num_squarings: int,
        time: float,
        outside: str,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=16)
        widths = encoder_widths(start_channels), decoder_widths(start_channels)
        self.backbone = EncoderDecoder(num_dims, 2 * num_channels, *widths, nn.ReLU)
        heads = [head(num_dims, 2 * start_channels, num_dims, kernel=5, bias=False, std=head_std) for _ in range(2)]
        self.head_fixed, self.head_moving = heads
        self.largest_velocity = check_positive("largest_velocity", largest_velocity)
        self.num_squarings = num_squarings
        self.time = check_positive("time", time)
        self.outside = check_choice("outside", outside, composition.OUTSIDE)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """Both displacements, both half-way maps and both velocities."""
        features = self.backbone(torch.cat([fixed, moving], dim=1))
        to_fixed = self.largest_velocity * nnf.softsign(self.head_fixed(features))
        to_moving = self.largest_velocity * nnf.softsign(self.head_moving(features))
        half_moving, half_fixed = self._flow(to_moving), self._flow(to_fixed)
        return {
            "displacement": composition.compose(half_moving, self._flow(-to_fixed), outside=self.outside),
            "inverse_displacement": composition.compose(half_fixed, self._flow(-to_moving), outside=self.outside),
            "half_displacement": half_moving,
            "inverse_half_displacement": half_fixed,
            "velocity": to_moving,
            "inverse_velocity": to_fixed,
        }

    def _flow(self, velocity: Tensor) -> Tensor:
        return composition.exponential(self.time * velocity, num_squarings=self.num_squarings, outside=self.outside)


@family("symnet", published=(({}, 1_124_448), ({"start_channels": 7}, 862_351)))
def symnet(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 8,
    largest_velocity: float = 100.0,
    num_squarings: int = 7,
    time: float = 0.5,
    outside: str = "edge",
    head_std: float = 1e-7,
) -> SYMNet:
    """SYMNet: symmetric, two velocities through a half-way space.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: 8 in the paper; the code's OASIS weights have 7.
        largest_velocity: Bound of each component, voxels per unit time.
        num_squarings: Of each velocity.
        time: Until when they are integrated.
        outside: ``edge`` or ``zeros``, see the module.
        head_std: Of the last convolutions' first weights.
    """
    check_at_least("num_squarings", num_squarings, 1)
    return SYMNet(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        largest_velocity=largest_velocity,
        num_squarings=num_squarings,
        time=time,
        outside=outside,
        head_std=head_std,
    )


@key_map("symnet")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoint: its bound of 100 voxels is in no file; components come last axis first."""
    first = tensors["eninput.0.weight"]
    start_channels = first.shape[0]
    layers = encoder_decoder_layers(5, (2, 2, 2, 2), ours="backbone")
    renamed = rename(tensors, [*layers, ("dc9.0", "head_fixed"), ("dc10.0", "head_moving")])
    for name in ("head_fixed.weight", "head_moving.weight"):
        renamed[name] = renamed[name].flip(0)
    settings = {
        "num_dims": first.ndim - 2,
        "num_channels": first.shape[1] // 2,
        "start_channels": start_channels,
        "largest_velocity": 100.0,
        "num_squarings": 7,
        "time": 1.0,
        "outside": "zeros",
    }
    last = 144 if start_channels == 8 else 224  # the code's two checkpoints
    return Transcript(settings, renamed, (160, 192, last)[: first.ndim - 2], "LIA" if first.ndim == 5 else "RA")
