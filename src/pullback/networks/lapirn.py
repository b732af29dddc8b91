"""LapIRN: a pyramid of three networks that share what they learned from coarse to fine.

Paper: Mok and Chung, Large deformation diffeomorphic image registration with Laplacian pyramid networks, MICCAI 2020,
doi:10.1007/978-3-030-59716-0_21. Code: github.com/cwmok/LapIRN (MIT), read at 2023-07-20.

Each level sees moving warped so far, fixed, and the field so far, and adds at most 0.4 of half the lattice per axis by
softsign; its features join those of the next level. The field is a displacement, or a velocity whose sum over the
levels is integrated on each of them. Parameters: 923,748 with 7 start channels.

What differs, and why: components are in the order of the tensor axes (the code has the last axis first); a batch is a
batch; several channels work on every level; the last convolutions start near zero, so a new network is the identity.
Kept as the weights expect it: fields count in half lattices from first to last centre while they are upsampled as boxes
that share their borders, and images are averaged over 3 voxels at every second one. So a field moves by up to half a
voxel relative to the image from level to level, which the finer one corrects.

`velocity` in the state is the sum of the levels, and `levels` what each level added, on the full lattice. The condition
`num_levels` of a call says how many levels take part, from the coarsest on.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_at_least, check_choice, check_positive
from pullback.networks import composition
from pullback.networks.blocks import CONVOLUTION, LINEAR_MODE, TRANSPOSED, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.registry import family

NUM_LEVELS = 3
NUM_BLOCKS = 5
SLOPE = 0.2
PARAMETRISATIONS = ("displacement", "velocity")
AVERAGE = {2: nnf.avg_pool2d, 3: nnf.avg_pool3d}


class ResidualBlock(nn.Module):
    """Twice an activation and a convolution, added to what came in."""

    def __init__(self, num_dims: int, width: int) -> None:
        super().__init__()
        self.first = CONVOLUTION[num_dims](width, width, 3, 1, 1, bias=False)
        self.second = CONVOLUTION[num_dims](width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, *S)`` to the same."""
        return x + self.second(nnf.leaky_relu(self.first(nnf.leaky_relu(x, SLOPE)), SLOPE))


class Level(nn.Module):
    """One network of the pyramid.

    Args:
        num_dims: 2 or 3.
        num_inputs: Channels of both images and the field so far.
        outer: Channels of the features on this level's lattice.
        blocks: On the lattice of half the size.
        inner: Their channels.
        upsampled: Channels of what they give back to this level's lattice.
        head_std: Of the last convolution's first weights.
    """

    def __init__(
        self,
        num_dims: int,
        num_inputs: int,
        outer: int,
        blocks: Sequence[nn.Module],
        inner: int,
        upsampled: int,
        *,
        head_std: float,
    ) -> None:
        super().__init__()
        conv, joined = CONVOLUTION[num_dims], upsampled + outer
        self.encoder = nn.Sequential(
            conv(num_inputs, outer, 3, 1, 1, bias=False), nn.LeakyReLU(SLOPE), conv(outer, outer, 3, 1, 1, bias=False)
        )
        self.down = conv(outer, inner, 3, 2, 1, bias=False)
        self.blocks = nn.ModuleList(blocks)
        self.up = TRANSPOSED[num_dims](inner, upsampled, 2, 2, bias=False)
        self.decoder = nn.Sequential(conv(joined, joined // 2, 3, 1, 1, bias=False), nn.LeakyReLU(SLOPE))
        self.head = head(num_dims, joined // 2, num_dims, bias=False, std=head_std)

    def forward(self, x: Tensor, coarser: Tensor | None, *told: Tensor) -> tuple[Tensor, Tensor]:
        """What the level adds, between -1 and 1, and its features, for the next level; blocks hear what is `told`."""
        features = self.encoder(x)
        inner = self.down(features)
        if coarser is not None:
            inner = inner + coarser
        for block in self.blocks:
            inner = nnf.leaky_relu(block(inner, *told), SLOPE)
        inner = self.up(inner)
        raw = self.head(self.decoder(torch.cat([inner, features], dim=1)))
        return nnf.softsign(raw.to(torch.promote_types(raw.dtype, torch.float32))), inner


class LapIRN(AbstractNetwork):
    """See the module; arguments as in :func:`lapirn`, and the levels' networks, coarse to fine."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        levels: Sequence[Level],
        parametrisation: str,
        largest_share: float,
        num_squarings: int,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2**NUM_LEVELS)
        self.levels = nn.ModuleList(levels)
        self.is_velocity = check_choice("parametrisation", parametrisation, PARAMETRISATIONS) == "velocity"
        self.largest_share = check_positive("largest_share", largest_share)
        self.num_squarings = num_squarings

    def state_of(self, fixed: Tensor, moving: Tensor, *, num_levels: int = 0) -> State:
        """`displacement`, `levels`, and with velocities `velocity`.

        Args:
            fixed: ``(B, C, *S)``.
            moving: The same shape.
            num_levels: How many levels take part, coarse to fine; 0 is all.

        Raises:
            ValueError: If there are not so many levels.
        """
        return self._registered(fixed, moving, num_levels)

    def _registered(self, fixed: Tensor, moving: Tensor, num_levels: int, *told: Tensor) -> State:
        """See :meth:`state_of`; the levels' blocks hear what is `told`."""
        if not 0 <= num_levels <= NUM_LEVELS:
            raise ValueError(f"`num_levels` is {num_levels}, but this network has 3; give 1 to 3, or 0 for all.")
        fixed_images, moving_images = _pyramid(fixed), _pyramid(moving)
        field = features = None
        added: list[Tensor] = []
        for number, level in enumerate(self.levels[: num_levels or NUM_LEVELS]):
            step, features = level(self._inputs(fixed_images[number], moving_images[number], field), features, *told)
            step = self.largest_share * step
            field = step if field is None else _doubled(field) + step
            added.append(step)
        full = tuple(fixed.shape[2:])
        levels = [in_voxels(_enlarged(step, full)) for step in added]
        field = in_voxels(_enlarged(field, full))
        if not self.is_velocity:
            return {"displacement": field, "levels": levels}
        return {"displacement": self._integrated(field), "velocity": field, "levels": levels}

    def _inputs(self, fixed: Tensor, moving: Tensor, field: Tensor | None) -> Tensor:
        """Both images of a level, moving warped by the field of the level before, and that field."""
        if field is None:
            return torch.cat([moving, fixed], dim=1)
        known = _doubled(field)
        displacement = in_voxels(known)
        if self.is_velocity:  # integrated on its own lattice, then upsampled
            coarse = self._integrated(in_voxels(field)) / half_sizes(field)
            displacement = in_voxels(_doubled(coarse))
        return torch.cat([composition.warp(moving, displacement), fixed, known], dim=1)

    def _integrated(self, velocity: Tensor) -> Tensor:
        return composition.exponential(velocity, num_squarings=self.num_squarings)


def num_inputs(num_dims: int, num_channels: int) -> list[int]:
    """Channels of what each level sees, coarse to fine: both images, and from the second on the field so far."""
    return [2 * num_channels] + [2 * num_channels + num_dims] * (NUM_LEVELS - 1)


def half_sizes(field: Tensor) -> Tensor:
    """Half the distance of the first and last centres along each axis, in voxels, ``(1, D, 1, ...)``."""
    halves = field.new_tensor([(size - 1) / 2 for size in field.shape[2:]])
    return halves.reshape(1, -1, *[1] * (field.ndim - 2))


def in_voxels(field: Tensor) -> Tensor:
    """A field in half lattices, in voxels."""
    return field * half_sizes(field)


def _pyramid(image: Tensor) -> list[Tensor]:
    """An image on three lattices, coarse to fine: averages over 3 voxels (fewer at the border) at every second one."""
    average = AVERAGE[image.ndim - 2]
    images = [image]
    for _ in range(NUM_LEVELS - 1):
        images.append(average(images[-1], 3, 2, 1, count_include_pad=False))
    return images[::-1]


def _doubled(field: Tensor) -> Tensor:
    return _enlarged(field, tuple(2 * size for size in field.shape[2:]))


def _enlarged(field: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Upsampled to `shape` by doubling, which numbers in half lattices survive."""
    while tuple(field.shape[2:]) != shape:
        field = nnf.interpolate(field, scale_factor=2, mode=LINEAR_MODE[field.ndim - 2])
    return field


@family("lapirn", published=(({}, 923_748), ({"parametrisation": "displacement"}, 923_748)))
def lapirn(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 7,
    parametrisation: str = "velocity",
    largest_share: float = 0.4,
    num_squarings: int = 7,
    head_std: float = 1e-5,
) -> LapIRN:
    """LapIRN: three networks from coarse to fine, displacement or stationary velocity.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: A quarter of the features' channels.
        parametrisation: ``velocity`` or ``displacement``.
        largest_share: Of half the lattice, the most that a level adds along each axis.
        num_squarings: Of the velocity.
        head_std: Of the last convolutions' first weights.
    """
    check_at_least("num_squarings", num_squarings, 1)
    width = 4 * int(check_positive("start_channels", start_channels))
    levels = []
    for count in num_inputs(num_dims, num_channels):
        blocks = [ResidualBlock(num_dims, width) for _ in range(NUM_BLOCKS)]
        levels.append(Level(num_dims, count, width, blocks, width, width, head_std=head_std))
    return LapIRN(
        num_dims=num_dims,
        num_channels=num_channels,
        levels=levels,
        parametrisation=parametrisation,
        largest_share=largest_share,
        num_squarings=num_squarings,
    )


@key_map("lapirn")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints: displacement and velocity hold the same tensors; components come last axis first.

    Raises:
        ValueError: If nobody says which of the two it is.
    """
    first = tensors["model_lvl2.model_lvl1.input_encoder_lvl1.0.weight"]
    if "parametrisation" not in config:
        raise ValueError(
            "The checkpoint does not say whether the network gives a displacement or a velocity; give the setting "
            "parametrisation ('displacement' or 'velocity')."
        )
    num_dims = first.ndim - 2
    renamed = in_axis_order(rename(tensors, layers()))
    settings = {
        "num_dims": num_dims,
        "num_channels": first.shape[1] // 2,
        "start_channels": first.shape[0] // 4,
        "parametrisation": config["parametrisation"],
        "largest_share": 0.4,
        "num_squarings": 7,
    }
    return Transcript(settings, renamed, (160, 192, 144)[:num_dims], "LIA" if num_dims == 3 else "RA")


def in_axis_order(tensors: Tensors) -> Tensors:
    """Published tensors, under our names, for fields whose components come first axis first."""
    ordered = dict(tensors)
    for level in range(NUM_LEVELS):
        name = f"levels.{level}.head.weight"
        ordered[name] = ordered[name].flip(0)
        if level:
            name = f"levels.{level}.encoder.0.weight"
            num_dims = ordered[name].ndim - 2
            images, field = ordered[name].tensor_split([-num_dims], dim=1)
            ordered[name] = torch.cat([images, field.flip(1)], dim=1)
    return ordered


def layers(more: Mapping[str, str] = MappingProxyType({})) -> list[tuple[str, str]]:
    """The published layers' names, each network within the next finer one, and ours; `more` are those of a block."""
    pairs = []
    for level, within in enumerate(("model_lvl2.model_lvl1.", "model_lvl2.", "")):
        names = {"input_encoder_lvl1": "encoder", "down_conv": "down", "up": "up"}
        names |= {"output_lvl1.0": "decoder.0", "output_lvl1.2": "head"}
        for block in range(NUM_BLOCKS):  # activations count in the published sequence
            for theirs, ours in {"conv1": "first", "conv2": "second", **more}.items():
                names[f"resblock_group_lvl1.{2 * block}.{theirs}"] = f"blocks.{block}.{ours}"
        pairs += [(within + published, f"levels.{level}.{ours}") for published, ours in names.items()]
    return pairs
