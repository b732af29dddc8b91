"""Training of patch descriptors: the same place near, other places far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pullback.checks import check_positive
from pullback.data import Image
from pullback.landmarks.keypoints import Keypoints
from pullback.landmarks.patches import patches_at
from pullback.networks import PatchDescriptor
from pullback.transforms import AbstractTransform


@dataclass(frozen=True)
class KnownPair:
    """Two images whose true map is known.

    Attributes:
        fixed, moving: The images.
        fixed_to_moving: The map.
        keypoints: Where to learn, in the fixed image.
    """

    fixed: Image
    moving: Image
    fixed_to_moving: AbstractTransform
    keypoints: Keypoints


def contrastive_loss(distances: Tensor, is_same: Tensor, *, margin: float = 1.0) -> Tensor:
    r"""$\frac{1}{2N} \sum_n y_n d_n^2 + (1 - y_n) \max(m - d_n, 0)^2$.

    Args:
        distances: d of N pairs of descriptors, ``(N,)``.
        is_same: y: whether both show the same place, ``(N,)`` bool.
        margin: m: beyond this distance other places are far enough.

    Reference:
        Hadsell, Chopra and LeCun, CVPR 2006, doi:10.1109/CVPR.2006.100.

    Example:
        >>> contrastive_loss(torch.tensor([0.5, 0.5, 2.0]), torch.tensor([True, False, False]))
        tensor(0.0833)
    """
    near, far = distances.square(), (check_positive("margin", margin) - distances).clamp(min=0).square()
    return torch.where(is_same, near, far).mean() / 2


def train_descriptor(
    network: PatchDescriptor,
    pairs: Sequence[KnownPair],
    *,
    spacing_mm: float,
    num_steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    margin: float = 1.0,
    far_mm: float = 10.0,
    start: PatchDescriptor | None = None,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> PatchDescriptor:
    """Train a descriptor in place.

    Each step takes keypoints of one pair. For each, its true place in the moving image is the same place; the keypoint
    whose descriptor comes nearest among those farther away than `far_mm` is another place, the hardest one there is.

    Args:
        network: What learns.
        pairs: Taken in turn.
        spacing_mm: Of the patches' samples.
        num_steps: Steps of Adam.
        batch_size: Keypoints at a time.
        learning_rate: Of Adam.
        margin: See :func:`contrastive_loss`.
        far_mm: From where on a place counts as another.
        start: A descriptor trained elsewhere, whose weights come first: fine-tuning, as TrCNNFR does.
        seed: Of the keypoints' order.
        on_step: Told the step and its loss.

    Returns:
        The network.

    Raises:
        ValueError: If there is no pair, or `start` is built otherwise.
    """
    if not pairs:
        raise ValueError("`pairs` is empty, but a descriptor learns from pairs of images.")
    if start is not None:
        try:
            network.load_state_dict(start.state_dict())
        except RuntimeError:
            raise ValueError("`start` is built otherwise than `network`; give both the same settings.") from None
    random = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    network.train()
    for step in range(num_steps):
        loss = _loss(network, pairs[step % len(pairs)], random, batch_size, spacing_mm, margin, far_mm)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    return network.eval()


def _loss(
    network: PatchDescriptor,
    pair: KnownPair,
    random: np.random.Generator,
    batch_size: int,
    spacing_mm: float,
    margin: float,
    far_mm: float,
) -> Tensor:
    chosen = torch.from_numpy(random.permutation(len(pair.keypoints))[:batch_size].copy())
    fixed = pair.keypoints.points[chosen]
    moving = pair.fixed_to_moving(fixed)
    words = {"size": network.size, "spacing_mm": spacing_mm}
    ours, theirs = network(patches_at(pair.fixed, fixed, **words)), network(patches_at(pair.moving, moving, **words))
    distances = torch.cdist(ours, theirs)
    other = torch.where(torch.cdist(moving, moving) > far_mm, distances, torch.inf).amin(1)
    known = torch.isfinite(other)
    together = torch.cat([distances.diagonal(), other[known]])
    return contrastive_loss(together, torch.arange(len(together)) < len(chosen), margin=margin)
