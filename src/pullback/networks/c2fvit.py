"""C2FViT: a coarse-to-fine vision transformer, whose stages look at finer and finer images and each give an affine map.

Paper: Mok and Chung, Affine medical image registration with coarse-to-fine vision transformer, CVPR 2022,
doi:10.1109/CVPR52688.2022.02023. Code: github.com/cwmok/C2FViT, 2023-11-02.

Stage i sees both images at a quarter, half and all of the lattice (32, 64 and 128 voxels per axis in the paper); a
convolution over 3, 7 and 15 voxels with a stride of 2, 4 and 8 makes the same number of tokens of each (16^3 of 256
channels). Four blocks of attention and of a perceptron with a depth-wise convolution follow, without normalisation;
the mean of the tokens gives the map's numbers. Each stage's map is a whole one, not what was missing: the next stage
sees the moving image warped by it, and the tokens before it, and the last stage's map is the answer.

The numbers, through tanh, are translations (up to half of the image), angles and shears (up to pi) and scales (0.5 to
1.5): `matrix` is ``C Shear Scale Rotation C^-1 Translation`` about the moving image's centre of mass C.

What differs, and why: maps act on voxels (the code's act on coordinates from -1 to 1, in which a turn of a lattice that
is no cube is no turn), so any shape of multiples of 8 is welcome, in 2-D too; a batch is a batch (the code's affine
head takes its first sample); the centre of mass is that of the image above its smallest value (the code's sum breaks on
negative ones); the images' centres of mass are brought together only if asked for (option `is_centred`, on in the
code), since `alignment: mass` does so in millimetres before any network; the last layers start near zero, so that a new
network is the identity. The two unused position encodings of the code are left out.
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback import functional
from pullback.networks import affine
from pullback.networks.blocks import CONVOLUTION
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.registry import family

TOKEN_VOXELS = 8
"""The distance of two tokens, in voxels of the full lattice, in every stage."""
LARGEST_ANGLE, LARGEST_SHEAR, LARGEST_STRETCH = math.pi, math.pi, 0.5
TOKEN_STD = 0.02
MLP_RATIO = 2
SMALLEST_HIDDEN = 16
"""Of the layer before the numbers, so that a narrow network does not start with all of it at rest."""


class Attention(nn.Module):
    """Every token looks at every token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, C)`` to the same."""
        parts = [self.query(tokens), *self.key_value(tokens).chunk(2, dim=-1)]
        heads = [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts]
        return self.project(nnf.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Two layers, with a depth-wise convolution between two GELUs: the only part that knows where a token is."""

    def __init__(self, num_dims: int, width: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * width
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.mix = CONVOLUTION[num_dims](hidden, hidden, 3, 1, 1, groups=hidden)

    def forward(self, tokens: Tensor, lattice: tuple[int, ...]) -> Tensor:
        """``(B, N, C)`` to the same, N tokens on a lattice."""
        hidden = nnf.gelu(self.enter(tokens))
        hidden = self.mix(hidden.transpose(1, 2).unflatten(2, lattice))
        return self.leave(nnf.gelu(hidden.flatten(2).transpose(1, 2)))


class Block(nn.Module):
    """Attention and perceptron, each added to what came in."""

    def __init__(self, num_dims: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention, self.perceptron = Attention(width, num_heads), Perceptron(num_dims, width)

    def forward(self, tokens: Tensor, lattice: tuple[int, ...]) -> Tensor:
        """``(B, N, C)`` to the same."""
        tokens = tokens + self.attention(tokens)
        return tokens + self.perceptron(tokens, lattice)


class Stage(nn.Module):
    """One resolution: from both images, and the tokens of the stage before, to tokens and numbers from -1 to 1."""

    def __init__(
        self, num_dims: int, num_channels: int, width: int, stride: int, has_earlier: bool, num_heads: int
    ) -> None:
        super().__init__()
        kernel = 2 * stride - 1
        self.embed = CONVOLUTION[num_dims](2 * num_channels, width, kernel, stride, kernel // 2)
        self.join = CONVOLUTION[num_dims](width, width, 3, 1, 1) if has_earlier else None
        self.blocks = nn.ModuleList(Block(num_dims, width, num_heads) for _ in range(4))
        self.hidden = nn.Linear(width, max(width // 2, SMALLEST_HIDDEN), bias=False)
        self.apply(_draw_weights)

    def forward(self, images: Tensor, earlier: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images ``(B, 2C, *L)`` and tokens ``(B, width, *T)`` to tokens and hidden numbers ``(B, H)``."""
        grid = nnf.gelu(self.embed(images))
        if self.join is not None:
            grid = grid + self.join(earlier)
        lattice = tuple(grid.shape[2:])
        tokens = grid.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens, lattice)
        return tokens.transpose(1, 2).unflatten(2, lattice), nnf.relu(self.hidden(tokens.mean(1)))


class C2FViT(AbstractNetwork):
    """See the module; arguments as in :func:`c2fvit`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        num_heads: int,
        num_stages: int,
        is_centred: bool,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=TOKEN_VOXELS)
        self.factors = [2**level for level in reversed(range(num_stages))]
        self.stages = nn.ModuleList(
            Stage(num_dims, num_channels, start_channels, TOKEN_VOXELS // factor, number > 0, num_heads)
            for number, factor in enumerate(self.factors)
        )
        outputs = affine.num_numbers(num_dims)
        widths = [stage.hidden.out_features for stage in self.stages]
        heads = (affine.numbers_head(width, outputs, std=head_std, bias=False) for width in widths)
        self.heads = nn.ModuleList(heads)
        self.is_centred = is_centred

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`matrix` and its `displacement`, of the last stage."""
        matrix = self.matrix_of(fixed, moving)
        return {"matrix": matrix, "displacement": affine.displacement_of(matrix, tuple(fixed.shape[2:]))}

    def matrix_of(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The voxel matrices alone, ``(B, D + 1, D + 1)``, for losses that need no displacement."""
        shape = tuple(fixed.shape[2:])
        start = self._start(fixed, moving)
        if self.is_centred:
            moving = functional.warp(moving, affine.displacement_of(start, shape))
        centre, matrix, tokens = centre_of_mass(moving), None, None
        for stage, head, factor in zip(self.stages, self.heads, self.factors, strict=True):
            pair = [_coarse(image, factor) for image in (fixed, moving)]
            if matrix is not None:
                field = affine.displacement_of(affine.on_coarse(matrix, factor), tuple(pair[1].shape[2:]))
                pair[1] = functional.warp(pair[1], field)
            tokens, hidden = stage(torch.cat(pair, dim=1), tokens)
            matrix = matrix_of(head(hidden).float().tanh(), shape, centre)
        return affine.product(start, matrix) if self.is_centred else matrix

    def _start(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The translation that brings both centres of mass together."""
        shift = centre_of_mass(moving) - centre_of_mass(fixed)
        still = torch.eye(self.num_dims, device=fixed.device).expand(len(fixed), -1, -1)
        return affine.matrix_about(still, shift, torch.zeros_like(shift))


def centre_of_mass(image: Tensor) -> Tensor:
    """Of images ``(B, C, *S)`` above their smallest values, ``(B, D)`` in voxels; the middle if they are constant."""
    weights = image.float().mean(1)
    flat = weights.flatten(1)
    weights = weights - flat.amin(1).reshape(-1, *[1] * (image.ndim - 2)) + torch.finfo(torch.float32).tiny
    total = weights.flatten(1).sum(1)
    centres = []
    for axis, size in enumerate(image.shape[2:], start=1):
        others = [a for a in range(1, weights.ndim) if a != axis]
        index = torch.arange(size, dtype=torch.float32, device=image.device)
        centres.append((weights.sum(others) * index).sum(1) / total)
    return torch.stack(centres, dim=1)


def matrix_of(numbers: Tensor, shape: tuple[int, ...], centre: Tensor) -> Tensor:
    """The voxel matrix of ``(B, 6)`` or ``(B, 12)`` numbers from -1 to 1: translations, angles, stretches, shears."""
    d = len(shape)
    planes = d * (d - 1) // 2
    translation, angles, stretches, shears = numbers.split([d, planes, d, planes], dim=1)
    halves = numbers.new_tensor([size / 2 for size in shape])
    linear = affine.linear_of_factors(LARGEST_ANGLE * angles, 1 + LARGEST_STRETCH * stretches, LARGEST_SHEAR * shears)
    about = affine.matrix_about(linear, torch.zeros_like(translation), centre)
    eye = torch.eye(d, device=numbers.device).expand(len(numbers), -1, -1)
    return affine.product(about, affine.matrix_about(eye, halves * translation, torch.zeros_like(centre)))


def _coarse(image: Tensor, factor: int) -> Tensor:
    return image if factor == 1 else functional.block_mean(image, [factor] * (image.ndim - 2))


def _draw_weights(layer: nn.Module) -> None:
    """As in the code: narrow normal numbers for linear layers, and for convolutions as wide as their outputs want."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=TOKEN_STD)
    elif isinstance(layer, (nn.Conv2d, nn.Conv3d)):
        fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    if getattr(layer, "bias", None) is not None:
        nn.init.zeros_(layer.bias)


@family("c2fvit")
def c2fvit(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 256,
    num_heads: int = 2,
    num_stages: int = 3,
    is_centred: bool = False,
    head_std: float = 1e-5,
) -> C2FViT:
    """C2FViT: an affine map from a coarse-to-fine transformer.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the tokens.
        num_heads: Of the attention; `start_channels` must be a multiple.
        num_stages: 1 to 3.
        is_centred: Whether both centres of mass are brought together first.
        head_std: Of the last layers' first weights.
    """
    if num_stages not in (1, 2, 3):
        raise ValueError(f"`num_stages` is {num_stages}, but it can be 1, 2 or 3.")
    if num_heads < 1:
        raise ValueError(f"`num_heads` is {num_heads}, but attention needs 1 or more.")
    if start_channels < 2 or start_channels % num_heads:
        raise ValueError(
            f"`start_channels` is {start_channels}, but a multiple of `num_heads`, {num_heads}, of 2 or more is needed."
        )
    return C2FViT(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        num_heads=num_heads,
        num_stages=num_stages,
        is_centred=is_centred,
        head_std=head_std,
    )
