"""Convolutional parts that several families share, in 2-D and 3-D."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_at_least, check_choice, check_positive

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
LINEAR_MODE = {2: "bilinear", 3: "trilinear"}

Activation = Callable[[], nn.Module]


def convolution(num_dims: int, inputs: int, outputs: int, activation: Activation, *, stride: int = 1) -> nn.Sequential:
    """A convolution over 3 voxels per axis, padded by zeros, and its activation."""
    layer = start(CONVOLUTION[num_dims](inputs, outputs, 3, stride, 1), inputs * 3**num_dims)
    return nn.Sequential(layer, activation())


def start(layer: nn.Module, num_inputs: int) -> nn.Module:
    """Begin with He's weights and no biases, so that what the images say is as strong after ten layers as after one.

    With torch's own each layer halves it, beside biases that stay: a deep network then gives one constant field, and
    learns for thousands of steps to look at the images at all.

    Args:
        layer: Before an activation that lets half of its numbers through.
        num_inputs: Numbers that each number that comes out is a sum of.

    Reference:
        He et al., Delving deep into rectifiers, ICCV 2015, doi:10.1109/ICCV.2015.123.
    """
    nn.init.normal_(layer.weight, std=math.sqrt(2 / num_inputs))
    nn.init.zeros_(layer.bias)
    return layer


def head(num_dims: int, inputs: int, outputs: int, *, kernel: int = 3, bias: bool = True, std: float) -> nn.Module:
    """The last convolution: weights drawn from a narrow normal distribution, so that a new network is the identity."""
    layer = CONVOLUTION[num_dims](inputs, outputs, kernel, 1, kernel // 2, bias=bias)
    nn.init.normal_(layer.weight, std=check_positive("head_std", std))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def instance_normalised(x: Tensor) -> Tensor:
    """Each channel of each image with mean 0 and variance 1; a lattice of a single voxel becomes 0."""
    return nnf.instance_norm(x) if math.prod(x.shape[2:]) > 1 else torch.zeros_like(x)


class UNet(nn.Module):
    """VoxelMorph's U-Net: one or more convolutions per level, nearest-neighbour upsampling, skips by concatenation.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels that come in.
        encoder: Channels of the contracting convolutions, fine to coarse.
        decoder: Channels of the expanding ones, coarse to fine (as many as `encoder`); the rest follow on the finest
            lattice.
        downsampling: ``stride`` (each level's last convolution strides) or ``pool`` (max-pooling after each level).
        convs_per_level: How many entries of `encoder` and `decoder` share a level.
        is_half_resolution: Leave out the last upsampling; the result lies on the lattice of half the size.

    Attributes:
        multiple: What the sizes must be multiples of.
        num_outputs: Channels that come out.
    """

    def __init__(
        self,
        num_dims: int,
        num_inputs: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        *,
        downsampling: str,
        convs_per_level: int = 1,
        is_half_resolution: bool = False,
    ) -> None:
        super().__init__()
        check_choice("downsampling", downsampling, ("stride", "pool"))
        check_at_least("convs_per_level", convs_per_level, 1)
        num_levels, rest = divmod(len(encoder), convs_per_level)
        if rest or num_levels < 1 or len(decoder) < len(encoder):
            raise ValueError(
                f"`encoder` has {len(encoder)} and `decoder` {len(decoder)} widths with {convs_per_level} per "
                f"level, but whole levels are needed, and at least as many widths in the decoder as in the encoder."
            )
        self.multiple = 2**num_levels
        self.is_half_resolution = is_half_resolution
        self.pool = MAX_POOL[num_dims](2) if downsampling == "pool" else nn.Identity()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        width, skips = num_inputs, [num_inputs]
        self.encoder = nn.ModuleList()
        for level in range(num_levels):
            wanted = encoder[level * convs_per_level : (level + 1) * convs_per_level]
            strides = [1] * (convs_per_level - 1) + [2 if downsampling == "stride" else 1]
            self.encoder.append(_chain(num_dims, width, wanted, strides))
            width = wanted[-1]
            skips.append(width)
        if downsampling == "stride":
            skips.pop()  # the coarsest features are the bottleneck itself
        self.decoder = nn.ModuleList()
        for level in range(num_levels):
            wanted = decoder[level * convs_per_level : (level + 1) * convs_per_level]
            self.decoder.append(_chain(num_dims, width, wanted, [1] * convs_per_level))
            width = wanted[-1]
            if not self._is_last_without_skip(level):
                width += skips.pop()
        wanted = decoder[len(encoder) :]
        self.finest = _chain(num_dims, width, wanted, [1] * len(wanted))
        self.num_outputs = wanted[-1] if wanted else width

    def forward(self, x: Tensor) -> Tensor:
        """``(B, num_inputs, *S)`` to ``(B, num_outputs, *S)`` or half of S."""
        skips = [x]
        for level in self.encoder:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        if isinstance(self.pool, nn.Identity):
            skips.pop()
        for number, level in enumerate(self.decoder):
            x = level(x)
            if not self._is_last_without_skip(number):
                x = torch.cat([self.upsample(x), skips.pop()], dim=1)
        return self.finest(x)

    def _is_last_without_skip(self, level: int) -> bool:
        return self.is_half_resolution and level == len(self.encoder) - 1


def _chain(num_dims: int, width: int, wanted: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    blocks = []
    for outputs, stride in zip(wanted, strides, strict=True):
        blocks.append(convolution(num_dims, width, outputs, lambda: nn.LeakyReLU(0.2), stride=stride))
        width = outputs
    return nn.Sequential(*blocks)


class EncoderDecoder(nn.Module):
    """The strided encoder of SYMNet and the Fourier-Nets, with as much of the decoder as a family wants.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels that come in.
        encoder: Per level, fine to coarse, the widths of its two convolutions; all levels but the first stride.
        decoder: Per upsampling, coarse to fine, whether the encoder's features join, and the widths that follow.
        activation: Makes the activation after each convolution.
    """

    def __init__(
        self,
        num_dims: int,
        num_inputs: int,
        encoder: Sequence[Sequence[int]],
        decoder: Sequence[tuple[bool, Sequence[int]]],
        activation: Activation,
    ) -> None:
        super().__init__()
        width = num_inputs
        self.encoder = nn.ModuleList()
        for number, (first, second) in enumerate(encoder):
            stride = 2 if number else 1
            level = [convolution(num_dims, width, first, activation, stride=stride)]
            self.encoder.append(nn.Sequential(*level, convolution(num_dims, first, second, activation)))
            width = second
        self.decoder = nn.ModuleList()
        for number, (has_skip, widths) in enumerate(decoder):
            skip = encoder[-2 - number][1] if has_skip else 0
            self.decoder.append(UpStep(num_dims, width, skip, widths, activation))
            width = widths[-1]
        self.num_outputs = width

    def forward(self, x: Tensor) -> Tensor:
        """``(B, num_inputs, *S)`` to the features of the last upsampling."""
        features = []
        for level in self.encoder:
            x = level(x)
            features.append(x)
        for number, step in enumerate(self.decoder):
            x = step(x, features[-2 - number])
        return x


class UpStep(nn.Module):
    """A transposed convolution that doubles the lattice, the encoder's features beside it, and convolutions."""

    def __init__(self, num_dims: int, width: int, skip: int, widths: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.has_skip = skip > 0
        self.up = nn.Sequential(start(TRANSPOSED[num_dims](width, width, 2, 2), width), activation())
        pairs = zip([width + skip, *widths[:-1]], widths, strict=True)
        self.convolutions = nn.Sequential(*(convolution(num_dims, a, b, activation) for a, b in pairs))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Double `x`; join `skip` where this step has one."""
        x = self.up(x)
        return self.convolutions(torch.cat([x, skip], dim=1) if self.has_skip else x)
