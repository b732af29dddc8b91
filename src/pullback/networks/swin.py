"""The trunk of TransMorph: stages of window attention over both images, and a decoder of convolutions.

See :mod:`pullback.networks.transmorph` for the paper and for what differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.networks.blocks import AVERAGE_POOL, CONVOLUTION, LINEAR_MODE, instance_normalised
from pullback.networks.window_attention import WindowAttention, WindowBlock

PATCH = 4
"""Voxels per token and axis of the finest stage."""
HEAD_CHANNELS = 16
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
CORNERS = {
    2: ((0, 0), (1, 0), (0, 1), (1, 1)),
    3: ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)),
}
"""The order of neighbouring tokens when they are merged, on which published weights depend."""


@dataclass(frozen=True)
class Layout:
    """How large a trunk is.

    Attributes:
        width: Channels of the first stage; every next one has twice as many.
        depths: Blocks per stage.
        num_heads: Of attention, per stage.
        window: Tokens per axis.
        dropout: Share that is left out in training, in the transformer, and of whole channels beside it.
        drop_path: How often the last block is left out for a pair in training; the others' rates rise to it from 0.
    """

    width: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: tuple[int, ...]
    dropout: float = 0.0
    drop_path: float = 0.0


class PatchMerging(nn.Module):
    """Two tokens per axis become one of twice the channels; an odd lattice is filled up by zeros."""

    def __init__(self, num_dims: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2**num_dims * width)
        self.reduce = nn.Linear(2**num_dims * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, *L, C)`` to ``(B, *(L / 2, rounded up), 2 C)``."""
        num_dims = x.ndim - 2
        x = nnf.pad(x, [0, 0, *(n for size in reversed(x.shape[1:-1]) for n in (0, size % 2))])
        parts = [x[(slice(None), *(slice(start, None, 2) for start in corner))] for corner in CORNERS[num_dims]]
        return self.reduce(self.norm(torch.cat(parts, dim=-1)))


class Transformer(nn.Module):
    """Stages of window attention on ever coarser lattices.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels of both images.
        layout: How large.
    """

    def __init__(self, num_dims: int, num_inputs: int, layout: Layout) -> None:
        super().__init__()
        self.embed = CONVOLUTION[num_dims](num_inputs, layout.width, PATCH, PATCH)
        self.embed_norm = nn.LayerNorm(layout.width)
        last = max(sum(layout.depths) - 1, 1)
        rates = [layout.drop_path * number / last for number in range(sum(layout.depths))]
        self.stages, self.merges, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(layout.depths, layout.num_heads, strict=True)):
            channels, before = layout.width * 2**stage, sum(layout.depths[:stage])
            own = rates[before : before + depth]
            self.stages.append(nn.Sequential(*_blocks(channels, heads, own, layout)))
            self.norms.append(nn.LayerNorm(channels))
            if stage < len(layout.depths) - 1:
                self.merges.append(PatchMerging(num_dims, channels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, C, *S)`` to the tokens of each stage, fine to coarse, ``(B, C_i, *L_i)``."""
        x, outs = self.embed_norm(self.embed(x).movedim(1, -1)), []
        for number, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = stage(x)
            outs.append(norm(x).movedim(-1, 1))
            if number < len(self.merges):
                x = self.merges[number](x)
        return outs


def _blocks(channels: int, num_heads: int, rates: Sequence[float], layout: Layout) -> list[WindowBlock]:
    blocks = []
    for number, rate in enumerate(rates):
        shift = [number % 2 * (n // 2) for n in layout.window]
        look = WindowAttention(
            channels, num_heads, layout.window, shift, is_biased=False, shifts_whole=True, dropout=layout.dropout
        )
        blocks.append(WindowBlock(channels, look, dropout=layout.dropout, drop_path=rate))
    return blocks


class NormedConvolution(nn.Module):
    """A convolution, the normalisation of each channel of each image, and an activation."""

    def __init__(self, num_dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[num_dims](inputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *L)`` to ``(B, outputs, *L)``."""
        return nnf.leaky_relu(instance_normalised(self.convolution(x)))


class UpStep(nn.Module):
    """Doubling by interpolation, the skipped features beside it, and two convolutions."""

    def __init__(self, num_dims: int, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.first = NormedConvolution(num_dims, inputs + skip, outputs)
        self.second = NormedConvolution(num_dims, outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Double `x`, cut it to the lattice of `skip` where that was filled up, and join them."""
        x = nnf.interpolate(x, scale_factor=2, mode=LINEAR_MODE[x.ndim - 2])
        x = x[(slice(None), slice(None), *(slice(n) for n in skip.shape[2:]))]
        return self.second(self.first(torch.cat([x, skip], dim=1)))


class Trunk(nn.Module):
    """The transformer and the decoder, up to half or all of the resolution.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels of both images.
        layout: How large.
        is_half: Whether it stops at half the resolution.
        half_channels: That come out there; 0 is half the first stage's.

    Attributes:
        num_outputs: Channels that come out.
    """

    def __init__(
        self,
        num_dims: int,
        num_inputs: int,
        layout: Layout,
        *,
        is_half: bool = False,
        half_channels: int = 0,
    ) -> None:
        super().__init__()
        width, stages, half = layout.width, len(layout.depths), layout.width // 2
        self.transformer = Transformer(num_dims, num_inputs, layout)
        self.skips = nn.ModuleList([NormedConvolution(num_dims, num_inputs, half)])
        self.steps = nn.ModuleList(
            UpStep(num_dims, 2 * width * 2**n, width * 2**n, width * 2**n) for n in reversed(range(stages - 1))
        )
        self.steps.append(UpStep(num_dims, width, half, half_channels or half))
        self.num_outputs = half_channels or half
        if not is_half:
            self.skips.append(NormedConvolution(num_dims, num_inputs, HEAD_CHANNELS))
            self.steps.append(UpStep(num_dims, half, HEAD_CHANNELS, HEAD_CHANNELS))
            self.num_outputs = HEAD_CHANNELS
        self.pool = AVERAGE_POOL[num_dims](3, 2, 1)
        self.drop = DROPOUT[num_dims](layout.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, *S)`` to features on half or all of the lattice."""
        tokens = self.transformer(images)
        beside = [self.drop(skip(x)) for skip, x in zip(self.skips, (self.pool(images), images), strict=False)]
        x = tokens[-1]
        for step, skip in zip(self.steps, [*tokens[-2::-1], *beside], strict=True):
            x = step(x, skip)
        return x
