"""Recipes: from YAML and back, every name and number checked, messages that help."""

from pathlib import Path

import pytest

import small_cohort
from pullback.networks import build
from pullback.training.parsing import merge
from pullback.training.recipe import read_recipe, recipe_of

RECIPES = Path(__file__).parents[2] / "recipes"
MINIMAL = {"name": "x", "preprocessing": {"shape": [16, 16, 16]}}


def test_what_a_recipe_says_of_itself_makes_it_again():
    recipe = small_cohort.recipe()
    assert recipe_of(recipe.as_dict()) == recipe
    assert recipe.as_dict()["losses"][1] == {"kind": "dice", "weight": 1.0, "name": ""} | {
        "fixed": "fixed_labels",
        "warped": "warped_labels",
    }


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_reads(path: Path):
    recipe = read_recipe(path)
    assert recipe_of(recipe.as_dict()) == recipe
    axes = len(recipe.preprocessing.network_shape)
    network = build(recipe.network.family, num_dims=axes, **recipe.network.settings)
    assert all(n % network.multiple == 0 for n in recipe.preprocessing.network_shape)


@pytest.mark.parametrize("budget", sorted((RECIPES / "budgets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_budget_fits_the_recipes_it_is_for(budget: Path):
    study = budget.stem.removesuffix("cpu")
    for path in RECIPES.glob(f"{study.rstrip('-')}*.yaml"):
        plan = read_recipe(path, over=[budget]).optimisation
        assert (plan.batch_size, plan.precision) == (1, "bf16-mixed")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimisation": {"learning_rat": 1}}, r"`recipe.optimisation` has no 'learning_rat'; did you mean learning_"),
        ({"colour": 1}, "`recipe` has no 'colour'; it takes name,"),
        ({"optimisation": {"num_steps": 1.5}}, r"`recipe.optimisation.num_steps` is 1.5, but a whole number"),
        ({"optimisation": {"num_steps": True}}, "is True, but a whole number"),
        ({"optimisation": {"num_steps": 0}}, r"recipe.optimisation: `num_steps` is 0, but a number above 0"),
        ({"optimisation": {"learning_rate": "fast"}}, "is 'fast', but a number"),
        ({"optimisation": {"precision": "16"}}, "32-true, bf16-mixed"),
        ({"optimisation": [1]}, r"is \[1\], but names with values"),
        ({"losses": [{"kind": "dise"}]}, r"`recipe.losses\[0\].kind` is 'dise'.* Did you mean dice\?"),
        ({"losses": [{"weight": 1}]}, "is None, but it can be bending, consistency, dice"),
        ({"losses": []}, "`losses` is empty"),
        ({"losses": [{"kind": "dice"}, {"kind": "dice"}]}, "Two terms are called 'dice'"),
        ({"losses": [{"kind": "dice", "name": "step"}]}, "called 'step', as a column of the log is"),
        ({"losses": [{"kind": "diffusion", True: "velocity"}]}, "has no 'True'; it takes weight, name, field"),
        ({"pairs": {"test": {"of": "random"}}}, "random pairs need a number"),
        ({"preprocessing": {}}, "`recipe.preprocessing` lacks 'shape'"),
        ({"preprocessing": {"shape": "16"}}, "is '16', but a list"),
        ({"preprocessing": {"shape": [16] * 3, "alignment": "view", "reference": "a"}}, "which uses none"),
        ({"split": {"fractions": [1, 0]}}, "holds 2 values, but 3 are needed"),
        ({"augmentation": {"flips": [3]}}, "axes are 0 to 2"),
        ({"simulation": {}, "augmentation": {"flips": [0]}}, "may not move"),
        ({"simulation": {"makes": "both"}}, "it can be fixed, moving"),
        ({"losses": [{"kind": "consistency"}]}, "augmentation.again` moves nothing"),
        ({"losses": [{"kind": "similarity", "is_differentiable": False}]}, "has a derivative"),
        ({"pairs": {"test": {"of": "template"}}}, "one needs the other"),
        ({"pairs": {"test": {"template": "a"}}}, "one needs the other"),
        ({"stages": [{"from_step": 5}, {"from_step": 2}]}, "in the order of their first steps"),
        ({"stages": [{"from_step": 5, "weights": {"dise": 1}}]}, "'dise'"),
        ({"stages": [{"from_step": 5, "weights": {"lncc": "two"}}]}, "weights.lncc` is 'two', but a number"),
        ({"stages": [{"from_step": -1}]}, "`from_step` is -1"),
        ({"optimisation": {"num_steps": float("inf")}}, "is inf, but a finite number"),
        ({"optimisation": {"learning_rate": float("nan")}}, "is nan, but a finite number"),
        ({"optimisation": {"learning_rate": ".inf"}}, "is '.inf', but a number"),
        ({"optimisation": {"betas": [1.5, 0.9]}}, "`betas` is"),
        ({"optimisation": {"clip_norm": -1}}, "`clip_norm` is -1"),
        ({"optimisation": {"warm_up_steps": -1}}, "`warm_up_steps` is -1"),
        ({"optimisation": {"final_share": 2}}, "`final_share` is 2"),
        ({"validation": {"batch_size": 0}}, "`batch_size` is 0"),
        ({"validation": {"patience": -1}}, "`patience` is -1"),
        ({"logging": {"every_steps": 0}}, "`every_steps` is 0"),
        ({"losses": [{"kind": "dice", "weight": -1}]}, "`weight` is -1"),
        ({"losses": [{"kind": "similarity", "radius_voxels": 0}]}, "`radius_voxels` is 0"),
        ({"losses": [{"kind": "kl", "precision": 0}]}, "`precision` is 0"),
        ({"augmentation": {"noise": -0.1}}, "`noise` is -0.1"),
        ({"augmentation": {"own": {"scaling": -2}}}, "augmentation.own: `scaling` is -2"),
        ({"augmentation": {"deformation_width_voxels": 0}}, "`deformation_width_voxels` is 0"),
        ({"augmentation": {"flips": [0, 0]}}, "each axis may stand there once"),
        ({"simulation": {"deformation_voxels": -2}}, "`deformation_voxels` is -2"),
        ({"pairs": {"training": {"of": "atlas"}}}, "needs `atlas`"),
        ({"pairs": {"training": {"atlas": "a"}}}, "`atlas` is for pairs of the kind 'atlas'"),
        ({"pairs": {"training": {"num_pairs": 3}}}, "`num_pairs` is for pairs of the kind 'random'"),
        ({"pairs": {"training": {"given": [["a", "b"]]}}}, "`given` is for pairs of the kind 'given'"),
        ({"pairs": {"training": {"of": "kept"}, "validation": {"of": "left-out", "num_folds": 3}}}, "must be the same"),
        ({"pairs": {"training": {"of": "given", "given": [["a", "a"]]}}}, "two different scans"),
        ({"labels": [1, 1]}, "each label may stand there once"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_messages_name_the_place_and_what_is_near(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        recipe_of(MINIMAL | values)


def test_numbers_without_a_point_are_numbers():
    assert recipe_of(MINIMAL | {"optimisation": {"learning_rate": "1e-4"}}).optimisation.learning_rate == 1e-4
    assert recipe_of(MINIMAL | {"optimisation": {"learning_rate": 1}}).optimisation.learning_rate == 1.0


def test_a_base_and_changes(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(
        "name: base\npreprocessing: {shape: [8, 8], spacing_mm: [1, 2]}\nlosses: [{kind: dice}, {kind: bending}]\n"
    )
    (tmp_path / "own.yaml").write_text("base: base.yaml\nname: own\npreprocessing: {shape: [16, 16]}\n")
    changes = ["optimisation.num_steps=7", "network.settings.num_squarings=3", "losses.1.weight=2"]
    recipe = read_recipe(tmp_path / "own.yaml", changes)
    assert (recipe.name, recipe.preprocessing.shape, recipe.preprocessing.spacing_mm) == ("own", (16, 16), (1.0, 2.0))
    assert recipe.optimisation.num_steps == 7
    assert recipe.network.settings == {"num_squarings": 3}
    assert [term.weight for term in recipe.losses] == [1.0, 2.0]
    with pytest.raises(ValueError, match="'num_steps' changes nothing"):
        read_recipe(tmp_path / "own.yaml", ["num_steps"])
    added = read_recipe(tmp_path / "own.yaml", ["losses.2.kind=diffusion", "losses.2.weight=3"]).losses
    assert [(type(term).kind, term.weight) for term in added[1:]] == [("bending", 1.0), ("diffusion", 3.0)]
    with pytest.raises(ValueError, match="list of 2; it has no place '3'"):
        read_recipe(tmp_path / "own.yaml", ["losses.3.weight=1"])
    with pytest.raises(FileNotFoundError, match="no recipe"):
        read_recipe(tmp_path / "none.yaml")


def test_what_is_laid_over_comes_before_changes(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("name: own\npreprocessing: {shape: [8, 8]}\noptimisation: {batch_size: 9}\n")
    (tmp_path / "budget.yaml").write_text("optimisation: {num_steps: 5, learning_rate: 0.5}\n")
    plan = read_recipe(tmp_path / "own.yaml", ["optimisation.num_steps=6"], [tmp_path / "budget.yaml"]).optimisation
    assert (plan.batch_size, plan.num_steps, plan.learning_rate) == (9, 6, 0.5)


def test_merging_replaces_lists_whole():
    assert merge({"a": [1, 2], "b": {"c": 1, "d": 2}}, {"a": [3], "b": {"c": 4}}) == {"a": [3], "b": {"c": 4, "d": 2}}


def test_another_family_takes_none_of_the_base_s_settings(tmp_path: Path):
    recipe = read_recipe(RECIPES / "airnet-keypoints.yaml")
    assert (recipe.network.family, recipe.supervision) == ("keymorph", "supervised")
    assert "parametrisation" not in recipe.network.settings
    own = tmp_path / "own.yaml"
    own.write_text(f"base: {RECIPES / 'airnet-2-normalised.yaml'}\nnetwork: {{settings: {{origin: corner}}}}\n")
    settings = read_recipe(own).network.settings
    assert (settings["origin"], settings["parametrisation"]) == ("corner", "matrix")


def test_a_change_of_the_family_keeps_the_settings_that_relatives_share():
    path = RECIPES / "hippocampus-transmorph.yaml"
    changed = read_recipe(path, ["network.family=transmorph-bayes"]).network
    assert changed.family == "transmorph-bayes"
    assert changed.settings == read_recipe(path).network.settings
    assert changed.settings["size"] == "tiny"


def test_supervision_is_read_off_the_terms():
    assert small_cohort.recipe().supervision == "semi-supervised"
    assert recipe_of(MINIMAL).supervision == "unsupervised"
    assert recipe_of(MINIMAL | {"losses": [{"kind": "true-matrix"}]}).supervision == "supervised"


def test_the_five_experiments_differ_as_source_002_says():
    found = {path.stem[7]: read_recipe(path) for path in RECIPES.glob("airnet-[1-5]-*.yaml")}
    assert sorted(found) == list("12345")
    plans = [recipe.optimisation for recipe in found.values()]
    assert all(plan == plans[0] for plan in plans)
    assert (plans[0].batch_size, plans[0].learning_rate) == (5, 1e-4)
    units = {number: recipe.losses[0].unit_voxels for number, recipe in found.items()}
    assert units == {"1": 1, "2": 32, "3": 32, "4": 32, "5": 32}
    assert units == {n: recipe.network.settings["translation_scale_voxels"] for n, recipe in found.items()}
    terms = {number: [term.kind for term in recipe.losses[1:]] for number, recipe in found.items()}
    assert terms == {"1": [], "2": [], "3": ["similarity"], "4": ["similarity"], "5": ["consistency"]}
    assert [found[number].losses[1].fixed for number in "34"] == ["fixed", "registered"]
    assert found["5"].augmentation.again.is_on
    assert {recipe.supervision for recipe in found.values()} == {"supervised"}


def test_changes_and_bases_that_are_none(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("base: other.yaml\nname: own\n")
    (tmp_path / "other.yaml").write_text("base: own.yaml\n")
    with pytest.raises(ValueError, match=r"own\.yaml' is a base of itself"):
        read_recipe(tmp_path / "own.yaml")
    (tmp_path / "other.yaml").write_text("preprocessing: {shape: [8, 8]}\n")
    with pytest.raises(ValueError, match="gives '\\[1', which is no YAML"):
        read_recipe(tmp_path / "own.yaml", ["labels=[1"])


@pytest.mark.parametrize("text", ["seed: 1\nname: x\nseed: 2\n", "optimisation: {num_steps: 1, num_steps: 2}", "\xff"])
def test_a_name_that_stands_twice_is_no_recipe(tmp_path: Path, text: str):
    (tmp_path / "twice.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"twice\.yaml' is no YAML: ('(seed|num_steps)' stands there 2|.*decode)"):
        read_recipe(tmp_path / "twice.yaml")
