"""TransMorph: a window transformer that sees both images at once, a decoder of convolutions, and four kinds of answer.

Paper: Chen et al., TransMorph: transformer for unsupervised medical image registration, Medical Image Analysis 82
(2022), doi:10.1016/j.media.2022.102615. Code (MIT), read at 2025-05-22:
github.com/junyuchen245/TransMorph_Transformer_for_Medical_Image_Registration.

Patches of 4 voxels per axis become tokens; four stages of window attention (windows of 5, 6 and 7 tokens, shifted in
every other block) halve the lattice between them. The decoder doubles it again, with the stages' tokens and two
convolutions of the images beside it. Families: ``transmorph`` gives a displacement; ``transmorph-bayes`` is the same
with dropout that goes on after training, whose samples tell how sure it is; ``transmorph-diff`` a normal distribution
of velocities at half the resolution, as probabilistic VoxelMorph; ``transmorph-bspline`` the control points of a
velocity, cubic B-splines.

Sizes: ``tiny`` (6 channels), ``small`` (48), ``base`` (96), ``large`` (128). Parameters of base: 46,771,251.

What differs, and why: any size that is a multiple of 4 passes, since odd lattices are filled up by zeros before they
are halved and places that only fill up windows are not looked at (the code needs multiples of 32 and windows that
divide the tokens); 2-D works; the last convolutions start near zero in all four. Velocities are integrated as
everywhere here, with scaling before squaring and doubling that doubles the values: the code's ``-diff`` does neither,
so its weights cannot be taken over. The code's ``-bspl`` samples on a lattice that is stretched by N / (N - 1), so that
no displacement moves the border by half a voxel; here it is the identity, and the stretching an option,
``is_stretched``, that the importer sets. The answer of ``-bayes`` in evaluation is one pass without dropout, or the
mean of samples where they are asked for (the code takes the sample that looks best).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_at_least, check_choice
from pullback.networks import composition
from pullback.networks.blocks import CONVOLUTION, LINEAR_MODE, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.parametrisation import Velocity, spline
from pullback.networks.registry import family
from pullback.networks.swin import HEAD_CHANNELS, PATCH, Layout, Trunk
from pullback.networks.voxelmorph_probabilistic import FIRST_LOG_VARIANCE, draw

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"start_channels": 6, "depths": (2, 2, 4, 2), "num_heads": (2, 2, 4, 4)},
    "small": {"start_channels": 48, "depths": (2, 2, 4, 2), "num_heads": (4, 4, 4, 4)},
    "base": {"start_channels": 96, "depths": (2, 2, 4, 2), "num_heads": (4, 4, 8, 8)},
    "large": {"start_channels": 128, "depths": (2, 2, 12, 2), "num_heads": (4, 4, 8, 16)},
}
WINDOW = (5, 6, 7)
DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
CONTROL_CHANNELS = 32


class TransMorph(AbstractNetwork):
    """A displacement from the trunk; see the module."""

    def __init__(self, *, num_dims: int, num_channels: int, trunk: Trunk, head_std: float) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=PATCH)
        self.trunk = trunk
        self.head = head(num_dims, trunk.num_outputs, num_dims, std=head_std)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`."""
        return {"displacement": self.head(self.trunk(torch.cat([moving, fixed], dim=1)))}


class BayesianTransMorph(TransMorph):
    """Dropout that can be asked for after training; see the module."""

    def state_of(self, fixed: Tensor, moving: Tensor, *, num_samples: int = 0) -> State:
        """`displacement`: in training of one sample, else of a pass without dropout, or the mean of samples.

        Args:
            fixed: See :meth:`AbstractNetwork.forward`.
            moving: The same.
            num_samples: 0 for no dropout; the paper takes 25.

        Raises:
            ValueError: If `num_samples` is below 0.
        """
        check_at_least("num_samples", num_samples, 0)
        if self.training or not num_samples:
            return super().state_of(fixed, moving)
        return {"displacement": self._moments(fixed, moving, num_samples)[0]}

    @torch.no_grad()
    def uncertainty(self, fixed: Tensor, moving: Tensor, *, num_samples: int = 25) -> Tensor:
        """Standard deviation of the displacement over samples, ``(B, D, *S)`` in voxels.

        Args:
            fixed: See :meth:`AbstractNetwork.forward`; sizes must fit.
            moving: The same.
            num_samples: 2 or more.
        """
        if num_samples < 2:
            raise ValueError(f"`num_samples` is {num_samples}, but a standard deviation needs 2 or more.")
        _, squares = self._moments(fixed, moving, num_samples)
        return (squares / (num_samples - 1)).sqrt()

    def _moments(self, fixed: Tensor, moving: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
        """The samples' mean, and the sum of their squared distances from it."""
        drops = [layer for layer in self.modules() if isinstance(layer, DROPOUTS)]
        before = [layer.training for layer in drops]
        for layer in drops:
            layer.train()
        try:
            mean = super().state_of(fixed, moving)["displacement"]
            squares = torch.zeros_like(mean)
            for count in range(2, num_samples + 1):
                off = super().state_of(fixed, moving)["displacement"] - mean
                mean = mean + off / count
                squares = squares + off.square() * (count - 1) / count
        finally:
            for layer, training in zip(drops, before, strict=True):
                layer.train(training)
        return mean, squares


class DiffeomorphicTransMorph(AbstractNetwork):
    """A normal distribution of velocities at half the resolution; see the module."""

    def __init__(self, *, num_dims: int, num_channels: int, trunk: Trunk, velocity: Velocity, head_std: float) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=PATCH)
        self.trunk, self.velocity = trunk, velocity
        self.head_mean = head(num_dims, trunk.num_outputs, num_dims, std=head_std)
        self.head_log_variance = head(num_dims, trunk.num_outputs, num_dims, std=1e-5 * head_std)
        nn.init.constant_(self.head_log_variance.bias, FIRST_LOG_VARIANCE)

    def state_of(self, fixed: Tensor, moving: Tensor, *, generator: torch.Generator | None = None) -> State:
        """`displacement` and `velocity` of a sample (in training) or of the mean, `mean` and `log_variance`.

        Args:
            fixed: See :meth:`AbstractNetwork.forward`.
            moving: The same.
            generator: Where the sample's random numbers come from; None takes torch's own.
        """
        features = self.trunk(torch.cat([moving, fixed], dim=1))
        mean, log_variance = self.head_mean(features), self.head_log_variance(features)
        chosen = draw(mean, log_variance, generator) if self.training else mean
        state = self.velocity(chosen, tuple(fixed.shape[2:]))
        return state | {"mean": mean, "log_variance": log_variance}


class BSplineTransMorph(AbstractNetwork):
    """Control points of a velocity, from half the resolution; see the module."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        trunk: Trunk,
        control_spacing: int,
        num_squarings: int,
        is_stretched: bool,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=PATCH)
        self.trunk = trunk
        pairs = ((trunk.num_outputs, CONTROL_CHANNELS), (CONTROL_CHANNELS, CONTROL_CHANNELS))
        self.convolutions = nn.ModuleList(CONVOLUTION[num_dims](a, b, 3, 1, 1) for a, b in pairs)
        self.head = head(num_dims, CONTROL_CHANNELS, num_dims, std=head_std)
        self.control_spacing, self.num_squarings, self.is_stretched = control_spacing, num_squarings, is_stretched

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement` and `velocity`."""
        shape = tuple(fixed.shape[2:])
        features = self.trunk(torch.cat([moving, fixed], dim=1))
        lattice = [-(-(size - 1) // self.control_spacing) + 3 for size in shape]
        features = nnf.interpolate(features, size=lattice, mode=LINEAR_MODE[self.num_dims])
        for layer in self.convolutions:
            features = nnf.leaky_relu(layer(features), 0.2)
        velocity = spline(self.head(features).float(), self.control_spacing, shape)
        if self.is_stretched:
            return {"velocity": velocity, "displacement": _stretched_exponential(velocity, self.num_squarings)}
        displacement = composition.exponential(velocity, num_squarings=self.num_squarings)
        return {"velocity": velocity, "displacement": displacement}


def _stretched_exponential(velocity: Tensor, num_squarings: int) -> Tensor:
    """What the code's warps do to a velocity: every sampling also moves voxel i to ``i N / (N - 1) - 1/2``."""
    axes = [torch.arange(n, dtype=velocity.dtype, device=velocity.device) / (n - 1) - 0.5 for n in velocity.shape[2:]]
    stretch = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    displacement = velocity / 2**num_squarings
    for _ in range(num_squarings):
        displacement = displacement + composition.warp(displacement, displacement + stretch, outside="zeros")
    return displacement + stretch


def _layout(
    num_dims: int,
    size: str | int,
    start_channels: int | None,
    num_stages: int,
    window: Sequence[int] | None,
    dropout: float,
    drop_path: float,
) -> Layout:
    """The trunk's layout of a published size, with what the caller wants otherwise.

    Raises:
        ValueError: If the numbers do not fit each other.
    """
    chosen = SIZES[check_choice("size", str(size), list(SIZES))]
    width = chosen["start_channels"] if start_channels is None else start_channels
    if width < 2 or width % 2:
        raise ValueError(f"`start_channels` is {start_channels}, but an even number of 2 or more is needed.")
    if not 2 <= num_stages <= len(chosen["depths"]):
        raise ValueError(f"`num_stages` is {num_stages}, but 2 to {len(chosen['depths'])} stages are possible.")
    windows = WINDOW[:num_dims] if window is None else tuple(window)
    if len(windows) != num_dims or min(windows) < 1:
        raise ValueError(f"`window` is {list(windows)}, but {num_dims} numbers of tokens of 1 or more are needed.")
    for name, share in (("dropout", dropout), ("drop_path", drop_path)):
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` is {share}, but a share from 0 to below 1 is needed.")
    heads = chosen["num_heads"][:num_stages]
    if any(width * 2**stage % count for stage, count in enumerate(heads)):
        raise ValueError(f"`start_channels` is {width}, which the {heads} heads of the stages cannot share.")
    return Layout(width, chosen["depths"][:num_stages], heads, windows, dropout, drop_path)


@family("transmorph", published=(({}, 46_771_251),))
def transmorph(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    size: str = "base",
    start_channels: int | None = None,
    num_stages: int = 4,
    window: Sequence[int] | None = None,
    drop_path: float = 0.3,
    head_std: float = 1e-5,
) -> TransMorph:
    """TransMorph: a window transformer and a decoder of convolutions that give a displacement.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        size: ``tiny``, ``small``, ``base`` or ``large``.
        start_channels: Of the first stage, instead of the size's; an even number.
        num_stages: Of the transformer, 2 to 4; 4 in the paper.
        window: Tokens per axis; 5, 6 and 7 in the paper, for 160x192x224 voxels.
        drop_path: How often the last block is left out for a pair in training; earlier ones less.
        head_std: Of the last convolution's first weights.
    """
    layout = _layout(num_dims, size, start_channels, num_stages, window, 0.0, drop_path)
    trunk = Trunk(num_dims, 2 * num_channels, layout)
    return TransMorph(num_dims=num_dims, num_channels=num_channels, trunk=trunk, head_std=head_std)


@family("transmorph-bayes")
def transmorph_bayes(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    size: str = "base",
    start_channels: int | None = None,
    num_stages: int = 4,
    window: Sequence[int] | None = None,
    dropout: float = 0.15,
    drop_path: float = 0.3,
    head_std: float = 1e-5,
) -> BayesianTransMorph:
    """TransMorph-Bayes: TransMorph with dropout, whose samples tell how sure it is.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        size: ``tiny``, ``small``, ``base`` or ``large``.
        start_channels: Of the first stage, instead of the size's; an even number.
        num_stages: Of the transformer, 2 to 4; 4 in the paper.
        window: Tokens per axis; 5, 6 and 7 in the paper.
        dropout: Share that is left out in training and in samples.
        drop_path: How often the last block is left out for a pair in training; earlier ones less.
        head_std: Of the last convolution's first weights.
    """
    layout = _layout(num_dims, size, start_channels, num_stages, window, dropout, drop_path)
    trunk = Trunk(num_dims, 2 * num_channels, layout)
    return BayesianTransMorph(num_dims=num_dims, num_channels=num_channels, trunk=trunk, head_std=head_std)


@family("transmorph-diff")
def transmorph_diff(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    size: str = "base",
    start_channels: int | None = None,
    num_stages: int = 4,
    window: Sequence[int] | None = None,
    drop_path: float = 0.3,
    num_squarings: int = 7,
    is_bidirectional: bool = False,
    head_std: float = 1e-5,
) -> DiffeomorphicTransMorph:
    """TransMorph-diff: a normal distribution of stationary velocities at half the resolution.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        size: ``tiny``, ``small``, ``base`` or ``large``.
        start_channels: Of the first stage, instead of the size's; an even number.
        num_stages: Of the transformer, 2 to 4; 4 in the paper.
        window: Tokens per axis; 5, 6 and 7 in the paper.
        drop_path: How often the last block is left out for a pair in training; earlier ones less.
        num_squarings: Of the velocity.
        is_bidirectional: Give the inverse too.
        head_std: Of the mean's first weights; the variance's are 1e-5 of it.
    """
    layout = _layout(num_dims, size, start_channels, num_stages, window, 0.0, drop_path)
    trunk = Trunk(num_dims, 2 * num_channels, layout, is_half=True, half_channels=HEAD_CHANNELS)
    return DiffeomorphicTransMorph(
        num_dims=num_dims,
        num_channels=num_channels,
        trunk=trunk,
        velocity=Velocity(num_squarings, 2, is_bidirectional),
        head_std=head_std,
    )


@family("transmorph-bspline")
def transmorph_bspline(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    size: str = "base",
    start_channels: int | None = None,
    num_stages: int = 4,
    window: Sequence[int] | None = None,
    drop_path: float = 0.3,
    control_spacing: int = 3,
    num_squarings: int = 7,
    is_stretched: bool = False,
    head_std: float = 1e-5,
) -> BSplineTransMorph:
    """TransMorph-bspl: a stationary velocity of cubic B-splines, integrated; no control point moved is the identity.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        size: ``tiny``, ``small``, ``base`` or ``large``.
        start_channels: Of the first stage, instead of the size's; an even number.
        num_stages: Of the transformer, 2 to 4; 4 in the paper.
        window: Tokens per axis; 5, 6 and 7 in the paper.
        drop_path: How often the last block is left out for a pair in training; earlier ones less.
        control_spacing: Voxels between control points.
        num_squarings: Of the velocity.
        is_stretched: Sample as the code does; only for weights that were trained so.
        head_std: Of the last convolution's first weights.
    """
    check_at_least("control_spacing", control_spacing, 1)
    check_at_least("num_squarings", num_squarings, 1)
    layout = _layout(num_dims, size, start_channels, num_stages, window, 0.0, drop_path)
    return BSplineTransMorph(
        num_dims=num_dims,
        num_channels=num_channels,
        trunk=Trunk(num_dims, 2 * num_channels, layout, is_half=True),
        control_spacing=control_spacing,
        num_squarings=num_squarings,
        is_stretched=is_stretched,
        head_std=head_std,
    )


@key_map("transmorph", "transmorph-bayes", "transmorph-bspline")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints of three kinds, told apart by their layers' names.

    Raises:
        ValueError: If the sizes are none of the paper's, or parts remain that are not known.
    """
    buffers = (".relative_position_index", "spatial_trans.grid")
    tensors = {name: value for name, value in tensors.items() if not name.endswith(buffers)}
    within = "net." if any(name.startswith("net.") for name in tensors) else ""
    embed = tensors[f"{within}transformer.patch_embed.proj.weight"]
    size, depths = _published_size(tensors, within)
    settings: dict[str, Any] = {"num_dims": embed.ndim - 2, "num_channels": embed.shape[1] // 2, "size": size}
    is_spline = "out_layer.weight" in tensors
    layers = _trunk_layers(within, depths, num_steps=4 if is_spline else 5)
    if is_spline:
        layers += [("resize_conv.0.0", "convolutions.0"), ("resize_conv.1.0", "convolutions.1"), ("out_layer", "head")]
        settings |= {"is_stretched": True}
    else:
        layers.append(("reg_head.0", "head"))
    renamed = rename(tensors, layers, unused=("net.reg_head", "net.sigma_head"))
    for name in [name for name in renamed if name.endswith("relative_position_bias_table")]:
        renamed[name.replace("relative_position_bias_table", "bonus")] = renamed.pop(name).T
    return Transcript(settings, renamed, (160, 192, 224)[: embed.ndim - 2], "LIA"[: embed.ndim - 2])


def _published_size(tensors: Tensors, within: str) -> tuple[str, tuple[int, ...]]:
    width = tensors[f"{within}transformer.patch_embed.proj.weight"].shape[0]
    tables = [name for name in tensors if name.endswith("relative_position_bias_table")]
    depths = tuple(sum(f".layers.{stage}." in name for name in tables) for stage in range(4))
    for size, numbers in SIZES.items():
        if (numbers["start_channels"], numbers["depths"]) == (width, depths):
            return size, depths
    raise ValueError(
        f"The checkpoint has {width} channels and {depths} blocks, which is none of the sizes {', '.join(SIZES)}."
    )


def _trunk_layers(within: str, depths: Sequence[int], *, num_steps: int) -> list[tuple[str, str]]:
    """The published layers' names and ours."""
    theirs, ours = f"{within}transformer.", "trunk.transformer."
    pairs = [(f"{theirs}patch_embed.proj", f"{ours}embed"), (f"{theirs}patch_embed.norm", f"{ours}embed_norm")]
    for stage, depth in enumerate(depths):
        for number in range(depth):
            block, mine = f"{theirs}layers.{stage}.blocks.{number}.", f"{ours}stages.{stage}.{number}."
            pairs += [(f"{block}norm1", f"{mine}first_norm"), (f"{block}norm2", f"{mine}second_norm")]
            pairs += [(f"{block}attn.qkv", f"{mine}attention.query_key_value")]
            pairs += [(f"{block}attn.proj", f"{mine}attention.project"), (f"{block}attn", f"{mine}attention")]
            pairs += [(f"{block}mlp.fc1", f"{mine}perceptron.0"), (f"{block}mlp.fc2", f"{mine}perceptron.2")]
        if stage < len(depths) - 1:
            down, merge = f"{theirs}layers.{stage}.downsample.", f"{ours}merges.{stage}."
            pairs += [(f"{down}reduction", f"{merge}reduce"), (f"{down}norm", f"{merge}norm")]
        pairs.append((f"{theirs}norm{stage}", f"{ours}norms.{stage}"))
    for step in range(num_steps):
        for number, part in (("1", "first"), ("2", "second")):
            pairs.append((f"{within}up{step}.conv{number}.0", f"trunk.steps.{step}.{part}.convolution"))
    return pairs + [(f"{within}c{n + 1}.0", f"trunk.skips.{n}.convolution") for n in range(num_steps - 3)]
