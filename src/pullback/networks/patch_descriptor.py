"""A Siamese descriptor of patches, as CNNFR matches keypoints by.

Source 004 describes CNNFR (Hu et al., 2019) so: patches around keypoints go through one network twice, and its outputs
are near where the patches show the same place. There is no public code, and the source says nothing of the layers: they
are our choice. TrCNNFR is the same network, trained elsewhere first (``start`` of ``training.descriptor``).
"""

import itertools

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback.checks import check_positive
from pullback.networks.blocks import CONVOLUTION, convolution

NUM_HALVINGS = 3
SMALLEST_SIZE = 2**NUM_HALVINGS


class PatchDescriptor(nn.Module):
    """Patches to vectors of length 1.

    Args:
        num_dims: 2 or 3.
        size: Samples along each axis of a patch, a multiple of 8.
        start_channels: Of the first convolution; twice as many after each halving.
        num_features: Of a descriptor.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, *, num_dims: int = 3, size: int = 16, start_channels: int = 8, num_features: int = 32) -> None:
        super().__init__()
        if num_dims not in CONVOLUTION:
            raise ValueError(f"`num_dims` is {num_dims}, but patches are 2-D or 3-D.")
        if size < SMALLEST_SIZE or size % SMALLEST_SIZE:
            raise ValueError(f"`size` is {size}, but patches need a multiple of {SMALLEST_SIZE}.")
        check_positive("num_features", num_features)
        widths = [1, *(int(check_positive("start_channels", start_channels)) * 2**n for n in range(NUM_HALVINGS))]
        self.num_dims, self.size = num_dims, size
        self.layers = nn.Sequential(
            *(convolution(num_dims, a, b, nn.ReLU, stride=2) for a, b in itertools.pairwise(widths))
        )
        self.project = nn.Linear(widths[-1] * (size // SMALLEST_SIZE) ** num_dims, num_features)

    def forward(self, patches: Tensor) -> Tensor:
        """``(N, 1, *[size] * D)`` to ``(N, num_features)``."""
        expected = (1, *[self.size] * self.num_dims)
        if tuple(patches.shape[1:]) != expected:
            raise ValueError(
                f"`patches` has shape {tuple(patches.shape)}, but (N, {', '.join(map(str, expected))}) is needed."
            )
        return nnf.normalize(self.project(self.layers(patches).flatten(1)), dim=1)

    @torch.no_grad()
    def describe(self, patches: Tensor) -> Tensor:
        """The same for use: without dropout or derivatives."""
        was_training = self.training
        try:
            return self.eval()(patches)
        finally:
            self.train(was_training)
