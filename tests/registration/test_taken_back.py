"""A deformation by which the images agree less than before it is taken back; a network's is not."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import phantoms
from pullback import functional
from pullback.data import Pair
from pullback.registration import Plan, conclusion, evidence
from pullback.registration.conclusion import NOT_NEARER, TAKEN_BACK
from pullback.registration.deformable import Deformation
from pullback.registration.evidence import comes_nearer, look_through
from pullback.registration.plan import Answer
from pullback.registration.volume import prepare
from pullback.transforms import identity

MODULE = sys.modules["pullback.registration.register"]
LARGEST_VOXELS = 1.5


def bump(found: Deformation) -> Deformation:
    """Smooth, and nowhere near the truth."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(found.displacement.shape, generator=generator)
    smooth = functional.gaussian_smooth(rough, 4.0)
    return replace(found, displacement=smooth * (LARGEST_VOXELS / smooth.abs().max()))


@pytest.fixture
def mislead(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    real = MODULE.deform
    return lambda: monkeypatch.setattr(MODULE, "deform", lambda *args, **settings: bump(real(*args, **settings)))


@pytest.mark.parametrize("fixed", [phantoms.head(), phantoms.slice_of_head()], ids=["3-D", "2-D"])
def test_a_deformation_that_harms_is_taken_back(mislead: Callable[[], None], fixed: phantoms.Image):
    mislead()
    moving = phantoms.seen_by(fixed, phantoms.truth_of("affine", fixed.grid.num_dims))
    found = phantoms.register(fixed, moving, initial="header").result
    assert found.verdict.value == "good"
    assert found.history[-1].reason == TAKEN_BACK
    assert found.similarity.after == found.similarity.after_linear
    points = torch.rand(50, fixed.grid.num_dims, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40
    for there, back in ((found.fixed_to_moving, found.linear), (found.moving_to_fixed, found.linear.inverse())):
        torch.testing.assert_close(there(points), back(points), rtol=0, atol=1e-9)
    assert float(found.field.displacement.abs().max()) == 0
    assert found.evidence.jacobian.sd_log == pytest.approx(0, abs=1e-6)


def test_the_same_deformation_of_a_network_stays_and_is_doubted(mislead: Callable[[], None]):
    """What somebody asked a network for is not replaced by something else; the verdict says what it is worth."""
    mislead()
    fixed = phantoms.head()
    pair = Pair(fixed, phantoms.seen_by(fixed, phantoms.truth_of("affine")))
    plan = Plan(methods=("header",), network=lambda _pair, matrix: Answer(matrix, None))
    with phantoms.no_rivals():
        found = MODULE.register(pair, plan)
    assert float(found.field.displacement.abs().max()) > LARGEST_VOXELS
    assert found.similarity.after < found.similarity.after_linear
    assert found.history[-1].reason != TAKEN_BACK


def test_local_structures_come_nearer_by_what_helps_and_not_by_what_does_not():
    """Whatever the contrast: the other scan's intensities are turned over."""
    moving, truth = phantoms.other_scan()
    inverted = phantoms.with_values(moving, torch.where(moving.tensor > 5, 260 - moving.tensor, 0))
    for image in (moving, inverted):
        fixed, other = prepare(phantoms.head()), prepare(image)
        right, wrong = (look_through(fixed, other, map_) for map_ in (truth, identity(3)))
        assert comes_nearer(fixed, wrong, right)
        assert not comes_nearer(fixed, right, wrong)
        assert not comes_nearer(fixed, right, right)


@pytest.mark.parametrize(
    ("there", "now", "is_nearer"), [(0.06, 0.05, True), (0.06, 0.052, False), (0.03, 0.025, False)]
)
def test_what_is_near_has_to_come_nearer_still(
    monkeypatch: pytest.MonkeyPatch, there: float, now: float, is_nearer: bool
):
    fixed, distances = prepare(phantoms.head()), iter((there, now))
    monkeypatch.setattr(evidence, "similarity_through", lambda *_: -next(distances))
    view = look_through(fixed, fixed, identity(3))
    assert comes_nearer(fixed, view, view) is is_nearer


@pytest.mark.parametrize("is_nearer", [True, False])
@pytest.mark.parametrize("similarity", ["mi", "lncc"])
def test_by_mutual_information_local_structures_have_to_come_nearer(
    monkeypatch: pytest.MonkeyPatch, similarity: str, is_nearer: bool
):
    monkeypatch.setattr(conclusion, "comes_nearer", lambda *_: is_nearer)
    moving, _ = phantoms.other_scan()
    found = phantoms.register(phantoms.head(), moving, initial="header", similarity=similarity).result
    is_harmful = similarity == "mi" and not is_nearer
    assert (found.history[-1].reason == NOT_NEARER) is is_harmful
    assert found.evidence.is_taken_back is is_harmful
    assert (float(found.field.displacement.abs().max()) == 0) is is_harmful
