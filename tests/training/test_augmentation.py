"""Random pairs: the same seed gives the same, labels move along, known maps are known."""

import pytest
import torch

from examples import noise, smooth_noise
from pullback import functional
from pullback.training.augmentation import (
    Augmentation,
    RandomAffine,
    Simulation,
    affine_displacement,
)
from pullback.training.augmentation import (
    smooth_noise as field,
)
from pullback.training.cohort import seed_of

SHAPE = (10, 12, 8)
EVERYTHING = Augmentation(
    flips=(0, 2),
    shared=RandomAffine(10, 0.1, 0.05, 1),
    own=RandomAffine(5, 0.05, 0.02, 1),
    deformation_voxels=1.5,
    gamma=0.3,
    bias=0.2,
    noise=0.05,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(smooth_noise(batch, *SHAPE, seed=s)[:, None].abs() for s in (0, 1))


def test_the_same_seed_gives_the_same_and_another_does_not():
    first, again, other = (EVERYTHING(images(), None, seeded(s))[0] for s in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_nothing_is_changed_when_everything_is_off():
    given = images()
    changed, _ = Augmentation()(given, None, seeded())
    assert all(torch.equal(a, b) for a, b in zip(given, changed, strict=True))


def test_labels_move_as_images_do():
    given = images()
    still = Augmentation(flips=EVERYTHING.flips, shared=EVERYTHING.shared, own=EVERYTHING.own, deformation_voxels=1.5)
    changed, labels = still(given, given, seeded())
    for image, label, before in zip(changed, labels, given, strict=True):
        assert torch.equal(image, label)
        assert not torch.equal(image, before)


def test_flips_are_shared_by_a_pair_and_differ_between_pairs():
    image = noise(16, 1, 4, 4, 4)
    (fixed, moving), _ = Augmentation(flips=(1,))((image, image), None, seeded())
    assert torch.equal(fixed, moving)
    same = [torch.equal(a, b) for a, b in zip(fixed, image, strict=True)]
    assert any(same)
    assert not all(same)
    turned = [torch.equal(a.flip(2), b) for a, b in zip(fixed, image, strict=True)]
    assert [a or b for a, b in zip(same, turned, strict=True)] == [True] * 16


@pytest.mark.parametrize("shape", [(9, 11), SHAPE])
def test_affine_maps_keep_to_their_bounds(shape: tuple[int, ...]):
    num_dims = len(shape)
    matrices = RandomAffine(scaling=0.2, translation_voxels=2).draw(200, num_dims, seeded())
    scales = torch.diagonal(matrices[:, :, :-1], dim1=1, dim2=2)
    assert scales.min() >= 1 / 1.2 - 1e-6
    assert scales.max() <= 1.2 + 1e-6
    assert matrices[:, :, -1].abs().max() <= 2
    turns = RandomAffine(rotation_degrees=30).draw(5, num_dims, seeded())[:, :, :-1]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(num_dims).expand(5, -1, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(5))
    middle = tuple((n - 1) // 2 for n in shape)
    if all(n % 2 for n in shape):
        assert (
            affine_displacement(RandomAffine(rotation_degrees=30).draw(1, num_dims, seeded()), shape)[
                (0, slice(None), *middle)
            ]
            .abs()
            .max()
            < 1e-6
        )


def test_smooth_fields_are_smooth_and_bounded():
    fields = field(3, 3, (24, 24, 24), 12.0, seeded())
    assert fields.abs().amax(dim=(1, 2, 3, 4)).tolist() == pytest.approx([1, 1, 1])
    assert fields.diff(dim=2).abs().max() < 0.35


def test_a_simulated_pair_knows_its_map():
    moving = images()[1]
    displacement, matrix = Simulation(RandomAffine(10, 0.1, 0.05, 1))(moving, seeded())
    axes = [torch.arange(n, dtype=torch.float32) for n in SHAPE]
    points = torch.stack([*torch.meshgrid(*axes, indexing="ij"), torch.ones(SHAPE)])
    by_matrix = torch.einsum("brc,cijk->brijk", matrix, points)[:, :-1] - points[:-1]
    torch.testing.assert_close(displacement, by_matrix, atol=1e-4, rtol=0)
    deformed, same = Simulation(RandomAffine(10, 0.1, 0.05, 1), deformation_voxels=2)(moving, seeded())
    assert torch.equal(same, matrix)
    assert (deformed - displacement).abs().max() == pytest.approx(2, rel=1e-4)
    assert functional.warp(moving, deformed).shape == moving.shape


def test_seeds_differ_by_step_and_device():
    seeds = {seed_of(0, 1, step, rank) for step in range(100) for rank in range(4)}
    assert len(seeds) == 400
    assert max(seeds) < 2**63
