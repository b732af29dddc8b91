"""TransMorph: any lattice, the four kinds of answer, and the files of the original.

The original's own code was run beside ours on random weights; see docs/matching.md.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import functional, networks
from pullback.networks import AbstractNetwork
from pullback.networks.parametrisation import resize_field, spline
from pullback.networks.swin import PatchMerging

TRUNK = {
    "trunk.transformer.embed.": "transformer.patch_embed.proj.",
    "trunk.transformer.embed_norm.": "transformer.patch_embed.norm.",
    "first_norm": "norm1",
    "second_norm": "norm2",
    "attention.query_key_value": "attn.qkv",
    "attention.project": "attn.proj",
    "attention.bonus": "attn.relative_position_bias_table",
    "perceptron.0": "mlp.fc1",
    "perceptron.2": "mlp.fc2",
}


def small(family: str = "transmorph", **settings) -> AbstractNetwork:
    torch.manual_seed(0)
    own = {"num_dims": 2, "size": "tiny", "start_channels": 4, "num_stages": 2, "window": [2, 3][:2], "head_std": 0.1}
    return networks.build(family, **own | settings).eval()


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return noise(1, 1, *shape), noise(1, 1, *shape, seed=1)


def published_name(name: str, *, within: str) -> str:
    """One of our names in the original's words."""
    parts = name.split(".")
    if parts[:2] == ["trunk", "steps"]:
        number = "1" if parts[3] == "first" else "2"
        return f"{within}up{parts[2]}.conv{number}.0.weight"
    if parts[:2] == ["trunk", "skips"]:
        return f"{within}c{int(parts[2]) + 1}.0.weight"
    if parts[0] == "head":
        return f"reg_head.0.{parts[1]}"
    if parts[0] == "convolutions":
        return f"resize_conv.{parts[1]}.0.{parts[2]}"
    for ours, theirs in TRUNK.items():
        name = name.replace(ours, theirs)
    if parts[2] == "norms":
        name = f"transformer.norm{parts[3]}.{parts[4]}"
    name = name.replace("merges", "layers").replace(".reduce.", ".downsample.reduction.")
    name = name.replace(f"layers.{parts[3]}.norm.", f"layers.{parts[3]}.downsample.norm.")
    if parts[2] == "stages":
        name = name.replace(f"stages.{parts[3]}.", f"layers.{parts[3]}.blocks.")
    return within + name.removeprefix("trunk.")


def publish(network: AbstractNetwork, *, within: str = "") -> dict[str, Tensor]:
    tensors = {"spatial_trans.grid": torch.zeros(1), f"{within}spatial_trans.grid": torch.zeros(1)}
    for name, value in network.state_dict().items():
        tensors[published_name(name, within=within)] = value.T if name.endswith("bonus") else value
    tensors[f"{within}transformer.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4).long()
    return tensors


def test_the_sizes_of_the_paper():
    counts = {"tiny": 244_527, "small": 11_757_195, "base": 46_771_251, "large": 108_343_907}
    with torch.device("meta"):
        assert {size: networks.num_parameters(networks.build("transmorph", size=size)) for size in counts} == counts


@pytest.mark.parametrize("shape", [(64, 64), (20, 36), (4, 8)])
def test_all_four_stages_on_lattices_that_are_no_multiples_of_32(shape):
    with torch.no_grad():
        state = small(num_stages=4, start_channels=8)(*pair(*shape))
    assert state["displacement"].shape == (1, 2, *shape)
    assert torch.isfinite(state["displacement"]).all()


def test_merging_keeps_the_order_of_the_original():
    merge = PatchMerging(3, 1)
    x = torch.arange(8.0).reshape(1, 2, 2, 2, 1)
    seen = []
    merge.norm.register_forward_hook(lambda layer, given, out: seen.append(given[0]))
    merge(x)
    assert seen[0].flatten().tolist() == [0, 4, 2, 1, 6, 3, 5, 7]


def test_splines_of_one_control_point_and_of_a_ramp():
    control = torch.zeros(1, 1, 7)[..., None].expand(1, 1, 7, 7).clone()
    control[0, 0, 3, 2] = 1
    dense = spline(control, 3, (12, 12))
    assert float(dense[0, 0, 6, 3]) == pytest.approx(4 / 9)
    assert float(dense[0, 0, 7, 3]) == pytest.approx((2 / 3 - 1 / 9 + 1 / 54) * 2 / 3)
    assert (dense[0, 0, 0] == 0).all()
    ramp = torch.arange(7.0).reshape(1, 1, 7, 1).expand(1, 1, 7, 7)
    expected = (1 + torch.arange(12.0) / 3).reshape(1, 1, 12, 1).expand(1, 1, 12, 12)
    torch.testing.assert_close(spline(ramp, 3, (12, 12)), expected)


def test_no_control_point_moved_is_the_identity():
    network = small("transmorph-bspline", num_dims=3, window=[2, 2, 3])
    torch.nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        state = network(*pair(16, 12, 8))
    assert not state["displacement"].any()
    stretched = small("transmorph-bspline", is_stretched=True)
    torch.nn.init.zeros_(stretched.head.weight)
    with torch.no_grad():
        moved = stretched(*pair(16, 16))["displacement"]
    torch.testing.assert_close(moved[0, 0, :, 3], torch.linspace(-0.5, 0.5, 16), atol=2e-6, rtol=0)


def test_the_spline_is_a_velocity():
    with torch.no_grad():
        state = small("transmorph-bspline")(*pair(16, 16))
    assert state["velocity"].abs().max() > 0.01
    torch.testing.assert_close(functional.exponential(state["velocity"], num_steps=7), state["displacement"])


def test_the_diffeomorphic_one_scales_and_doubles():
    network = small("transmorph-diff", is_bidirectional=True)
    with torch.no_grad():
        state = network(*pair(16, 16))
    assert state["mean"].shape == (1, 2, 8, 8)
    for name, velocity in (("displacement", state["mean"]), ("inverse_displacement", -state["mean"])):
        expected = resize_field(functional.exponential(velocity, num_steps=7), (16, 16))
        torch.testing.assert_close(state[name], expected)
    network.train()
    torch.manual_seed(0)
    first = network(*pair(16, 16))["displacement"]
    assert not torch.equal(first, network(*pair(16, 16))["displacement"])


def test_samples_of_the_bayesian_one():
    network = small("transmorph-bayes", drop_path=0.5)
    images = pair(16, 16)
    with torch.no_grad():
        assert torch.equal(network(*images)["displacement"], network(*images)["displacement"])
        torch.manual_seed(0)
        samples = torch.stack([network(*images, num_samples=1)["displacement"] for _ in range(5)])
        torch.manual_seed(0)
        mean = network(*images, num_samples=5)["displacement"]
        torch.manual_seed(0)
        spread = network.uncertainty(*images, num_samples=5)
    assert not network.training
    assert not any(layer.training for layer in network.modules())
    torch.testing.assert_close(mean, samples.mean(0))
    torch.testing.assert_close(spread, samples.std(0), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="`num_samples` is 1"):
        network.uncertainty(*images, num_samples=1)
    with pytest.raises(ValueError, match="`num_samples` is -1"):
        network(*images, num_samples=-1)


@pytest.mark.parametrize(("family", "within"), [("transmorph", ""), ("transmorph-bayes", "net.")])
def test_the_files_of_the_original_are_read(tmp_path: Path, family: str, within: str):
    torch.manual_seed(0)
    network = networks.build(family, size="tiny", num_dims=2, window=[2, 2], head_std=0.1).eval()
    tensors = publish(network, within=within)
    if within:
        tensors |= {"net.reg_head.0.weight": torch.zeros(1), "net.sigma_head.0.bias": torch.zeros(1)}
    torch.save({"epoch": 1, "state_dict": tensors}, tmp_path / "weights.pth.tar")
    ours = networks.import_weights(family, tmp_path / "weights.pth.tar", window=[2, 2])
    with torch.no_grad():
        expected = network(*pair(32, 32))["displacement"]
        torch.testing.assert_close(ours(*pair(32, 32))["displacement"], expected)
    assert ours.settings["size"] == "tiny"


def test_the_file_of_the_spline_sets_its_stretching(tmp_path: Path):
    torch.manual_seed(0)
    network = networks.build("transmorph-bspline", size="tiny", num_dims=2, window=[2, 2], is_stretched=True)
    tensors = {name.replace("reg_head.0", "out_layer"): value for name, value in publish(network).items()}
    torch.save(tensors, tmp_path / "weights.pth")
    ours = networks.import_weights("transmorph-bspline", tmp_path / "weights.pth", window=[2, 2])
    assert ours.settings["is_stretched"]
    with torch.no_grad():
        expected = network.eval()(*pair(32, 32))["displacement"]
        torch.testing.assert_close(ours(*pair(32, 32))["displacement"], expected)


def test_a_file_of_no_known_size_is_refused(tmp_path: Path):
    torch.save(publish(small(num_stages=4, start_channels=8)), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="none of the sizes"):
        networks.import_weights("transmorph", tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "settings",
    [
        {"size": "huge"},
        {"start_channels": 5},
        {"start_channels": 10, "size": "base"},
        {"num_stages": 5},
        {"window": [2]},
        {"drop_path": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build("transmorph", **settings)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("transmorph-bayes", {"dropout": -0.1}),
        ("transmorph-bspline", {"control_spacing": 0}),
        ("transmorph-bspline", {"num_squarings": 0}),
        ("transmorph-diff", {"num_squarings": 0}),
    ],
)
def test_settings_of_the_variants_are_checked(family: str, settings: dict):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build(family, size="tiny", **settings)
