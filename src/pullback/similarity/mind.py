"""Self-similarity descriptors: what an image looks like beside itself, whatever its contrast."""

from itertools import combinations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from pullback.functional import gaussian_smooth
from pullback.functional.lifting import lift_volumes
from pullback.similarity.abstract import AbstractSimilarity

TINY = 1e-6
"""Weight in a window below which nothing of it is known."""

Offset = tuple[int, int, int]


class MIND(AbstractSimilarity):
    r"""How well self-similarities agree, averaged over voxels, their neighbourhoods and channels; 0 is a perfect match.

    In each of the two images I, with the neighbours a and b of a voxel that are next to each other (12 pairs p of the
    6 neighbours in 3-D, 4 of the 4 in 2-D, `distance_voxels` away),

    $D_p(x) = \sum_y G_\sigma(x - y)\,(I(y + a) - I(y + b))^2, \quad
    M_p = \exp\left(-\frac{D_p}{\epsilon + \mathrm{mean}_q D_q}\right)$

    and the value is $-\frac{1}{\sum w} \sum_x w(x)\,\mathrm{mean}_p (M_p^f - M_p^w)^2$. Descriptors do not change when
    intensities are scaled, shifted or inverted, and hardly when they change slowly in space or by a smooth curve:
    images of two contrasts agree where their edges and textures run alike. They do change when an image is turned; so
    here they are computed on the warped image at each step, and the derivative is exact.

    A window takes the voxels of weight above 0 alone.

    Args:
        distance_voxels: From a voxel to its neighbours.
        sigma_voxels: Width of the Gaussian windows.
        noise: $\epsilon$, squared differences below which a neighbourhood counts as flat, for images of unit variance.

    Reference:
        Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
        MICCAI 2013, doi:10.1007/978-3-642-40811-3_24 (equations 2 to 4: the context of self-similarities).
    """

    def __init__(self, *, distance_voxels: int = 2, sigma_voxels: float = 1.0, noise: float = 1e-3) -> None:
        if distance_voxels < 1:
            raise ValueError(f"`distance_voxels` is {distance_voxels}, but neighbours are at least 1 voxel away.")
        if sigma_voxels <= 0:
            raise ValueError(f"`sigma_voxels` is {sigma_voxels}, but windows need a width above zero.")
        if noise <= 0:
            raise ValueError(f"`noise` is {noise}, but a number above zero is needed to keep flat windows finite.")
        self.distance_voxels, self.sigma_voxels, self.noise = distance_voxels, sigma_voxels, noise

    def descriptors(self, image: Tensor) -> Tensor:
        """The self-similarities M of every channel and voxel, 0 to 1, to be compared elsewhere than voxel by voxel.

        Args:
            image: ``(B, C, *shape)`` of unit variance, or `noise` means something else.

        Returns:
            ``(B, C * P, *shape)``: the P pairs of the first channel, then those of the next.
        """
        num_dims = image.ndim - 2
        volumes = lift_volumes(image, num_dims).flatten(0, 1)[:, None]
        windows = _Windows(torch.ones_like(volumes[:1]), num_dims, self.distance_voxels, self.sigma_voxels)
        found = [self._descriptors(windows.dissimilarities(one[None]))[0] for one in volumes]
        return torch.cat(found).reshape(len(image), -1, *image.shape[2:])

    def value_and_gradient(
        self, fixed: Tensor, warped: Tensor, weights: Tensor | None = None, *, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`AbstractSimilarity`."""
        num_dims = fixed.ndim - 2
        f, w = lift_volumes(fixed, num_dims), lift_volumes(warped, num_dims)
        m = torch.ones_like(f[:, :1]) if weights is None else lift_volumes(weights, num_dims).to(f)
        values = torch.zeros(f.shape[0], dtype=torch.float64)
        gradient = torch.empty_like(warped) if out is None else out
        lifted = lift_volumes(gradient, num_dims)
        for b in range(f.shape[0]):
            windows = _Windows(m[b : b + 1], num_dims, self.distance_voxels, self.sigma_voxels)
            for c in range(f.shape[1]):
                value, slope = self._one(f[b : b + 1, c : c + 1], w[b : b + 1, c : c + 1], windows)
                values[b] += value / f.shape[1]
                lifted[b, c] = slope[0, 0] / f.shape[1]
        return values, gradient

    def _one(self, fixed: Tensor, warped: Tensor, windows: "_Windows") -> tuple[float, Tensor]:
        """Value and derivative for one pair of volumes ``(1, 1, I, J, K)``."""
        share = windows.weights / windows.weights.sum(dtype=torch.float64).clamp(min=1e-12).to(fixed)
        share = share / len(windows.pairs)
        theirs, _ = self._descriptors(windows.dissimilarities(fixed))
        mine, flatness = self._descriptors(dissimilarities := windows.dissimilarities(warped))
        # From here on `theirs` holds d value / d descriptor, times the descriptor.
        difference = theirs.sub_(mine)
        value = -float((difference.square().sum(dim=1, keepdim=True) * share).sum(dtype=torch.float64))
        pull = difference.mul_(2 * share).mul_(mine)
        common = (pull * dissimilarities).sum(dim=1, keepdim=True) / (flatness.square() * len(windows.pairs))
        return value, windows.pull_back(common - pull / flatness, warped)

    def _descriptors(self, dissimilarities: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors, and the denominators of their exponents."""
        flatness = dissimilarities.mean(dim=1, keepdim=True).add_(self.noise)
        return torch.exp(-dissimilarities / flatness), flatness


class _Windows:
    """Squared differences between neighbours in windows around each voxel, and the way back.

    The difference of a pair around x is that of another pair with the same step between its two, around another voxel;
    so windows are summed once per step (6 in 3-D), not per pair (12).
    """

    def __init__(self, weights: Tensor, num_dims: int, distance: int, sigma: float) -> None:
        self.weights, self.sigma = weights, sigma
        self.pairs = _pairs(num_dims, distance)
        self.steps = sorted({step for _, step in self.pairs})
        # Room for the neighbours, and zeros beyond, so that the repeated edges of the filter add nothing.
        flat = distance + 1
        self.margin = (0 if num_dims == 2 else flat, flat, flat)
        self.known = (weights > 0).to(weights)
        padded = self._pad(self.known)
        self.valid = {step: padded * _shift(padded, step) for step in self.steps}
        self.scales = {
            step: torch.where(sums > TINY, 1 / sums.clamp(min=TINY), 0.0)
            for step, sums in ((s, self._smooth(v)) for s, v in self.valid.items())
        }

    def dissimilarities(self, image: Tensor) -> Tensor:
        """Mean squared differences ``(1, P, I, J, K)``, 0 where nothing is known."""
        padded = self._pad(torch.where(self.known > 0, image, 0.0))
        by_step = {}
        for step in self.steps:
            squares = (padded - _shift(padded, step)).square_().mul_(self.valid[step])
            by_step[step] = self._smooth(squares).mul_(self.scales[step])
        return torch.cat([self._crop(by_step[step], at) for at, step in self.pairs], dim=1)

    def pull_back(self, slopes: Tensor, image: Tensor) -> Tensor:
        """Derivative by the image, from that by its dissimilarities."""
        padded = self._pad(torch.where(self.known > 0, image, 0.0))
        total = torch.zeros_like(padded)
        for step in self.steps:
            by_step = torch.zeros_like(padded)
            for number, (at, other) in enumerate(self.pairs):
                if other == step:
                    self._crop(by_step, at).add_(slopes[:, number : number + 1])
            pull = self._smooth(by_step.mul_(self.scales[step])).mul_(2 * self.valid[step])
            pull = pull.mul_(padded - _shift(padded, step))
            total.add_(pull).sub_(_shift(pull, tuple(-n for n in step)))
        return self._crop(total, (0, 0, 0))

    def _smooth(self, volumes: Tensor) -> Tensor:
        return gaussian_smooth(volumes, [self.sigma if m else 0.0 for m in self.margin])

    def _pad(self, volumes: Tensor) -> Tensor:
        return nnf.pad(volumes, [m for margin in reversed(self.margin) for m in (margin, margin)])

    def _crop(self, padded: Tensor, at: Offset) -> Tensor:
        """The part of padded volumes that is the lattice moved by an offset (a view)."""
        for axis, (margin, offset) in enumerate(zip(self.margin, at, strict=True), start=2):
            padded = padded.narrow(axis, margin + offset, padded.shape[axis] - 2 * margin)
        return padded


def _pairs(num_dims: int, distance: int) -> list[tuple[Offset, Offset]]:
    """Neighbours next to each other: where the first is, and the step from it to the second."""
    axes = range(3 - num_dims, 3)
    signs = (-distance, distance)
    found = []
    for i, j in combinations(axes, 2):
        for s in signs:
            for t in signs:
                first = tuple(s if axis == i else 0 for axis in range(3))
                second = tuple(t if axis == j else 0 for axis in range(3))
                if s > 0:  # the same pair with its two exchanged, so that steps along the first axis are positive
                    first, second = second, first
                found.append((first, tuple(b - a for a, b in zip(first, second, strict=True))))
    return found


def _shift(volumes: Tensor, offset: Offset) -> Tensor:
    """``volumes(x + offset)``, of volumes that are 0 near their edges."""
    return torch.roll(volumes, [-n for n in offset], dims=(2, 3, 4))
