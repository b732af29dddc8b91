"""Similarities: best at the identity, blind to what they should be blind to, and the derivative they claim."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.interpolate import BSpline
from torch import Tensor

from examples import noise, smooth_noise
from pullback.similarity import LNCC, MIND, MSE, NCC, AbstractSimilarity, MutualInformation, WeightedChannels
from pullback.similarity.lncc import usual_variance

ALL: dict[str, AbstractSimilarity] = {
    "MSE": MSE(),
    "NCC": NCC(),
    "squared NCC": NCC(squared=True),
    "LNCC": LNCC(),
    "signed LNCC": LNCC(squared=False, radius_voxels=3),
    "MIND": MIND(distance_voxels=1),
    "MI": MutualInformation(fixed_range=(-5, 5), warped_range=(-5, 5)),
}
every_similarity = pytest.mark.parametrize("similarity", ALL.values(), ids=ALL.keys())


def texture(*shape: int, seed: int = 0) -> Tensor:
    """Smooth noise of unit variance, ``(1, 1, *shape)``."""
    image = smooth_noise(1, *shape, sigma=1.5, seed=seed)[None]
    return (image - image.mean()) / image.std()


def value_of(similarity: AbstractSimilarity, fixed: Tensor, warped: Tensor, weights: Tensor | None = None) -> float:
    return similarity.value_and_gradient(fixed, warped, weights)[0].item()


def soft_mask(*shape: int) -> Tensor:
    return (noise(*shape, seed=9) + 0.5).clamp(0, 1)


# --- laws of all -----------------------------------------------------------------------------------------------------


@every_similarity
@pytest.mark.parametrize("shape", [(14, 15, 16), (30, 31)])
def test_nothing_agrees_better_than_the_image_itself(similarity, shape):
    fixed = texture(*shape)
    best = value_of(similarity, fixed, fixed)
    for axis in range(2, fixed.ndim):
        one, two = (value_of(similarity, fixed, fixed.roll(s, axis)) for s in (1, 2))
        assert best > one > two
    assert best > value_of(similarity, fixed, fixed + 0.3 * noise(*fixed.shape))


@every_similarity
def test_the_derivative_is_that_of_the_value(similarity):
    """Along random directions, by central differences."""
    shape = (2, 2, 7, 8, 9)
    fixed, warped, weights = noise(*shape), noise(*shape, seed=1) + 0.5 * noise(*shape), soft_mask(2, 1, 7, 8, 9)
    _, gradient = similarity.value_and_gradient(fixed, warped, weights)
    step = 3e-3
    for seed in (2, 3, 4):
        direction = noise(*shape, seed=seed)
        ahead, _ = similarity.value_and_gradient(fixed, warped + step * direction, weights)
        behind, _ = similarity.value_and_gradient(fixed, warped - step * direction, weights)
        slopes = (gradient * direction).double().flatten(1).sum(dim=1)
        scale = (gradient.double().flatten(1).norm(dim=1)).max()
        torch.testing.assert_close((ahead - behind) / (2 * step), slopes, rtol=0, atol=2e-3 * float(scale))


@pytest.mark.parametrize("name", ["MSE", "NCC", "squared NCC", "LNCC", "signed LNCC"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck_in_float64(name, weighted):
    fixed, warped = noise(1, 2, 3, 4, 5, dtype=torch.float64), noise(1, 2, 3, 4, 5, seed=1, dtype=torch.float64)
    weights = soft_mask(1, 1, 3, 4, 5).double() if weighted else None
    assert torch.autograd.gradcheck(lambda w: ALL[name](fixed, w, weights), warped.requires_grad_())


@pytest.mark.parametrize("shape", [(1, 2, 4, 5, 4), (1, 1, 6, 7)])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck_of_mind_in_float64(shape, weighted):
    fixed, warped = noise(*shape, dtype=torch.float64), noise(*shape, seed=1, dtype=torch.float64)
    weights = soft_mask(1, 1, *shape[2:]).double() if weighted else None
    similarity = MIND(noise=0.1)
    assert torch.autograd.gradcheck(lambda w: similarity(fixed, w, weights), warped.requires_grad_(), fast_mode=True)


@every_similarity
def test_calling_hands_the_derivative_to_autograd(similarity):
    fixed, warped = noise(2, 1, 6, 7, 8), noise(2, 1, 6, 7, 8, seed=1)
    values, gradient = similarity.value_and_gradient(fixed, warped)
    leaf = warped.clone().requires_grad_()
    called = similarity(fixed, leaf)
    torch.testing.assert_close(called.detach().double(), values, rtol=1e-6, atol=1e-7)
    (2 * called[0] + 3 * called[1]).backward()
    torch.testing.assert_close(leaf.grad, gradient * torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1, 1))


@every_similarity
@pytest.mark.parametrize("shape", [(9, 10, 11), (12, 13)])
def test_voxels_of_no_weight_have_no_influence_at_all(similarity, shape):
    fixed, warped = texture(*shape), texture(*shape, seed=1) + 0.5 * texture(*shape)
    weights = (soft_mask(1, 1, *shape) * (noise(1, 1, *shape, seed=7) > -0.3)).contiguous()
    hidden = weights == 0
    value, gradient = similarity.value_and_gradient(fixed, warped, weights)
    rubbish = [torch.where(hidden, 1e4 * noise(*fixed.shape, seed=s), image) for s, image in ((5, fixed), (6, warped))]
    again, gradient_again = similarity.value_and_gradient(*rubbish, weights)
    assert torch.equal(value, again)
    assert torch.equal(gradient, gradient_again)
    assert (gradient[hidden] == 0).all()


def test_bins_are_laid_over_the_weighted_voxels_alone():
    fixed, warped, weights = texture(9, 10, 11), texture(9, 10, 11, seed=1), (soft_mask(1, 1, 9, 10, 11) > 0.5).float()
    value = value_of(MutualInformation(), fixed, warped, weights)
    hidden = weights == 0
    assert value_of(MutualInformation(), torch.where(hidden, 99.0, fixed), warped, weights) == value
    assert value_of(MutualInformation(), fixed, torch.where(hidden, -99.0, warped), weights) == value


@every_similarity
def test_weights_of_one_are_no_weights(similarity):
    fixed, warped = texture(8, 9, 10), texture(8, 9, 10, seed=1)
    plain, weighted = (similarity.value_and_gradient(fixed, warped, w) for w in (None, torch.ones_like(fixed)))
    for a, b in zip(plain, weighted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@every_similarity
def test_batch_rows_do_not_know_each_other(similarity):
    fixed, warped, weights = noise(2, 2, 6, 7, 8), noise(2, 2, 6, 7, 8, seed=1), soft_mask(2, 1, 6, 7, 8)
    values, gradient = similarity.value_and_gradient(fixed, warped, weights)
    assert values.shape == (2,)
    assert values.dtype == torch.float64
    assert gradient.shape == warped.shape
    for b in range(2):
        row = slice(b, b + 1)
        value, slope = similarity.value_and_gradient(fixed[row], warped[row], weights[row])
        torch.testing.assert_close(values[row], value)
        torch.testing.assert_close(gradient[row], slope)


@every_similarity
def test_channels_are_averaged(similarity):
    fixed, warped = noise(1, 2, 6, 7, 8), noise(1, 2, 6, 7, 8, seed=1)
    both = value_of(similarity, fixed, warped)
    singles = [value_of(similarity, fixed[:, c : c + 1], warped[:, c : c + 1]) for c in range(2)]
    assert both == pytest.approx(sum(singles) / 2, rel=1e-5)


@every_similarity
@pytest.mark.parametrize("level", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_constant_images_give_finite_numbers_and_no_pull(similarity, level, weighted):
    constant, other = torch.full((1, 1, 8, 9, 10), level), texture(8, 9, 10)
    weights = soft_mask(1, 1, 8, 9, 10) if weighted else None
    for fixed, warped in ((constant, constant), (constant, other), (other, constant)):
        value, gradient = similarity.value_and_gradient(fixed, warped, weights)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
        if not isinstance(similarity, MSE | MIND):
            assert abs(value.item()) < 1e-3


@every_similarity
def test_no_weight_at_all_gives_zero_and_no_pull(similarity):
    fixed, warped = texture(8, 9, 10), texture(8, 9, 10, seed=1)
    value, gradient = similarity.value_and_gradient(fixed, warped, torch.zeros_like(fixed))
    assert value.item() == 0
    assert not gradient.any()


# --- each its own ----------------------------------------------------------------------------------------------------


def test_mse_is_the_mean_of_squares():
    fixed, warped, weights = noise(1, 1, 4, 5, 6), noise(1, 1, 4, 5, 6, seed=1), soft_mask(1, 1, 4, 5, 6)
    difference = (fixed - warped).double()
    assert value_of(MSE(), fixed, warped) == pytest.approx(-difference.square().mean().item())
    expected = -(weights * difference.square()).sum() / weights.double().sum()
    assert value_of(MSE(), fixed, warped, weights) == pytest.approx(expected.item(), rel=1e-6)


def test_ncc_is_pearsons_correlation():
    fixed, warped = noise(1, 1, 4, 5, 6), noise(1, 1, 4, 5, 6, seed=1)
    expected = np.corrcoef(fixed.double().flatten(), warped.double().flatten())[0, 1]
    assert value_of(NCC(), fixed, warped) == pytest.approx(expected)
    assert value_of(NCC(squared=True), fixed, warped) == pytest.approx(expected**2)
    assert value_of(NCC(), fixed, fixed) == pytest.approx(1.0)
    assert value_of(NCC(), fixed, -fixed) == pytest.approx(-1.0)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (0.01, 0.0), (1.0, 50.0), (250.0, -1000.0)])
def test_ncc_is_blind_to_linear_changes_of_intensity(scale, shift):
    fixed, warped = texture(8, 9, 10), texture(8, 9, 10, seed=1) + 0.5 * texture(8, 9, 10)
    value = value_of(NCC(), fixed, warped)
    assert value_of(NCC(), fixed, scale * warped + shift) == pytest.approx(value, abs=1e-5)
    assert value_of(NCC(), scale * fixed + shift, warped) == pytest.approx(value, abs=1e-5)
    assert value_of(NCC(), fixed, -scale * warped + shift) == pytest.approx(-value, abs=1e-5)


def test_a_bright_constant_image_still_correlates_with_nothing():
    fixed, weights = texture(20, 21, 22), soft_mask(1, 1, 20, 21, 22)
    for level in (1234.567, 1e5, 0.1):
        constant = torch.full_like(fixed, level)
        for similarity in (NCC(), NCC(squared=True)):
            value, gradient = similarity.value_and_gradient(fixed, constant, weights)
            assert abs(value.item()) < 1e-6
            assert gradient.abs().max() < 1e-3


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, 5.0), (0.5, -2.0)])
def test_lncc_is_blind_to_linear_and_to_slow_changes_of_intensity(scale, shift):
    fixed, warped = texture(12, 13, 14), texture(12, 13, 14, seed=1) + texture(12, 13, 14)
    similarity = LNCC(noise=1e-6)
    value = value_of(similarity, fixed, warped)
    assert value_of(similarity, fixed, scale * warped + shift) == pytest.approx(value, abs=2e-3)
    assert value_of(similarity, fixed, -warped) == pytest.approx(value, abs=1e-6)
    assert value_of(LNCC(squared=False), fixed, -warped) == pytest.approx(-value_of(LNCC(squared=False), fixed, warped))
    bias = torch.linspace(0.5, 2.0, 14)
    assert value_of(similarity, fixed, fixed * bias) > 0.95
    assert value_of(NCC(), fixed, fixed * bias + 3 * bias) < 0.8


def test_lncc_of_an_image_with_itself_is_one():
    assert value_of(LNCC(noise=1e-6), texture(9, 9, 9), texture(9, 9, 9)) == pytest.approx(1.0, abs=1e-3)


CUBIC = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)


def mutual_information_by_numpy(fixed: np.ndarray, warped: np.ndarray, limits: tuple[float, float], bins: int) -> float:
    """Straight from the definition, with a dense Parzen histogram."""

    def parzen(values: np.ndarray) -> np.ndarray:
        positions = (values.astype(np.float64) - limits[0]) * ((bins - 3.002) / (limits[1] - limits[0])) + 1
        return np.nan_to_num(CUBIC(positions.reshape(-1, 1) - np.arange(bins)))

    joint = parzen(fixed).T @ parzen(warped) / fixed.size
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    used = joint > 1e-15
    return float((joint[used] * np.log(joint[used] / product[used])).sum())


@pytest.mark.parametrize("num_bins", [8, 32])
def test_mutual_information_is_that_of_the_parzen_histogram(num_bins):
    fixed, warped = texture(9, 10, 11), texture(9, 10, 11, seed=1) + texture(9, 10, 11)
    similarity = MutualInformation(num_bins=num_bins, fixed_range=(-9, 9), warped_range=(-9, 9))
    expected = mutual_information_by_numpy(fixed.numpy(), warped.numpy(), (-9, 9), num_bins)
    assert value_of(similarity, fixed, warped) == pytest.approx(expected, abs=1e-5)


def test_mutual_information_is_blind_to_linear_changes_and_inversion():
    fixed, warped = texture(14, 15, 16), texture(14, 15, 16, seed=1) + texture(14, 15, 16)
    value = value_of(MutualInformation(), fixed, warped)
    assert value_of(MutualInformation(), fixed, 250 * warped - 1000) == pytest.approx(value, rel=1e-3)
    assert value_of(MutualInformation(), fixed, -warped) == pytest.approx(value, rel=0.02)


@pytest.mark.parametrize("change", [torch.exp, torch.tanh, lambda x: -torch.exp(x / 2), torch.square])
def test_mutual_information_finds_the_match_under_any_change_of_contrast(change):
    fixed = texture(14, 15, 16)
    best = value_of(MutualInformation(), fixed, change(fixed))
    assert best > 0.4
    for axis in (2, 3, 4):
        assert best > 1.3 * value_of(MutualInformation(), fixed, change(fixed.roll(1, axis)))


def test_mutual_information_of_strangers_is_near_zero():
    assert value_of(MutualInformation(num_bins=16), noise(1, 1, 30, 30, 30), noise(1, 1, 30, 30, 30, seed=1)) < 0.01


def descriptors_by_numpy(image: np.ndarray, distance: int, sigma: float, noise: float) -> np.ndarray:
    """Straight from the definition: one filtered volume for each pair of neighbours that are next to each other."""
    axes, found = range(image.ndim), []
    neighbours = [sign * distance * np.eye(image.ndim, dtype=int)[axis] for axis in axes for sign in (1, -1)]
    for number, a in enumerate(neighbours):
        for b in neighbours[number + 1 :]:
            if (a + b).any():
                squares = (np.roll(image, -a, axes) - np.roll(image, -b, axes)) ** 2
                found.append(ndimage.gaussian_filter(squares, sigma, truncate=3.0))
    return np.exp(-np.stack(found) / (np.mean(found, axis=0) + noise))


@pytest.mark.parametrize(("shape", "num_pairs"), [((20, 21, 22), 12), ((24, 25), 4)])
def test_mind_is_the_difference_of_self_similarities(shape, num_pairs):
    fixed, warped, inner = texture(*shape), texture(*shape, seed=1), torch.zeros(1, 1, *shape)
    inner[(..., *[slice(7, -7)] * len(shape))] = 1
    theirs, mine = (descriptors_by_numpy(v[0, 0].double().numpy(), 2, 1.0, 0.01) for v in (fixed, warped))
    assert len(theirs) == num_pairs
    expected = -((theirs - mine) ** 2).mean(axis=0)[tuple([slice(7, -7)] * len(shape))].mean()
    weights = torch.full_like(inner, 1e-6) + inner  # what lies outside is known, but does not count
    value = value_of(MIND(distance_voxels=2, sigma_voxels=1.0, noise=0.01), fixed, warped, weights)
    assert value == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 50.0), (3.0, 0.0), (-1.0, 0.0), (-0.2, 7.0)])
def test_mind_is_blind_to_linear_changes_and_inversion(scale, shift):
    fixed, warped = texture(12, 13, 14), texture(12, 13, 14, seed=1) + texture(12, 13, 14)
    similarity = MIND(noise=1e-7)
    value = value_of(similarity, fixed, warped)
    assert value < -0.01
    assert value_of(similarity, fixed, scale * warped + shift) == pytest.approx(value, rel=2e-3)
    assert value_of(similarity, scale * fixed + shift, warped) == pytest.approx(value, rel=2e-3)
    assert value_of(similarity, fixed, scale * fixed + shift) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("change", [torch.exp, torch.tanh, lambda x: -torch.exp(x / 2)])
@pytest.mark.parametrize("shape", [(14, 15, 16), (30, 31)])
def test_mind_finds_the_match_under_any_monotone_change_of_contrast(change, shape):
    fixed = texture(*shape)
    best = value_of(MIND(distance_voxels=1), fixed, change(fixed))
    for axis in range(2, fixed.ndim):
        assert best > 0.7 * value_of(MIND(distance_voxels=1), fixed, change(fixed.roll(1, axis)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LNCC(radius_voxels=0), "at least 1 voxel"),
        (lambda: LNCC(noise=0.0), "above zero"),
        (lambda: MutualInformation(num_bins=4), "at least 5"),
        (lambda: MIND(distance_voxels=0), "at least 1 voxel"),
        (lambda: MIND(sigma_voxels=0.0), "above zero"),
        (lambda: MIND(noise=0.0), "above zero"),
    ],
)
def test_settings_without_meaning_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("shape", [(7, 8, 9), (10, 11)])
def test_descriptors_of_mind_are_what_its_value_compares(shape):
    similarity = MIND(distance_voxels=1)
    fixed, warped = noise(2, 2, *shape), noise(2, 2, *shape, seed=1)
    theirs, mine = similarity.descriptors(fixed), similarity.descriptors(warped)
    assert theirs.shape == (2, 2 * (12 if len(shape) == 3 else 4), *shape)
    expected = -(theirs - mine).square().flatten(1).mean(1).double()
    torch.testing.assert_close(similarity.value_and_gradient(fixed, warped)[0], expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(similarity.descriptors(5 - fixed), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("of", "perfect"), [("as_guide", None), ("as_judge", 1.0)])
def test_faint_windows_reward_no_contrast_in_a_guide_or_a_judge(of: str, perfect: float | None):
    """Where the variance is that of the noise the plain correlation is larger for an image with more contrast."""
    plain, fixed = LNCC(), 0.03 * texture(12, 13, 14)
    of_image = (fixed,) if of == "as_guide" else ()
    other = getattr(plain, of)(*of_image)
    assert value_of(plain, fixed, 1.5 * fixed) > 1.1 * value_of(plain, fixed, fixed)
    assert value_of(other, fixed, 1.5 * fixed) < value_of(other, fixed, fixed)
    if perfect is not None:
        assert value_of(other, fixed, fixed) == pytest.approx(perfect, abs=1e-6)
    channels = getattr(WeightedChannels(plain, [1.0]), of)(*of_image)
    assert value_of(channels, fixed, 1.5 * fixed) == pytest.approx(value_of(other, fixed, 1.5 * fixed))


def test_nothing_matches_an_image_better_than_itself_in_a_guide():
    fixed = texture(12, 13, 14)
    guide = LNCC().as_guide(fixed)
    _, slope = guide.value_and_gradient(fixed, fixed)
    _, plain_slope = LNCC().value_and_gradient(fixed, fixed)
    assert float(slope.abs().max()) < 1e-3 * float(plain_slope.abs().max())
    for seed in range(3):
        assert value_of(guide, fixed, fixed + 0.1 * texture(12, 13, 14, seed=seed + 1)) < value_of(guide, fixed, fixed)


def test_a_guide_is_led_by_clear_windows_where_a_judge_sees_faint_ones_too():
    """Where an image is a tenth as clear as is usual in it, what happens to it is hardly anything to the guide."""
    clear, other = texture(12, 13, 14), texture(12, 13, 14, seed=1)
    guide, judge = LNCC().as_guide(clear), LNCC().as_judge()

    def loss(similarity: LNCC, scale: float) -> float:
        same = value_of(similarity, scale * clear, scale * clear)
        return same - value_of(similarity, scale * clear, scale * other)

    assert loss(judge, 0.1) > 0.6 * loss(judge, 1.0)
    assert loss(guide, 0.1) < 0.1 * loss(guide, 1.0)


def test_a_guide_is_blinder_to_slow_changes_of_intensity_than_a_judge():
    fixed = 0.3 * texture(12, 13, 14)
    shares = [
        value_of(s, fixed, 0.6 * fixed) / value_of(s, fixed, fixed) for s in (LNCC().as_guide(fixed), LNCC().as_judge())
    ]
    assert 1 - shares[0] < 0.5 * (1 - shares[1])


@pytest.mark.parametrize("shape", [(30, 35, 40), (60, 70)])
def test_the_usual_variance_is_that_of_tissue(shape: tuple[int, ...]):
    """Not that of the background, whether flat or noisy, nor of a bright spot."""
    tissue = noise(1, 1, *shape)
    usual = usual_variance(tissue, 2)
    assert usual == pytest.approx(1, abs=0.1)
    half = torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) < shape[0] // 2
    assert usual_variance(torch.where(half, 0.0, tissue), 2) == pytest.approx(usual, rel=0.15)
    assert usual_variance(torch.where(half, 0.02 * tissue, tissue), 2) == pytest.approx(usual, rel=0.15)
    spot = tissue.clone()
    spot[(slice(None), slice(None), *[slice(5, 5 + n // 6) for n in shape])] *= 12
    assert usual_variance(spot, 2) == pytest.approx(usual, rel=0.15)
    assert usual_variance(torch.zeros_like(tissue), 2) == 0


def test_a_guide_of_channels_asks_those_that_count():
    fixed = torch.cat([texture(12, 13, 14), 30 * texture(12, 13, 14, seed=1)], dim=1)
    guide = WeightedChannels(LNCC(), [1.0, 0.0]).as_guide(fixed)
    assert guide.similarity.contrast == LNCC().as_guide(fixed[:, :1]).contrast
