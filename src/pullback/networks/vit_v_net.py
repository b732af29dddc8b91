"""ViT-V-Net: a V-Net whose deepest features are the tokens of a vision transformer.

Paper: Chen et al., ViT-V-Net: vision transformer for unsupervised volumetric medical image registration, MIDL 2021,
arXiv:2104.06468. Code: github.com/junyuchen245/ViT-V-Net_for_3D_Image_Registration_Pytorch (MIT), read at 2022-11-06.

Convolutions and max-pooling give features of both images down to a quarter of the resolution; patches of these, 8
voxels per axis, are tokens of 252 channels with a learned position each. Twelve blocks of attention in which every
token looks at every token follow, then a decoder with the features of all scales beside it. The answer is a
displacement. Parameters in 3-D: 31,560,079 for 160x192x224 voxels, where the positions are 5x6x7.

What differs, and why: positions are a lattice that is interpolated to any other number of tokens; the halvings between
image and tokens, 5 in the paper, are a setting, since small images have no 32nd part; 2-D works. Batch normalisation is
kept, which in training lets the pairs of a batch know each other's mean and variance.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_at_least
from pullback.networks.blocks import CONVOLUTION, LINEAR_MODE, MAX_POOL, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.registry import family

SHAPE = (160, 192, 224)
SCALES = 3
"""Lattices of the first convolutions: the image's, half and a quarter."""
DECODER = (6, 3, 2, 2, 1)
"""Widths of the decoder, coarse to fine, in start channels."""
EPSILON = 1e-6
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Block(nn.Module):
    """Every token looks at every token, and a perceptron, each normalised first and added to what came in."""

    def __init__(self, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.first_norm, self.second_norm = nn.LayerNorm(width, eps=EPSILON), nn.LayerNorm(width, eps=EPSILON)
        self.query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.into, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)
        for layer in (self.into, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C)`` to the same."""
        parts = self.query_key_value(self.first_norm(x)).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts]
        x = x + self.project(nnf.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return x + self.drop(self.out(self.drop(nnf.gelu(self.into(self.second_norm(x))))))


class NormedConvolution(nn.Module):
    """A convolution, batch normalisation and an activation."""

    def __init__(self, num_dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[num_dims](inputs, outputs, 3, 1, 1, bias=False)
        self.norm = BATCH_NORM[num_dims](outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *L)`` to ``(B, outputs, *L)``."""
        x, norm = self.convolution(x), self.norm
        if norm.training and x.numel() == x.shape[1]:  # one voxel of one pair has no variance: what was seen before
            return nnf.relu(nnf.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))
        return nnf.relu(norm(x))


class ViTVNet(AbstractNetwork):
    """See the module; arguments as in :func:`vit_v_net`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        encoder: Sequence[int],
        width: int,
        depth: int,
        num_heads: int,
        hidden: int,
        decoder: Sequence[int],
        positions: Sequence[int],
        dropout: float,
        head_std: float,
    ) -> None:
        num_halvings = len(decoder) - 1
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2**num_halvings)
        conv = CONVOLUTION[num_dims]
        pairs = zip([2 * num_channels, *encoder[:-1]], encoder, strict=True)
        self.encoder = nn.ModuleList(
            nn.Sequential(conv(a, b, 3, 1, 1), nn.ReLU(), conv(b, b, 3, 1, 1), nn.ReLU()) for a, b in pairs
        )
        patch = 2 ** (num_halvings - SCALES + 1)
        self.embed = conv(encoder[-1], width, patch, patch)
        self.positions = nn.Parameter(torch.zeros(1, width, *positions))
        self.blocks = nn.Sequential(*(Block(width, num_heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.mix = NormedConvolution(num_dims, width, decoder[0])
        skips = [encoder[min(level, SCALES - 1)] for level in range(num_halvings)][::-1]
        self.steps = nn.ModuleList(
            nn.Sequential(NormedConvolution(num_dims, a + skip, b), NormedConvolution(num_dims, b, b))
            for a, b, skip in zip(decoder[:-1], decoder[1:], skips, strict=True)
        )
        self.head = head(num_dims, decoder[-1], num_dims, std=head_std)
        self.pool, self.drop = MAX_POOL[num_dims](2), nn.Dropout(dropout)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`."""
        features = self._encode(torch.cat([moving, fixed], dim=1))
        x = self.mix(self._tokens(features[SCALES - 1]))
        for step, skip in zip(self.steps, features[len(self.steps) - 1 :: -1], strict=True):
            x = nnf.interpolate(x, scale_factor=2, mode=LINEAR_MODE[self.num_dims])
            x = step(torch.cat([x, skip], dim=1))
        return {"displacement": self.head(x)}

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Features fine to coarse, at least to a quarter; those beyond a quarter are pooled only."""
        features = []
        for level in range(max(len(self.steps), SCALES)):
            x = self.pool(x) if level else x
            x = self.encoder[level](x) if level < SCALES else x
            features.append(x)
        return features

    def _tokens(self, features: Tensor) -> Tensor:
        """Features of a quarter of the resolution through the transformer, ``(B, width, *L)``."""
        x = self.embed(features)
        lattice, positions = tuple(x.shape[2:]), self.positions
        if tuple(positions.shape[2:]) != lattice:
            positions = nnf.interpolate(positions, size=lattice, mode=LINEAR_MODE[self.num_dims])
        tokens = self.drop((x + positions).flatten(2).mT)
        return self.norm(self.blocks(tokens)).mT.unflatten(2, lattice)


@family("vit-v-net")
def vit_v_net(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 16,
    num_stages: int = 5,
    width: int = 252,
    depth: int = 12,
    num_heads: int = 12,
    hidden: int = 3072,
    positions: Sequence[int] | None = None,
    dropout: float = 0.1,
    head_std: float = 1e-5,
) -> ViTVNet:
    """ViT-V-Net: a V-Net around a vision transformer.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the first convolutions; the next have twice as many.
        num_stages: Halvings between image and tokens, 2 to 5; 5 in the paper.
        width: Channels of the tokens.
        depth: Blocks.
        num_heads: Of attention; they share the width.
        hidden: Of the perceptrons.
        positions: Tokens per axis for which positions are learned (default: those of 160x192x224 voxels).
        dropout: Share that is left out in training.
        head_std: Of the last convolution's first weights.
    """
    if not SCALES - 1 <= num_stages <= len(DECODER):
        raise ValueError(f"`num_stages` is {num_stages}, but {SCALES - 1} to {len(DECODER)} are possible.")
    for name, value in (("start_channels", start_channels), ("depth", depth), ("hidden", hidden)):
        check_at_least(name, value, 1)
    if num_heads < 1 or width < 1 or width % num_heads:
        raise ValueError(f"`num_heads` is {num_heads}, but as many heads must share the width {width}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is {dropout}, but a share from 0 to below 1 is needed.")
    lattice = [n // 2**num_stages for n in SHAPE[:num_dims]] if positions is None else list(positions)
    if len(lattice) != num_dims or min(lattice) < 1:
        raise ValueError(f"`positions` is {lattice}, but {num_dims} numbers of tokens of 1 or more are needed.")
    wide = 2 * start_channels
    return ViTVNet(
        num_dims=num_dims,
        num_channels=num_channels,
        encoder=(start_channels, wide, wide),
        width=width,
        depth=depth,
        num_heads=num_heads,
        hidden=hidden,
        decoder=[32 * start_channels, *(start_channels * n for n in DECODER[len(DECODER) - num_stages :])],
        positions=lattice,
        dropout=dropout,
        head_std=head_std,
    )


@key_map("vit-v-net")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints; `positions` says for which tokens they are, where not for 160x192x224 voxels."""
    tensors = {name: value for name, value in tensors.items() if not name.endswith("spatial_trans.grid")}
    within = "transformer.embeddings."
    first = tensors[f"{within}hybrid_model.inc.double_conv.0.weight"]
    tokens = tensors.pop(f"{within}position_embeddings")
    num_dims = first.ndim - 2
    depth = len([name for name in tensors if name.endswith(".attn.out.weight")])
    settings = {"num_dims": num_dims, "num_channels": first.shape[1] // 2, "start_channels": first.shape[0]}
    settings |= {"width": tokens.shape[2], "depth": depth}
    settings["hidden"] = tensors["transformer.encoder.layer.0.ffn.fc1.weight"].shape[0]
    lattice = config.get("positions") or [n // 32 for n in SHAPE[:num_dims]]
    for block in range(depth):
        look = f"transformer.encoder.layer.{block}.attn."
        for kind in ("weight", "bias"):
            parts = [tensors.pop(f"{look}{part}.{kind}") for part in ("query", "key", "value")]
            tensors[f"{look}query_key_value.{kind}"] = torch.cat(parts)
    renamed = rename(tensors, _layers(depth))
    renamed["positions"] = tokens.mT.unflatten(2, list(lattice))
    return Transcript(settings | {"positions": list(lattice)}, renamed, SHAPE[:num_dims], "LIA"[:num_dims])


def _layers(depth: int) -> list[tuple[str, str]]:
    """The published layers' names and ours."""
    within, pairs = "transformer.embeddings.", []
    for scale, part in enumerate(("inc", "down1.maxpool_conv.1", "down2.maxpool_conv.1")):
        pairs += [(f"{within}hybrid_model.{part}.double_conv.{n}", f"encoder.{scale}.{n}") for n in (0, 2)]
    pairs.append((f"{within}patch_embeddings", "embed"))
    names = {"attention_norm": "first_norm", "ffn_norm": "second_norm", "ffn.fc1": "into", "ffn.fc2": "out"}
    names |= {"attn.query_key_value": "query_key_value", "attn.out": "project"}
    for block in range(depth):
        pairs += [(f"transformer.encoder.layer.{block}.{a}", f"blocks.{block}.{b}") for a, b in names.items()]
    pairs += [("transformer.encoder.encoder_norm", "norm"), ("reg_head.0", "head")]
    steps = [("decoder.conv_more", "mix")]
    steps += [(f"decoder.blocks.{n}.conv{part + 1}", f"steps.{n}.{part}") for n in range(5) for part in (0, 1)]
    return pairs + [(f"{a}.{n}", f"{b}.{c}") for a, b in steps for n, c in ((0, "convolution"), (1, "norm"))]
