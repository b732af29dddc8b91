"""The named state of a training step: what the network gave, the images and labels, and what follows from them."""

import torch
from torch import Tensor

from pullback import functional
from pullback.networks import State

NAMES = {
    "fixed": "(B, C, *S): the fixed images",
    "moving": "(B, C, *S): the moving images",
    "fixed_labels": "(B, L, *S): one-hot labels of the fixed images",
    "moving_labels": "(B, L, *S): one-hot labels of the moving images",
    "fixed_view": "(B, 1, *S): 1 within the fixed scan's field of view, 0 where its lattice is filled",
    "moving_view": "(B, 1, *S): 1 within the moving scan's field of view, 0 where its lattice is filled",
    "true_displacement": "(B, D, *S) in voxels: the known answer of a simulated pair, or what its teacher found",
    "true_matrix": "(B, D+1, D+1): the known voxel matrix of a simulated pair",
    "registered": "(B, C, *S): the moving images before a simulation carried them away: as the alignment left them",
    "moving_again": "(B, C, *S): second copies of the moving images, moved further",
    "again_matrix": "(B, D+1, D+1): the known voxel matrix from the second copy to the moving image",
    "matrix_again": "(B, D+1, D+1): what the network says of the second copy; so too its other entries",
    "warped": "moving sampled by the displacement",
    "warped_fixed": "fixed sampled by the inverse displacement",
    "warped_labels": "moving labels sampled linearly by the displacement",
    "warped_fixed_labels": "fixed labels sampled linearly by the inverse displacement",
    "half_warped": "moving sampled by the half-way displacement",
    "half_warped_fixed": "fixed sampled by the inverse half-way displacement",
    "warped_view": "moving_view sampled by the displacement",
    "warped_fixed_view": "fixed_view sampled by the inverse displacement",
    "half_warped_view": "moving_view sampled by the half-way displacement",
    "half_warped_fixed_view": "fixed_view sampled by the inverse half-way displacement",
}
"""Entries that training adds to those of :mod:`pullback.networks.contract`."""

DERIVED: dict[str, tuple[str, str]] = {
    "warped": ("moving", "displacement"),
    "warped_fixed": ("fixed", "inverse_displacement"),
    "warped_labels": ("moving_labels", "displacement"),
    "warped_fixed_labels": ("fixed_labels", "inverse_displacement"),
    "half_warped": ("moving", "half_displacement"),
    "half_warped_fixed": ("fixed", "inverse_half_displacement"),
    "warped_view": ("moving_view", "displacement"),
    "warped_fixed_view": ("fixed_view", "inverse_displacement"),
    "half_warped_view": ("moving_view", "half_displacement"),
    "half_warped_fixed_view": ("fixed_view", "inverse_half_displacement"),
}
"""Made when first asked for: what is sampled, and by which displacement."""


class TrainingState(dict[str, Tensor | list[Tensor]]):
    """A mapping of names to tensors that samples images and labels when a term asks for them.

    Args:
        given: What is there already: images, labels, a known answer.
    """

    def __init__(self, given: State) -> None:
        super().__init__()
        self.take(given)

    def take(self, given: State) -> None:
        """Add what the network gave."""
        self.update({name: _float32(value) for name, value in given.items()})

    def __missing__(self, name: str) -> Tensor | list[Tensor]:
        if name not in DERIVED:
            there = ", ".join(sorted(self))
            raise ValueError(f"The state has no '{name}': the network or the data do not give it. There is {there}.")
        image, displacement = DERIVED[name]
        self[name] = functional.warp(self[image], self[displacement])
        return self[name]


def one_hot(labels: Tensor, values: Tensor) -> Tensor:
    """Label maps ``(B, *S)`` as ``(B, L, *S)`` float32, one channel per value of ``(L,)``; the background has none."""
    return (labels[:, None] == values.reshape(1, -1, *[1] * (labels.ndim - 1))).to(torch.float32)


def _float32(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """Half precision ends where the network does: sampling and sums need more."""
    if isinstance(value, list):
        return [item.float() for item in value]
    return value.float()
