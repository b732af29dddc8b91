"""What every registered network must do; a new family is tested by being registered."""

import json

import pytest
import torch
from torch import Tensor

from pullback import networks
from pullback.networks import STATE_NAMES, AbstractNetwork
from pullback.networks.registry import Family

FAMILIES = [networks.find(name) for name in networks.names()]
every_family = pytest.mark.parametrize("entry", FAMILIES, ids=networks.names())
both_dimensions = pytest.mark.parametrize("num_dims", [2, 3])
AWAKE = {"symnet": 5e-4}
"""Of the first weights of last layers; SYMNet's are multiplied by 100 voxels."""
OTHER_SHAPES = ("matrix", "fixed_points", "moving_points", "mean", "log_variance", "smoothness")
"""Entries of a state that are no fields on the lattice."""
PUBLISHED = [(entry.name, settings, count) for entry in FAMILIES for settings, count in entry.published]

FEWER = {"width": 12, "num_heads": 2, "depth": 2, "hidden": 12, "drop_path": 0.0}
"""Small transformers, whose parts are not left out by chance."""


def small(entry: Family, num_dims: int, *, awake: bool = True, **settings) -> AbstractNetwork:
    """A family's network with few channels; awake: with last layers that are far from zero."""
    own = {"num_dims": num_dims} | ({"head_std": AWAKE.get(entry.name, 0.05)} if awake else {})
    if "start_channels" in entry.defaults:
        own["start_channels"] = 4
    if "encoder" in entry.defaults:
        own |= {"encoder": [4, 4], "decoder": [4, 4, 4]}
    if "num_stages" in entry.defaults:
        own["num_stages"] = 2
    own |= {name: value for name, value in FEWER.items() if name in entry.defaults}
    torch.manual_seed(0)
    return networks.build(entry.name, **own | settings)


def images(num_dims: int, *, batch: int = 2, size: int = 16, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, size, *[16] * (num_dims - 1))
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def tensors_of(state: networks.State) -> dict[str, Tensor]:
    parts = {}
    for name, entry in state.items():
        parts |= {f"{name} {n}": part for n, part in enumerate(entry)} if isinstance(entry, list) else {name: entry}
    return parts


@every_family
@both_dimensions
def test_states_have_known_names_right_shapes_and_finite_numbers(entry, num_dims):
    state = small(entry, num_dims).eval()(*images(num_dims, size=32))
    assert "displacement" in state
    assert set(state) <= set(STATE_NAMES)
    for name, part in tensors_of(state).items():
        assert torch.isfinite(part).all(), name
        if name not in OTHER_SHAPES:
            assert part.shape == (2, num_dims, 32, *[16] * (num_dims - 1)), name


@every_family
@both_dimensions
def test_every_parameter_gets_a_gradient(entry, num_dims):
    network = small(entry, num_dims)
    state = network(*images(num_dims))
    sum(part.sin().mean() for part in tensors_of(state).values()).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert missing == []


SINGLE = ("airnet-matches", "c2fvit", "keymorph", "nice-trans")
"""Families that compute in single precision whatever comes in. The others are tested in double."""


@every_family
@both_dimensions
def test_the_pairs_of_a_batch_do_not_know_each_other(entry, num_dims):
    dtype = torch.float32 if entry.name in SINGLE else torch.float64
    network = small(entry, num_dims).eval().to(dtype)
    fixed, moving = (image.to(dtype) for image in images(num_dims))
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    with torch.no_grad():
        together = tensors_of(network(fixed, moving))
        for pair in range(2):
            alone = tensors_of(network(fixed[pair : pair + 1], moving[pair : pair + 1]))
            for name, part in alone.items():
                torch.testing.assert_close(part[0], together[name][pair], **tolerance)


@every_family
@both_dimensions
def test_a_new_network_is_nearly_the_identity(entry, num_dims):
    state = small(entry, num_dims, awake=False).eval()(*images(num_dims))
    assert state["displacement"].abs().max() < 0.01


@pytest.mark.parametrize("family", ["voxelmorph", "symnet", "fourier-net", "fourier-net-plus", "unet-control"])
def test_a_new_network_looks_at_its_images(family):
    """With weights that fade from layer to layer, biases alone would be left, and learning would begin much later."""
    torch.manual_seed(0)
    network = networks.build(family, num_dims=2, head_std=1e-3)
    fixed, moving = images(2, size=64)
    with torch.no_grad():
        first, second = network(fixed, moving)["displacement"]
    assert (first - second).std() > 0.3 * first.std()


@every_family
@both_dimensions
def test_odd_sizes_pass_with_padding(entry, num_dims):
    network = small(entry, num_dims).eval()
    fixed, moving = (image[..., :13] for image in images(num_dims, batch=1, size=19))
    with torch.no_grad():
        state = networks.run_padded(network, fixed, moving)
    assert state["displacement"].shape == (1, num_dims, *fixed.shape[2:])


@every_family
def test_sizes_that_fit_are_not_padded(entry):
    network = small(entry, 2).eval()
    fixed, moving = images(2)
    with torch.no_grad():
        assert torch.equal(
            networks.run_padded(network, fixed, moving)["displacement"], network(fixed, moving)["displacement"]
        )


@every_family
def test_settings_rebuild_the_network(entry):
    network = small(entry, 2).eval()
    again = networks.build(network.family, **json.loads(json.dumps(network.settings))).eval()
    again.load_state_dict(network.state_dict())
    assert again.settings == network.settings
    assert set(network.settings) == set(entry.defaults)
    fixed, moving = images(2)
    with torch.no_grad():
        assert torch.equal(again(fixed, moving)["displacement"], network(fixed, moving)["displacement"])


@every_family
def test_one_seed_makes_one_network_and_one_answer(entry):
    first, second = small(entry, 3), small(entry, 3)
    pair = images(3)
    torch.manual_seed(1)
    answer = first(*pair)["displacement"]
    torch.manual_seed(1)
    assert torch.equal(second(*pair)["displacement"], answer)


@every_family
def test_images_may_have_channels(entry):
    network = small(entry, 2, num_channels=3).eval()
    assert network(*images(2, channels=3))["displacement"].shape == (2, 2, 16, 16)


@every_family
def test_both_images_count(entry):
    network = small(entry, 2).eval()
    fixed, moving = images(2)
    with torch.no_grad():
        answers = [network(*pair)["displacement"] for pair in ((fixed, moving), (fixed, fixed), (moving, moving))]
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])


@pytest.mark.parametrize(("name", "settings", "count"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name, settings, count):
    with torch.device("meta"):
        assert networks.num_parameters(networks.build(name, **settings)) == count


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("voxelmorph", {"size": "1"}, 274_387),
        ("voxelmorph", {"size": "2"}, 301_411),
        ("symnet", {}, 1_124_448),
        ("fourier-net", {"start_channels": 8}, 1_050_800),
        ("fourier-net", {"start_channels": 16}, 4_198_352),
        ("fourier-net-plus", {"start_channels": 8}, 220_733),
        ("fourier-net-plus", {"start_channels": 16}, 880_109),
    ],
)
def test_the_counts_of_the_papers_are_registered(name, settings, count):
    assert (settings, count) in networks.find(name).published


@every_family
def test_it_says_what_is_wrong_with_the_images(entry):
    network = small(entry, 3)
    fixed, moving = images(3)
    with pytest.raises(ValueError, match="multiple of"):
        network(fixed[..., :15], moving[..., :15])
    with pytest.raises(ValueError, match="3 spatial axes"):
        network(fixed[..., 0], moving[..., 0])
    with pytest.raises(ValueError, match="both on one lattice"):
        network(fixed, moving[:1])
    with pytest.raises(TypeError):
        network(fixed, moving, nonsense=1)


def test_unknown_names_show_the_near_ones():
    with pytest.raises(ValueError, match="Did you mean 'voxelmorph'"):
        networks.build("voxelmorf")
    with pytest.raises(ValueError, match="Did you mean 'start_channels'"):
        networks.build("symnet", start_chanels=4)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("symnet", {"num_dims": 4}),
        ("voxelmorph", {"num_dims": 0}),
        ("lapirn", {"num_channels": -1}),
        ("hsyn", {"encoder": []}),
        ("voxelmorph", {"decoder": "abc"}),
        ("voxelmorph-probabilistic", {"downsampling": 2}),
        ("transmorph", {"window": 3}),
        ("transmorph", {"start_channels": [96]}),
        ("vit-v-net", {"positions": [5, 0, 7]}),
        ("modet", {"head_std": -1.0}),
        ("fourier-net", {"gain": float("nan")}),
        ("symnet", {"num_channels": 0}),
        ("symnet", {"num_squarings": 0}),
        ("symnet", {"time": 0}),
        ("symnet", {"start_channels": 0}),
        ("symnet", {"outside": "mirror"}),
        ("voxelmorph", {"size": "3"}),
        ("voxelmorph", {"parametrisation": "spline"}),
        ("voxelmorph", {"parametrisation": "displacement", "is_bidirectional": True}),
        ("voxelmorph", {"integration_factor": 3}),
        ("voxelmorph", {"num_squarings": 0}),
        ("voxelmorph", {"resizing": "middle"}),
        ("voxelmorph", {"encoder": [4, 4], "decoder": [4]}),
        ("voxelmorph", {"is_half_resolution": True, "integration_factor": 1}),
        ("unet-control", {"is_bidirectional": True}),
        ("fourier-net", {"unit": "mm"}),
        ("fourier-net-plus", {"variant": "large"}),
        ("fourier-net-plus", {"num_stages": 0}),
        ("airnet", {"parametrisation": "quaternion"}),
        ("airnet", {"origin": "edge"}),
        ("airnet", {"dropout": 1.0}),
        ("airnet", {"translation_scale_voxels": 0.0}),
        ("airnet", {"first_width": 0}),
        ("airnet-matches", {"reach_voxels": 0.0}),
        ("c2fvit", {"num_stages": 4}),
        ("c2fvit", {"num_heads": 0}),
        ("c2fvit", {"start_channels": 7}),
        ("nice-trans", {"num_stages": 1}),
        ("nice-trans", {"start_channels": 7}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build(name, **settings)
