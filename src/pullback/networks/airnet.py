"""AIRNet: two pathways with the same weights see one image each, and three layers regress an affine map.

Paper: Chee and Wu, AIRNet: self-supervised affine registration for 3D medical images using neural networks, 2018,
arXiv:1810.02583. This is the smaller network of source 002 (Ding, BSc dissertation, Nottingham 2020); neither has
public code.

Each pathway is four times a convolution over 3 voxels, ReLU and max-pooling: 2, 4, 8 and 16 channels, 64^3 down to 4^3
voxels. Both images' 1024 features go through three fully connected layers, with 20 % dropout after the first, to the
twelve numbers of a 3x4 matrix. The convolutions have 4,620 parameters; source 002 does not say how wide the two hidden
layers are, so their widths are ours, and there is no published total.

What differs, and why: matrices are in voxels and lead from fixed to moving (source 002 has FLIRT's, in mm, from moving
to fixed, though the images had been resized); the network gives what the matrix has beyond the identity, and the last
layer starts near zero, so that a new network is the identity; linear parts act about the middle of the lattice (option
`origin`; FLIRT's act about a corner, which makes a turn look like a translation); on lattices other than 64^3 the last
features are averaged to 4^3; features can be standardised (option `is_standardised`), without which the layers after
them learn slowly. Beside the matrix there are rotation, translation, scale and shear as factors (option
`parametrisation`), and, as the family ``airnet-matches``, an affine map fitted to matched features in closed form,
which has no fully connected layers at all. All three are for comparison: a matrix is a poor parametrisation.
"""

import itertools

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback import functional
from pullback.checks import check_choice, check_positive
from pullback.networks import affine
from pullback.networks.blocks import CONVOLUTION, MAX_POOL, convolution
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.registry import family

PARAMETRISATIONS = ("matrix", "factors")
NUM_LEVELS = 4
FEATURE_SIZE = 4
"""Along each axis of what the fully connected layers see."""
CELL_VOXELS = 2 ** (NUM_LEVELS - 1)
"""The distance of two features before the last pooling."""
RIDGE_VOXELS = 1.0
MOMENTUM = 0.05
"""Share of a new batch in the means and variances of features that are kept for use after the training."""
AVERAGE_POOL = {2: nnf.adaptive_avg_pool2d, 3: nnf.adaptive_avg_pool3d}


class Pathway(nn.Module):
    """Four convolutions with pooling between them; the last pooling is left to who needs it."""

    def __init__(self, num_dims: int, num_inputs: int, start_channels: int) -> None:
        super().__init__()
        c = int(check_positive("start_channels", start_channels))
        widths = [num_inputs, *(c * 2**level for level in range(NUM_LEVELS))]
        pairs = itertools.pairwise(widths)
        self.convolutions = nn.ModuleList(convolution(num_dims, a, b, nn.ReLU) for a, b in pairs)
        self.pool = MAX_POOL[num_dims](2)
        self.num_outputs = widths[-1]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, num_outputs, *(S / 8))``."""
        *pooled, last = self.convolutions
        for convolve, _ in pooled:
            image = functional.pooled_convolution(image, convolve.weight, convolve.bias)
        return last(image)

    def pair(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both; those of one template that was expanded to a batch are computed once."""
        is_template = len(fixed) > 1 and fixed.stride(0) == 0
        ours = self(fixed[:1]).expand(len(fixed), *[-1] * (fixed.ndim - 1)) if is_template else self(fixed)
        return ours, self(moving)


class AIRNet(AbstractNetwork):
    """See the module; arguments as in :func:`airnet`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        widths: tuple[int, int],
        dropout: float,
        parametrisation: str,
        translation_scale_voxels: float,
        origin: str,
        head_std: float,
        is_standardised: bool,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2**NUM_LEVELS)
        self.pathway = Pathway(num_dims, num_channels, start_channels)
        num_features = 2 * self.pathway.num_outputs * FEATURE_SIZE**num_dims
        statistics = nn.BatchNorm1d(num_features // 2, affine=False, momentum=MOMENTUM)
        self.standardise = statistics if is_standardised else nn.Identity()
        first, second = widths
        self.regression = nn.Sequential(
            nn.Linear(num_features, first),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(first, second),
            nn.ReLU(),
            affine.numbers_head(second, affine.num_numbers(num_dims), std=head_std),
        )
        self.parametrisation = check_choice("parametrisation", parametrisation, PARAMETRISATIONS)
        self.translation_scale_voxels = check_positive("translation_scale_voxels", translation_scale_voxels)
        self.origin = check_choice("origin", origin, affine.ORIGINS)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`matrix` and its `displacement`."""
        matrix = self.matrix_of(fixed, moving)
        return {"matrix": matrix, "displacement": affine.displacement_of(matrix, tuple(fixed.shape[2:]))}

    def matrix_of(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The voxel matrices alone, ``(B, D + 1, D + 1)``, for losses that need no displacement."""
        shape = tuple(fixed.shape[2:])
        features = [self._small(one) for one in self.pathway.pair(fixed, moving)]
        ours, theirs = self.standardise(torch.cat(features)).chunk(2)
        numbers = self.regression(torch.cat([ours, theirs], dim=1)).float()
        parts = self._factors(numbers) if self.parametrisation == "factors" else self._rows(numbers)
        return affine.matrix_about(*parts, affine.origin_of(shape, self.origin, numbers))

    def _small(self, features: Tensor) -> Tensor:
        features = self.pathway.pool(features)
        wanted = (FEATURE_SIZE,) * self.num_dims
        if tuple(features.shape[2:]) != wanted:
            features = AVERAGE_POOL[self.num_dims](features, wanted)
        return features.flatten(1)

    def _rows(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Row by row, as in source 002."""
        linear, translation = affine.from_numbers(numbers.unflatten(1, (self.num_dims, self.num_dims + 1)))
        return linear, self.translation_scale_voxels * translation

    def _factors(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Angles, translation, logarithms of scales, shears."""
        d = self.num_dims
        planes = d * (d - 1) // 2
        angles, translation, scales, shears = numbers.split([planes, d, d, planes], dim=1)
        return affine.linear_of_factors(angles, scales.exp(), shears), self.translation_scale_voxels * translation


class AIRNetMatches(AbstractNetwork):
    """Features of both images, matched softly, and the affine map that fits the matches best.

    A feature of the fixed image looks for its like in the moving image, near its own place first (`reach_voxels`). Its
    offset is the mean place of the likes, less the mean place if all were alike, so that features that say nothing
    give the identity. Memory grows with the square of the number of features: 64 MB per pair at 128^3.
    """

    def __init__(
        self, *, num_dims: int, num_channels: int, start_channels: int, reach_voxels: float, head_std: float
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=2**NUM_LEVELS)
        self.pathway = Pathway(num_dims, num_channels, start_channels)
        width = self.pathway.num_outputs
        self.compare = CONVOLUTION[num_dims](width, width, 1, bias=False)
        nn.init.normal_(self.compare.weight, std=check_positive("head_std", head_std))
        self.reach_voxels = check_positive("reach_voxels", reach_voxels)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`matrix` and its `displacement`."""
        matrix = self.matrix_of(fixed, moving)
        return {"matrix": matrix, "displacement": affine.displacement_of(matrix, tuple(fixed.shape[2:]))}

    def matrix_of(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The voxel matrices alone, ``(B, D + 1, D + 1)``, for losses that need no displacement."""
        ours, theirs = (self._centred(features) for features in self.pathway.pair(fixed, moving))
        points = self._points(ours)
        offsets = self._offsets(self.compare(_unit(ours)).float().flatten(2), _unit(theirs).flatten(2), points)
        lengths = ours.flatten(2).square().sum(1).add(1e-12).sqrt() + 1e-6
        return affine.fit(points, offsets, lengths / lengths.sum(1, keepdim=True), ridge=RIDGE_VOXELS**2)

    def _centred(self, features: Tensor) -> Tensor:
        features = features.float()
        return features - features.mean(dim=tuple(range(2, features.ndim)), keepdim=True)

    def _points(self, features: Tensor) -> Tensor:
        """Where the features are, ``(N, D)`` in voxels."""
        axes = [
            torch.arange(n, dtype=torch.float32, device=features.device) * CELL_VOXELS + (CELL_VOXELS - 1) / 2
            for n in features.shape[2:]
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)

    def _offsets(self, ours: Tensor, theirs: Tensor, points: Tensor) -> Tensor:
        """Offsets ``(B, D, N)`` in voxels from features ``(B, C, N)`` of the fixed and the moving image."""
        nearness = -(points[:, None] - points).square().sum(-1) / (2 * self.reach_voxels**2)
        alike = torch.einsum("bcn,bcm->bnm", ours, theirs).float()
        expected = (alike + nearness).softmax(-1) - nearness.softmax(-1)
        return torch.stack([(expected * place).sum(-1) for place in points.unbind(1)], dim=1)


def _unit(features: Tensor) -> Tensor:
    """Each feature with a length of 1 (0 stays 0)."""
    return nnf.normalize(features, dim=1, eps=1e-6)


@family("airnet")
def airnet(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 2,
    first_width: int = 256,
    second_width: int = 64,
    dropout: float = 0.2,
    parametrisation: str = "matrix",
    translation_scale_voxels: float = 32.0,
    origin: str = "middle",
    head_std: float = 1e-5,
    is_standardised: bool = False,
) -> AIRNet:
    """AIRNet: one affine map from two pathways with the same weights.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the first convolution; each further one has twice as many.
        first_width, second_width: Of the two hidden layers.
        dropout: Share of the first hidden layer that is left out in training.
        parametrisation: ``matrix`` (rows of the matrix) or ``factors`` (rotation, translation, scale and shear).
        translation_scale_voxels: By which the network's translations are multiplied: 32 in experiments 2 to 5 of source
            002, 1 in experiment 1.
        origin: ``middle`` or ``corner``: about which point of the lattice the linear part acts.
        head_std: Of the last layer's first weights.
        is_standardised: Whether each feature has mean 0 and variance 1, over both images of the pairs of a batch (after
            the training: over those it has seen last), before the first hidden layer. Source 002 has no such step;
            without it most of what a feature says is the same for every image, and dropout's noise in it hides the
            rest.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is {dropout}, but a share from 0 to below 1 is needed.")
    return AIRNet(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        widths=(int(check_positive("first_width", first_width)), int(check_positive("second_width", second_width))),
        dropout=dropout,
        parametrisation=parametrisation,
        translation_scale_voxels=translation_scale_voxels,
        origin=origin,
        head_std=head_std,
        is_standardised=is_standardised,
    )


@family("airnet-matches")
def airnet_matches(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 2,
    reach_voxels: float = 16.0,
    head_std: float = 1e-5,
) -> AIRNetMatches:
    """AIRNet's pathways, and an affine map fitted to their matched features in closed form.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Of the first convolution; each further one has twice as many.
        reach_voxels: How far from its own place a feature looks first.
        head_std: Of the comparing layer's first weights.
    """
    return AIRNetMatches(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        reach_voxels=reach_voxels,
        head_std=head_std,
    )
