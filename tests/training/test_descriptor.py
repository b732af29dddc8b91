"""A descriptor learns that a place stays the place, though its contrast does not."""

import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.landmarks import find_keypoints, match, patches_at, precision_and_recall
from pullback.networks import PatchDescriptor
from pullback.training.descriptor import KnownPair, contrastive_loss, train_descriptor
from pullback.transforms import Affine

SPACING_MM = 3.0


def other_contrast(image: Image) -> Image:
    """The object's intensities inverted, the background as it is."""
    inverted = 230 - image.tensor
    return image.with_tensor(torch.where(image.tensor > 0, inverted, image.tensor))


def known(degrees: float, shift: float) -> KnownPair:
    head = phantoms.slice_of_head()
    truth = Affine.from_parts(rotation=(degrees / 57.3,), translation_mm=(shift, -shift), num_dims=2)
    return KnownPair(head, other_contrast(phantoms.seen_by(head, truth)), truth, find_keypoints(head, smallest_mm=3.0))


def precision(network: PatchDescriptor | None, pair: KnownPair) -> float:
    sides = (pair.fixed, pair.keypoints), (pair.moving, find_keypoints(pair.moving, smallest_mm=3.0))
    patches = [patches_at(image, k.points, size=16, spacing_mm=SPACING_MM) for image, k in sides]
    described = [p.flatten(1) if network is None else network.describe(p) for p in patches]
    found = match(sides[0][1], sides[1][1], *described)
    return float(precision_and_recall(found, sides[0][1], sides[1][1], pair.fixed_to_moving, tolerance_mm=5.0)[0][-1])


@pytest.fixture(scope="module")
def learned() -> PatchDescriptor:
    torch.manual_seed(0)
    network = PatchDescriptor(num_dims=2)
    pairs = [known(4.0, 3.0), known(-6.0, -2.0)]
    return train_descriptor(network, pairs, spacing_mm=SPACING_MM, num_steps=60, learning_rate=3e-3)


def test_what_was_learned_holds_for_another_map(learned: PatchDescriptor):
    unseen = known(2.0, 5.0)
    assert precision(learned, unseen) > precision(None, unseen) + 0.3


def test_fine_tuning_starts_from_what_is_known(learned: PatchDescriptor):
    def first_loss(**options) -> float:
        losses: list[float] = []
        torch.manual_seed(1)
        network = PatchDescriptor(num_dims=2)
        words = {"spacing_mm": SPACING_MM, "num_steps": 1, "on_step": lambda step, loss: losses.append(loss)}
        train_descriptor(network, [known(2.0, 5.0)], **words, **options)
        return losses[0]

    assert first_loss(start=learned) < first_loss()
    with pytest.raises(ValueError, match="`start` is built otherwise"):
        first_loss(start=PatchDescriptor(num_dims=2, num_features=8))


def test_the_loss_does_not_care_for_what_is_far_enough():
    distances = torch.tensor([0.5, 0.4, 1.5], requires_grad=True)
    contrastive_loss(distances, torch.tensor([True, False, False])).backward()
    torch.testing.assert_close(distances.grad, torch.tensor([0.5, -0.6, 0.0]) / 3)


def test_descriptors_have_length_one_and_know_their_size(learned: PatchDescriptor):
    described = learned.describe(torch.randn(4, 1, 16, 16))
    torch.testing.assert_close(described.norm(dim=1), torch.ones(4))
    assert not described.requires_grad
    with pytest.raises(ValueError, match=r"`patches` has shape \(4, 1, 8, 8\)"):
        learned(torch.randn(4, 1, 8, 8))
    with pytest.raises(ValueError, match="multiple of 8"):
        PatchDescriptor(size=12)
