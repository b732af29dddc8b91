"""ModeT: features matched by attention with several heads, each of which finds a motion of its own.

Paper: Wang, Ni and Wang, ModeT: learning deformable image registration via motion decomposition transformer, MICCAI
2023, doi:10.1007/978-3-031-43999-5_70. Code: github.com/ZAX130/SmileCode, read at 2025-01-24.

An encoder of five levels sees one image at a time. On each level, coarse to fine, the moving features are warped by
what is known so far; tokens of 6 channels per head are compared with those of 3x3x3 neighbours, with a learned bonus
for each neighbour, and the softmax weighs the neighbours' offsets. The coarse levels have 8, 4 and 2 heads, whose
motions are weighed against each other, voxel by voxel, on twice the lattice; the two finest have one. Motions compose.
`levels` in the state holds what each level found, coarse to fine, on the full lattice. Parameters in 3-D: 1,029,006.

What differs, and why: convolutions before an instance norm have no bias, since the norm takes it away again (with those
664 biases the code has 1,029,670 numbers); a batch is a batch; edges repeat, in fields and tokens, where the code has
zeros, and fields share their outer borders from level to level (the code's ways are ``outside="zeros"`` and
``resizing="corners"``, which the importer sets); no copy of the features per neighbour is made; 2-D works.
"""

from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_at_least, check_choice
from pullback.functional import match_window
from pullback.networks import composition
from pullback.networks.blocks import AVERAGE_POOL, CONVOLUTION, instance_normalised
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.parametrisation import RESIZING, resize_field
from pullback.networks.registry import family

HEADS = (8, 4, 2, 1, 1)
"""Coarse to fine."""
TOKEN_CHANNELS = 6
SLOPE = 0.1


class NormedConvolution(nn.Module):
    """A convolution, the normalisation of each channel of each image, and an activation."""

    def __init__(self, num_dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[num_dims](inputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *L)`` to ``(B, outputs, *L)``."""
        return nnf.leaky_relu(instance_normalised(self.convolution(x)), SLOPE)


class Encoder(nn.Module):
    """Features of one image, two convolutions per level and one before all."""

    def __init__(self, num_dims: int, num_channels: int, start_channels: int, num_stages: int) -> None:
        super().__init__()
        self.first = CONVOLUTION[num_dims](num_channels, start_channels, 3, 1, 1)
        self.pool = AVERAGE_POOL[num_dims](2)
        self.widths = [start_channels * 2 ** (level + 1) for level in range(num_stages)]
        self.levels = nn.ModuleList(
            nn.Sequential(NormedConvolution(num_dims, width // 2, width), NormedConvolution(num_dims, width, width))
            for width in self.widths
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, *S)`` to features fine to coarse."""
        x, features = nnf.leaky_relu(self.first(image), SLOPE), []
        for number, level in enumerate(self.levels):
            x = level(self.pool(x) if number else x)
            features.append(x)
        return features


class Motions(nn.Module):
    """Attention of each voxel to its neighbours, in several heads.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels of the features.
        num_heads: Motions that are found.
        token_channels: Per head.
        weight_std: Of the projection's first weights.
        outside: What tokens are beyond the border: ``edge`` or ``zeros``.
    """

    def __init__(
        self, num_dims: int, num_inputs: int, num_heads: int, token_channels: int, *, weight_std: float, outside: str
    ) -> None:
        super().__init__()
        width = num_heads * token_channels
        self.projection, self.norm = nn.Linear(num_inputs, width), nn.LayerNorm(width)
        nn.init.normal_(self.projection.weight, std=weight_std)
        nn.init.zeros_(self.projection.bias)
        self.bonuses = nn.Parameter(torch.zeros(num_heads, 3**num_dims))
        self.outside = outside

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """``(B, C, *L)`` each to motions ``(B, heads, D, *L)`` in voxels of this lattice."""
        num_dims = fixed.ndim - 2
        here, there = self._tokens(fixed), self._tokens(moving)
        there = nnf.pad(there, [1, 1] * num_dims, mode="replicate" if self.outside == "edge" else "constant")
        bonuses = self.bonuses.repeat(len(fixed), 1)
        return match_window(here, there, (1,) * num_dims, bonuses).unflatten(0, (len(fixed), -1))

    def _tokens(self, features: Tensor) -> Tensor:
        """``(B heads, token_channels, *L)``, float32 at least."""
        tokens = torch.matmul(self.projection.weight, features.flatten(2))
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32)) + self.projection.bias[:, None]
        tokens = tokens - tokens.mean(1, keepdim=True)  # the layer's norm, several times faster with channels in front
        tokens = tokens * (tokens.square().mean(1, keepdim=True) + self.norm.eps).rsqrt()
        tokens = tokens * self.norm.weight[:, None] + self.norm.bias[:, None]
        tokens = tokens.unflatten(2, features.shape[2:])
        return tokens.unflatten(1, (len(self.bonuses), -1)).flatten(0, 1)


class Competition(nn.Module):
    """Motions of several heads to one, on twice the lattice: each voxel weighs them by what they look like."""

    def __init__(self, num_dims: int, num_heads: int, *, resizing: str) -> None:
        super().__init__()
        inputs = num_heads * num_dims
        self.layers = nn.Sequential(
            NormedConvolution(num_dims, inputs, 2 * inputs), NormedConvolution(num_dims, 2 * inputs, 2 * inputs)
        )
        self.weigh = CONVOLUTION[num_dims](2 * inputs, num_heads, 3, 1, 1)
        self.resizing = resizing

    def forward(self, motions: Tensor) -> Tensor:
        """``(B, heads, D, *L)`` to ``(B, D, *2L)`` in voxels of that lattice."""
        num_heads = motions.shape[1]
        doubled = tuple(2 * n for n in motions.shape[3:])
        finer = resize_field(motions.flatten(0, 1), doubled, resizing=self.resizing).unflatten(0, (-1, num_heads))
        shares = self.weigh(self.layers(finer.flatten(1, 2) / 2)).softmax(1)  # it sees numbers of the coarse lattice
        return (shares[:, :, None] * finer).sum(1)


class ModeT(AbstractNetwork):
    """See the module; arguments as in :func:`modet`."""

    are_levels_composed = True

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        num_stages: int,
        token_channels: int,
        outside: str,
        resizing: str,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2 ** (num_stages - 1))
        self.encoder = Encoder(num_dims, num_channels, start_channels, num_stages)
        heads = HEADS[len(HEADS) - num_stages :]
        self.motions = nn.ModuleList(
            Motions(num_dims, width, count, token_channels, weight_std=head_std, outside=outside)
            for width, count in zip(self.encoder.widths[::-1], heads, strict=True)
        )
        self.competitions = nn.ModuleList(
            Competition(num_dims, count, resizing=resizing) for count in heads if count > 1
        )
        self.outside, self.resizing = outside, resizing

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement` and `levels`."""
        full, known, levels = tuple(fixed.shape[2:]), None, []
        coarse_to_fine = zip(self.encoder(fixed)[::-1], self.encoder(moving)[::-1], strict=True)
        for number, (here, there) in enumerate(coarse_to_fine):
            if known is not None:
                known = resize_field(known, tuple(here.shape[2:]), resizing=self.resizing)
                there = composition.warp(there.to(known.dtype), known, outside=self.outside)
            found = self.motions[number](here, there)
            found = self.competitions[number](found) if number < len(self.competitions) else found[:, 0]
            levels.append(resize_field(found, full, resizing=self.resizing))
            known = found if known is None else self._joined(known, found)
        return {"displacement": resize_field(known, full, resizing=self.resizing), "levels": levels}

    def _joined(self, known: Tensor, found: Tensor) -> Tensor:
        known = resize_field(known, tuple(found.shape[2:]), resizing=self.resizing)
        return composition.compose(known, found, outside=self.outside)


@family("modet")
def modet(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 4,
    num_stages: int = 5,
    token_channels: int = TOKEN_CHANNELS,
    outside: str = "edge",
    resizing: str = "centres",
    head_std: float = 1e-5,
) -> ModeT:
    """ModeT: motions of several heads of attention that compete, coarse to fine.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the first convolution; the levels have twice as many, four times as many, and so on.
        num_stages: Levels, 2 to 5; 5 in the paper.
        token_channels: Of the tokens that are compared, per head.
        outside: ``edge`` or ``zeros``, see the module.
        resizing: ``centres`` or ``corners``, see the module.
        head_std: Of the projections' first weights.
    """
    if not 2 <= num_stages <= len(HEADS):
        raise ValueError(f"`num_stages` is {num_stages}, but 2 to {len(HEADS)} are possible.")
    check_at_least("start_channels", start_channels, 1)
    check_at_least("token_channels", token_channels, 1)
    return ModeT(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        num_stages=num_stages,
        token_channels=token_channels,
        outside=check_choice("outside", outside, composition.OUTSIDE),
        resizing=check_choice("resizing", resizing, RESIZING),
        head_std=head_std,
    )


@key_map("modet")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints, trained with a scale of 1, as its training script sets it."""
    tensors = {name: value for name, value in tensors.items() if not name.endswith(".grid")}
    first = tensors["encoder.conv0.0.main.weight"]
    num_dims, stages, layers = first.ndim - 2, len(HEADS), [("encoder.conv0.0.main", "encoder.first")]
    normed = []
    for level in range(stages):
        for number in (0, 1):  # before both stands another convolution or the pooling
            normed.append((f"encoder.conv{level}.{number + 1}.main", f"encoder.levels.{level}.{number}.convolution"))
        ours = f"motions.{stages - 1 - level}"
        layers += [(f"projblock{level + 1}.proj", f"{ours}.projection"), (f"projblock{level + 1}.norm", f"{ours}.norm")]
        bonuses = tensors.pop(f"mdt{level + 1}.rpb")
        tensors[f"mdt{level + 1}.bonuses"] = bonuses.flatten(1)
        layers.append((f"mdt{level + 1}", ours))
        if HEADS[stages - 1 - level] > 1:
            cwm, ours = f"cwm{level + 1}.conv", f"competitions.{stages - 1 - level}"
            normed += [(f"{cwm}.{n}.main", f"{ours}.layers.{n}.convolution") for n in (0, 1)]
            layers.append((f"{cwm}.2", f"{ours}.weigh"))
    for published, _ in normed:
        tensors.pop(f"{published}.bias")
    settings = {"num_dims": num_dims, "num_channels": first.shape[1], "start_channels": first.shape[0]}
    settings["token_channels"] = tensors["projblock1.proj.weight"].shape[0] // HEADS[-1]
    settings |= {"outside": "zeros", "resizing": "corners"}
    return Transcript(settings, rename(tensors, [*layers, *normed]), (160, 192, 160)[:num_dims], "RAS"[:num_dims])
