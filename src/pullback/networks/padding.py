"""Any size of image through a network that wants multiples: pad at the end of each axis, crop the answer."""

from typing import Any

import torch.nn.functional as nnf
from torch import Tensor

from pullback.networks.contract import AbstractNetwork, State


def run_padded(network: AbstractNetwork, fixed: Tensor, moving: Tensor, **conditions: Any) -> State:
    """Call a network on images of any size.

    The edges are repeated at the end of each axis up to the next multiple, so voxel coordinates stay as they are; every
    entry of the state is cropped to the voxels of the input (entries on a coarser lattice to those that cover it).

    Args:
        network: Any network of the zoo.
        fixed: ``(B, C, *S)``.
        moving: The same shape.
        **conditions: Passed on.
    """
    shape = tuple(fixed.shape[2:])
    padded = padded_shape(network, shape)
    state = network(_pad(fixed, padded), _pad(moving, padded), **conditions)
    return {name: _crop(entry, shape, padded) for name, entry in state.items()}


def padded_shape(network: AbstractNetwork, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The next larger sizes that the network takes."""
    return tuple(-(-size // network.multiple) * network.multiple for size in shape)


def _pad(image: Tensor, shape: tuple[int, ...]) -> Tensor:
    missing = [new - old for new, old in zip(shape, image.shape[2:], strict=True)]
    if not any(missing):
        return image
    return nnf.pad(image, [n for size in reversed(missing) for n in (0, size)], mode="replicate")


def _crop(entry: Tensor | list[Tensor], shape: tuple[int, ...], padded: tuple[int, ...]) -> Tensor | list[Tensor]:
    if isinstance(entry, list):
        return [_crop(part, shape, padded) for part in entry]
    if entry.ndim != len(shape) + 2 or shape == padded:
        return entry
    for axis, (size, full) in enumerate(zip(shape, padded, strict=True), start=2):
        entry = entry.narrow(axis, 0, -(-size * entry.shape[axis] // full))
    return entry
