"""KeyMorph: where its points are, and that it learns a map from what a known one says of them."""

import itertools

import pytest
import torch

from examples import noise
from pullback import functional, networks
from pullback.networks import affine, anchors
from pullback.training.augmentation import RandomAffine, about_voxel_0, carry_away
from pullback.training.state import TrainingState
from pullback.training.terms import KeypointTerm

SHAPE = (32, 32)


def test_heatmaps_have_their_points_where_their_cells_are():
    network = networks.build("keymorph", num_dims=2, start_channels=2, num_keypoints=3)
    heat = torch.full((1, 3, 8, 4), -1e4)
    for k, (i, j) in enumerate([(0, 0), (7, 3), (2, 1)]):
        heat[0, k, i, j] = 0
    network.detector.forward = lambda image: heat
    points = network.points_of(torch.zeros(1, 1, 32, 16))
    torch.testing.assert_close(points, torch.tensor([[[1.5, 1.5], [29.5, 13.5], [9.5, 5.5]]]))


def test_the_first_layer_sees_every_voxel_once():
    image = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(1, 2, 4, 6)
    channels = networks.keymorph._neighbours_as_channels(image)
    assert channels.shape == (1, 8, 2, 3)
    assert sorted(channels.flatten().tolist()) == image.flatten().tolist()
    assert sorted(channels[0, :, 1, 2].tolist()) == sorted(image[0, :, 2:, 4:].flatten().tolist())


@pytest.mark.parametrize("shape", [(64, 64, 64), (40, 56, 48), (32, 64)])
def test_anchors_fill_the_middle_evenly(shape):
    points = anchors(shape, 64)
    assert torch.equal(points, anchors(shape, 80)[:64])
    sizes = torch.tensor(shape, dtype=torch.float32)
    away = (points - (sizes - 1) / 2) / sizes
    assert away.square().sum(1).max() <= 0.27**2 + 1e-6
    assert away.mean(0).abs().max() < 0.03
    spread = away.std(0) / 0.27  # of an even ball 1 / sqrt(D + 2)
    torch.testing.assert_close(spread, torch.full_like(spread, (len(shape) + 2) ** -0.5), atol=0.05, rtol=0)
    assert torch.cdist(points, points).fill_diagonal_(99).min() > 0.5


@pytest.mark.parametrize("early_fit", ["affine", "rigid"])
def test_damaged_weights_give_no_number_rather_than_an_error(early_fit):
    network = networks.build("keymorph", num_dims=2, start_channels=2, num_keypoints=4, early_fit=early_fit).eval()
    with torch.no_grad():
        network.detector.head.weight.fill_(float("nan"))
    image = noise(2, 1, *SHAPE)
    assert network(image, image)["matrix"][:, :-1].isnan().all()


def test_points_that_follow_the_known_map_cost_nothing():
    true = about_voxel_0(RandomAffine(30.0, 0.2, 0.1, 3.0).draw(2, 2, torch.Generator().manual_seed(0)), SHAPE)
    wanted = anchors(SHAPE, 5).expand(2, -1, -1)
    moved = wanted @ true[:, :-1, :-1].mT + true[:, None, :-1, -1]
    known = {"fixed": torch.zeros(2, 1, *SHAPE), "true_matrix": true}
    state = TrainingState(known | {"fixed_points": wanted, "moving_points": moved, "matrix": true})
    for is_anchored, of in itertools.product((True, False), ("points", "map")):
        term = KeypointTerm(is_anchored=is_anchored, of=of)
        torch.testing.assert_close(term(state), torch.zeros(2), atol=1e-4, rtol=0)
    shifted = TrainingState(state | {"fixed_points": wanted + torch.tensor([3.0, 4.0])})
    assert KeypointTerm()(shifted).tolist() == pytest.approx([2.5] * 2, abs=1e-4)
    assert KeypointTerm(is_anchored=False)(shifted).min() > 3
    further = torch.eye(3).repeat(2, 1, 1)
    further[:, 0, 2] = 2.0
    off = TrainingState(state | {"matrix": further @ true})
    assert KeypointTerm(of="map")(off).tolist() == pytest.approx([2.0] * 2, abs=1e-4)
    assert KeypointTerm()(off).tolist() == pytest.approx([0.0] * 2, abs=1e-4)
    assert [KeypointTerm(of=of).title for of in ("points", "map")] == ["keypoints", "keypoints_map"]
    with pytest.raises(ValueError, match="of"):
        KeypointTerm(of="fixed")


def test_it_learns_random_maps_of_one_image():
    torch.manual_seed(0)
    network = networks.build("keymorph", num_dims=2, num_keypoints=12, start_channels=8)
    image = torch.nn.functional.avg_pool2d(noise(1, 1, 44, 44, seed=3), 7, 1)[..., 3:-3, 3:-3]
    fixed = 5 * image.expand(4, -1, -1, -1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    spread, errors = RandomAffine(15.0, 0.1, 0.05, 3.0), []
    for step in range(150):
        true = about_voxel_0(spread.draw(4, 2, torch.Generator().manual_seed(step)), SHAPE)
        (moving,) = carry_away([fixed], true)
        state = TrainingState({"fixed": fixed, "moving": moving, "true_matrix": true} | network(fixed, moving))
        gap = affine.displacement_of(state["matrix"].detach(), SHAPE) - affine.displacement_of(true, SHAPE)
        errors.append(float(torch.linalg.vector_norm(gap, dim=1).mean()))
        loss = KeypointTerm()(state).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(errors[-10:]) < 0.35 * sum(errors[:10])
    network.eval()
    with torch.no_grad():
        twice = network(fixed, moving)["matrix"]
        network.num_passes = 1
        once = network(fixed, moving)["matrix"]
    assert not torch.equal(once, twice)
    assert (twice - true).square().sum() < 1.5 * (once - true).square().sum()


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_rigid_fit_turns_points_that_lie_flat(num_dims):
    turn = affine.rotations(torch.tensor([[2.0]] if num_dims == 2 else [[2.0, -1.0, 0.5]]), num_dims)
    shift = torch.arange(1.0, num_dims + 1)
    points = 10 * torch.cat([torch.eye(num_dims), -torch.eye(num_dims)])[None]
    flat = points.clone()
    flat[..., 0] *= 0.01  # one axis unknown
    over = points.clone()
    over[..., 0] *= -0.01  # a little beyond: the best fit would be a mirror image
    for matches in (points, flat, over):
        matrix = affine.fit_rigid(points, matches @ turn.mT + shift, ridge=1e-6)
        torch.testing.assert_close(torch.linalg.det(matrix[0]), torch.tensor(1.0))
        torch.testing.assert_close(matrix[:, :-1, :-1], turn, atol=1e-4, rtol=0)
    silent = affine.fit_rigid(1e-4 * points, 1e-4 * points @ turn.mT, ridge=0.01)
    torch.testing.assert_close(silent, torch.eye(num_dims + 1)[None], atol=1e-3, rtol=0)
    torch.testing.assert_close(
        affine.fit_rigid(points, points @ turn.mT + shift, ridge=1e-6)[0, :-1, -1], shift, atol=1e-3, rtol=0
    )


def test_mixed_precision_does_not_round_the_map():
    torch.manual_seed(0)
    network = networks.build("keymorph", num_dims=2, early_fit="rigid", head_std=5.0).eval()
    points, matches = 20 * noise(1, 9, 2, seed=0), 20 * noise(1, 9, 2, seed=1)
    exact = affine.fit_rigid(points, matches, ridge=0.01)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(affine.fit_rigid(points, matches, ridge=0.01), exact, atol=1e-5, rtol=1e-5)
        state = network(noise(1, 1, 32, 32, seed=0), noise(1, 1, 32, 32, seed=1))
    assert state["displacement"].dtype == torch.float32
    assert torch.equal(state["displacement"], affine.displacement_of(state["matrix"], (32, 32)))


def test_passes_before_the_last_may_be_rigid():
    torch.manual_seed(0)
    network = networks.build("keymorph", num_dims=2, num_passes=2, early_fit="rigid", head_std=5.0).eval()
    fixed, moving = noise(1, 1, 32, 32, seed=0), noise(1, 1, 32, 32, seed=1)
    with torch.no_grad():
        ours = network.points_of(fixed)
        first = affine.fit_rigid(ours, network.points_of(moving), ridge=0.01)
        again = network.points_of(functional.warp_by_matrix(moving, first))
        expected = first @ networks.keymorph._fit(ours, again)
        torch.testing.assert_close(network(fixed, moving)["matrix"], expected, atol=1e-4, rtol=1e-4)
        network.early_fit = "affine"
        assert (network(fixed, moving)["matrix"] - expected).abs().max() > 1e-3
    with pytest.raises(ValueError, match="early_fit"):
        networks.build("keymorph", early_fit="rigit")
