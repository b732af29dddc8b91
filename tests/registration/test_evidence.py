"""The verdict: good on what is right, never good on what is wrong."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import ndimage

import phantoms
from examples import noise, smooth_noise
from pullback.data import Image
from pullback.metrics import Consistency, JacobianSummary
from pullback.registration.evidence import is_whole
from pullback.registration.verdict import Evidence, judge
from pullback.registration.volume import prepare
from pullback.space import Grid
from pullback.transforms import Affine

SOUND = Evidence(
    margin=0.5,
    scales=(1.0, 1.1, 0.9),
    overlap=0.95,
    view=1.0,
    gain=0.2,
    jacobian=JacobianSummary(0.5, 2.0, 0, 0.0, 0.1),
    consistency=Consistency(0.01, 0.1, 0.01, 0.1),
)
SLAB = replace(SOUND, margin=0.4, overlap=0.5, overlap_inside=0.97, view=0.35, shown=1.0, is_whole=True)
"""Of a slab of slices in its place on a whole object."""


def blobs(seed: int) -> Image:
    """Smooth random shapes within background: an unrelated object."""
    grid = phantoms.head().grid
    field = ndimage.gaussian_filter(noise(*grid.shape, seed=seed).numpy(), 4)
    return Image(torch.from_numpy(field * (field > 0.01) * 1e4)[None], grid)


def test_praise_names_what_was_measured():
    assert "the objects overlap, the map" in judge(SOUND).reasons[0]
    assert "overlap" not in judge(replace(SOUND, overlap=None)).reasons[0]


def test_a_small_part_is_believed_by_the_margin_of_any_pair_and_a_slab_needs_a_clear_one():
    little = replace(SLAB, margin=0.12, view=0.03)
    assert judge(little).value == "failed"
    assert judge(replace(little, is_small_part=True)).value == "good"
    assert judge(replace(little, is_small_part=True, margin=0.08)).value == "failed"


def test_praise_says_that_a_deformation_was_taken_back():
    verdict = judge(replace(SOUND, is_taken_back=True))
    assert verdict.value == "good"
    assert "the map is linear" in verdict.reasons[1]


def test_a_mask_in_place_of_an_image_is_doubted_and_two_masks_are_not():
    head = phantoms.head()
    mask, moved = (
        phantoms.with_values(image, (image.tensor > 5).float()) for image in (head, phantoms.plain_scan()[0])
    )
    assert prepare(mask).is_silhouette
    assert not prepare(head).is_silhouette
    for pair, word in (((mask, phantoms.plain_scan()[0]), "fixed"), ((head, moved), "moving")):
        verdict = phantoms.register(*pair, model="affine", initial="header").result.verdict
        assert verdict.value == "doubtful"
        assert any(f"the {word} image is of one value" in reason for reason in verdict.reasons)
    assert phantoms.register(mask, moved, model="affine", initial="header").result.evidence.silhouette is None


def test_less_agreement_is_doubted_from_the_size_on_that_noise_does_not_reach():
    assert judge(replace(SOUND, gain=-6e-5)).value == "good"
    assert judge(replace(SOUND, gain=-2e-4)).value == "doubtful"


def test_a_pose_that_another_beats_is_doubted_at_least():
    assert judge(replace(SOUND, margin=-0.2)).value == "failed"
    verdict = judge(replace(SOUND, margin=-0.2, is_alike=True))
    assert verdict.value == "doubtful"
    assert verdict.reasons == ("another pose fits better (by 20 %), though local structures are alike in this one",)


def test_a_slab_in_its_place_is_good_and_says_where_nothing_is_known():
    verdict = judge(SLAB)
    assert verdict.value == "good"
    assert "35 % of the fixed object" in verdict.reasons[1]
    assert len(judge(replace(SLAB, view=1.0)).reasons) == 1


@pytest.mark.parametrize("view", [0.1, 0.35])
def test_a_thin_slab_is_as_good(view: float):
    assert judge(replace(SLAB, view=view, overlap=0.2)).value == "good"
    assert judge(replace(SLAB, view=view, overlap=None, overlap_inside=None)).value == "good"


@pytest.mark.parametrize("weak", [{"margin": 0.15}, {"shown": 0.5}, {"overlap_inside": 0.85}])
def test_a_slab_that_is_not_clearly_in_its_place_is_doubted(weak: dict):
    verdict = judge(replace(SLAB, **weak))
    assert verdict.value == "doubtful"
    assert "lies inside the moving image" in verdict.reasons[0]
    assert judge(replace(SLAB, view=0.1, **weak)).value == "failed"


def test_other_doubts_of_a_slab_stay():
    assert judge(replace(SLAB, gain=-0.01)).value == "doubtful"
    assert judge(replace(SLAB, scales=(1.8, 1.0, 1.0))).value == "doubtful"


def test_noise_is_not_called_good():
    static = Image(noise(1, *phantoms.SHAPE_3D, seed=1), phantoms.head().grid)
    assert phantoms.register(phantoms.head(), static, preset="fast").verdict.value != "good"


def test_unrelated_objects_are_not_called_good():
    assert phantoms.register(phantoms.head(), blobs(1), model="affine").verdict.value != "good"


def test_where_no_pose_is_clear_the_map_is_held_in_the_middle_and_doubted():
    fixed, moving = (
        Image(
            smooth_noise(1, *shape, sigma=3.0, seed=seed) + 2, Grid.from_spacing(shape, 2.0, origin=(10.0 * seed, 5.0))
        )
        for seed, shape in ((1, (44, 48)), (2, (50, 46)))
    )
    found = phantoms.register(fixed, moving)
    assert found.result.similarity.name == "mind"
    assert found.result.field is None
    assert "clear pose" in found.result.similarity.why
    assert found.verdict.value == "doubtful"
    assert "held" in found.verdict.reasons[0]
    middle = fixed.grid.centre[None]
    assert torch.linalg.vector_norm(found.fixed_to_moving(middle) - moving.grid.centre) < 20  # of 88 by 96 mm


@pytest.mark.parametrize(("axis", "model"), [(0, "rigid"), (1, "rigid"), (2, "deformable")])
def test_a_start_upside_down_is_not_called_good(axis: int, model: str):
    moving, truth = phantoms.plain_scan()
    turned = Affine.from_parts(rotation=[math.pi if a == axis else 0.0 for a in range(3)])
    found = phantoms.register(phantoms.head(), moving, model=model, initial=truth @ turned, preset="fast", judged=True)
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head()).mean() > 10
    assert found.verdict.value != "good"


def test_forward_and_backward_agree_and_nothing_folds():
    evidence = phantoms.deformable().result.evidence
    assert evidence.consistency.mean_voxels < 0.1
    assert evidence.jacobian.num_nonpositive == 0
    assert evidence.jacobian.minimum > 0
    assert evidence.gain > 0


def test_sound_evidence_is_good():
    assert judge(SOUND).value == "good"


@pytest.mark.parametrize(
    ("change", "value", "reason"),
    [
        ({"margin": 0.05}, "doubtful", "another pose fits nearly as well"),
        ({"margin": -0.05}, "doubtful", "another pose"),
        ({"margin": -0.5}, "failed", "another pose fits better (by 50 %)"),
        ({"scales": (1.7, 1, 1)}, "doubtful", "stretches"),
        ({"scales": (0.3, 1, 1)}, "failed", "stretches"),
        ({"overlap": None}, "good", ""),
        ({"overlap": 0.6}, "doubtful", "overlap little"),
        ({"overlap": 0.1}, "failed", "hardly overlap"),
        ({"view": 0.4}, "doubtful", "inside the moving image"),
        ({"view": 0.1}, "failed", "inside the moving image"),
        ({"view": 0.6}, "good", ""),
        ({"view": 0.6, "is_whole": True}, "doubtful", "inside the moving image"),
        ({"gain": -0.01}, "doubtful", "agree less"),
        ({"jacobian": JacobianSummary(-0.1, 2.0, 3, 0.01, 0.1)}, "doubtful", "folds in 3 voxels"),
        ({"jacobian": JacobianSummary(-0.1, 2.0, 300, 2.0, 0.1)}, "failed", "folds in 2.00 %"),
        ({"is_held": True}, "doubtful", "no pose is clear"),
        ({"overlap": 0.85, "margin": 0.15}, "doubtful", "outlines overlap by Dice 0.85 only"),
        ({"overlap": 0.85}, "good", "no other pose"),
        ({"margin": 0.15}, "good", "no other pose"),
        ({"dependence": 0.4}, "doubtful", "say little about each other"),
        ({"view": 0.4, "seen": "moving"}, "doubtful", "only 40 % of the moving object lies inside the fixed image"),
        ({"agreement": 0.87}, "doubtful", "local contrasts of the images differ (agreement 0.87)"),
        ({"agreement": 0.89}, "good", "no other pose fits as well"),
        ({"consistency": Consistency(0.5, 1, 0.5, 1)}, "doubtful", "inverse misses"),
    ],
)
def test_each_piece_of_evidence_counts(change: dict, value: str, reason: str):
    verdict = judge(replace(SOUND, **change))
    assert verdict.value == value
    assert reason in verdict.reasons[0]


def test_failures_come_before_doubts():
    verdict = judge(replace(SOUND, margin=0.0, view=0.1))
    assert verdict.value == "failed"
    assert len(verdict.reasons) == 2
    assert "another pose" in verdict.reasons[1]


def test_an_object_is_whole_unless_its_image_cuts_it():
    whole = prepare(phantoms.head())
    middle = whole.foreground[tuple(slice(n // 4, -(n // 4)) for n in whole.grid.shape)]
    assert is_whole(whole)
    assert is_whole(replace(whole, has_background=False))
    assert not is_whole(replace(whole, foreground=middle, has_background=False))
