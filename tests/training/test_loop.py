"""The loop: learns, goes on bit for bit, stops as it should, writes what it should."""

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import small_cohort
from pullback.io import read_labels, write_image
from pullback.networks import build, names
from pullback.registration.card import Card
from pullback.training.cache import Cache, Entry, fill
from pullback.training.checkpoint import BEST, LAST, STATE
from pullback.training.cohort import Cohort, PairOrder
from pullback.training.log import Log
from pullback.training.manifest import Manifest, Scan
from pullback.training.results import evaluate_network, write_rows
from pullback.training.schedule import freeze, learning_rate_at, stage_at, weights_at
from pullback.training.splits import Split
from pullback.training.validation import dice_of, mean_hd95, score_pairs, warp_nearest
from pullback.training.weights import load_network, save_network

pytest.importorskip("lightning_fabric", reason="training needs Lightning Fabric: pip install 'pullback[train]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice about workers and precision

from pullback.training.loop import FINISHED, STALLED, STOPPED, build_network, train  # noqa: E402


@pytest.fixture(scope="module")
def whole(cache: Cache, tmp_path_factory) -> Path:
    """A training of six steps without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(small_cohort.recipe(), cache, folder, device="cpu").reason == FINISHED
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("stop_after", [3, 4])
def test_interrupted_and_resumed_gives_the_same_bits(cache: Cache, whole: Path, tmp_path: Path, stop_after: int):
    def interrupt(step: int, num_steps: int, figures: dict) -> None:
        if step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = small_cohort.recipe()
    stopped = train(recipe, cache, tmp_path, device="cpu", on_step=interrupt)
    assert (stopped.reason, stopped.progress.step) == (STOPPED, stop_after)
    assert not same(whole / LAST, tmp_path / LAST)
    torch.manual_seed(99)  # what happened in between does not matter
    assert train(recipe, cache, tmp_path, device="cpu", resume=True).reason == FINISHED
    for file in (LAST, BEST, STATE):
        assert same(whole / file, tmp_path / file)
    figures = [[{k: v for k, v in r.items() if k != "seconds"} for r in rows(f)] for f in (whole, tmp_path)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("torn", [b"", b"\0\0\0", b"1", b",,0.5\r\n", b"\xff\xfe\r\n"])
def test_what_a_power_cut_left_in_the_log_does_not_stop_it(tmp_path: Path, torn: bytes):
    first = Log(tmp_path, ["loss"])
    for step in (1, 2, 3):
        first.write(step, {"loss": 0.5})
    with (tmp_path / "log.csv").open("ab") as file:
        file.write(torn)
    Log(tmp_path, ["loss"], from_step=2).write(3, {"loss": 0.25})
    assert rows(tmp_path) == [{"step": s, "loss": x} for s, x in (("1", "0.5"), ("2", "0.5"), ("3", "0.25"))]


def test_half_precision_on_the_cpu_goes_on_bit_for_bit(cache: Cache, tmp_path: Path):
    network = {"settings": {"encoder": [4, 4], "decoder": [4, 4, 4], "num_squarings": 3}}
    recipe = small_cohort.recipe(optimisation={"precision": "bf16-mixed", "num_steps": 4}, network=network)
    train(recipe, cache, tmp_path / "whole", device="cpu")

    def interrupt(step: int, num_steps: int, figures: dict) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(recipe, cache, tmp_path / "parts", device="cpu", on_step=interrupt).reason == STOPPED
    assert train(recipe, cache, tmp_path / "parts", device="cpu", resume=True).reason == FINISHED
    for file in (LAST, BEST, STATE):
        assert same(tmp_path / "whole" / file, tmp_path / "parts" / file)


def test_the_log_and_the_card(cache: Cache, whole: Path):
    found = rows(whole)
    assert [int(row["step"]) for row in found] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert float(found[2]["validation_dice"]) > 0
    assert all(float(row["mse"]) > 0 for row in found if row["mse"])
    network, card = load_network(whole / BEST)
    assert (card.family, card.shape, card.spacing_mm) == ("voxelmorph", (16, 16, 16), (2.0, 2.0, 2.0))
    assert card.alignment == "view"
    assert card.data_fingerprint == cache.fingerprint
    assert set(card.versions) == {"pullback", "torch", "python"}
    assert card.figures["dice"] == pytest.approx(max(float(r["validation_dice"] or 0) for r in found), rel=1e-5)
    assert not network.training
    assert Card.from_dict(json.loads(json.dumps(card.as_dict()))) == card
    assert oct((whole / BEST).stat().st_mode)[-3:] != "600"


def stretched(entry: Entry, by: float) -> Entry:
    """As if the lattice of a scan had other voxels."""
    matrix = torch.tensor(entry.record["voxel_to_world"])
    matrix[:3, :3] *= by
    return replace(entry, record={**entry.record, "voxel_to_world": matrix.tolist()})


def test_a_test_scan_of_another_spacing_is_refused_before_training(cache: Cache, tmp_path: Path):
    odd = cache.split.part("test")[0]
    entries = tuple(stretched(entry, 1.1 if entry.scan == odd else 1.0) for entry in cache.entries)
    with pytest.raises(ValueError, match=rf"different spacings .*'{odd}' 2.2 x 2.2 x 2.2 mm"):
        train(small_cohort.recipe(), replace(cache, entries=entries), tmp_path, device="cpu")


def test_scans_that_were_registered_share_the_reference_s_spacing(cache: Cache, tmp_path: Path):
    entries = tuple(stretched(entry, 1 + 0.1 * number) for number, entry in enumerate(cache.entries))
    plan = {"alignment": "affine", "reference": cache.entries[1].scan}
    registered = replace(cache, entries=entries, preprocessing={**cache.preprocessing, **plan})
    recipe = small_cohort.recipe(preprocessing=plan, optimisation={"num_steps": 1})
    train(recipe, registered, tmp_path, device="cpu")
    card = load_network(tmp_path / LAST)[1]
    assert (card.alignment, card.spacing_mm) == ("affine", (2.0, 2.0, 2.0))


def test_it_learns(cache: Cache, tmp_path: Path):
    recipe = small_cohort.recipe(
        network={"settings": {"encoder": [8] * 4, "decoder": [8] * 7, "head_std": 1e-2}},
        losses=[{"kind": "similarity", "measure": "ncc"}, {"kind": "dice"}, {"kind": "diffusion", "weight": 0.05}],
        optimisation={"num_steps": 48, "learning_rate": 0.005, "decay": "constant"},
        validation={"every_steps": 48},
        augmentation={"flips": [], "own": {}, "noise": 0.0},
    )
    losses: list[float] = []
    train(recipe, cache, tmp_path, device="cpu", on_step=lambda step, num_steps, f: losses.append(f["loss"]))
    first, last = sum(losses[:12]) / 12, sum(losses[-12:]) / 12  # twelve steps see each pair four times
    assert last < first - 0.3


def _initial(cache: Cache) -> float:
    cohort = Cohort(cache, ("validation",), torch.device("cpu"))
    scores = score_pairs(None, cohort, cohort.pairs(small_cohort.recipe().pairs.validation, "validation"), (1, 2))
    return sum(score.mean_dice for score in scores) / len(scores)


def test_a_non_finite_loss_names_the_term_and_the_pair(cache: Cache, tmp_path: Path):
    bad = cache.load

    class Broken(Cache):
        def load(self, entry):
            image, labels = bad(entry)
            return (image * float("nan") if entry.name == cache.split.training[1] else image), labels

    broken = Broken(**vars(cache))
    recipe = small_cohort.recipe(augmentation={"noise": 0.0}, optimisation={"batch_size": 1})
    with pytest.raises(
        FloatingPointError, match=rf"The loss 'mse' is nan at step \d+ for fixed .*{cache.split.training[1]}"
    ):
        train(recipe, broken, tmp_path, device="cpu")
    assert not (tmp_path / LAST).exists()


def test_it_stops_early(cache: Cache, tmp_path: Path):
    recipe = small_cohort.recipe(
        optimisation={"num_steps": 50, "learning_rate": 1e-12}, validation={"every_steps": 1, "patience": 2}
    )
    done = train(recipe, cache, tmp_path, device="cpu")
    assert (done.reason, done.progress.step) == (STALLED, 3)


def test_what_a_training_refuses(cache: Cache, whole: Path, tmp_path: Path):
    with pytest.raises(FileExistsError, match="--resume"):
        train(small_cohort.recipe(), cache, whole, device="cpu")
    with pytest.raises(ValueError, match="another recipe: 'seed' differs"):
        train(small_cohort.recipe(seed=5), cache, whole, device="cpu", resume=True)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        train(small_cohort.recipe(), cache, tmp_path / "new", device="cpu", resume=True)
    with pytest.raises(ValueError, match=r"'voxelmorf'.*Did you mean 'voxelmorph'"):
        train(small_cohort.recipe(network={"family": "voxelmorf"}), cache, tmp_path / "a", device="cpu")
    losses = [{"kind": "similarity", "fixed": "half_warped_fixed", "warped": "half_warped"}]
    with pytest.raises(ValueError, match="no 'inverse_half_displacement'"):
        train(small_cohort.recipe(losses=losses), cache, tmp_path / "b", device="cpu")
    assert not list((tmp_path / "b").iterdir())
    for settings in ({"num_dims": 2}, {"num_channels": 2}):
        with pytest.raises(ValueError, match="leave num_dims and num_channels out"):
            train(small_cohort.recipe(network={"settings": settings}), cache, tmp_path / "b", device="cpu")
    for widths in ("abc", [4, -4], [0], 4):
        with pytest.raises(ValueError, match="a list of whole numbers above 0 is needed"):
            train(small_cohort.recipe(network={"settings": {"encoder": widths}}), cache, tmp_path / "b", device="cpu")
    stages = [{"from_step": 3, "conditions": {"num_levels": 1}}]
    with pytest.raises(ValueError, match="'voxelmorph' can be told nothing besides the images"):
        train(small_cohort.recipe(stages=stages), cache, tmp_path / "b", device="cpu")
    (tmp_path / "b" / STATE).write_bytes(b"torn")
    with pytest.raises(ValueError, match="is damaged"):
        train(small_cohort.recipe(), cache, tmp_path / "b", device="cpu", resume=True)
    for name, kind in (("none", FileNotFoundError), ("b/last.state", ValueError)):
        plan = small_cohort.recipe(network={"weights": str(tmp_path / f"{name}.safetensors")})
        with pytest.raises(kind, match=r"weights|damaged"):
            train(plan, cache, tmp_path / "d", device="cpu")
    half = small_cohort.recipe(optimisation={"precision": "bf16-mixed"})
    with pytest.raises(ValueError, match=r"shrinks \[16, 16, 16\] voxels by 16.*take '32-true'"):
        train(half, cache, tmp_path / "half", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            train(small_cohort.recipe(), cache, tmp_path / "c", device="cuda")


SPECIAL = {
    "symnet": [
        {"kind": "similarity", "measure": "mse", "fixed": "half_warped_fixed", "warped": "half_warped"},
        {"kind": "diffusion", "field": "inverse_velocity"},
        {"kind": "magnitude"},
        {"kind": "orientation"},
        {"kind": "inverse"},
    ],
    "voxelmorph-probabilistic": [{"kind": "similarity", "measure": "mse"}, {"kind": "kl"}],
    "fourier-net-plus-diff": [{"kind": "similarity", "measure": "mse"}, {"kind": "diffusion", "field": "velocities"}],
}


@pytest.mark.parametrize("family", names())
def test_every_family_trains_without_touching_the_loop(cache: Cache, tmp_path: Path, family: str):
    losses = SPECIAL.get(family, [{"kind": "similarity", "measure": "ncc"}, {"kind": "diffusion"}])
    settings = {"start_channels": 2}
    if family.startswith("voxelmorph"):
        settings = {"encoder": [2, 2, 2, 2], "decoder": [2, 2, 2, 2, 2, 2, 2]}
    if family == "fourier-net-plus-diff":
        settings["num_stages"] = 2
    if family.startswith("transmorph"):
        settings = {"start_channels": 8}
    if family == "vit-v-net":
        settings |= {"num_stages": 3, "width": 12, "num_heads": 2, "depth": 2, "hidden": 12, "positions": [2, 2, 2]}
    if family == "hsyn":
        settings = {"num_levels": 1, "encoder": [2, 2, 2, 2], "decoder": [2, 2, 2, 2, 2, 2]}
    values = {**small_cohort.VALUES, "network": {"family": family, "settings": settings}, "losses": losses}
    recipe = small_cohort.recipe_of(values | {"optimisation": {"num_steps": 2}, "validation": {"every_steps": 2}})
    before = build_network(recipe, 1).state_dict()
    assert train(recipe, cache, tmp_path, device="cpu").reason == FINISHED
    after = load_file(tmp_path / LAST)
    assert before.keys() == after.keys()


def test_supervised_by_known_maps(cache: Cache, tmp_path: Path):
    values = {key: value for key, value in small_cohort.VALUES.items() if key != "augmentation"}
    values |= {"simulation": {"deformation_voxels": 1.0}, "losses": [{"kind": "true-displacement"}]}
    recipe = small_cohort.recipe_of(values | {"optimisation": {"num_steps": 1}})
    assert recipe.supervision == "supervised"
    assert train(recipe, cache, tmp_path, device="cpu").reason == FINISHED


def test_affine_by_a_known_map_a_template_and_consistency(cache: Cache, tmp_path: Path):
    template = {"of": "template", "template": cache.split.training[0]}
    recipe = small_cohort.recipe(
        network={"family": "airnet", "settings": {"first_width": 8, "second_width": 4}},
        pairs={"training": template, "validation": template, "test": template},
        simulation={"makes": "moving"},
        augmentation={"flips": [], "own": {}, "again": {"translation_voxels": 1.0}},
        losses=[
            {"kind": "true-matrix"},
            {"kind": "consistency"},
            {"kind": "similarity", "measure": "ncc", "fixed": "registered", "squared": False},
        ],
        optimisation={"num_steps": 2},
    )
    assert train(recipe, cache, tmp_path, device="cpu").reason == FINISHED
    assert all(float(row["consistency"]) >= 0 for row in rows(tmp_path) if row["consistency"])
    (row,) = evaluate_network(tmp_path / LAST, cache, device="cpu")
    assert row.num_pairs == len(cache.split.test)
    assert load_network(tmp_path / LAST)[1].alignment == "view"


def test_keypoints_by_a_known_map(cache: Cache, tmp_path: Path):
    template = {"of": "template", "template": cache.split.training[0]}
    recipe = small_cohort.recipe(
        network={"family": "keymorph", "settings": {"start_channels": 2, "num_keypoints": 6}},
        pairs={"training": template, "validation": template, "test": template},
        simulation={"makes": "moving"},
        augmentation={"flips": [], "own": {}},
        losses=[{"kind": "keypoints"}, {"kind": "keypoints", "of": "map"}],
        optimisation={"num_steps": 2},
    )
    assert recipe.supervision == "supervised"
    assert train(recipe, cache, tmp_path, device="cpu").reason == FINISHED
    assert all(float(row["keypoints_map"]) > 0 for row in rows(tmp_path) if row["keypoints_map"])
    assert load_network(tmp_path / LAST)[1].family == "keymorph"


def test_stages_freeze_and_change_weights(cache: Cache, tmp_path: Path):
    stages = [{"from_step": 0, "frozen": ["unet."]}, {"from_step": 2, "learning_rate": 0.5, "weights": {"dice": 3}}]
    recipe = small_cohort.recipe(stages=stages, optimisation={"num_steps": 2, "warm_up_steps": 0})
    before = {name: tensor.clone() for name, tensor in _first(recipe).items()}
    train(recipe, cache, tmp_path, device="cpu")
    after = load_file(tmp_path / LAST)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}
    assert stage_at(recipe, 5).frozen == ()
    assert weights_at(recipe, 1) == [1.0, 1.0, 0.1]
    assert weights_at(recipe, 2) == [1.0, 3.0, 0.1]
    with pytest.raises(ValueError, match="no parameter starts so"):
        freeze(build_network(recipe, 1), ("none",))
    with pytest.raises(ValueError, match="nothing to learn"):
        freeze(build_network(recipe, 1), ("unet.", "head."))


def _first(recipe) -> dict:
    from pullback.training.cohort import seed_of

    torch.manual_seed(seed_of(recipe.seed, 0))
    return build_network(recipe, 1).state_dict()


def test_learning_rates():
    plan = {"num_steps": 12, "warm_up_steps": 2, "learning_rate": 1.0, "final_share": 0.1}
    for decay, middle, last in (("constant", 1.0, 1.0), ("linear", 0.55, 0.19), ("cosine", 0.55, None)):
        recipe = small_cohort.recipe(optimisation=plan | {"decay": decay})
        assert learning_rate_at(recipe, 0) == 0.5
        assert learning_rate_at(recipe, 7) == pytest.approx(middle)
        assert last is None or learning_rate_at(recipe, 11) == pytest.approx(last)


def test_every_pair_once_per_round_in_another_order():
    pairs = [(str(n), "x") for n in range(7)]
    order = PairOrder(pairs, 3)
    first, second = order.take(0, 7), order.take(7, 7)
    assert sorted(first) == sorted(second) == pairs
    assert first != second
    assert PairOrder(pairs, 3).take(5, 4) == [*first[5:], *second[:2]]


def test_labels_at_displaced_voxels():
    labels = torch.arange(4).reshape(1, 4, 1).expand(1, 4, 2)
    displacement = torch.zeros(1, 2, 4, 2)
    displacement[:, 0] = 0.5
    assert warp_nearest(labels, displacement)[0, :, 0].tolist() == [1, 2, 3, 0]


def test_dice_of_label_maps():
    fixed, warped = torch.tensor([0, 5, 5, 9, 2]), torch.tensor([5, 5, 5, 0, 0])
    assert dice_of(fixed, warped, torch.tensor([5, 9, 0, 0, 0]), (2, 5, 9)) == {5: 0.8, 9: 0.0}


def test_surface_distances_of_shifted_boxes():
    fixed = torch.zeros(12, 12, 12, dtype=torch.uint8)
    warped = fixed.clone()
    fixed[2:6, 2:6, 2:6] = 1
    warped[4:8, 2:6, 2:6] = 1
    fixed[9, 9, 9] = 2
    spacing = torch.tensor([1.5, 1, 1], dtype=torch.float64)
    assert mean_hd95(fixed, warped, (1, 2, 3), spacing) == pytest.approx(3.0)
    assert mean_hd95(fixed, fixed, (1, 2), spacing) == 0
    assert mean_hd95(fixed, warped, (2, 3), spacing) is None


def test_rows_of_a_study(cache: Cache, whole: Path, tmp_path: Path):
    (row,) = evaluate_network(whole / BEST, cache, part="validation", device="cpu")
    (initial,) = evaluate_network(None, cache, part="validation", device="cpu")
    assert (row.method, row.supervision, row.seed) == ("voxelmorph", "semi-supervised", 0)
    assert (initial.method, initial.supervision, initial.seed, initial.folds) == ("initial", "none", None, 0.0)
    assert initial.dice == pytest.approx(_initial(cache), abs=1e-4)
    assert row.seconds_per_pair > 0
    assert row.parameters == sum(t.numel() for t in load_file(whole / BEST).values())
    path = tmp_path / "study.json"
    write_rows(path, "study", [row.as_dict()])
    write_rows(path, "study", [initial.as_dict(), row.as_dict() | {"dice": 0.5}])
    written = json.loads(path.read_text())
    assert written["study"] == "study"
    assert [r["method"] for r in written["rows"]] == ["initial", "voxelmorph"]
    assert written["rows"][1]["dice"] == 0.5
    other = replace(cache, preprocessing={**cache.preprocessing, "alignment": "mass"})
    with pytest.raises(ValueError, match="was prepared with alignment mass, but the recipe says view"):
        evaluate_network(whole / BEST, other, part="validation", device="cpu")


def test_weights_that_are_none(whole: Path, tmp_path: Path):
    network, card = load_network(whole / BEST)
    save_network(tmp_path / "copy.safetensors", network, card)
    assert load_network(tmp_path / "copy.safetensors")[1] == card
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(ValueError, match="no safetensors file or damaged"):
        load_network(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="no card of pullback"):
        load_network(whole / STATE)
    assert load_network(whole / BEST, mirrored=True)[0].family == card.family
    save_network(tmp_path / "copy.safetensors", network, replace(card, recipe={}))
    with pytest.raises(ValueError, match="not trained on mirrored pairs"):
        load_network(tmp_path / "copy.safetensors", mirrored=True)
    with pytest.raises(FileNotFoundError, match="no weights"):
        load_network(tmp_path / "none.safetensors")
    save_network(tmp_path / "copy.safetensors", build("transmorph"), card)
    with pytest.raises(ValueError, match=r"do not fit the network: \d+ lacking \(unet.*\); 1 of another") as caught:
        load_network(tmp_path / "copy.safetensors")
    assert len(str(caught.value)) < 400
    with pytest.raises(FileNotFoundError, match="create it first"):
        save_network(tmp_path / "no" / "x.safetensors", network, card)
    with pytest.raises(ValueError, match="incomplete or of another version"):
        Card.from_dict({"family": "voxelmorph"})
    with pytest.raises(ValueError, match=r"`spacing_mm` is -1\.0"):
        Card("voxelmorph", {}, (16, 16), (1.0, -1.0))
    with pytest.raises(ValueError, match=r"`recipe` holds \['seed', 1\]"):
        Card("voxelmorph", {}, (16, 16), (1.0, 1.0), recipe=["seed", 1])


def test_a_training_that_stalled_stays_as_it_is_when_resumed(cache: Cache, tmp_path: Path):
    changes = {
        "optimisation": {"num_steps": 40, "learning_rate": 1e-9},
        "validation": {"every_steps": 1, "patience": 1},
    }
    recipe = small_cohort.recipe(**changes)
    first = train(recipe, cache, tmp_path, device="cpu")
    before = (tmp_path / LAST).read_bytes()
    again = train(recipe, cache, tmp_path, device="cpu", resume=True)
    assert (first.reason, again.reason) == (STALLED, STALLED)
    assert again.progress.step == first.progress.step < 40
    assert (tmp_path / LAST).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [{"from_step": 5, "frozen": ["nosuch"]}]}, "nosuch"),
        (
            {
                "stages": [{"from_step": 5, "conditions": {"num_levels": 9}}],
                "network": {"family": "hsyn", "settings": {"num_levels": 2}},
                "losses": [{"kind": "similarity", "measure": "mse"}],
            },
            "num_levels",
        ),
    ],
)
def test_a_stage_that_cannot_be_is_refused_at_once(cache: Cache, tmp_path: Path, changes: dict, message: str):
    told: list[int] = []
    with pytest.raises(ValueError, match=message):
        train(small_cohort.recipe(**changes), cache, tmp_path, device="cpu", on_step=lambda *step: told.append(step[0]))
    assert not told


def test_labels_that_are_not_there_are_missed_at_once(tmp_path: Path):
    manifest = small_cohort.write_scans(tmp_path / "data")
    scans = [Scan(s.name, s.image, None if s.name == "s2" else s.labels) for s in manifest.scans]
    split = Split(("s0", "s1", "s2"), ("s3", "s4"), ("s5",))
    recipe = small_cohort.recipe()
    cache = fill(tmp_path / "cache", Manifest(tuple(scans)), split, recipe.preprocessing)
    with pytest.raises(ValueError, match="'s2' has none"):
        train(recipe, cache, tmp_path / "out", device="cpu")
    cache = fill(tmp_path / "cache", manifest, split, recipe.preprocessing)
    with pytest.raises(ValueError, match=r"`labels` is \[99\], but the scans hold \[1, 2\]"):
        train(small_cohort.recipe(labels=[99]), cache, tmp_path / "out", device="cpu")
    bare = Manifest(tuple(Scan(s.name, s.image) for s in manifest.scans))
    cache = fill(tmp_path / "bare", bare, split, recipe.preprocessing)
    losses = {"losses": [{"kind": "similarity", "measure": "mse"}], "optimisation": {"num_steps": 1}}
    with pytest.raises(ValueError, match="no scan has a label"):
        train(small_cohort.recipe(**losses), cache, tmp_path / "out", device="cpu")


def test_empty_label_maps_do_not_stop_a_validation_by_similarity(tmp_path: Path):
    manifest = small_cohort.write_scans(tmp_path / "data")
    for scan in manifest.scans:
        labels = read_labels(scan.labels)
        write_image(scan.labels, labels.with_tensor(torch.zeros_like(labels.tensor)))
    recipe = small_cohort.recipe(
        losses=[{"kind": "similarity", "measure": "mse"}],
        optimisation={"num_steps": 2},
        validation={"metric": "similarity"},
    )
    split = Split(("s0", "s1", "s2"), ("s3", "s4"), ("s5",))
    cache = fill(tmp_path / "cache", manifest, split, recipe.preprocessing)
    assert train(recipe, cache, tmp_path / "out", device="cpu").reason == FINISHED


def test_a_state_that_is_none_is_refused(cache: Cache, whole: Path, tmp_path: Path):
    (tmp_path / STATE).write_bytes((whole / LAST).read_bytes())
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        train(small_cohort.recipe(), cache, tmp_path, device="cpu", resume=True)
