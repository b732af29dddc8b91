"""The parts of the engine: derivatives of the frame, the schedule, regularities at work."""

import numpy as np
import pytest
import torch

import phantoms
from pullback import functional
from pullback.data import Image, Pair
from pullback.pairwise import words
from pullback.registration import (
    DeformablePlan,
    Level,
    LinearPlan,
    Plan,
    Plateau,
    build,
    deformable,
    register,
    schedule,
)
from pullback.registration.deformable import _Stage, domain_of
from pullback.registration.linear import KINDS, Comparison, Frame, Restraint, optimise
from pullback.registration.schedule import fitting_levels
from pullback.registration.volume import prepare
from pullback.regularity import Bending, Diffusion, Gaussian
from pullback.similarity import LNCC, MSE, NCC
from pullback.space import Grid

START = np.array([[1.02, 0.1, 0.0, 4.0], [-0.1, 0.97, 0.05, -3.0], [0.02, 0.0, 1.01, 2.0], [0.0, 0.0, 0.0, 1.0]])
FLAT_START = np.array([[1.0, 0, 0, 0], [0, 0.97, 0.2, -3.0], [0, -0.2, 1.01, 2.0], [0, 0, 0, 1.0]])
NUM_FREE = {"translation": (3, 2), "rigid": (6, 3), "similarity": (7, 4), "affine": (12, 6)}


def frame(kind: str, is_flat: bool) -> Frame:
    return Frame(FLAT_START if is_flat else START, np.array([0.0 if is_flat else 5.0, -7, 3]), 50.0, kind, is_flat)


@pytest.mark.parametrize("is_flat", [False, True], ids=["3-D", "2-D"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_frame_has_the_right_freedom_and_derivative(kind: str, is_flat: bool):
    f = frame(kind, is_flat)
    size = len(f.directions())
    assert size == NUM_FREE[kind][is_flat]
    np.testing.assert_allclose(f.matrix(np.zeros(size)), f.start, atol=1e-12)
    random = np.random.default_rng(0)
    at, by_matrix = random.normal(size=size) * 4, random.normal(size=(3, 4))
    steps = 1e-5 * np.eye(size)
    numeric = [((f.matrix(at + s) - f.matrix(at - s))[:3] * by_matrix).sum() / 2e-5 for s in steps]
    np.testing.assert_allclose(f.gradient(at, by_matrix), numeric, rtol=1e-6, atol=1e-6)
    at_zero = [((f.matrix(s) - f.matrix(-s))[:3] * by_matrix).sum() / 2e-5 for s in steps]
    np.testing.assert_allclose(f.gradient(np.zeros(size), by_matrix), at_zero, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_rigid_frames_keep_angles(kind: str):
    turned = Frame(np.eye(4), np.array([5.0, -7, 3]), 50.0, kind, False)
    linear = turned.matrix(np.arange(1.0, len(turned.directions()) + 1))[:3, :3]
    gram = linear.T @ linear
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(3), atol=1e-12)
    assert kind == "similarity" or gram[0, 0] == pytest.approx(1.0)


def test_a_restraint_is_the_mean_squared_distance_over_a_ball():
    centre, radius, random = np.array([5.0, -7, 3]), 40.0, np.random.default_rng(0)
    restraint = Restraint(START, centre, radius, 0.3)
    assert restraint.energy_and_gradient(START)[0] == 0
    moved = START.copy()
    moved[:3, 3] += [0, radius, 0]
    assert restraint.energy_and_gradient(moved)[0] == pytest.approx(0.3)
    matrix, direction = START.copy(), random.normal(size=(3, 4)) * [0.1, 0.1, 0.1, 5]
    matrix[:3] += direction
    points = random.normal(size=(200_000, 3))
    points *= radius * random.random((len(points), 1)) ** (1 / 3) / np.linalg.norm(points, axis=1, keepdims=True)
    gaps = (points + centre) @ direction[:, :3].T + direction[:, 3]
    energy, gradient = restraint.energy_and_gradient(matrix)
    assert energy == pytest.approx(0.3 / radius**2 * (gaps**2).sum(axis=1).mean(), rel=0.02)
    assert (gradient * direction).sum() == pytest.approx(2 * energy)  # the energy is a square


@pytest.mark.parametrize("similarity", [MSE(), NCC()], ids=["mse", "ncc"])
def test_a_comparison_has_the_right_derivative(similarity):
    moving = prepare(phantoms.plain_scan()[0]).coarsen((2, 2, 2))
    comparison = Comparison(prepare(phantoms.head()).coarsen((2, 2, 2)), moving, similarity)
    f = Frame(np.eye(4), np.zeros(3), 50.0, "affine", False)
    at = np.random.default_rng(0).normal(size=12)
    value, by_matrix = comparison.value_and_gradient(f.matrix(at))
    assert value == pytest.approx(comparison.value(f.matrix(at)))
    steps = 0.02 * np.eye(12)
    numeric = np.array(
        [(comparison.value(f.matrix(at + s)) - comparison.value(f.matrix(at - s))) / 0.04 for s in steps]
    )
    assert np.linalg.norm(f.gradient(at, by_matrix) - numeric) < 0.03 * np.linalg.norm(numeric)


def test_optimising_never_makes_it_worse():
    comparison = Comparison(prepare(phantoms.head()), prepare(phantoms.plain_scan()[0]), NCC())
    f = Frame(np.eye(4), np.zeros(3), 50.0, "rigid", False)
    matrix, value, history = optimise(comparison, f, max_steps=5)
    assert value >= comparison.value(np.eye(4))
    assert value == pytest.approx(comparison.value(matrix), abs=1e-9)
    assert history == sorted(history)
    assert 1 <= len(history) <= 5


def noisy_deformation(*levels: Level) -> tuple[deformable.Deformation, list[float]]:
    """Of a textured image onto a noisy copy of itself, and the shares that were told on the way."""
    fixed, shares = phantoms.texture(), []
    noise = torch.randn(fixed.tensor.shape, generator=torch.Generator().manual_seed(0)) * fixed.tensor.std()
    found = deformable.deform(
        prepare(fixed),
        prepare(Image(fixed.tensor + noise, fixed.grid)),
        np.eye(4),
        similarity=LNCC(),
        regularities=(Gaussian(),),
        levels=levels,
        stop=Plateau(tolerance=-np.inf),
        on_step=lambda factor, share, value: shares.append(share),
    )
    return found, shares


def test_levels_average_less_along_coarse_axes():
    grid = Grid.from_spacing((64, 64, 16), (1.0, 1.0, 4.0))
    volume = prepare(Image(torch.rand(1, *grid.shape), grid))
    assert Level(8, 1).factors(volume) == (8, 8, 2)
    assert Level(2, 1).factors(volume) == (2, 2, 1)
    flat = prepare(Image(torch.rand(1, 40, 50), Grid.from_spacing((40, 50), 2.0)))
    assert Level(4, 1).factors(flat) == (1, 4, 4)


def test_levels_too_coarse_to_see_anything_are_left_out():
    volume = prepare(Image(torch.rand(1, 44, 30, 43), Grid.from_spacing((44, 30, 43), 1.0)))
    levels = (Level(8, 1), Level(4, 1), Level(2, 1), Level(1, 1))
    assert [level.factor for level in fitting_levels(levels, volume)] == [2, 1]
    smaller = volume.crop((0, 0, 0), (43, 30, 43))
    assert [level.factor for level in fitting_levels(levels, smaller)] == [1]
    assert [level.factor for level in fitting_levels((Level(16, 1),), volume)] == [16]


def test_small_lattices_have_time_for_rounds_both_ways():
    assert Level(1, 15).rounds_on(1) == 1
    assert Level(1, 15, num_rounds=3).rounds_on(2**20 - 1) == 3
    assert Level(1, 15, num_rounds=3).rounds_on(2**20) == 1
    found, shares = noisy_deformation(Level(1, 4, num_rounds=3))
    assert [(level.factor, len(level.values)) for level in found.history] == [(1, 5)] * 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 5 * 4


@pytest.mark.parametrize(("cheap", "finest"), [(0, "fine"), (2**20, "any")], ids=["large", "small"])
def test_only_the_finest_level_of_a_large_lattice_has_regularities_of_its_own(
    cheap: int, finest: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(schedule, "CHEAP_VOXELS", cheap)
    volume, used = prepare(phantoms.texture()), []

    class Told(Gaussian):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def smooth_update(self, update: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
            used.append((update.shape[2] < 40, self.name))
            return super().smooth_update(update, scratch)

    deformable.deform(
        volume,
        volume,
        np.eye(4),
        similarity=LNCC(),
        regularities=[Told("any")],
        fine_regularities=[Told("fine")],
        levels=(Level(2, 1), Level(1, 1)),
    )
    assert used == [(True, "any"), (True, "any"), (False, finest)]


def test_a_plateau_is_little_gain_over_a_window():
    stop = Plateau(window=3, tolerance=0.1)
    assert not stop.is_reached([0.0, 0.0, 0.0])
    assert stop.is_reached([0.0, 0.0, 0.0, 0.05])
    assert not stop.is_reached([0.0, 0.0, 0.0, 0.2])
    assert stop.is_reached([0.0, 0.3, 0.2, 0.1, 0.0, 0.0])
    assert not Plateau(3, -np.inf).is_reached([1.0, 0.5, 0.2, 0.0])


def deform(*regularities, stop=None):
    plan = Plan(
        methods=("header",),
        similarity=lambda fixed, moving: build("ncc", fixed, moving, "for the test"),
        linear=LinearPlan("rigid"),
        deformable=DeformablePlan(
            levels=(Level(2, 20), Level(1, 5)), regularities=regularities, stop=stop or Plateau()
        ),
    )
    with phantoms.no_rivals():
        return register(Pair(phantoms.head(), phantoms.other_scan()[0]), plan)


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        ((Gaussian(1.0, 0.3),), (Gaussian(3.0, 0.3),)),
        ((Gaussian(1.0, 0.3),), (Gaussian(1.0, 1.2),)),
        ((Gaussian(1.0, 0.3),), (Gaussian(1.0, 0.3), Diffusion(0.3))),
        ((Gaussian(1.0, 0.3),), (Gaussian(1.0, 0.3), Bending(0.3))),
    ],
    ids=["fluid", "elastic", "diffusion", "bending"],
)
def test_more_regularity_means_less_spread_of_volumes(weak, strong):
    loose, tight = deform(*weak), deform(*strong)
    assert tight.evidence.jacobian.sd_log < loose.evidence.jacobian.sd_log


def test_smoothness_on_the_command_line_widens_the_smoothing():
    options = {"initial": "header", "preset": "fast"}
    pair = phantoms.head(), phantoms.other_scan()[0]
    spreads = [
        phantoms.register(*pair, smoothness=s, **options).result.evidence.jacobian.sd_log for s in (0.7, 1.0, 2.0)
    ]
    assert spreads == sorted(spreads, reverse=True)


def test_a_level_stops_where_it_gains_nothing_more():
    patient, hasty = deform(Gaussian(), stop=Plateau(tolerance=-np.inf)), deform(Gaussian(), stop=Plateau(3, 10.0))
    steps = [[len(h.values) for h in r.history if h.stage == "deformable"] for r in (patient, hasty)]
    assert steps == [[21, 6], [5, 5]]  # the last value is that of the end
    assert all("gained less than" in h.reason for h in hasty.history if h.stage == "deformable")


def test_the_deformation_is_the_identity_at_its_edge_and_beyond():
    field = phantoms.deformable().result.field
    for axis in range(1, 4):
        for end in (0, -1):
            assert not field.displacement.select(axis, end).any()
    far = torch.tensor([[1e4, 0.0, 0.0]], dtype=torch.float64)
    assert torch.equal(field(far), far)


@pytest.mark.parametrize(("methods", "told"), [(("headers",), "Did you mean 'header'"), (("none", "search"), "alone")])
def test_a_plan_refuses_sources_of_starts_that_are_none(methods: tuple[str, ...], told: str):
    with pytest.raises(ValueError, match=told):
        Plan(methods=methods)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_at_each_level_an_image_seen_through_the_identity_is_itself(factor: int):
    """Blocks of both images lie on each other, edges hold what they held, and both directions sample dense copies."""
    volume, here = prepare(phantoms.texture()), np.eye(4)
    stage = _Stage.between(domain_of(volume, volume, here), volume, here, Level(factor, 1), "cpu")
    for way in (stage, stage.mirrored()):
        seen = functional.warp(way.moving, torch.zeros(1, 3, *way.grid.shape), way.voxel_map, fill=way.fill)
        known = torch.ones_like(seen, dtype=torch.bool) if way.fixed_weights is None else way.fixed_weights > 0
        torch.testing.assert_close(seen[known], way.fixed[known], rtol=0, atol=1e-4)
        assert np.diag(way.voxel_map)[:3] == pytest.approx(2.0 if factor > 1 else 1.0)


def test_around_an_object_cropped_to_its_outline_there_is_background_at_each_resolution():
    """Smoothing repeats edges: of an image that is cropped to its object they would go on."""
    image = phantoms.texture()
    middle = torch.tensor(image.grid.shape) // 2
    away = torch.stack(torch.meshgrid(*[torch.arange(n) for n in image.grid.shape], indexing="ij"), -1) - middle
    image = Image((image.tensor - image.tensor.min() + 1) * (away.square().sum(-1) <= 12**2), image.grid)
    roomy = prepare(image)
    assert roomy.grid.shape == (25, 25, 25)
    assert roomy.has_background
    coarse = roomy.coarsen((4, 4, 4))
    padded = roomy.crop((-12, -12, -12), (36, 36, 36)).coarsen((4, 4, 4))
    seen = functional.warp(
        padded.tensor,
        torch.zeros(1, 3, *coarse.grid.shape),
        padded.grid.world_to_voxel.numpy() @ coarse.grid.voxel_to_world.numpy(),
    )
    torch.testing.assert_close(coarse.tensor, seen, rtol=0, atol=0.05)
    assert coarse.grid.shape == (9, 9, 9)


def test_beyond_a_view_without_background_the_edge_goes_on_at_no_weight():
    volume = prepare(phantoms.texture())
    wider = volume.crop((-3, 0, 0), (volume.grid.shape[0], *volume.grid.shape[1:]))
    assert torch.equal(wider.tensor[:, :, :3], volume.tensor[:, :, :1].expand(-1, -1, 3, -1, -1))
    assert float(wider.weights[:, :, :3].max()) == 0
    assert float(wider.weights[:, :, 3:].min()) == 1


def test_a_deformation_that_ends_worse_than_none_is_taken_back(monkeypatch: pytest.MonkeyPatch):
    """Whatever the coarser levels found: here a bump of three voxels between an image and itself."""
    volume = prepare(phantoms.texture())

    def mislead(there: torch.Tensor, back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bump = torch.zeros_like(there)
        bump[:, :, 8:-8, 8:-8, 8:-8] = 1.5
        return functional.gaussian_smooth(bump, 2.0), back

    monkeypatch.setattr(deformable, "_agree", mislead)
    found = deformable.deform(
        volume,
        volume,
        np.eye(4),
        similarity=LNCC(),
        regularities=[Gaussian(fluid_voxels=1.7)],
        levels=(Level(2, 1), Level(1, 1)),
    )
    assert float(found.displacement.abs().max()) == 0
    assert found.history[-1].reason == "gained nothing and was taken back"


def test_the_guide_leads_and_the_judge_decides():
    volume, used = prepare(phantoms.texture()), []

    class Told(LNCC):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def value_and_gradient(self, *images: torch.Tensor, **room: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            used.append(self.name)
            return super().value_and_gradient(*images, **room)

        def as_guide(self, fixed: torch.Tensor) -> LNCC:
            assert fixed.shape[1] == 1
            return Told("guide")

        def as_judge(self) -> LNCC:
            return Told("judge")

    told = Told("neither")
    deformable.deform(volume, volume, np.eye(4), similarity=told, regularities=[Gaussian()], levels=(Level(1, 2),))
    assert used[:3] == ["guide"] * 3  # two steps and their end
    assert set(used[3:]) == {"judge"}


class ToldValues:
    """A similarity that says what it was told to, whatever it sees."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def as_judge(self) -> "ToldValues":
        return self

    def value_and_gradient(self, *_images: torch.Tensor | None, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([self.values.pop(0)], dtype=torch.float64), out


@pytest.mark.parametrize(("gain", "best"), [(0.9e-4, 0), (1.1e-4, 2)], ids=["hardly better", "better"])
def test_no_deformation_stays_unless_another_gains_more_than_noise_does(gain: float, best: int):
    volume, here = prepare(phantoms.texture()), np.eye(4)
    stage = _Stage.between(domain_of(volume, volume, here), volume, here, Level(1, 1), "cpu")
    fields = [torch.zeros(1, 3, *stage.grid.shape) for _ in range(3)]
    parts = deformable._Parts(ToldValues(0.5, 0.4, 0.5 + gain), (), deformable.SteepestAscent(), Plateau(), None)
    found = stage._best_of(fields[1:], fields[:1], parts, (stage._empty(1), stage._empty(1)))
    assert found is fields[best]


def test_smoothness_is_for_the_finest_level_too():
    plain, wide = DeformablePlan(), words._deformable("brain", 2.0)
    for before, after in zip(plain.fine_regularities, wide.fine_regularities, strict=True):
        assert vars(after) == vars(before.scaled(2.0))
    assert wide.fine_regularities[1].shear == 4 * plain.fine_regularities[1].shear < wide.regularities[1].shear


def test_lattices_smaller_than_a_brain_have_time_for_more_steps():
    finest = Level(1, 15, num_rounds=3, most_steps=30)
    assert [finest.steps_on(n) for n in (2**20 - 1, 2**20, 2_700_000, 4_000_000, 5_400_000, 10**8)] == [
        15,
        30,
        30,
        20,
        15,
        15,
    ]
    assert Level(1, 15).steps_on(2**21) == 15
