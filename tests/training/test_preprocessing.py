"""From files to the lattice and back; the cache knows what went in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import small_cohort
from examples import oblique_axes, smooth_noise
from pullback.data import Image, LabelMap
from pullback.io import read_image, read_labels, write_image
from pullback.registration.normalisation import Normalisation, white_matter_peak
from pullback.registration.placement import place, resample_image
from pullback.space import Grid
from pullback.training import cache as cache_module
from pullback.training.cache import check_fits, check_scans, fill, open_cache
from pullback.training.cohort import Cohort
from pullback.training.manifest import Manifest, Scan
from pullback.training.pairs import NamePair
from pullback.training.preprocessing import Preparer, lead_back
from pullback.training.recipe import PairPlan, Preprocessing
from pullback.training.slices import Slices
from pullback.training.splits import Split, by_fractions

CPU = torch.device("cpu")
OBLIQUE = Grid.from_spacing((20, 18, 16), (1.0, 1.5, 2.0), origin=(5, -9, 30), direction=oblique_axes())


def scan_of(folder: Path, grid: Grid, name: str = "a") -> Scan:
    image = Image(10 + 100 * smooth_noise(1, *grid.shape).abs(), grid)
    labels = LabelMap((image.tensor > 60).to(torch.int32), grid)
    write_image(folder / f"{name}.nii.gz", image)
    write_image(folder / f"{name}_labels.nii.gz", labels)
    return Scan(name, folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz")


@pytest.mark.parametrize("kind", ["min-max", "percentile", "z-score", "white-matter-peak", "none"])
def test_normalisation_is_blind_to_units(kind: str):
    grid = Grid.from_spacing((12, 12, 12))
    values = 5 + smooth_noise(1, 12, 12, 12).abs()
    values[0, :4] = 5
    a = Normalisation(kind).apply(Image(values, grid)).tensor
    b = Normalisation(kind).apply(Image(1000 * values - 300, grid)).tensor
    if kind == "none":
        assert torch.equal(a, values)
    else:
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    if kind in ("min-max", "percentile"):
        assert (float(a.min()), float(a.max())) == (0.0, 1.0)


def test_a_constant_image_has_no_scale():
    with pytest.raises(ValueError, match="constant"):
        Normalisation("z-score").apply(Image(torch.ones(1, 4, 4, 4), Grid.from_spacing((4, 4, 4))))
    with pytest.raises(ValueError, match=r"'min-maxx'.*Did you mean 'min-max'"):
        Normalisation("min-maxx")


def test_the_brightest_peak_counts():
    random = np.random.default_rng(0)
    grey, white = random.normal(60, 5, 4000), random.normal(100, 5, 3000)
    assert white_matter_peak(np.concatenate([grey, white])) == pytest.approx(100, abs=3)


def test_cropping_and_padding_only_copies():
    grid = Grid.from_spacing((9, 12, 7), 2.0, origin=(3, 4, 5))
    image = Image(smooth_noise(1, *grid.shape).abs(), grid)
    lattice = place(image, (12, 8, 8), centre="view")
    assert lattice.spacing_mm.tolist() == [2, 2, 2]
    seen = resample_image(image, lattice).tensor[0]
    lowest = float(image.tensor.min())
    assert torch.equal(seen[1:10, :, :7], image.tensor[0, :, 2:10])
    assert (seen[:1] == lowest).all()


def test_the_lattice_lies_along_ras_whatever_the_storage():
    image = Image(smooth_noise(1, 8, 10, 12).abs(), Grid.from_spacing((8, 10, 12), (1, 2, 3), origin=(7, 8, 9)))
    flipped = Image(
        image.tensor.flip(1).permute(0, 3, 1, 2),
        Grid(
            (12, 8, 10),
            image.grid.voxel_to_world
            @ torch.tensor([[0, -1, 0, 7], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64),
        ),
    )
    first, second = (place(i, (16, 16, 16), (1.5, 1.5, 1.5), centre="view") for i in (image, flipped))
    torch.testing.assert_close(first.voxel_to_world, second.voxel_to_world)
    torch.testing.assert_close(resample_image(image, first).tensor, resample_image(flipped, first).tensor)


def test_the_record_leads_back(tmp_path: Path):
    scan = scan_of(tmp_path, OBLIQUE)
    plan = Preprocessing((32, 32, 32), (1.0, 1.0, 1.0), alignment="view", normalisation=Normalisation("none"))
    (prepared,) = Preparer(plan)(scan)
    record = json.loads(json.dumps(prepared.record))
    image, labels = read_image(scan.image), read_labels(scan.labels)
    back = lead_back(prepared.image.tensor, record, is_labels=False)
    assert back.grid.same_as(image.grid)
    inner = (slice(None), *(slice(2, -2),) * 3)
    gap = (back.tensor - image.tensor)[inner].abs().max() / image.tensor.max()
    assert gap < 0.05  # sampled linearly twice
    labels_back = lead_back(prepared.labels.tensor, record, is_labels=True)
    assert (labels_back.tensor != labels.tensor).float().mean() < 0.02


def test_affine_alignment_brings_a_scan_to_the_reference(tmp_path: Path):
    grid = Grid.from_spacing((20, 20, 20), 3.0)
    first, _ = small_cohort.ball(np.array([8.0, 9.0, 10.0]), 20)
    reference = Image(torch.from_numpy(first[None]), grid)
    moved = Image(reference.tensor, Grid.from_spacing((20, 20, 20), 3.0, origin=(40, -10, 6)))
    for name, image in (("r", reference), ("m", moved)):
        write_image(tmp_path / f"{name}.nii.gz", image)
    plan = Preprocessing((24, 24, 24), alignment="rigid", reference="r")
    preparer = Preparer(plan, Scan("r", tmp_path / "r.nii.gz"))
    (a,), (b,) = (list(preparer(Scan(n, tmp_path / f"{n}.nii.gz"))) for n in ("r", "m"))
    assert (a.image.tensor - b.image.tensor).abs().mean() < 0.02


def test_slices_lie_in_planes_of_their_own(tmp_path: Path):
    grid = Grid.from_spacing((8, 10, 12), (1, 2, 3), origin=(7, 8, 9))
    scan = scan_of(tmp_path, grid)
    plan = Preprocessing((8, 10, 12), alignment="view", slices=Slices(1, 2, 8, 3), normalisation=Normalisation("none"))
    prepared = list(Preparer(plan)(scan))
    assert [p.name for p in prepared] == ["a@2", "a@5", "a@8"]
    image = read_image(scan.image)
    assert torch.equal(prepared[1].image.tensor, image.tensor[:, :, 5])
    assert prepared[1].image.grid.same_as(Grid.from_spacing((8, 12), (1, 3), origin=(7, 9)))
    assert plan.network_shape == (8, 12)
    with pytest.raises(ValueError, match="no slice 9 across axis 0"):
        Slices(0, 2, 9).positions((8, 10, 12))


def test_n4_takes_a_bias_away(tmp_path: Path):
    from pullback.io.bias import correct_bias

    flat, _ = small_cohort.ball(np.array([12.0, 12, 12]), 24, noise=0.01)
    flat[flat < 25] = 0
    axis = torch.linspace(0.7, 1.3, 24).reshape(-1, 1, 1)
    grid = Grid.from_spacing((24, 24, 24), 2.0)
    image = Image((torch.from_numpy(flat) * axis)[None], grid)
    corrected = correct_bias(image)
    inside = torch.from_numpy(flat) > 75
    before, after = (t[0][inside].std() / t[0][inside].mean() for t in (image.tensor, corrected.tensor))
    assert after < 0.9 * before


def test_the_cache_is_keyed_by_content(tmp_path: Path, monkeypatch):
    recipe = small_cohort.recipe()
    cache = small_cohort.make_cache(tmp_path, recipe)
    manifest = small_cohort.read_globs(tmp_path / "data", "images/*.nii", "labels/*.nii")
    split = by_fractions(manifest, recipe.split.fractions)
    made: list[str] = []
    keep = cache_module._keep
    monkeypatch.setattr(cache_module, "_keep", lambda f, p, k, s: made.append(p.name) or keep(f, p, k, s))
    again = fill(tmp_path / "cache", manifest, split, recipe.preprocessing)
    assert (made, again.entries, again.fingerprint) == ([], cache.entries, cache.fingerprint)
    image = read_image(manifest.scans[2].image)
    write_image(manifest.scans[2].image, image.with_tensor(image.tensor + 1e-3))
    changed = fill(tmp_path / "cache", manifest, split, recipe.preprocessing)
    assert made == ["s2"]
    assert changed.fingerprint != cache.fingerprint
    other = small_cohort.recipe(preprocessing={"normalisation": {"kind": "z-score"}}).preprocessing
    assert len(fill(tmp_path / "cache", manifest, split, other).entries) == 6
    assert len(made) == 7
    with pytest.raises(ValueError, match=r"prepared with normalisation .* but the recipe says"):
        check_fits(open_cache(tmp_path / "cache"), recipe.preprocessing)


def test_what_was_prepared_before_an_interruption_is_kept(tmp_path: Path, monkeypatch):
    manifest = small_cohort.write_scans(tmp_path / "data")
    recipe = small_cohort.recipe()
    split = by_fractions(manifest, recipe.split.fractions)
    made: list[str] = []
    prepare = Preparer.__call__
    monkeypatch.setattr(Preparer, "__call__", lambda self, scan: made.append(scan.name) or prepare(self, scan))

    def stop_at(last: int):
        def told(number: int, total: int, name: str) -> None:
            if number == last:
                raise KeyboardInterrupt

        return told

    for last in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "cache", manifest, split, recipe.preprocessing, stop_at(last))
        with pytest.raises(FileNotFoundError):
            open_cache(tmp_path / "cache")
    assert len(fill(tmp_path / "cache", manifest, split, recipe.preprocessing).entries) == 6
    assert made == [f"s{number}" for number in range(6)]
    assert not list((tmp_path / "cache").glob("unfinished*"))


def test_labels_on_another_grid_and_wrong_dimensions_are_refused(tmp_path: Path):
    scan = scan_of(tmp_path, OBLIQUE)
    other = scan_of(tmp_path, Grid.from_spacing(OBLIQUE.shape), "b")
    plan = Preprocessing((16, 16, 16), alignment="view")
    with pytest.raises(ValueError, match="'a' are on different grids"):
        list(Preparer(plan)(Scan("a", scan.image, other.labels)))
    with pytest.raises(ValueError, match="'a' has 3 dimensions, but the recipe's lattice has 2"):
        list(Preparer(Preprocessing((16, 16), alignment="view"))(scan))
    with pytest.raises(ValueError, match="needs a reference"):
        Preparer(Preprocessing((16, 16, 16)))
    with pytest.raises(FileNotFoundError, match="--prepare-only"):
        open_cache(tmp_path)


def test_a_cohort_gives_what_was_prepared(cache):
    cohort = Cohort(cache, ("training", "validation"), CPU)
    pairs = cohort.pairs(PairPlan("all"), "training")
    assert len(pairs) == 6
    assert {name for pair in pairs for name in pair} == set(cache.split.training)
    batch = cohort.batch(pairs[:2])
    assert batch.fixed.shape == (2, 1, 16, 16, 16)
    image, labels = cache.load(cohort.entries[cohort.index[pairs[1][0]]])
    assert torch.equal(batch.fixed[1], image)
    assert torch.equal(batch.fixed_labels[1].int(), labels)
    assert cohort.label_values() == (1, 2)
    with pytest.raises(ValueError, match="no pair for test"):
        cohort.pairs(PairPlan("all"), "test")
    kept, out = (cohort.pairs(PairPlan(of, num_folds=3), "validation") for of in ("kept", "left-out"))
    assert sorted(kept + out) == sorted(pairs)
    assert len(out) == 2


def test_a_field_of_view_is_where_the_scan_was(tmp_path: Path):
    cache = small_cohort.make_cache(tmp_path, small_cohort.recipe(preprocessing={"shape": [20, 16, 12]}))
    cohort = Cohort(cache, ("training",), CPU, has_views=True)
    expected = torch.zeros(20, 16, 12, dtype=torch.bool)
    expected[2:-2] = True  # 16 voxels of the scan in a lattice of 20; cropped along the last axis
    batch = cohort.batch(cohort.pairs(PairPlan("all"), "training")[:2])
    for view in batch.views:
        assert torch.equal(view[:, 0], expected.expand(2, -1, -1, -1).float())
    assert Cohort(cache, ("training",), CPU).batch(batch.names).views is None


def test_a_slice_has_the_field_of_view_of_its_plane(tmp_path: Path):
    plan = small_cohort.recipe(
        preprocessing={"shape": [20, 16, 20], "slices": {"axis": 2, "first": 1, "last": 3}}
    ).preprocessing
    manifest = small_cohort.write_scans(tmp_path / "data")
    cache = fill(tmp_path / "cache", manifest, by_fractions(manifest, (0.5, 0.3, 0.2)), plan)
    cohort = Cohort(cache, ("training",), CPU, has_views=True)
    for entry, view in zip(cohort.entries, cohort.views, strict=True):
        assert view.shape == (1, 20, 16)
        assert int(view.sum()) == (0 if entry.position < 2 else 16 * 16)


def test_slices_pair_with_their_like(tmp_path: Path):
    scans = tuple(scan_of(tmp_path, Grid.from_spacing((8, 8, 8)), name) for name in "ab")
    plan = Preprocessing((8, 8, 8), slices=Slices(2, 2, 4))
    manifest = small_cohort.Manifest(scans)
    cache = fill(tmp_path / "cache", manifest, Split(("a", "b")), plan)
    found: list[NamePair] = Cohort(cache, ("training",), CPU).pairs(PairPlan("all"), "training")
    assert len(found) == 6
    assert all(a.split("@")[1] == b.split("@")[1] and a != b for a, b in found)


def test_one_template_serves_every_part(cache):
    template = cache.split.training[0]
    plan = PairPlan("template", template=template)
    for part in ("training", "validation", "test"):
        pairs = Cohort(cache, (part,), CPU, shared=plan.shared).pairs(plan, part)
        assert pairs == [(template, name) for name in sorted(cache.split.part(part)) if name != template]
    with pytest.raises(ValueError, match="template 'nobody'"):
        Cohort(cache, ("training",), CPU).pairs(PairPlan("template", template="nobody"), "training")


def test_scans_with_one_content_share_their_files_and_stay_as_many(tmp_path: Path):
    recipe = small_cohort.recipe()
    small_cohort.write_scans(tmp_path / "data")
    image, labels = (tmp_path / "data" / kind / "s0.nii" for kind in ("images", "labels"))
    manifest = Manifest(tuple(Scan(f"n{n}", image, labels) for n in range(4)))
    split = by_fractions(manifest, (0.5, 0.25, 0.25))
    first = fill(tmp_path / "cache", manifest, split, recipe.preprocessing)
    again = fill(tmp_path / "cache", manifest, split, recipe.preprocessing)
    assert (
        [entry.name for entry in again.entries] == [entry.name for entry in first.entries] == ["n0", "n1", "n2", "n3"]
    )


def test_a_slice_that_is_gone_is_made_again(tmp_path: Path):
    plan = small_cohort.recipe(preprocessing={"slices": {"axis": 2, "first": 6, "last": 8}}).preprocessing
    manifest = small_cohort.write_scans(tmp_path / "data")
    split = by_fractions(manifest, (0.5, 0.3, 0.2))
    entries = fill(tmp_path / "cache", manifest, split, plan).entries
    (tmp_path / "cache" / entries[1].file).unlink()
    assert fill(tmp_path / "cache", manifest, split, plan).entries == entries
    assert (tmp_path / "cache" / entries[1].file).is_file()


def test_intensities_that_the_storage_cannot_hold_are_refused(tmp_path: Path):
    plan = small_cohort.recipe(preprocessing={"normalisation": {"kind": "none"}, "storage": "float16"}).preprocessing
    manifest = small_cohort.write_scans(tmp_path / "data")
    image = read_image(manifest.scans[1].image)
    write_image(manifest.scans[1].image, image.with_tensor(image.tensor * 1e4))
    with pytest.raises(ValueError, match=r"'s1' holds intensities .* `preprocessing.storage` 'float16'"):
        fill(tmp_path / "cache", manifest, by_fractions(manifest, (0.5, 0.3, 0.2)), plan)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}'])
def test_a_damaged_list_is_named(tmp_path: Path, content: str):
    (tmp_path / "cache.json").write_text(content)
    with pytest.raises(ValueError, match=r"cache\.json' is"):
        open_cache(tmp_path)


def test_a_damaged_array_is_named(tmp_path: Path):
    cache = small_cohort.make_cache(tmp_path)
    path = cache.folder / cache.entries[0].file
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"is missing or damaged .* prepare 's0' again"):
        cache.load(cache.entries[0])


def test_scans_of_other_channels_are_named(tmp_path: Path):
    manifest = small_cohort.write_scans(tmp_path / "data")
    image = read_image(manifest.scans[2].image)
    write_image(manifest.scans[2].image, image.with_tensor(image.tensor.repeat(2, 1, 1, 1)))
    plan = small_cohort.recipe().preprocessing
    cache = fill(tmp_path / "cache", manifest, by_fractions(manifest, (0.5, 0.3, 0.2)), plan)
    with pytest.raises(ValueError, match=r"'s2' has channels and voxels \[2, 16, 16, 16\]"):
        Cohort(cache, ("training", "validation", "test"), CPU)


def test_given_pairs_name_scans_that_are_there(cache):
    cohort = Cohort(cache, ("training", "validation"), CPU)
    a, b, *_ = cache.split.training
    with pytest.raises(ValueError, match="`given` names 's33'"):
        cohort.pairs(PairPlan("given", given=((a, b), (a, "s33"))), "training")


def test_a_cache_of_other_scans_is_refused(tmp_path: Path):
    recipe = small_cohort.recipe()
    manifest = small_cohort.write_scans(tmp_path / "data")
    split, chosen = by_fractions(manifest, recipe.split.fractions), {"source": recipe.source, "split": recipe.split}
    cache = fill(tmp_path / "cache", manifest, split, recipe.preprocessing, scans_from=chosen)
    check_scans(cache, recipe)
    check_scans(small_cohort.make_cache(tmp_path / "other"), recipe)  # nothing is known of its scans
    with pytest.raises(ValueError, match=r"split.seed 0, but the recipe says 5; give --data"):
        check_scans(cache, small_cohort.recipe(split={"seed": 5}))
    with pytest.raises(ValueError, match=r"source.images"):
        check_scans(cache, small_cohort.recipe(source={"images": "others/*.nii"}))
