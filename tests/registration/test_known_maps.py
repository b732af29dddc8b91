"""Known maps are recovered, by every model, from every start, with every similarity, in 2-D and 3-D."""

import math

import pytest
import torch

import phantoms
from pullback.data import Image
from pullback.transforms import Affine, DisplacementField, Rigid, Similarity, chain, identity

VOXEL_MM = phantoms.SPACING_MM
IDS = ["3-D", "2-D", "texture"]


@pytest.mark.parametrize(("model", "kind"), [("rigid", Rigid), ("similarity", Similarity), ("affine", Affine)])
@pytest.mark.parametrize("fixed", [phantoms.head(), phantoms.slice_of_head()], ids=["3-D", "2-D"])
def test_linear_models_recover_their_kind_of_map(model: str, kind: type, fixed: Image):
    truth = phantoms.truth_of(model, fixed.grid.num_dims)
    found = phantoms.register(fixed, phantoms.seen_by(fixed, truth), model=model, initial="header")
    assert type(found.fixed_to_moving) is kind
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).max() < 0.3 * VOXEL_MM
    assert found.verdict.value == "good"


def test_the_deformable_model_recovers_a_deformation():
    found, truth = phantoms.deformable(), phantoms.other_scan()[1]
    after = phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head())
    linear = phantoms.gaps_mm(found.result.linear, truth, phantoms.head())
    assert after.mean() < 0.75 * linear.mean()
    assert after.mean() < VOXEL_MM / 2
    assert after.quantile(0.95) < VOXEL_MM
    assert found.verdict.value == "good"


def test_the_deformable_model_recovers_a_deformation_in_2d():
    fixed = phantoms.slice_of_head()
    points = fixed.grid.centres().movedim(-1, 0)
    bump = 5 * torch.exp(-(points[0] ** 2 + (points[1] - 10) ** 2) / 900)
    truth = DisplacementField(torch.stack([bump, -bump]), fixed.grid)
    moving = phantoms.seen_by(fixed, truth, 1.7)
    found = phantoms.register(fixed, moving, initial="header")
    gaps = phantoms.gaps_mm(found.fixed_to_moving, truth, fixed)
    assert gaps.mean() < 1.0
    assert gaps.mean() < phantoms.gaps_mm(found.result.linear, truth, fixed).mean()
    assert found.result.evidence.jacobian.num_nonpositive == 0


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_the_search_finds_an_object_upside_down(axis: str):
    turned = Affine.from_parts(
        rotation=[math.pi if a == axis else 0.0 for a in "xyz"], translation_mm=(20.0, 5.0, -12.0)
    )
    truth = chain(turned, phantoms.truth_of("rigid"))
    found = phantoms.register(phantoms.head(), phantoms.seen_by(phantoms.head(), truth), model="rigid")
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head()).max() < 0.3 * VOXEL_MM
    assert found.verdict.value == "good"


def test_the_search_finds_a_slice_upside_down():
    truth = Affine.from_parts(rotation=[math.pi - 0.1], translation_mm=(11.0, -7.0), num_dims=2)
    fixed = phantoms.slice_of_head()
    found = phantoms.register(fixed, phantoms.seen_by(fixed, truth), model="rigid")
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).max() < 1.0


@pytest.mark.parametrize("similarity", ["mse", "ncc", "lncc", "mi"])
@pytest.mark.parametrize("fixed", [phantoms.head(), phantoms.slice_of_head()], ids=["3-D", "2-D"])
def test_every_similarity_registers(similarity: str, fixed: Image):
    truth = phantoms.truth_of("affine", fixed.grid.num_dims)
    moving = phantoms.seen_by(fixed, truth)
    found = phantoms.register(fixed, moving, similarity=similarity, preset="fast", initial="header")
    assert found.result.similarity.name == similarity
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).mean() < VOXEL_MM / 2
    assert found.result.evidence.jacobian.num_nonpositive == 0


def inverted_scan() -> Image:
    moving = phantoms.plain_scan()[0]
    return phantoms.with_values(moving, torch.where(moving.tensor > 1, 260 - moving.tensor, 0.0))


def test_inverted_contrast_is_registered_by_mutual_information():
    found = phantoms.register(phantoms.head(), inverted_scan(), model="affine", similarity="mi")
    assert phantoms.gaps_mm(found.fixed_to_moving, phantoms.plain_scan()[1], phantoms.head()).mean() < 0.5
    assert found.verdict.value == "good"


@pytest.mark.parametrize(
    ("fixed", "options"),
    [(phantoms.head(), {"model": "affine"}), (phantoms.slice_of_head(), {"preset": "fast"})],
    ids=["3-D", "2-D"],
)
def test_another_contrast_is_registered_by_self_similarities(fixed: Image, options: dict):
    truth = phantoms.truth_of("affine", fixed.grid.num_dims)
    seen = phantoms.seen_by(fixed, truth)
    moving = phantoms.with_values(seen, seen.tensor.clamp(min=0).sqrt())
    found = phantoms.register(fixed, moving, similarity="mind", initial="header", **options)
    assert found.result.similarity.name == "mind"
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).mean() < fixed.grid.spacing_mm.min()
    assert found.result.evidence.jacobian.num_nonpositive == 0


def test_inverted_contrast_is_recognised():
    found = phantoms.register(phantoms.head(), inverted_scan(), model="affine")
    assert found.result.similarity.name == "mi"
    assert phantoms.gaps_mm(found.fixed_to_moving, phantoms.plain_scan()[1], phantoms.head()).mean() < VOXEL_MM / 2


def test_inverted_contrast_is_never_called_good_when_it_is_wrong():
    found = phantoms.register(phantoms.head(), inverted_scan(), model="affine", initial="header", judged=True)
    gap = phantoms.gaps_mm(found.fixed_to_moving, phantoms.plain_scan()[1], phantoms.head()).mean()
    assert gap < VOXEL_MM or found.verdict.value != "good"


@pytest.mark.parametrize("initial", ["header", "centre", "moments", "search", ["header", "centre"]])
def test_every_start_finds_a_near_pose(initial):
    moving, truth = phantoms.plain_scan()
    found = phantoms.register(phantoms.head(), moving, model="affine", initial=initial)
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head()).mean() < VOXEL_MM / 2
    assert found.result.initialisation is not None


def test_a_given_transform_starts_as_it_is():
    moving, truth = phantoms.plain_scan()
    found = phantoms.register(phantoms.head(), moving, model="affine", initial=truth)
    assert found.result.initialisation is None
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, phantoms.head()).mean() < VOXEL_MM / 2


def test_none_with_deformable_leaves_the_affine_out():
    found = phantoms.register(phantoms.head(), phantoms.head(), initial="none", preset="fast")
    assert torch.equal(found.result.linear.matrix, torch.eye(4, dtype=torch.float64))
    assert [entry.stage for entry in found.result.history] == ["deformable"] * len(found.result.history)


def test_an_image_does_not_deform_to_match_itself():
    found = phantoms.register(phantoms.head(), phantoms.head(), initial="none", preset="fast")
    assert phantoms.gaps_mm(found.fixed_to_moving, found.result.linear, phantoms.head()).max() < 0.1


@pytest.mark.parametrize(
    "fixed", [phantoms.head(), phantoms.slice_of_head(), phantoms.texture()], ids=["3-D", "2-D", "texture"]
)
@pytest.mark.parametrize("model", ["rigid", "affine", "deformable"])
def test_an_image_registered_to_itself_stays_exactly_where_it_is(fixed: Image, model: str):
    found = phantoms.register(fixed, fixed, model=model)
    assert phantoms.gaps_mm(found.fixed_to_moving, identity(fixed.grid.num_dims), fixed).max() == 0
    assert found.verdict.value == "good"


def test_a_part_of_a_voxel_is_found_and_not_added_to():
    fixed, moving = phantoms.texture(), phantoms.texture((0.4, -0.3, 0.2))
    truth = Affine.from_parts(translation_mm=(0.4, -0.3, 0.2))
    found = phantoms.register(fixed, moving)
    assert phantoms.gaps_mm(found.result.linear, truth, fixed).max() < 0.05
    gaps = phantoms.gaps_mm(found.fixed_to_moving, truth, fixed)
    assert gaps.mean() < 0.1  # interpolation blurs the moving image alone, which draws it to whole voxels
    assert found.verdict.value == "good"


def test_a_given_map_stays_unless_another_is_better():
    fixed, moving = phantoms.texture(), phantoms.texture((3.0, -2.0, 1.0))
    truth = Affine.from_parts(translation_mm=(3.0, -2.0, 1.0))
    found = phantoms.register(fixed, moving, model="affine", initial=truth)
    assert phantoms.gaps_mm(found.fixed_to_moving, truth, fixed).max() < 0.02
