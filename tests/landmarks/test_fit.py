"""Maps from landmarks: exact where they can be, the best of least squares else, and blind to outliers."""

import pytest
import torch

from examples import noise
from pullback import Points, fit_landmarks
from pullback.landmarks import agreeing, matrices_of, pair_by_name
from pullback.transforms import Affine, Rigid, Similarity

KINDS = {"rigid": Rigid, "similarity": Similarity, "affine": Affine}
SCALES = {"rigid": (1.0, 1.0, 1.0), "similarity": (1.2, 1.2, 1.2), "affine": (1.2, 0.9, 1.1)}


def truth_of(model: str, num_dims: int) -> Affine:
    angles = (0.5, -2.0, 1.0) if num_dims == 3 else (2.5,)
    shear = [0.1] * len(angles) if model == "affine" else None
    parts = {"rotation": angles, "scaling": SCALES[model][:num_dims], "translation_mm": (30.0, -9.0, 4.0)[:num_dims]}
    return Affine.from_parts(**parts, shear=shear, num_dims=num_dims)


def cloud(num_dims: int, count: int = 30) -> torch.Tensor:
    return 50 * noise(count, num_dims, seed=1).double() + 200


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("model", KINDS)
def test_recovers_a_map_from_as_few_landmarks_as_it_needs(model, num_dims):
    truth = truth_of(model, num_dims)
    fixed = cloud(num_dims, num_dims + 1 if model == "affine" else num_dims)
    fit = fit_landmarks(Points(fixed), Points(truth(fixed)), model)
    assert type(fit.transform) is KINDS[model]
    assert torch.allclose(fit.transform.matrix, truth.matrix, atol=1e-8)
    assert fit.held_out_mm is None


@pytest.mark.parametrize("model", KINDS)
def test_no_near_map_of_the_kind_is_better(model):
    fixed = cloud(3)
    moving = truth_of("affine", 3)(fixed) + 3 * noise(30, 3, seed=2).double()
    fit = fit_landmarks(Points(fixed), Points(moving), model)
    least = fit.errors_mm.square().sum()
    nudges = [{"rotation": (1e-3, 0, 0)}, {"rotation": (0, 0, -1e-3)}, {"translation_mm": (0, 0.01, 0)}]
    nudges += [{"scaling": (1.001,) * 3}] if model != "rigid" else []
    nudges += [{"shear": (0, 1e-3, 0)}, {"scaling": (1, 1, 0.999)}] if model == "affine" else []
    for nudge in nudges:
        other = Affine.from_parts(**nudge, centre_mm=moving.mean(0).tolist()) @ fit.transform
        assert (other(fixed) - moving).square().sum() > least


def test_mirrored_landmarks_give_no_mirror_image():
    fixed = cloud(3)
    moving = fixed * torch.tensor([-1.0, 1, 1])
    for model in ("rigid", "similarity"):
        assert torch.linalg.det(fit_landmarks(Points(fixed), Points(moving), model).transform.linear) > 0


def test_batches_are_their_members():
    fixed, moving = noise(5, 8, 3, seed=3).double(), noise(5, 8, 3, seed=4).double()
    for model in KINDS:
        together = matrices_of(model, fixed, moving)
        for number in range(5):
            assert torch.allclose(together[number], matrices_of(model, fixed[number], moving[number]), atol=1e-9)


@pytest.mark.parametrize("tolerance", [2.0, None])
@pytest.mark.parametrize(("model", "num_dims"), [("rigid", 3), ("similarity", 2), ("affine", 3)])
def test_half_of_the_landmarks_may_be_wrong(model, num_dims, tolerance):
    truth, fixed = truth_of(model, num_dims), cloud(num_dims, 60)
    moving = truth(fixed) + 0.2 * noise(60, num_dims, seed=5).double()
    wrong = torch.arange(60) % 9 < 4
    moving[wrong] += 40 * noise(int(wrong.sum()), num_dims, seed=6).double() + 30
    fit = fit_landmarks(Points(fixed), Points(moving), model, robust=True, tolerance_mm=tolerance)
    assert not fit.is_used[wrong].any()
    assert fit.is_used[~wrong].double().mean() > 0.9
    assert (fit.transform(fixed) - truth(fixed)).norm(dim=1).max() < 0.5
    again = fit_landmarks(Points(fixed), Points(moving), model, robust=True, tolerance_mm=tolerance)
    assert torch.equal(again.transform.matrix, fit.transform.matrix)


def test_landmarks_without_noise_all_agree():
    fixed = cloud(3)
    is_used, tolerance = agreeing(fixed, truth_of("affine", 3)(fixed), "affine")
    assert is_used.all()
    assert 0 < tolerance < 1e-3


def test_a_spline_without_outliers():
    fixed = cloud(2, 40)
    moving = fixed + 0.5 * noise(40, 2, seed=7).double()
    moving[3] += 80
    fit = fit_landmarks(Points(fixed), Points(moving), "tps", robust=True, tolerance_mm=10.0)
    assert (~fit.is_used).nonzero().flatten().tolist() == [3]
    assert fit.errors_mm[fit.is_used].max() < 1e-8
    assert fit.errors_mm[3] > 50
    assert 0.1 < float(fit.held_out_mm.mean()) < 10


def test_held_out_errors_see_what_a_spline_hides():
    fixed = cloud(3, 40)
    moving = fixed + 5 * noise(40, 3, seed=8).double()
    exact = fit_landmarks(Points(fixed), Points(moving), "tps")
    smooth = fit_landmarks(Points(fixed), Points(moving), "tps", smoothing=1e6)
    assert exact.errors_mm.max() < 1e-8
    assert smooth.held_out_mm.mean() < exact.held_out_mm.mean()


def test_names_bring_landmarks_together():
    fixed = Points([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], ("nose", "left ear", "chin"))
    moving = Points([[5.0, 5, 5], [6, 6, 6]], ("left ear", "nose"))
    a, b = pair_by_name(fixed, moving)
    assert a.names == b.names == ("nose", "left ear")
    assert b.coordinates.tolist() == [[6, 6, 6], [5, 5, 5]]


def test_names_that_nothing_shares_mean_nothing():
    fixed, moving = Points([[0.0, 0], [1, 0]], ("F-1", "F-2")), Points([[5.0, 5], [6, 6]], ("M-1", "M-2"))
    assert pair_by_name(fixed, moving) == (fixed, moving)
    with pytest.raises(ValueError, match="2 fixed and 1 moving"):
        pair_by_name(fixed, Points([[5.0, 5]]))


@pytest.mark.parametrize(
    ("fixed", "model", "options", "message"),
    [
        ([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], "rigid", {}, "on a line"),
        ([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], "affine", {}, "in a plane"),
        ([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], "affine", {}, "needs 4 or more"),
        ([[0.0, 0], [1, 0], [0, 1]], "affine", {"smoothing": 2.0}, "nothing to smooth"),
        ([[0.0, 0], [1, 0], [0, 1]], "affine", {"tolerance_mm": 2.0}, "set `robust`"),
        ([[0.0, 0], [1, 0], [0, 1]], "afine", {}, "Did you mean 'affine'"),
    ],
)
def test_refuses_what_makes_no_map(fixed, model, options, message):
    points = Points(torch.tensor(fixed))
    with pytest.raises(ValueError, match=message):
        fit_landmarks(points, points, model, **options)


@pytest.mark.parametrize("model", ["rigid", "similarity", "affine"])
def test_moving_landmarks_at_one_point_say_nothing_of_a_turn(model: str):
    with pytest.raises(ValueError, match="The moving landmarks lie"):
        fit_landmarks(Points(cloud(3, 8)), Points(torch.ones(8, 3)), model)
