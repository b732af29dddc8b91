"""A network in physical space: whatever the grids, its answer means the same in the world."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import phantoms
from examples import oblique_axes, turn
from pullback.data import Image, Pair
from pullback.networks import AbstractNetwork, State, affine
from pullback.registration import Card, Normalisation, Plan, predict, predict_levels, predict_start, register
from pullback.registration.predict import fade_out, place_for, plan_of, start_matrix
from pullback.space import Grid, Reorientation
from pullback.transforms import Affine, Translation, chain, warp

SHIFT = (1.5, -1.0, 0.5)


class Known(AbstractNetwork):
    """Gives the same displacement everywhere, in voxels of the lattice, whatever it sees; keeps what it saw."""

    def __init__(self, voxels: tuple[float, ...], multiple: int = 1) -> None:
        super().__init__(num_dims=len(voxels), num_channels=1, multiple=multiple)
        self.voxels = torch.nn.Parameter(torch.tensor(voxels))
        self.seen: list[Tensor] = []

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        self.seen = [fixed, moving]
        u = self.voxels.reshape(1, -1, *[1] * self.num_dims)
        return {"displacement": u.expand(len(fixed), -1, *fixed.shape[2:])}


def card(shape: tuple[int, ...] = (24, 28, 22), spacing: float = 6.0, alignment: str = "header") -> Card:
    return Card("known", {}, shape, (spacing,) * len(shape), Normalisation("min-max"), alignment)


def run(network: AbstractNetwork, papers: Card, fixed: Image, moving: Image, **options):
    with phantoms.no_rivals():
        return predict(network, papers, Pair(fixed, moving), **options)


def inner(image: Image) -> Tensor:
    return phantoms.points_in(image)[::97]


def stored(image: Image, order: tuple[int, ...], flips: tuple[bool, ...]) -> Image:
    return image.reorient(Reorientation(order, flips))


def oblique_view(image: Image) -> Image:
    axes = oblique_axes() if image.grid.num_dims == 3 else turn(20)
    shape = tuple(int(1.2 * n) for n in image.grid.shape)
    middle = (torch.tensor(shape, dtype=torch.float64) - 1) / 2 * torch.tensor([3.0, 2.5, 4.0])[: len(shape)]
    origin = image.grid.centre - torch.from_numpy(axes) @ middle
    grid = Grid.from_spacing(shape, (3.0, 2.5, 4.0)[: len(shape)], origin=origin.tolist(), direction=axes)
    return warp(image, Translation.by([0.0] * len(shape)), onto=grid)


def test_voxels_of_the_lattice_become_millimetres_of_the_world():
    head = phantoms.head()
    result = run(Known(SHIFT), card(), head, head)
    points = inner(head)
    expected = torch.tensor([6.0 * s for s in SHIFT], dtype=torch.float64).expand(len(points), -1)
    torch.testing.assert_close(result.fixed_to_moving(points) - points, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(result.moving_to_fixed(result.fixed_to_moving(points)), points, atol=1e-2, rtol=0)
    assert result.evidence.jacobian.num_nonpositive == 0


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (True, False, False)), ((2, 0, 1), (False, True, True)), ((1, 2, 0), (True,) * 3)]
)
def test_the_storage_of_either_image_changes_nothing(order: tuple[int, ...], flips: tuple[bool, ...]):
    head, scan = phantoms.head(), phantoms.other_scan()[0]
    network, points = Known(SHIFT), inner(head)
    reference = run(network, card(), head, scan)
    seen = network.seen
    for fixed, moving in ((stored(head, order, flips), scan), (head, stored(scan, order, flips))):
        again = run(network, card(), fixed, moving)
        torch.testing.assert_close(again.fixed_to_moving(points), reference.fixed_to_moving(points), atol=1e-6, rtol=0)
        for a, b in zip(network.seen, seen, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_an_oblique_anisotropic_fixed_image_turns_the_answer_with_it():
    head = phantoms.head()
    fixed = oblique_view(head)
    points = inner(head)
    result = run(Known(SHIFT), card(), fixed, head)
    along = fixed.grid.direction @ torch.tensor([6.0 * s for s in SHIFT], dtype=torch.float64)
    torch.testing.assert_close(
        result.fixed_to_moving(points) - points, along.expand(len(points), -1), atol=1e-4, rtol=0
    )


def test_a_lattice_that_the_network_does_not_take_is_padded():
    head, network = phantoms.head(), Known(SHIFT, multiple=16)
    points = inner(head)
    padded, plain = (run(one, card(), head, head).fixed_to_moving(points) for one in (network, Known(SHIFT)))
    assert tuple(network.seen[0].shape[2:]) == (32, 32, 32)
    torch.testing.assert_close(padded, plain, atol=1e-6, rtol=0)


def test_two_dimensions():
    flat = phantoms.slice_of_head()
    result = run(Known((1.0, -2.0)), card((40, 48), 4.0), flat, flat)
    points = inner(flat)
    expected = torch.tensor([4.0, -8.0], dtype=torch.float64).expand(len(points), -1)
    torch.testing.assert_close(result.fixed_to_moving(points) - points, expected, atol=1e-4, rtol=0)


def test_views_and_masses_are_brought_together_first():
    head = phantoms.head()
    moved = replace(head, grid=Grid(head.grid.shape, Translation.by((50, -7, 3)).matrix @ head.grid.voxel_to_world))
    for alignment in ("view", "mass"):
        network = Known((0.0, 0.0, 0.0))
        papers = card(alignment=alignment)
        expected = Translation.by((50, -7, 3)).matrix.numpy()
        np.testing.assert_allclose(start_matrix(papers, Pair(head, moved)), expected, atol=1e-9)
        result = run(network, papers, head, moved)
        torch.testing.assert_close(network.seen[0], network.seen[1], atol=1e-6, rtol=0)
        points = inner(head)
        torch.testing.assert_close(result.fixed_to_moving(points), points + torch.tensor([50.0, -7, 3]).double())


def test_an_affine_comes_first_if_the_card_says_so():
    head, (scan, truth) = phantoms.head(), phantoms.plain_scan()
    network = Known((0.0, 0.0, 0.0))
    plan = plan_of(network, card(alignment="affine"), Pair(head, scan), base=Plan(methods=("header",)))
    with phantoms.no_rivals():
        result = register(Pair(head, scan), plan)
    assert isinstance(result.linear, Affine)
    assert float(phantoms.gaps_mm(result.fixed_to_moving, truth, head).mean()) < 1.0
    fixed, moving = network.seen
    assert float((fixed - moving).abs().mean()) < 0.02
    assert result.verdict.value == "good"
    assert {"affine", "network", "inverse"} <= set(result.seconds)


def test_refinement_starts_from_the_answer_and_leaves_the_weights():
    head, (scan, truth) = phantoms.head(), phantoms.other_scan()
    near = truth_start(truth, head)
    network = Known((0.0, 0.0, 0.0))
    base = Plan(methods=("none",), similarity=None)
    moved = warp(scan, near, onto=head.grid)
    plain, refined = (run(network, card(), head, moved, refine=n) for n in (0, 8))
    assert torch.equal(network.voxels, torch.zeros(3))
    assert refined.similarity.after > plain.similarity.after
    assert [h.level for h in refined.history] == ["1/1"] * 3
    assert all(len(h.values) <= 9 for h in refined.history)
    shifted = run(Known((0.4, 0.0, 0.0)), card(), head, head, refine=1)
    points = inner(head)
    assert float((shifted.fixed_to_moving(points) - points)[:, 0].mean()) > 0.5  # of 2.4 mm, after one step back
    assert base.deformable is not None


def truth_start(truth, image: Image) -> Affine:
    """The affine map nearest to a map, over the object."""
    points = inner(image)
    ones = torch.ones(len(points), 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.cat([points, ones], 1), truth(points)).solution
    return Affine(np.vstack([solution.T.numpy(), [0, 0, 0, 1]]))


def test_a_field_fades_out_without_folding():
    field = torch.full((1, 2, 6, 7), 5.0)
    faded, margin = fade_out(field)
    assert margin == 10
    assert faded.shape == (1, 2, 26, 27)
    assert torch.equal(faded[:, :, 10:16, 10:17], field)
    for axis in (2, 3):
        assert float(faded.diff(dim=axis).abs().max()) <= 0.5 + 1e-6
        assert float(faded.select(axis, 0).abs().max()) == 0


def test_the_margin_is_no_wider_than_the_lattice():
    faded, margin = fade_out(torch.full((1, 2, 6, 20), 1e6))
    assert margin == 20
    assert faded.shape == (1, 2, 46, 60)


def test_what_does_not_suit_is_refused():
    head, flat = phantoms.head(), phantoms.slice_of_head()
    with pytest.raises(ValueError, match="have 2 dimensions, but these weights are for 3"):
        predict(Known(SHIFT), card(), Pair(flat, flat))
    two = Image(head.tensor.repeat(2, 1, 1, 1), head.grid)
    with pytest.raises(ValueError, match="have 2 channels, but these weights are for 1"):
        predict(Known(SHIFT), card(), Pair(two, two))
    with pytest.raises(ValueError, match="`refine` is -1"):
        predict(Known(SHIFT), card(), Pair(head, head), refine=-1)
    with pytest.raises(ValueError, match=r"`refine` is 1\.5"):
        predict(Known(SHIFT), card(), Pair(head, head), refine=1.5)
    with pytest.raises(ValueError, match="numbers that are not finite"):
        predict(Known((float("nan"),) * 3), card(), Pair(head, head))
    with pytest.raises(ValueError, match=r"'afine'.*Did you mean 'affine'"):
        card(alignment="afine")


class KnownMatrix(Known):
    """Gives the same voxel matrix whatever it sees."""

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        matrix = torch.eye(self.num_dims + 1).repeat(len(fixed), 1, 1)
        matrix[:, 0, 1] = 0.04
        matrix[:, :-1, -1] = self.voxels
        return {"matrix": matrix, "displacement": affine.displacement_of(matrix, tuple(fixed.shape[2:]))}


class Bent(KnownMatrix):
    """The same matrix, and a bump before it: what NICE-Trans gives."""

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        state = super().state_of(fixed, moving)
        axes = [torch.linspace(-2, 2, n) for n in fixed.shape[2:]]
        bump = torch.exp(-sum(x**2 for x in torch.meshgrid(*axes, indexing="ij")))
        before = torch.einsum("brc,c...->br...", state["matrix"][:, :-1, :-1], bump.expand(self.num_dims, *bump.shape))
        return state | {"displacement": state["displacement"] + before}


@pytest.mark.parametrize("alignment", ["header", "view", "affine"])
def test_the_matrix_of_an_affine_network_holds_everywhere(alignment: str):
    head, scan = phantoms.head(), phantoms.head()
    plan = plan_of(KnownMatrix(SHIFT), card(alignment=alignment), Pair(head, scan), base=Plan(methods=("header",)))
    with phantoms.no_rivals():
        result = register(Pair(head, scan), plan)
    assert result.field is None
    assert isinstance(result.fixed_to_moving, Affine)
    far = inner(head) + 500.0
    torch.testing.assert_close(result.moving_to_fixed(result.fixed_to_moving(far)), far)
    slope = (result.fixed_to_moving(far) - result.fixed_to_moving(inner(head)))[0]
    torch.testing.assert_close(slope, torch.tensor([520.0, 500, 500]).double(), atol=8.0, rtol=0)
    assert result.evidence.consistency.mean_voxels < 1e-6


def test_what_a_network_gives_beyond_its_matrix_acts_before_it():
    head, papers = phantoms.head(), card()
    result = run(Bent(SHIFT), papers, head, head)
    plain = run(KnownMatrix(SHIFT), papers, head, head)
    torch.testing.assert_close(result.linear.matrix, plain.linear.matrix, atol=1e-9, rtol=0)
    grid = place_for(papers, head)
    points = grid.centres()[4:-4, 4:-4, 4:-4]
    network = Bent(SHIFT)(*[torch.zeros(1, 1, *grid.shape)] * 2)["displacement"][0]
    expected = grid.to_world(grid.to_voxel(points) + network.movedim(0, -1)[4:-4, 4:-4, 4:-4].double())
    torch.testing.assert_close(result.fixed_to_moving(points), expected, atol=1e-3, rtol=0)


def test_refinement_after_an_affine_network_starts_from_its_matrix():
    head = phantoms.head()
    refined = run(KnownMatrix((0.2, 0.0, 0.0)), card(), head, head, refine=1)
    assert refined.field is not None
    np.testing.assert_allclose(refined.linear.matrix[0, 1], 0.04, atol=1e-6)


@pytest.mark.parametrize("alignment", ["header", "view"])
def test_the_matrix_of_an_affine_network_is_a_start(alignment: str):
    head = phantoms.head()
    moved = replace(head, grid=Grid(head.grid.shape, Translation.by((20, -7, 3)).matrix @ head.grid.voxel_to_world))
    papers = card(alignment=alignment)
    start = predict_start(KnownMatrix(SHIFT), papers, Pair(head, moved))
    field = run(KnownMatrix(SHIFT), papers, head, moved)
    points = inner(head)
    torch.testing.assert_close(Affine(start.matrix)(points), field.fixed_to_moving(points), atol=1e-3, rtol=0)
    far = points + 500.0
    torch.testing.assert_close(
        Affine(start.matrix)(far) - Affine(start.matrix)(points),
        torch.from_numpy(start.matrix[:3, :3] @ np.full(3, 500.0)).expand(len(points), -1),
    )
    np.testing.assert_allclose(start.matrix[0, 1], 0.04, atol=1e-9)


def test_a_start_in_two_dimensions_leaves_the_third_as_it_is():
    flat = phantoms.slice_of_head()
    start = predict_start(KnownMatrix((1.0, -2.0)), card((40, 48), 4.0), Pair(flat, flat))
    assert start.matrix.shape == (4, 4)
    np.testing.assert_array_equal(start.matrix[0], [1, 0, 0, 0])


def test_a_start_needs_a_matrix_and_no_registration_before_it():
    head = phantoms.head()
    with pytest.raises(ValueError, match="gives no `matrix`"):
        predict_start(Known(SHIFT), card(), Pair(head, head))
    with pytest.raises(ValueError, match="comes before any"):
        predict_start(KnownMatrix(SHIFT), card(alignment="affine"), Pair(head, head))


class TwoLevels(Known):
    """Two levels that are composed: the same shift everywhere, then the half of it."""

    are_levels_composed = True

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        whole = super().state_of(fixed, moving)["displacement"]
        return {"displacement": 1.5 * whole, "levels": [whole, 0.5 * whole]}


@pytest.mark.parametrize("alignment", ["header", "view"])
def test_levels_grow_into_the_answer(alignment: str):
    head, (scan, _) = phantoms.head(), phantoms.plain_scan()
    network, papers = TwoLevels(SHIFT), card(alignment=alignment)
    steps = predict_levels(network, papers, Pair(head, scan))
    assert len(steps) == 3
    points = inner(head)
    answer = run(network, papers, head, scan).fixed_to_moving
    torch.testing.assert_close(chain(*steps)(points), answer(points), atol=1e-3, rtol=0)
    torch.testing.assert_close(steps[1](points) - points, 2 * (steps[2](points) - points), atol=1e-4, rtol=0)


def test_levels_need_a_composition_and_no_registration_before_it():
    pair = Pair(phantoms.head(), phantoms.head())
    with pytest.raises(ValueError, match="no composition of levels"):
        predict_levels(Known(SHIFT), card(), pair)
    with pytest.raises(ValueError, match="register first"):
        predict_levels(TwoLevels(SHIFT), card(alignment="affine"), pair)
