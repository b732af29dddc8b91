"""Each term against numbers known beforehand, and its derivative."""

import math

import pytest
import torch
from torch import Tensor

from examples import noise, smooth_noise
from pullback import functional, networks
from pullback.networks import affine
from pullback.similarity import LNCC, MSE, NCC
from pullback.training.augmentation import Augmentation, RandomAffine
from pullback.training.state import TrainingState, one_hot
from pullback.training.terms import (
    BendingTerm,
    ConsistencyTerm,
    DiceTerm,
    DiffusionTerm,
    DisplacementTerm,
    InverseTerm,
    KullbackLeiblerTerm,
    MagnitudeTerm,
    MatrixTerm,
    OrientationTerm,
    SimilarityTerm,
    between,
    forward_determinant,
)

SHAPE = (6, 7, 8)


def ramp(slope: float, num_dims: int = 3) -> Tensor:
    """``u_0 = slope * x_0`` of one pair, other components 0."""
    shape = SHAPE[:num_dims]
    field = torch.zeros(1, num_dims, *shape)
    field[0, 0] = slope * torch.arange(shape[0], dtype=torch.float32).reshape(-1, *[1] * (num_dims - 1))
    return field


@pytest.mark.parametrize("num_dims", [2, 3])
def test_diffusion_of_a_ramp(num_dims: int):
    field, n = ramp(0.5, num_dims), SHAPE[0]
    expected = 0.25 * (n - 1) / n / num_dims**2
    assert float(DiffusionTerm(field="velocity")({"velocity": field})) == pytest.approx(expected)
    assert float(DiffusionTerm(field="levels")({"levels": [field, 0 * field]})) == pytest.approx(expected / 2)
    assert float(BendingTerm()({"displacement": field})) == pytest.approx(0, abs=1e-10)


def test_diffusion_sees_every_stage_of_a_cascade():
    torch.manual_seed(0)
    network = networks.build("fourier-net-plus-diff", num_dims=2, start_channels=4, num_stages=2, head_std=0.05)
    state = TrainingState(network(noise(1, 1, 16, 16), noise(1, 1, 16, 16)))
    assert "velocity" not in state
    value = DiffusionTerm(field="velocities")(state)
    each = [float(DiffusionTerm(field="velocity")({"velocity": one}).detach()) for one in state["velocities"]]
    assert len(each) == 2
    assert float(value.detach()) == pytest.approx(sum(each) / 2)
    value.sum().backward()
    assert all(float(last.weight.grad.abs().max()) > 0 for last in network.heads)


def test_dice_of_shifted_boxes():
    labels = torch.zeros(2, 6, 6, 6, dtype=torch.int32)
    labels[:, 1:4, 1:5, 1:5] = 7
    one = one_hot(labels, torch.tensor([7, 9]))
    state = TrainingState({"fixed_labels": one, "moving_labels": one, "displacement": torch.zeros(2, 3, 6, 6, 6)})
    state["displacement"][1, 0] = 1.0
    assert DiceTerm()(state).tolist() == pytest.approx([0, (1 - 2 / 3) / 2], abs=1e-5)


def test_similarities_at_a_perfect_match_and_far_off():
    image = noise(2, 1, *SHAPE)
    state = {"fixed": image, "warped": torch.stack([image[0], image[1] + 2])}
    assert SimilarityTerm(measure="mse")(state).tolist() == pytest.approx([0, 4], abs=1e-5)
    assert SimilarityTerm(measure="ncc")(state).tolist() == pytest.approx([-1, -1], abs=1e-5)
    assert SimilarityTerm(measure="lncc", noise=1e-8)(state).tolist() == pytest.approx([-1, -1], abs=1e-3)


@pytest.mark.parametrize("measure", ["mse", "ncc", "lncc"])
def test_what_no_scan_saw_does_not_count(measure: str):
    image, other, view = noise(1, 1, *SHAPE), noise(1, 1, *SHAPE, seed=1), torch.zeros(1, 1, *SHAPE)
    view[:, :, 1:-1, 1:, :-1] = 1
    state = {
        "fixed": image,
        "warped": torch.where(view > 0, image, other),
        "fixed_view": torch.ones_like(view),
        "warped_view": view,
    }
    term, whole = (SimilarityTerm(measure=measure, in_view=on, noise=1e-8) for on in (True, False))
    perfect = 0.0 if measure == "mse" else -1.0
    assert float(term(state)) == pytest.approx(perfect, abs=1e-3)
    assert float(whole(state)) > perfect + 0.1
    nothing = term(state | {"fixed_view": 1 - view})  # no voxel that both saw
    assert torch.isfinite(nothing).all()


def test_a_known_displacement_counts_where_the_fixed_scan_saw():
    found, view = torch.zeros(2, 3, *SHAPE), torch.ones(2, 1, *SHAPE)
    found[:, 1, 0] = 2.0
    view[1, :, 0] = 0
    state = {"displacement": found, "true_displacement": torch.zeros_like(found), "fixed_view": view}
    assert DisplacementTerm(in_view=True)(state).tolist() == pytest.approx([4 / SHAPE[0], 0])
    assert DisplacementTerm()(state).tolist() == pytest.approx([4 / SHAPE[0]] * 2)


def test_the_moving_field_of_view_is_sampled_where_the_image_is():
    view = torch.ones(1, 1, 8, 6, 6)
    view[:, :, :3] = 0
    displacement = torch.zeros(1, 3, 8, 6, 6)
    displacement[:, 0] = 2.0
    image = noise(1, 1, 8, 6, 6)
    fixed = torch.cat([image[:, :, 2:], image[:, :, -1:], image[:, :, -1:]], dim=2)
    state = TrainingState(
        {"fixed": fixed, "moving": image, "fixed_view": torch.ones_like(view), "moving_view": view}
        | {"displacement": displacement}
    )
    state["fixed"][:, :, 0] = 7.0  # would cost, but the moving scan did not see what comes there
    term = SimilarityTerm(measure="mse", in_view=True)
    assert float(term(state)) == pytest.approx(0, abs=1e-6)
    state["fixed"][:, :, 1] = 7.0
    assert float(term(state)) > 1


@pytest.mark.parametrize("similarity", [MSE(), NCC(squared=True), LNCC(radius_voxels=1)])
def test_similarities_are_differentiable_in_both_images(similarity):
    a, b = (noise(1, 1, 3, 4, 3, seed=s, dtype=torch.float64).requires_grad_() for s in (1, 2))
    assert torch.autograd.gradcheck(lambda x, y: between(similarity, x, y), (a, b), atol=1e-6)


def test_folds_cost_their_depth():
    assert float(OrientationTerm()({"displacement": ramp(-3.0)})) == pytest.approx(2.0)  # determinant 1 - 3
    assert float(OrientationTerm()({"displacement": ramp(0.5)})) == 0


@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_determinant_of_a_linear_map_is_the_matrix_s(num_dims: int):
    matrix = 0.3 * noise(num_dims, num_dims, seed=5)
    axes = [torch.arange(n, dtype=torch.float32) for n in SHAPE[:num_dims]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    field = torch.einsum("rc,c...->r...", matrix, points)[None]
    expected = float(torch.linalg.det(matrix + torch.eye(num_dims)))
    torch.testing.assert_close(
        forward_determinant(field), torch.full((1, *(n - 1 for n in SHAPE[:num_dims])), expected), atol=1e-4, rtol=1e-4
    )


def test_magnitude_and_inverse_and_known_answers():
    one, two = torch.ones(1, 3, *SHAPE), torch.full((1, 3, *SHAPE), 2.0)
    assert float(MagnitudeTerm()({"velocity": one, "inverse_velocity": -two})) == pytest.approx(1)
    assert float(InverseTerm()({"displacement": one, "inverse_displacement": -one})) == pytest.approx(0)
    assert float(InverseTerm()({"displacement": two, "inverse_displacement": -one})) == pytest.approx(3)
    assert float(DisplacementTerm()({"displacement": two, "true_displacement": one})) == pytest.approx(3)
    matrix = torch.eye(4)[None]
    other = matrix.clone()
    other[0, 0, 3], other[0, 1, 1] = 16.0, 1.5
    term = MatrixTerm(unit_voxels=32)
    assert float(term({"matrix": matrix, "true_matrix": other})) == pytest.approx((0.25 + 0.25) / 12)


def test_the_divergence_is_the_networks_own():
    mean, log_variance = torch.zeros(2, 3, 4, 4, 4), torch.full((2, 3, 4, 4, 4), math.log(0.1))
    value = KullbackLeiblerTerm(precision=2.0)({"mean": mean, "log_variance": log_variance})
    degree = 2 * 3 * 3 / 4  # neighbours of a voxel of 4 x 4 x 4, on average
    assert value.tolist() == pytest.approx([1.5 * (2 * degree * 0.1 - math.log(0.1))] * 2)


def test_the_state_samples_what_is_asked_for_and_names_what_is_missing():
    moving = noise(1, 1, *SHAPE)
    state = TrainingState({"moving": moving.half(), "displacement": torch.zeros(1, 3, *SHAPE)})
    assert "warped" not in state
    assert state["warped"].dtype == torch.float32
    assert "warped" in state
    with pytest.raises(ValueError, match=r"no 'inverse_displacement': .* There is displacement, fixed, moving"):
        TrainingState({**state, "fixed": moving})["warped_fixed"]


def test_names_in_the_log():
    backward = SimilarityTerm(measure="ncc", fixed="moving", warped="warped_fixed")
    titles = [SimilarityTerm().title, backward.title, DiffusionTerm().title, DiceTerm(name="overlap").title]
    assert titles == ["lncc", "ncc_warped_fixed", "diffusion_displacement", "overlap"]


def voxel_matrices(batch: int = 2, seed: int = 0) -> Tensor:
    """Invertible voxel matrices ``(B, 4, 4)``, far from the identity."""
    matrix = torch.eye(4).repeat(batch, 1, 1)
    matrix[:, :-1] += 0.2 * noise(batch, 3, 4, seed=seed)
    matrix[:, :-1, -1] *= 20
    return matrix


@pytest.mark.parametrize("origin", ["corner", "middle"])
def test_matrices_are_compared_about_a_point(origin: str):
    fixed = torch.zeros(1, 1, *SHAPE)
    true = torch.eye(4)[None]
    matrix = true.clone()
    matrix[0, 0, 0], matrix[0, 0, 3] = 1.5, 4.0
    about = 4.0 + (0.5 * 2.5 if origin == "middle" else 0.0)  # the middle of 6 voxels is 2.5
    value = MatrixTerm(unit_voxels=8, origin=origin)({"matrix": matrix, "true_matrix": true, "fixed": fixed})
    assert float(value) == pytest.approx((0.5**2 + (about / 8) ** 2) / 12)
    with pytest.raises(ValueError, match="unit_voxels"):
        MatrixTerm(unit_voxels=0)
    with pytest.raises(ValueError, match="origin"):
        ConsistencyTerm(origin="edge")


@pytest.mark.parametrize("origin", ["corner", "middle"])
def test_consistency_vanishes_for_a_perfect_predictor_alone(origin: str):
    y, t = voxel_matrices(seed=1), voxel_matrices(seed=2)
    state = {"matrix": y, "again_matrix": t, "fixed": torch.zeros(2, 1, *SHAPE)}
    term = ConsistencyTerm(origin=origin)
    assert term({**state, "matrix_again": torch.linalg.inv(t) @ y}).tolist() == pytest.approx([0, 0], abs=1e-8)
    assert term({**state, "matrix_again": y @ torch.linalg.inv(t)}).min() > 1e-3  # the other order of the product
    assert term({**state, "matrix_again": y}).min() > 1e-3


def test_the_order_of_the_product_is_that_of_the_images():
    """Warped by a perfect predictor's two answers, the moving image and its second copy are the same image."""
    moving = smooth_noise(1, 24, 24, 24, seed=3, sigma=3)[:, None]
    seen = Augmentation(again=RandomAffine(5, 0.1, 0, 2)).seen_again(moving, torch.Generator().manual_seed(0))
    y = torch.eye(4)[None].clone()
    y[0, 0, 1], y[0, :3, 3] = 0.05, torch.tensor([1.0, -0.5, 0.7])
    z = torch.linalg.inv(seen["again_matrix"]) @ y
    first, second = (
        functional.warp(image, affine.displacement_of(matrix, (24, 24, 24)))[..., 6:-6, 6:-6, 6:-6]
        for image, matrix in ((moving, y), (seen["moving_again"], z))
    )
    assert (first - second).square().mean().sqrt() < 0.1 * first.std()
    state = {"matrix": y, "matrix_again": z, "again_matrix": seen["again_matrix"]}
    assert float(ConsistencyTerm()(state)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("fixed", "squared"), [("fixed", False), ("registered", False), ("registered", True)])
def test_a_similarity_reaches_the_weights_unless_it_may_not(fixed: str, squared: bool):
    torch.manual_seed(0)
    network = networks.build("airnet", num_dims=2, head_std=0.05, dropout=0.0)
    images = {name: smooth_noise(2, 16, 16, seed=s)[:, None] for s, name in enumerate(("fixed", "moving"))}
    state = TrainingState({**images, "registered": images["fixed"] ** 2})
    state.take(network(state["fixed"], state["moving"]))
    still = SimilarityTerm(measure="ncc", fixed=fixed, squared=squared, is_differentiable=False)(state)
    value = SimilarityTerm(measure="ncc", fixed=fixed, squared=squared)(state)
    assert torch.equal(still, value)
    assert not still.requires_grad
    value.mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    better = SimilarityTerm(measure="ncc", fixed=fixed, squared=squared)({**state, "warped": state[fixed]})
    assert better.tolist() == pytest.approx([-1, -1], abs=1e-5)  # negated: alike is small


def test_the_forms_of_the_magnitude():
    a, b = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    a[:, 0], b[:, 1] = 3.0, 3.0  # of one length, but not opposite
    values = {form: float(magnitude(form, a, b)) for form in ("means", "moduli", "sum", "literal-sum")}
    assert values == {"means": 0, "moduli": 0, "sum": 18, "literal-sum": 6}
    assert float(magnitude("sum", a, -a)) == 0
    assert float(magnitude("literal-sum", -a, -b)) == -6
    a[..., :2] = 0  # half of a stays: lengths differ voxel by voxel
    b[..., 2:] = 0
    assert float(magnitude("means", a, b)) == 0
    assert float(magnitude("moduli", a, b)) == pytest.approx(9)
    with pytest.raises(ValueError, match="`form` is 'norm'"):
        MagnitudeTerm(form="norm")


def magnitude(form: str, a: Tensor, b: Tensor) -> Tensor:
    return MagnitudeTerm(form=form)({"velocity": a, "inverse_velocity": b})


def test_an_inverse_can_learn_alone():
    field, inverse = torch.ones(1, 2, 4, 4).requires_grad_(), torch.zeros(1, 2, 4, 4).requires_grad_()
    state = {"half_displacement": field, "moving_to_half": inverse}
    term = InverseTerm(field="half_displacement", against="moving_to_half", is_field_held=True)
    value = term(state)
    value.sum().backward()
    assert float(value.detach()) == pytest.approx(2)
    assert field.grad is None
    assert inverse.grad.abs().max() > 0
    assert [term.title, InverseTerm().title] == ["inverse_moving_to_half", "inverse"]
