"""NICE-Trans: affine and deformable in one pass, an encoder of convolutions and a decoder of window transformers.

Paper: Meng, Bi, Fulham, Feng and Kim, Non-iterative coarse-to-fine transformer networks for joint affine and deformable
image registration, MICCAI 2023, doi:10.1007/978-3-031-43999-5_71. Code: github.com/MungoMeng/Registration-NICE-Trans,
2023-10-03.

The same encoder sees each image: five levels of two convolutions with 8, 16, 32, 64 and 128 channels. On the coarsest
level a transformer sees both images' features, and their mean gives the affine map. On each finer level the moving
image's features are warped by what is known so far, and a transformer (on the finest level convolutions) finds what is
missing. Attention is within windows of 5 voxels per axis, shifted in every other block, with 16 channels per head.

What differs, and why: displacements are composed (the code adds them); the affine map acts on voxels about the middle
of the lattice (the code's on coordinates from -1 to 1, where a turn of a lattice that is no cube is none); a batch is
a batch (the code's affine head takes one sample); places that only fill up the last windows are not looked at; `levels`
holds what each deformable level added, so that smoothness can be asked of it and the affine map left free. The code's
penalty on folds has wrong signs and axes; take the term ``orientation``. Settings for fewer levels and for the affine
map alone are ours. No published parameter count is known to us.
"""

import itertools

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback import functional
from pullback.checks import check_at_least, check_positive
from pullback.networks import affine, composition
from pullback.networks.blocks import AVERAGE_POOL, CONVOLUTION, TRANSPOSED, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.parametrisation import resize_field
from pullback.networks.registry import family
from pullback.networks.window_attention import WindowAttention, WindowBlock

WINDOW, HEAD_WIDTH, NUM_BLOCKS = 5, 16, 4
SMALLEST_VARIANCE = 1e-5


class ConvolutionStep(nn.Module):
    """Convolution, activation, and then the normalisation of each channel of each image."""

    def __init__(self, num_dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[num_dims](inputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *L)`` to ``(B, outputs, *L)``; a lattice of a single voxel becomes 0."""
        x = nnf.leaky_relu(self.convolution(x), 0.2).float()
        axes = list(range(2, x.ndim))
        centred = x - x.mean(axes, keepdim=True)
        return centred * (centred.square().mean(axes, keepdim=True) + SMALLEST_VARIANCE).rsqrt()


class Transformer(nn.Module):
    """A convolution over single voxels that mixes what comes in, and blocks."""

    def __init__(self, num_dims: int, inputs: int, width: int) -> None:
        super().__init__()
        self.mix = CONVOLUTION[num_dims](inputs, width, 1)
        self.blocks = nn.Sequential(*(_block(num_dims, width, n) for n in range(NUM_BLOCKS)))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *L)`` to ``(B, width, *L)``."""
        return self.blocks(self.mix(x).movedim(1, -1)).movedim(-1, 1)


def _block(num_dims: int, width: int, number: int) -> WindowBlock:
    """The block of that number; every other one's windows are shifted by half."""
    num_heads = max(width // HEAD_WIDTH, 1)
    if width % num_heads:
        raise ValueError(
            f"`start_channels` gives attention {width} channels, which {num_heads} heads cannot share; take a multiple "
            "of 4."
        )
    shift = number % 2 * (WINDOW // 2)
    return WindowBlock(width, WindowAttention(width, num_heads, [WINDOW] * num_dims, [shift] * num_dims))


class FinerLevel(nn.Module):
    """Doubled features beside those of both images, and the displacement that they show."""

    def __init__(self, num_dims: int, inputs: int, skip: int, *, is_finest: bool, head_std: float) -> None:
        super().__init__()
        width = inputs // 2
        self.up, self.norm = TRANSPOSED[num_dims](inputs, width, 2, 2), nn.LayerNorm(width)
        if is_finest:
            steps = [ConvolutionStep(num_dims, width + 2 * skip, width), ConvolutionStep(num_dims, width, width)]
            self.look = nn.Sequential(*steps)
        else:
            self.look = Transformer(num_dims, width + 2 * skip, width)
        self.head = head(num_dims, width, num_dims, std=head_std)

    def forward(self, features: Tensor, fixed: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(B, width, *L)`` and a displacement ``(B, D, *L)`` in voxels of this level."""
        up = self.norm(self.up(features).movedim(1, -1)).movedim(-1, 1)
        features = self.look(torch.cat([fixed, up, warped], dim=1))
        return features, self.head(features).float()


class NICETrans(AbstractNetwork):
    """See the module; arguments as in :func:`nice_trans`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        num_stages: int,
        is_deformable: bool,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2 ** (num_stages - 1))
        widths = [int(check_positive("start_channels", start_channels)) * 2**level for level in range(num_stages)]
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvolutionStep(num_dims, a, b), ConvolutionStep(num_dims, b, b))
            for a, b in itertools.pairwise([num_channels, *widths])
        )
        self.pool = AVERAGE_POOL[num_dims](2)
        coarsest = 2 * widths[-1]
        self.coarse = Transformer(num_dims, coarsest, coarsest)
        numbers = affine.numbers_head(coarsest // 2, affine.num_numbers(num_dims), std=head_std)
        self.affine_head = nn.Sequential(nn.Linear(coarsest, coarsest // 2), nn.ReLU(), numbers)
        self.levels = nn.ModuleList()
        for level in reversed(range(num_stages - 1 if is_deformable else 0)):
            step = FinerLevel(num_dims, 4 * widths[level], widths[level], is_finest=level == 0, head_std=head_std)
            self.levels.append(step)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`matrix` and `displacement`, and of a deformable network `levels`."""
        shape = tuple(fixed.shape[2:])
        ours, theirs = self._encode(fixed), self._encode(moving)
        features = self.coarse(torch.cat([ours[-1], theirs[-1]], dim=1))
        matrix = self._matrix(self.affine_head(features.flatten(2).mean(2)).float().tanh(), shape)
        state: State = {"matrix": matrix}
        known, added = None, []
        for level, step in zip(reversed(range(len(self.encoder) - 1)), self.levels, strict=False):
            known = self._carried(known, matrix, ours[level], 2**level)
            features, missing = step(features, ours[level], functional.warp(theirs[level], known))
            known = composition.compose(known, missing)
            added.append(resize_field(missing, shape))
        state["displacement"] = affine.displacement_of(matrix, shape) if known is None else known
        return state | ({"levels": added} if added else {})

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Features of each level, fine to coarse."""
        features = []
        for level, layer in enumerate(self.encoder):
            image = layer(self.pool(image) if level else image)
            features.append(image)
        return features

    def _matrix(self, numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
        linear, translation = affine.from_numbers(numbers.unflatten(1, (self.num_dims, self.num_dims + 1)))
        middle = affine.origin_of(shape, "middle", numbers)
        return affine.matrix_about(linear, translation * numbers.new_tensor([n / 2 for n in shape]), middle)

    def _carried(self, known: Tensor | None, matrix: Tensor, features: Tensor, factor: int) -> Tensor:
        """What is known so far, in voxels of the next level: the affine map, then the last level's displacement."""
        shape = tuple(features.shape[2:])
        if known is None:
            return affine.displacement_of(affine.on_coarse(matrix, factor), shape)
        return resize_field(known, shape)


@family("nice-trans")
def nice_trans(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 8,
    num_stages: int = 5,
    is_deformable: bool = True,
    head_std: float = 1e-5,
) -> NICETrans:
    """NICE-Trans: affine and deformable in one pass, coarse to fine, with window transformers.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the finest level; each coarser one has twice as many.
        num_stages: Levels, the coarsest of which gives the affine map; 2 or more.
        is_deformable: Whether the finer levels add a displacement.
        head_std: Of the last layers' first weights.
    """
    check_at_least("num_stages", num_stages, 2)
    return NICETrans(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        num_stages=num_stages,
        is_deformable=is_deformable,
        head_std=head_std,
    )
