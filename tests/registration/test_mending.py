"""After the deformable stage: no folds, and an inverse that leads back."""

import torch

from examples import smooth_noise
from pullback.functional import compose, jacobian_determinant
from pullback.registration.mending import LARGEST_VOXELS, invert_evenly, make_invertible


def gap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(compose(second, first), dim=1)


def folded() -> torch.Tensor:
    field = torch.zeros(1, 3, 24, 24, 24)
    field[0, 0, 11, 12, 12], field[0, 0, 13, 12, 12] = 1.5, -1.5
    return field


def test_a_fold_is_mended_where_it_is_and_nowhere_else():
    field = folded()
    assert jacobian_determinant(field).min() < 0
    mended, inverse = make_invertible(field)
    assert jacobian_determinant(mended).min() > 0
    assert torch.equal(mended[..., :2], field[..., :2])
    assert max(gap(mended, inverse).max(), gap(inverse, mended).max()) <= LARGEST_VOXELS


def test_what_needs_no_mending_is_left_alone():
    field = folded() / 10
    assert make_invertible(field)[0] is field


def test_a_rough_field_is_smoothed_until_its_inverse_follows_it():
    field = 1.6 * smooth_noise(1, 3, 24, 24, 24, seed=3)
    field[..., 0, :, :] = field[..., -1, :, :] = 0
    before = invert_evenly(field)
    assert gap(field, before).max() > LARGEST_VOXELS
    mended, inverse = make_invertible(field)
    assert gap(mended, inverse).max() <= LARGEST_VOXELS
    assert torch.equal(make_invertible(field)[0], mended)
