"""KeyMorph: points that a network finds in each image for itself, and the affine map that fits them, in closed form.

Papers: Yu, Wang, Dalca and Sabuncu, KeyMorph: robust multi-modal affine registration via unsupervised keypoint
detection, MIDL 2022; Wang, Yu, Dalca and Sabuncu, A robust and interpretable deep learning framework for multi-modal
registration via keypoints, Medical Image Analysis 2023, doi:10.1016/j.media.2023.102962.

The same detector sees each image and gives K heatmaps; the centre of mass of each is a point, the k-th of one image
corresponds to the k-th of the other, and the affine map of least squares through them is the answer. So an image's
points are all that must be learned, and they are learned from every image alone: a scan that was moved by a known map
says where its points must be (term ``keypoints``).

What differs, and why: the detector is a small U-Net with heatmaps on a lattice of a quarter of the size (the paper's
backbone goes down to a few voxels and keeps no fine level), so that one look at an image of 64^3 takes some 6 ms of one
processor; heatmaps are a softmax over the lattice (the paper's ReLU and division leave a point undefined where nothing
fires); a ridge draws the fit to the identity where points say nothing; after the first answer the moving image is
looked at again as it lies then (option `num_passes`). In training there is one pass. A network that has learned all
turns of a brain takes both its halves for one another and gives points near the plane between them: the turn is there,
an affine map flattens the brain. For such networks all passes but the last fit a rigid map (option `early_fit`), after
which the brain is upright and the last pass sees its size. The paper's splines are those of :mod:`pullback.landmarks`.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from pullback import functional
from pullback.checks import check_at_least, check_choice, check_positive
from pullback.networks import affine
from pullback.networks.blocks import CONVOLUTION, head, instance_normalised
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.registry import family

CELL_VOXELS = 4
"""The distance of two numbers of a heatmap."""
RIDGE_VOXELS = 0.1
FITS = ("affine", "rigid")
ANCHOR_RADIUS = 0.27
"""Of the ball or disc of :func:`anchors`, as a share of each size of the lattice."""


def anchors(shape: tuple[int, ...], count: int) -> Tensor:
    """`count` points spread evenly in the middle of a lattice, ``(count, D)`` in voxels, the same at each call.

    The first points of Halton's sequence that lie within an ellipsoid.
    """
    num_dims = len(shape)
    bases, found, number = (2, 3, 5)[:num_dims], [], 0
    while len(found) < count:
        number += 1
        point = torch.tensor([2 * _radical_inverse(number, base) - 1 for base in bases])
        if point.square().sum() <= 1:
            found.append(point)
    sizes = torch.tensor([float(n) for n in shape])
    return (sizes - 1) / 2 + torch.stack(found) * ANCHOR_RADIUS * sizes


def _radical_inverse(number: int, base: int) -> float:
    value, share = 0.0, 1.0
    while number:
        share /= base
        number, digit = divmod(number, base)
        value += digit * share
    return value


class Step(nn.Module):
    """Convolution, each channel of each image standardised (a single voxel stays), gain and offset, activation."""

    def __init__(self, num_dims: int, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[num_dims](inputs, outputs, 3, stride, 1, bias=False)
        self.gain = nn.Parameter(torch.ones(outputs, *[1] * num_dims))
        self.offset = nn.Parameter(torch.zeros(outputs, *[1] * num_dims))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *L)`` to ``(B, outputs, *L)``, or half of L with a stride of 2."""
        x = self.convolution(x).float()
        x = instance_normalised(x) if x[0, 0].numel() > 1 else x
        return nnf.leaky_relu(x * self.gain + self.offset, 0.1)


class Detector(nn.Module):
    """A U-Net from an image to heatmaps on the lattice of a quarter of its size."""

    def __init__(self, num_dims: int, num_channels: int, start_channels: int, num_outputs: int, std: float) -> None:
        super().__init__()
        c = start_channels
        inputs = num_channels * 2**num_dims
        self.fine = nn.Sequential(Step(num_dims, inputs, 2 * c, stride=2), Step(num_dims, 2 * c, 2 * c))
        self.middle = nn.Sequential(Step(num_dims, 2 * c, 4 * c, stride=2), Step(num_dims, 4 * c, 4 * c))
        self.coarse = nn.Sequential(Step(num_dims, 4 * c, 4 * c, stride=2), Step(num_dims, 4 * c, 4 * c))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.join_middle, self.join_fine = Step(num_dims, 8 * c, 4 * c), Step(num_dims, 6 * c, 2 * c)
        self.head = head(num_dims, 2 * c, num_outputs, kernel=1, std=std)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, K, *(S / 4))``."""
        fine = self.fine(_neighbours_as_channels(image))
        middle = self.middle(fine)
        middle = self.join_middle(torch.cat([self.up(self.coarse(middle)), middle], dim=1))
        return self.head(self.join_fine(torch.cat([self.up(middle), fine], dim=1)))


def _neighbours_as_channels(image: Tensor) -> Tensor:
    """Blocks of two voxels per axis as channels: ``(B, C, *S)`` to ``(B, 2^D C, *(S / 2))``, no number lost."""
    num_dims = image.ndim - 2
    halves = [part for size in image.shape[2:] for part in (size // 2, 2)]
    order = [0, 1, *range(3, 3 + 2 * num_dims, 2), *range(2, 2 + 2 * num_dims, 2)]
    return image.reshape(*image.shape[:2], *halves).permute(order).flatten(1, 1 + num_dims)


class KeyMorph(AbstractNetwork):
    """See the module; arguments as in :func:`keymorph`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        start_channels: int,
        num_keypoints: int,
        num_passes: int,
        early_fit: str,
        head_std: float,
    ) -> None:
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=16)
        c = int(check_positive("start_channels", start_channels))
        check_at_least("num_keypoints", num_keypoints, num_dims + 1)
        self.detector = Detector(num_dims, num_channels, c, num_keypoints, head_std)
        self.num_passes = check_at_least("num_passes", num_passes, 1)
        self.early_fit = check_choice("early_fit", early_fit, FITS)

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`matrix`, its `displacement`, and the points of the first pass."""
        state = self.points_and_matrix_of(fixed, moving)
        return state | {"displacement": affine.displacement_of(state["matrix"], tuple(fixed.shape[2:]))}

    def matrix_of(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The voxel matrices alone, ``(B, D + 1, D + 1)``, for losses that need no displacement."""
        return self.points_and_matrix_of(fixed, moving)["matrix"]

    def points_and_matrix_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`fixed_points`, `moving_points` and `matrix`."""
        num_fixed = 1 if fixed.stride(0) == 0 else len(fixed)  # one template that was expanded to a batch
        both = self.points_of(torch.cat([fixed[:num_fixed], moving]))
        ours, theirs = both[:num_fixed].expand(len(moving), -1, -1), both[num_fixed:]
        num_passes = 1 if self.training else self.num_passes
        matrix, found = None, theirs
        if not (self.training or both.is_meta or bool(torch.isfinite(both).all())):
            num_passes = 1  # the weights are damaged, and there is nothing to look at again; the matrix says so
        for number in range(1, num_passes + 1):
            if matrix is not None:
                found = self.points_of(functional.warp_by_matrix(moving.float(), matrix))
            is_rigid = self.early_fit == "rigid" and number < num_passes
            missing = affine.fit_rigid(ours, found, ridge=RIDGE_VOXELS**2) if is_rigid else _fit(ours, found)
            matrix = missing if matrix is None else affine.product(matrix, missing)
        return {"fixed_points": ours, "moving_points": theirs, "matrix": matrix}

    def points_of(self, image: Tensor) -> Tensor:
        """``(B, K, D)`` in voxels: the centre of mass of each heatmap."""
        if len(image) == 1 and image.device.type == "cpu" and not self.training:
            # For a single small image torch's convolutions take their slow path: two take two thirds of its time.
            return self.points_of(image.expand(2, *image.shape[1:]))[:1]
        heat = self.detector(image).float()
        lattice = heat.shape[2:]
        heat = heat.flatten(2).softmax(-1).unflatten(2, lattice)
        axes = range(2, heat.ndim)
        places = []
        for axis in axes:
            others = [other for other in axes if other != axis]
            cells = torch.arange(heat.shape[axis], dtype=torch.float32, device=heat.device)
            places.append((heat.sum(others) * (cells * CELL_VOXELS + (CELL_VOXELS - 1) / 2)).sum(-1))
        return torch.stack(places, dim=-1)


def _fit(fixed_points: Tensor, moving_points: Tensor) -> Tensor:
    """Voxel matrices ``(B, D + 1, D + 1)`` of corresponding points ``(B, K, D)``."""
    weights = torch.full_like(fixed_points[..., 0], 1 / fixed_points.shape[1])
    return affine.fit(fixed_points, (moving_points - fixed_points).mT, weights, ridge=RIDGE_VOXELS**2)


@family("keymorph")
def keymorph(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    start_channels: int = 8,
    num_keypoints: int = 64,
    num_passes: int = 2,
    early_fit: str = "affine",
    head_std: float = 1e-5,
) -> KeyMorph:
    """KeyMorph: an affine map fitted to points that the network finds in each image.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        start_channels: Half of those of the finest features.
        num_keypoints: Points in each image, above `num_dims`.
        num_passes: How often the moving image is looked at, each time as the last answer moved it; in training once.
        early_fit: What passes before the last fit: ``affine``, or ``rigid`` for networks that have learned any turn.
        head_std: Of the last layer's first weights.
    """
    return KeyMorph(
        num_dims=num_dims,
        num_channels=num_channels,
        start_channels=start_channels,
        num_keypoints=num_keypoints,
        num_passes=num_passes,
        early_fit=early_fit,
        head_std=head_std,
    )
