"""Random pairs: the same seed gives the same, labels move along, known maps are known."""

import pytest
import torch

import small_cohort
from examples import noise, smooth_noise
from pullback import functional
from pullback.training.augmentation import (
    Augmentation,
    RandomAffine,
    Simulation,
    affine_displacement,
    carry_away,
)
from pullback.training.augmentation import (
    smooth_noise as field,
)
from pullback.training.cohort import Batch, changed, seed_of
from pullback.training.state import DERIVED, NAMES

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
    changed, *_ = Augmentation()(given, None, seeded())
    assert all(torch.equal(a, b) for a, b in zip(given, changed, strict=True))


def test_what_is_shared_moves_both_images_alike():
    given = images()[0], images()[0]
    changed, *_ = Augmentation(shared=EVERYTHING.shared)(given, None, seeded())
    assert torch.equal(*changed)
    assert not torch.equal(changed[0], given[0])


def test_labels_move_as_images_do():
    given = images()
    still = Augmentation(flips=EVERYTHING.flips, shared=EVERYTHING.shared, own=EVERYTHING.own, deformation_voxels=1.5)
    changed, labels, _ = still(given, given, seeded())
    for image, label, before in zip(changed, labels, given, strict=True):
        assert torch.equal(image, label)
        assert not torch.equal(image, before)


def test_flips_are_shared_by_a_pair_and_differ_between_pairs():
    image = noise(16, 1, 4, 4, 4)
    (fixed, moving), *_ = Augmentation(flips=(1,))((image, image), None, seeded())
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


@pytest.mark.parametrize("shape", [(24, 20), (16, 20, 18)])
def test_a_known_map_brings_the_moving_image_back(shape: tuple[int, ...]):
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij")
    ramp = sum(slope * axis for slope, axis in zip((1.0, -0.5, 0.7), axes, strict=False))  # linear sampling keeps it
    moving = torch.stack([ramp, 2 * ramp])[:, None]
    simulation = Simulation(RandomAffine(10, 0.1, 0.05, 1), makes="moving")
    displacement, matrix = simulation(moving, seeded())
    away, also = carry_away([moving, 2 * moving], matrix)
    assert torch.equal(also, 2 * away)
    inner = (slice(None), slice(None), *[slice(5, -5)] * len(shape))
    torch.testing.assert_close(functional.warp(away, displacement)[inner], moving[inner], atol=1e-3, rtol=0)
    assert (away - moving)[inner].abs().amax() > 0.5
    with pytest.raises(ValueError, match="takes affine ones alone"):
        Simulation(deformation_voxels=1.0, makes="moving")


def test_the_second_copy_is_the_moving_image_at_the_matrix_s_points():
    moving = smooth_noise(2, *SHAPE, seed=2)[:, None]
    seen = Augmentation(again=RandomAffine(5, 0.1, 0, 2)).seen_again(moving, seeded())
    points = torch.tensor([3.0, 4.0, 5.0, 1.0])
    for image, matrix, copy in zip(moving, seen["again_matrix"], seen["moving_again"], strict=True):
        expected = functional.sample(image, (matrix @ points)[:3].double(), fill=None)
        torch.testing.assert_close(copy[:, 3, 4, 5], expected, atol=1e-4, rtol=1e-4)


def test_a_batch_keeps_what_the_terms_ask_for():
    moving, fixed = images()
    values = {"kind": "true-matrix"}, {"kind": "consistency"}
    again = {"translation_voxels": 1.0}
    recipe = small_cohort.recipe(
        losses=list(values), simulation={"makes": "moving"}, augmentation={"flips": [], "own": {}, "again": again}
    )
    state = changed(recipe, Batch(fixed, moving, None, None, (("f", "m"),) * 2), torch.tensor([1]), seeded())
    assert set(state) == {
        *("fixed", "moving", "registered", "true_matrix", "true_displacement"),
        *("moving_again", "again_matrix"),
    }
    assert set(state) | set(DERIVED) <= set(NAMES)
    assert torch.equal(state["registered"], moving)
    assert not torch.equal(state["moving"], moving)


def test_labels_are_carried_away_with_their_image():
    moving, fixed = images()
    recipe = small_cohort.recipe(
        losses=[{"kind": "dice"}, {"kind": "true-matrix"}],
        simulation={"makes": "moving"},
        augmentation={"flips": [], "own": {}, "noise": 0},
    )
    labels = torch.zeros(2, *SHAPE, dtype=torch.int32)
    labels[:, 3:6, 3:8, 2:6] = 1
    state = changed(recipe, Batch(fixed, moving, labels, labels, (("f", "m"),) * 2), torch.tensor([1]), seeded())
    assert torch.equal(state["fixed_labels"][:, 0].int(), labels)
    expected = carry_away([labels[:, None].float()], state["true_matrix"])[0]
    assert torch.equal(state["moving_labels"], expected)


@pytest.mark.parametrize(
    "parts", [{"shared": EVERYTHING.shared}, {"own": EVERYTHING.own}, {"flips": (0, 2)}, {**vars(EVERYTHING)}]
)
def test_what_is_known_stays_true(parts: dict):
    """The moved moving image, sampled by the changed displacement, is the registered image moved as the fixed one."""
    shape = (36, 40, 32)
    window = torch.einsum("i,j,k->ijk", *(torch.hann_window(n + 1, periodic=False)[:n] for n in shape))
    moving = (field(2, 1, shape, 10.0, seeded(5)) + 2) * window  # nothing at the edges
    known = 3 * field(2, 3, shape, 12.0, seeded(6))
    registered = functional.warp(moving, known)
    still = {**parts, "deformation_voxels": 0.0, "gamma": 0.0, "bias": 0.0, "noise": 0.0}
    (fixed, moved), _, changed_map = Augmentation(**still)((registered, moving), None, seeded(1), known)
    assert not torch.equal(fixed, registered)
    error = functional.warp(moved, changed_map) - fixed
    unchanged = functional.warp(moved, known) - fixed
    assert float(error.std()) < 0.2 * float(unchanged.std())
    assert float(error.abs().mean()) < 0.01


@pytest.mark.parametrize("losses", [["similarity"], ["dice", "similarity"]])
def test_fields_of_view_move_as_the_images_do(losses: list[str]):
    fixed, moving = images()
    labels = torch.ones(2, *SHAPE, dtype=torch.int32)
    recipe = small_cohort.recipe(
        losses=[{"kind": kind} for kind in losses],
        augmentation={"flips": [0], "own": {"rotation_degrees": 10.0, "translation_voxels": 1.0}, "noise": 0},
    )
    batch = Batch(fixed, moving, labels, labels, (("f", "m"),) * 2, views=(fixed, moving))
    state = changed(recipe, batch, torch.tensor([1, 2]), seeded())
    assert torch.equal(state["fixed_view"], state["fixed"])
    assert torch.equal(state["moving_view"], state["moving"])
    assert not torch.equal(state["moving"], moving)
    assert ("fixed_labels" in state) == ("dice" in losses)
    assert set(state) <= set(NAMES)


def test_a_field_of_view_is_carried_away_with_its_image():
    moving, fixed = images()
    recipe = small_cohort.recipe(
        losses=[{"kind": "true-matrix"}],
        simulation={"makes": "moving"},
        augmentation={"flips": [], "own": {}, "noise": 0},
    )
    batch = Batch(fixed, moving, None, None, (("f", "m"),) * 2, views=(fixed, moving))
    state = changed(recipe, batch, torch.tensor([1]), seeded())
    assert torch.equal(state["moving_view"], state["moving"])
    assert torch.equal(state["fixed_view"], fixed)
