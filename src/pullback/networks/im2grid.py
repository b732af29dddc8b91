"""im2grid and im2grid-Lite: features by a network that sees one image at a time, coordinates by matching them.

Paper: Liu et al., Coordinate Translator for learning deformable medical image registration, MMMI 2022,
doi:10.1007/978-3-031-18814-5_10. The author's class is in github.com/yihao6/vfa, read at 2025-04-22.

An encoder of five levels gives features of each image. From the coarsest level on, the moving features are warped by
what is known so far, a Coordinate Translator finds the remaining displacement, and the two are composed. Each level
reaches one voxel of its lattice per axis: 31 voxels in all, 30 without the finest. The finest level searches 3x3 voxels
of the axial plane (the first two axes of a lattice along R, A, S), all others 3x3x3; im2grid-Lite has no finest level.
`levels` in the state holds what each level found, coarse to fine, on the full lattice.

Parameters in 3-D: 552,461, and 552,324 for Lite, with 8 start and 8 matching channels; the paper states none, and the
author's class has about as many.

What differs, and why: convolutions before an instance norm have no bias, since the norm takes it away again. Fields are
brought from level to level as voxels that share their outer borders, which is where average pooling puts them (the
author's class matches first and last centres). The finest window of the paper is not in the author's class; it is here,
and so is that class's own ``finest_window="cube"``.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pullback.checks import check_at_least, check_choice
from pullback.networks import composition
from pullback.networks.blocks import AVERAGE_POOL, CONVOLUTION
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.coordinate_translator import CoordinateTranslator
from pullback.networks.parametrisation import resize_field
from pullback.networks.registry import family

INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
NUM_LEVELS = 5
MOST_CHANNELS = 64
WINDOWS = ("axial", "cube")


class Encoder(nn.Module):
    """Features of one image on five lattices: two convolutions with instance norm each, average pooling between.

    Args:
        num_dims: 2 or 3.
        num_channels: Of the image.
        start_channels: Of the first convolution; they double with every level up to 64.
    """

    def __init__(self, num_dims: int, num_channels: int, start_channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(CONVOLUTION[num_dims](num_channels, start_channels, 3, padding=1), nn.LeakyReLU())
        self.widths = [min(MOST_CHANNELS, start_channels * 2 ** (level + 1)) for level in range(NUM_LEVELS - 1)]
        before = [start_channels, *self.widths[:-1]]
        pairs = zip(before, self.widths, strict=True)
        self.levels = nn.ModuleList(nn.Sequential(*_normed(num_dims, a, b), *_normed(num_dims, b, b)) for a, b in pairs)
        self.bottleneck = CONVOLUTION[num_dims](self.widths[-1], self.widths[-1], 3, padding=1)
        self.widths.append(self.widths[-1])
        self.pool = AVERAGE_POOL[num_dims](2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, *S)`` to features of five levels, fine to coarse."""
        x, features = self.first(image), []
        for level in self.levels:
            features.append(level(x))
            x = self.pool(features[-1])
        return [*features, self.bottleneck(x)]


def _normed(num_dims: int, inputs: int, outputs: int) -> Sequence[nn.Module]:
    layer = CONVOLUTION[num_dims](inputs, outputs, 3, padding=1, bias=False)
    return layer, INSTANCE_NORM[num_dims](outputs, affine=True), nn.LeakyReLU()


class Im2grid(AbstractNetwork):
    """See the module.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the encoder.
        matching_channels: Of the tokens that are compared.
        radii: Per level, coarse to fine, the half widths of its window; a level that is left out finds nothing.
        head_std: Of the projections' first weights.
    """

    are_levels_composed = True

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        matching_channels: int,
        radii: Sequence[Sequence[int]],
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2 ** (NUM_LEVELS - 1))
        self.encoder = Encoder(num_dims, num_channels, start_channels)
        self.translators = nn.ModuleList(
            CoordinateTranslator(num_dims, width, matching_channels, window, weight_std=head_std)
            for width, window in zip(self.encoder.widths[::-1], radii, strict=False)
        )

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement` and `levels`."""
        shape, field, levels = tuple(fixed.shape[2:]), None, []
        coarse_to_fine = zip(self.encoder(fixed)[::-1], self.encoder(moving)[::-1], strict=True)
        for translator, (here, there) in zip(self.translators, coarse_to_fine, strict=False):
            field, found = _refine(translator, here, there, field)
            levels.append(resize_field(found, shape))
        return {"displacement": resize_field(field, shape), "levels": levels}


def _refine(translator: nn.Module, fixed: Tensor, moving: Tensor, field: Tensor | None) -> tuple[Tensor, Tensor]:
    """The composed displacement of a level and what the level itself found, from the level before."""
    if field is None:
        found = translator(fixed, moving)
        return found, found
    field = resize_field(field, tuple(fixed.shape[2:]))
    found = translator(fixed, composition.warp(moving.to(field.dtype), field))
    return composition.compose(field, found), found


@family("im2grid")
def im2grid(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 8,
    matching_channels: int = 8,
    finest_window: str = "axial",
    head_std: float = 0.0,
) -> Im2grid:
    """im2grid: features matched by Coordinate Translators on five levels.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the encoder; they double with every level up to 64.
        matching_channels: Of the tokens that are compared; twice the dimensions or more.
        finest_window: ``axial``: 3x3 in the plane of the first two axes; ``cube``: 3x3x3.
        head_std: Of the projections' first weights; 0 in the paper, so that positions alone decide at first.
    """
    cube = (1,) * num_dims
    is_flat = check_choice("finest_window", finest_window, WINDOWS) == "axial"
    return Im2grid(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=check_at_least("start_channels", start_channels, 1),
        matching_channels=check_at_least("matching_channels", matching_channels, 2 * num_dims),
        radii=[cube] * (NUM_LEVELS - 1) + [(1, 1, 0)[:num_dims] if is_flat else cube],
        head_std=head_std,
    )


@family("im2grid-lite")
def im2grid_lite(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 8,
    matching_channels: int = 8,
    head_std: float = 0.0,
) -> Im2grid:
    """im2grid-Lite: im2grid without its finest level.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the encoder; they double with every level up to 64.
        matching_channels: Of the tokens that are compared; twice the dimensions or more.
        head_std: Of the projections' first weights; 0 in the paper.
    """
    return Im2grid(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=check_at_least("start_channels", start_channels, 1),
        matching_channels=check_at_least("matching_channels", matching_channels, 2 * num_dims),
        radii=[(1,) * num_dims] * (NUM_LEVELS - 1),
        head_std=head_std,
    )
