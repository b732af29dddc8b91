"""Conditional LapIRN: a pyramid that is told how smooth its displacement should be.

Paper: Mok and Chung, Conditional deformable image registration with convolutional neural network, MICCAI 2021,
doi:10.1007/978-3-030-87202-1_4. Code: github.com/cwmok/Conditional_LapIRN (MIT), read at 2024-05-21.

LapIRN for displacements, whose residual blocks normalise each channel and then scale and shift it by numbers that a
small perceptron, one per block, makes of a number from 0 to 1. In training that number is drawn for each pair, and
stands in the state as `smoothness`: let the weight of the smoothness be in proportion to it (the term's `scaled_by`;
10 times it in the paper). Afterwards one network answers for every weight. Parameters in 3-D: 1,222,068, and 1,063,952
of the lite layout, whose features outside of the blocks have half the channels.

What differs, and why: as for :mod:`pullback.networks.lapirn`; and each pair of a batch has a number of its own.
"""

from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_choice, check_positive
from pullback.networks.blocks import CONVOLUTION, instance_normalised
from pullback.networks.contract import State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.lapirn import NUM_BLOCKS, NUM_LEVELS, SLOPE, LapIRN, Level, in_axis_order, layers, num_inputs
from pullback.networks.registry import family

STYLE = 64
"""Numbers that a block's perceptron makes, and its hidden ones."""
LAYOUTS = ("full", "lite")


class ConditionalBlock(nn.Module):
    """Twice a normalisation that is told something, an activation and a convolution, added to what came in."""

    def __init__(self, num_dims: int, width: int) -> None:
        super().__init__()
        self.first = CONVOLUTION[num_dims](width, width, 3, 1, 1, bias=False)
        self.second = CONVOLUTION[num_dims](width, width, 3, 1, 1, bias=False)
        self.first_style, self.second_style = nn.Linear(STYLE, 2 * width), nn.Linear(STYLE, 2 * width)
        for style in (self.first_style, self.second_style):
            with torch.no_grad():
                style.bias.copy_(torch.cat([torch.ones(width), torch.zeros(width)]))
        steps = [(1, STYLE), (STYLE, STYLE), (STYLE, STYLE), (STYLE, STYLE)]
        self.mapping = nn.Sequential(*(part for a, b in steps for part in (nn.Linear(a, b), nn.LeakyReLU(SLOPE))))

    def forward(self, x: Tensor, smoothness: Tensor) -> Tensor:
        """``(B, width, *S)`` and ``(B,)`` to the former's shape."""
        told = self.mapping(smoothness[:, None])
        inner = self.first(nnf.leaky_relu(_styled(x, self.first_style(told)), SLOPE))
        return x + self.second(nnf.leaky_relu(_styled(inner, self.second_style(told)), SLOPE))


def _styled(x: Tensor, style: Tensor) -> Tensor:
    scale, shift = style.reshape(*style.shape, *[1] * (x.ndim - 2)).chunk(2, dim=1)
    return (1 + scale) * instance_normalised(x) + shift


class ConditionalLapIRN(LapIRN):
    """See the module; `usual` is the smoothness in evaluation where none is asked for."""

    def __init__(self, *, usual: float, **settings: Any) -> None:
        super().__init__(parametrisation="displacement", num_squarings=1, **settings)
        self.usual = _checked(usual)

    def state_of(self, fixed: Tensor, moving: Tensor, *, num_levels: int = 0, smoothness: float | None = None) -> State:
        """`displacement`, `levels` and `smoothness`.

        Args:
            fixed: ``(B, C, *S)``.
            moving: The same shape.
            num_levels: How many levels take part, coarse to fine; 0 is all.
            smoothness: From 0 to 1 for all pairs; None draws one for each pair in training and takes the usual one
                in evaluation.

        Raises:
            ValueError: If there are not so many levels, or `smoothness` is out of range.
        """
        if smoothness is None and self.training:
            told = torch.rand(len(fixed), dtype=fixed.dtype, device=fixed.device)
        else:
            told = fixed.new_full((len(fixed),), self.usual if smoothness is None else _checked(smoothness))
        return self._registered(fixed, moving, num_levels, told) | {"smoothness": told}


def _checked(smoothness: float) -> float:
    if not 0 <= smoothness <= 1:
        raise ValueError(f"`smoothness` is {smoothness}, but a number from 0 to 1 is needed.")
    return smoothness


@family("conditional-lapirn")
def conditional_lapirn(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 7,
    layout: str = "full",
    smoothness: float = 0.4,
    largest_share: float = 0.4,
    head_std: float = 1e-5,
) -> ConditionalLapIRN:
    """Conditional LapIRN: one network for every weight of smoothness.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: A quarter of the inner features' channels.
        layout: ``full`` or ``lite``.
        smoothness: In evaluation, where none is asked for, from 0 to 1; 0.4 in the code's test script.
        largest_share: Of half the lattice, the most that a level adds along each axis.
        head_std: Of the last convolutions' first weights.
    """
    start = int(check_positive("start_channels", start_channels))
    is_lite = check_choice("layout", layout, LAYOUTS) == "lite"
    levels = []
    for number, count in enumerate(num_inputs(num_dims, num_channels)):
        is_last = number == NUM_LEVELS - 1
        outer, upsampled = (2 if is_lite else 4) * start, (2 if is_lite and is_last else 4) * start
        blocks = [ConditionalBlock(num_dims, 4 * start) for _ in range(NUM_BLOCKS)]
        levels.append(Level(num_dims, count, outer, blocks, 4 * start, upsampled, head_std=head_std))
    return ConditionalLapIRN(
        num_dims=num_dims, num_channels=num_channels, levels=levels, usual=smoothness, largest_share=largest_share
    )


@key_map("conditional-lapirn")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """The code's checkpoints of both layouts; components come last axis first."""
    within = "model_lvl2.model_lvl1."
    first, down = tensors[f"{within}input_encoder_lvl1.0.weight"], tensors[f"{within}down_conv.weight"]
    num_dims = first.ndim - 2
    more = {"ai1.style": "first_style", "ai2.style": "second_style", "mapping": "mapping"}
    settings = {
        "num_dims": num_dims,
        "num_channels": first.shape[1] // 2,
        "start_channels": down.shape[0] // 4,
        "layout": "full" if down.shape[0] == down.shape[1] else "lite",
        "largest_share": 0.4,
    }
    renamed = in_axis_order(rename(tensors, layers(more)))
    return Transcript(settings, renamed, (160, 192, 144)[:num_dims], "LIA" if num_dims == 3 else "RA")
