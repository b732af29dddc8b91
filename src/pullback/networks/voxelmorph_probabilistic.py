"""Probabilistic VoxelMorph: a normal distribution of velocities on the lattice of half the size.

Paper: Dalca et al., Unsupervised learning of probabilistic diffeomorphic registration for images and surfaces, Medical
Image Analysis 57 (2019), doi:10.1016/j.media.2019.07.006 (first at MICCAI 2018, doi:10.1007/978-3-030-00928-1_82).
Code: github.com/voxelmorph/voxelmorph, TensorFlow only.

The U-Net stops at half the resolution; one convolution gives the mean of the velocity, another the logarithm of its
variance (starting at -10). In training a sample is integrated, otherwise the mean. The prior's precision is a graph
Laplacian: :func:`graph_laplacian_kl`.

What differs, and why: fields repeat their edge while they are integrated, and the halved lattice shares the borders of
the full one (see :mod:`pullback.networks.voxelmorph`). The widely copied PyTorch version of this network squares
without scaling first and doubles the field's size but not its values; neither happens here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pullback.checks import check_positive
from pullback.networks.blocks import UNet, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.parametrisation import Velocity
from pullback.networks.registry import family
from pullback.networks.voxelmorph import layout

FIRST_LOG_VARIANCE = -10.0


class ProbabilisticVoxelMorph(AbstractNetwork):
    """See the module; arguments as in :func:`voxelmorph_probabilistic`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        unet: dict[str, Any],
        velocity: Velocity,
        head_std: float,
    ) -> None:
        backbone = UNet(num_dims, 2 * num_channels, **unet, is_half_resolution=True)
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=backbone.multiple)
        self.unet = backbone
        self.head_mean = head(num_dims, backbone.num_outputs, num_dims, std=head_std)
        self.head_log_variance = head(num_dims, backbone.num_outputs, num_dims, std=1e-5 * head_std)
        nn.init.constant_(self.head_log_variance.bias, FIRST_LOG_VARIANCE)
        self.velocity = velocity

    def state_of(self, fixed: Tensor, moving: Tensor, *, generator: torch.Generator | None = None) -> State:
        """`displacement` of a sample (in training mode) or of the mean, `velocity`, `mean` and `log_variance`.

        Args:
            fixed: See :meth:`AbstractNetwork.forward`.
            moving: The same.
            generator: Where the sample's random numbers come from, on the images' device; None takes torch's own.
        """
        mean, log_variance = self._distribution(fixed, moving)
        chosen = draw(mean, log_variance, generator) if self.training else mean
        state = self.velocity(chosen, tuple(fixed.shape[2:]))
        return state | {"mean": mean, "log_variance": log_variance}

    @torch.no_grad()
    def uncertainty(
        self, fixed: Tensor, moving: Tensor, *, num_samples: int = 20, generator: torch.Generator | None = None
    ) -> Tensor:
        """Standard deviation of the displacement over samples of the velocity.

        Args:
            fixed: See :meth:`AbstractNetwork.forward`; sizes must fit.
            moving: The same.
            num_samples: 2 or more.
            generator: Where the random numbers come from.

        Returns:
            ``(B, D, *S)`` in voxels.
        """
        if num_samples < 2:
            raise ValueError(f"`num_samples` is {num_samples}, but a standard deviation needs 2 or more.")
        mean, log_variance = self._distribution(fixed, moving)
        total, squares = 0.0, 0.0
        first: Tensor | None = None
        for _ in range(num_samples):
            field = self.velocity(draw(mean, log_variance, generator), tuple(fixed.shape[2:]))["displacement"]
            first = field if first is None else first
            total, squares = total + (field - first), squares + (field - first).square()
        return ((squares - total.square() / num_samples) / (num_samples - 1)).clamp(min=0).sqrt()

    def _distribution(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        features = self.unet(torch.cat([moving, fixed], dim=1))
        return self.head_mean(features), self.head_log_variance(features)


def draw(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A sample of independent normal variables, differentiable in both."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * noise


def graph_laplacian_kl(mean: Tensor, log_variance: Tensor, *, precision: float) -> Tensor:
    r"""Divergence of a normal distribution from the smooth prior, per pair, without its constant.

    With the graph Laplacian $L = D - A$ of the lattice (D counts a voxel's neighbours) and the prior's precision
    matrix $\lambda L$, each component adds
    $\frac{1}{2}[\mathrm{tr}(\lambda D \Sigma) - \log|\Sigma| + \lambda \mu^T L \mu]$, where $\mu^T L \mu$ is the
    sum of squared differences between neighbours. It is least where $\mu$ is constant and the variance of a voxel is
    $1 / (\lambda d)$.

    Args:
        mean: ``(B, D, *L)``.
        log_variance: The same shape.
        precision: $\lambda$, in 1 / voxels^2.

    Returns:
        ``(B,)``, the sum over components divided by the number of voxels.

    Reference:
        Dalca et al., doi:10.1016/j.media.2019.07.006.
    """
    check_positive("precision", precision)
    degree = _num_neighbours(mean)
    spread = (precision * degree * log_variance.exp() - log_variance).flatten(1).sum(dim=1)
    roughness = sum(mean.diff(dim=axis).square().flatten(1).sum(dim=1) for axis in range(2, mean.ndim))
    return 0.5 * (spread + precision * roughness) / mean[0, 0].numel()


def _num_neighbours(field: Tensor) -> Tensor:
    """How many face neighbours each voxel has, ``(*L)``."""
    count = field.new_zeros(field.shape[2:])
    for axis, size in enumerate(field.shape[2:]):
        count.narrow(axis, 0, size - 1).add_(1)
        count.narrow(axis, 1, size - 1).add_(1)
    return count


@family("voxelmorph-probabilistic")
def voxelmorph_probabilistic(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    size: str = "2",
    encoder: Sequence[int] | None = None,
    decoder: Sequence[int] | None = None,
    downsampling: str | None = None,
    num_squarings: int = 7,
    is_bidirectional: bool = False,
    outside: str = "edge",
    resizing: str = "centres",
    head_std: float = 1e-5,
) -> ProbabilisticVoxelMorph:
    """VoxelMorph with mean and variance of a stationary velocity.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        size: ``1``, ``2`` or ``pooled``, as for VoxelMorph.
        encoder: Own widths, fine to coarse.
        decoder: Own widths, coarse to fine.
        downsampling: ``stride`` or ``pool``.
        num_squarings: Of the velocity.
        is_bidirectional: Give the inverse too.
        outside: ``edge`` or ``zeros``.
        resizing: ``centres`` or ``corners``.
        head_std: Of the mean's first weights; those of the log-variance are 1e-5 of it.
    """
    return ProbabilisticVoxelMorph(
        num_dims=num_dims,
        num_channels=num_channels,
        unet=layout(size, encoder, decoder, downsampling),
        velocity=Velocity(num_squarings, 2, is_bidirectional, outside, resizing),
        head_std=head_std,
    )
