"""A deformation by which the images agree less than before it is taken back; a network's is not."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import phantoms
from pullback import functional
from pullback.data import Pair
from pullback.registration import Plan
from pullback.registration.conclusion import TAKEN_BACK
from pullback.registration.deformable import Deformation
from pullback.registration.plan import Answer

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
