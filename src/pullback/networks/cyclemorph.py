"""CycleMorph's generator: a U-Net with transposed convolutions that gives a displacement.

Paper: Kim et al., CycleMorph: cycle consistent unsupervised deformable image registration, Medical Image Analysis 71
(2021), doi:10.1016/j.media.2021.102036. Code: github.com/boahK/MEDIA_CycleMorph, read at 2023-06-02.

The paper trains two of these, one per direction, with a cycle between images and with images registered to themselves;
only the first is used afterwards. This is the network of that stage on the whole image: the patches that the paper
refines with are not in its code, and are not here. Parameters in 3-D: 361,299.

What differs, and why: only the last convolution starts near zero (the code starts all of them so, at 1e-5, where
nothing moves for long); 2-D works.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pullback.networks.blocks import TRANSPOSED, convolution, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.registry import family

NUM_LEVELS = 4
SLOPE = 0.2


def _activation() -> nn.Module:
    return nn.LeakyReLU(SLOPE)


class CycleMorph(AbstractNetwork):
    """See the module; arguments as in :func:`cyclemorph`."""

    def __init__(self, *, num_dims: int, num_channels: int, start_channels: int, head_std: float) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2**NUM_LEVELS)
        wide, thin = 2 * start_channels, start_channels // 2
        encoder = [start_channels, *[wide] * NUM_LEVELS]
        before = [2 * num_channels, *encoder[:-1]]
        self.encoder = nn.ModuleList(
            convolution(num_dims, a, b, _activation, stride=2 if level else 1)
            for level, (a, b) in enumerate(zip(before, encoder, strict=True))
        )
        inputs, outputs = [wide, wide, wide, thin], [wide, wide, wide, thin]
        up = TRANSPOSED[num_dims]
        self.ups = nn.ModuleList(up(width, width, 3, 2, 1, 1) for width in inputs)
        self.decoder = nn.ModuleList(
            convolution(num_dims, a + skip, b, _activation)
            for a, b, skip in zip(inputs, outputs, encoder[-2::-1], strict=True)
        )
        self.narrow = convolution(num_dims, wide, thin, _activation)
        self.head = head(num_dims, thin, num_dims, std=head_std)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`."""
        x, features = torch.cat([moving, fixed], dim=1), []
        for layer in self.encoder:
            x = layer(x)
            features.append(x)
        for number, (up, layer) in enumerate(zip(self.ups, self.decoder, strict=True)):
            x = self.narrow(x) if number == NUM_LEVELS - 1 else x
            x = layer(torch.cat([features[-2 - number], up(x)], dim=1))
        return {"displacement": self.head(x)}


@family("cyclemorph", published=(({}, 361_299),))
def cyclemorph(
    *, num_dims: int = 3, num_channels: int = 1, start_channels: int = 16, head_std: float = 1e-5
) -> CycleMorph:
    """CycleMorph: the generator of one direction, a U-Net with transposed convolutions.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the first convolution; an even number.
        head_std: Of the last convolution's first weights.
    """
    if start_channels < 2 or start_channels % 2:
        raise ValueError(f"`start_channels` is {start_channels}, but an even number of 2 or more is needed.")
    return CycleMorph(num_dims=num_dims, num_channels=num_channels, start_channels=start_channels, head_std=head_std)


@key_map("cyclemorph")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints of one generator."""
    first = tensors["model.inconv.block.block.0.weight"]
    num_dims = first.ndim - 2
    layers = [("model.inconv.block.block.0", "encoder.0.0"), ("model.keepblock.block.0", "narrow.0")]
    for level in range(NUM_LEVELS):
        layers.append((f"model.downconv{level + 1}.block.block.0", f"encoder.{level + 1}.0"))
        layers.append((f"model.upconv{level + 1}.upconv", f"ups.{level}"))
        layers.append((f"model.upconv{level + 1}.block.block.0", f"decoder.{level}.0"))
    settings = {"num_dims": num_dims, "num_channels": first.shape[1] // 2, "start_channels": first.shape[0]}
    renamed = rename(tensors, [*layers, ("model.outconv.upconv", "head")])
    return Transcript(settings, renamed, (160, 192, 224)[:num_dims], "LIA"[:num_dims])
