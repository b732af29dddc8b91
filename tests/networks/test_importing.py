"""Published checkpoints: files laid out as the original codes write them, read as networks that compute the same.

The originals' own weights and outputs are compared in ``benchmarks/published_weights.py``.
"""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from examples import noise
from pullback import networks
from pullback.networks import AbstractNetwork

ENCODER = ["eninput", *(f"ec{n}" for n in range(1, 10))]
QUIRKS = {
    "symnet": {"time": 1.0, "outside": "zeros", "largest_velocity": 100.0},
    "fourier-net": {"unit": "normalised", "is_nyquist_paired": False},
    "fourier-net-diff": {"unit": "normalised", "is_nyquist_paired": False},
    "fourier-net-plus": {"unit": "normalised", "is_nyquist_paired": False},
    "fourier-net-plus-diff": {"unit": "normalised", "is_nyquist_paired": False, "is_integrated_once": True},
}


def published_names(family: str, network: AbstractNetwork) -> dict[str, str]:
    """Our layer names to the originals', written out by hand."""
    if family == "symnet":
        names = layers("backbone", ENCODER, [2, 2, 2, 2])
        return names | {"head_fixed": "dc9.0", "head_moving": "dc10.0"}
    if family in ("fourier-net", "fourier-net-diff"):
        return layers("backbone", ENCODER, [2, 2], decoder="r_") | {"head": "rr_dc9.0"}
    names = {}
    for stage, part in enumerate(network.stages):
        counts = [len(step.convolutions) for step in part.decoder]
        names |= layers(f"stages.{stage}", ENCODER[:8], counts, prefix=f"net{stage + 1}.")
        names[f"heads.{stage}"] = f"net{stage + 1}.dc9.0"
    return names


def layers(ours: str, encoder: list[str], counts: list[int], *, decoder: str = "", prefix: str = "") -> dict[str, str]:
    names = {f"{ours}.encoder.{n // 2}.{n % 2}": prefix + name for n, name in enumerate(encoder)}
    number = 0
    for step, count in enumerate(counts):
        names[f"{ours}.decoder.{step}.up"] = f"{prefix}{decoder}up{step + 1}"
        for position in range(count):
            number += 1
            names[f"{ours}.decoder.{step}.convolutions.{position}"] = f"{prefix}{decoder}dc{number}"
    return names


def publish(family: str, network: AbstractNetwork) -> dict[str, Tensor]:
    """The state of a network under the original's names, with its component order and its unused layers."""
    names = published_names(family, network)
    tensors = {}
    for name, value in network.state_dict().items():
        layer = next(ours for ours in names if name.startswith(f"{ours}."))
        flipped = family == "symnet" and layer.startswith("head")
        tensors[names[layer] + name.removeprefix(layer)] = value.flip(0) if flipped else value
    if family in ("fourier-net", "fourier-net-diff"):
        tensors |= {"r_up3.0.weight": torch.zeros(1), "r_dc8.1.weight": torch.zeros(1)}
    return tensors


def original(family: str, num_dims: int, **settings) -> AbstractNetwork:
    torch.manual_seed(0)
    quirks = dict(QUIRKS[family])
    if family.startswith("fourier-net-plus"):
        skip = settings.get("variant") == "skip"
        quirks |= {"gain": (2.0 if skip else 4.0) ** -num_dims, "input_gain": 2.0**num_dims}
        quirks["outside"] = "zeros" if num_dims == 3 else "edge"
    elif family != "symnet":
        quirks["gain"] = 4.0 if num_dims == 2 else 1 / 64
    return networks.build(family, num_dims=num_dims, start_channels=2, head_std=0.05, **quirks, **settings).eval()


def pair(num_dims: int) -> tuple[Tensor, Tensor]:
    return noise(1, 1, *[16] * num_dims), noise(1, 1, *[16] * num_dims, seed=1)


def assert_same(ours: AbstractNetwork, theirs: AbstractNetwork) -> None:
    images = pair(theirs.num_dims)
    with torch.no_grad():
        expected = theirs(*images)["displacement"]
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(ours(*images)["displacement"], expected, rtol=1e-5, atol=1e-8)
    assert {name: value for name, value in ours.settings.items() if name != "head_std"} == {
        name: value for name, value in theirs.settings.items() if name != "head_std"
    }


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("family", list(QUIRKS))
def test_the_file_of_the_original_is_read(tmp_path: Path, family: str, num_dims: int):
    network = original(family, num_dims)
    torch.save(publish(family, network), tmp_path / "weights.pth")
    assert_same(networks.import_weights(family, tmp_path / "weights.pth"), network)


@pytest.mark.parametrize("variant", ["plain", "skip"])
@pytest.mark.parametrize("family", ["fourier-net-plus", "fourier-net-plus-diff"])
def test_cascades_of_both_variants(tmp_path: Path, family: str, variant: str):
    network = original(family, 2, variant=variant, num_stages=3)
    torch.save(publish(family, network), tmp_path / "weights.pth")
    assert_same(networks.import_weights(family, tmp_path / "weights.pth"), network)


@pytest.mark.parametrize("wrap", [lambda t: {"state_dict": t}, lambda t: {f"module.{n}": v for n, v in t.items()}])
def test_wrapped_tensors_are_found(tmp_path: Path, wrap):
    network = original("symnet", 2)
    torch.save(wrap(publish("symnet", network)), tmp_path / "weights.pth")
    assert_same(networks.import_weights("symnet", tmp_path / "weights.pth"), network)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": {f"model.{n}": v for n, v in t.items()} | {"loss.kernel": torch.ones(3)}, "epoch": 1},
        lambda t: {"hyper_parameters": Namespace(lr=1e-4), "model_state_dict": t},
        lambda t: {"best_dsc": np.float64(0.7), "scores": np.arange(3.0), "state_dict": t},
        lambda t: {"epoch": 3, "what_it_learned": t, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda t: {f"_orig_mod.module.{n}": v for n, v in t.items()},
        lambda t: t | {"transform.grid": torch.zeros(3), "epoch": 3},
    ],
    ids=["lightning", "hyper-parameters", "numpy", "unknown key", "compiled", "buffers"],
)
def test_what_training_scripts_put_around_a_model(tmp_path: Path, wrap):
    network = original("symnet", 2)
    torch.save(wrap(publish("symnet", network)), tmp_path / "weights.pth")
    assert_same(networks.import_weights("symnet", tmp_path / "weights.pth"), network)


def test_files_of_two_networks_are_refused(tmp_path: Path):
    tensors = publish("symnet", original("symnet", 2))
    torch.save({f"{part}.{name}": value for part in "ab" for name, value in tensors.items()}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="holds 2 networks"):
        networks.import_weights("symnet", tmp_path / "two.pth")
    torch.save({"a": tensors, "b": tensors}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="no dictionary of tensors"):
        networks.import_weights("symnet", tmp_path / "two.pth")


def test_damaged_files_and_numbers_are_refused(tmp_path: Path):
    tensors, path = publish("symnet", original("symnet", 2)), tmp_path / "weights.pth"
    torch.save(tensors, path)
    whole = path.read_bytes()
    one_bit = bytearray(whole)
    one_bit[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:100], whole[:-10], bytes(one_bit)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            networks.import_weights("symnet", path)
    torch.save(tensors | {"eninput.0.bias": torch.full_like(tensors["eninput.0.bias"], torch.nan)}, path)
    with pytest.raises(ValueError, match="not finite"):
        networks.import_weights("symnet", path)
    torch.save({"flow.weight": torch.zeros(2, 2, 3, 3)}, path)
    with pytest.raises(ValueError, match="no checkpoint of 'voxelmorph'"):
        networks.import_weights("voxelmorph", path)


def test_what_a_file_would_call_is_never_called(tmp_path: Path):
    class Call:
        def __reduce__(self):
            return Path.touch, (tmp_path / "called",)

    torch.save({"state_dict": publish("symnet", original("symnet", 2)), "more": Call()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="never loaded"):
        networks.import_weights("symnet", tmp_path / "weights.pth")
    assert not (tmp_path / "called").exists()


def voxelmorph_file(path: Path, network: AbstractNetwork, *, is_old: bool = False, config: dict | None) -> None:
    """As the code's ``model.save`` writes it: modules ``main`` in blocks, lattices of the warps among the tensors."""
    parts = {"encoder": "downarm", "decoder": "uparm", "finest": "extras"} if is_old else {"finest": "remaining"}
    tensors = {"transformer.grid": torch.zeros(1, 2, 16, 16)}
    for name, value in network.state_dict().items():
        if name.startswith("head."):
            tensors[name.replace("head", "flow")] = value
            continue
        _, part, *numbers, _, kind = name.split(".")
        numbers = numbers[:1] if is_old else numbers
        tensors[".".join(["unet_model", parts.get(part, part), *numbers, "main", kind])] = value
    torch.save(tensors if config is None else {"config": config, "model_state": tensors}, path)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"int_steps": 7, "int_downsize": 2}, {}),
        ({"int_steps": 5, "int_downsize": 1, "bidir": True}, {"num_squarings": 5, "integration_factor": 1}),
        ({"int_steps": 7, "int_downsize": 2, "unet_half_res": True}, {"is_half_resolution": True}),
        ({"int_steps": 0}, {"parametrisation": "displacement"}),
    ],
)
@pytest.mark.parametrize("num_dims", [2, 3])
def test_voxelmorph(tmp_path: Path, num_dims: int, config: dict, settings: dict):
    torch.manual_seed(0)
    own = {"encoder": [2, 3], "decoder": [3, 2, 2], "size": "pooled", "outside": "zeros", "resizing": "corners"}
    own |= {"is_bidirectional": config.get("bidir", False), "downsampling": None, "head_std": 0.1}
    network = networks.build("voxelmorph", num_dims=num_dims, **own, **settings).eval()
    said = config | {"inshape": (16, 32, 48)[:num_dims], "src_feats": 1, "trg_feats": 1}
    voxelmorph_file(tmp_path / "weights.pt", network, config=said)
    assert_same(networks.import_weights("voxelmorph", tmp_path / "weights.pt"), network)
    assert networks.transcribe("voxelmorph", tmp_path / "weights.pt").shape == (16, 32, 48)[:num_dims]


def test_old_voxelmorph_needs_to_be_told_what_its_field_is(tmp_path: Path):
    torch.manual_seed(0)
    own = {"encoder": [2, 3], "decoder": [3, 2, 2], "size": "2", "outside": "zeros", "resizing": "corners"}
    network = networks.build("voxelmorph", num_dims=2, parametrisation="displacement", head_std=0.1, **own).eval()
    voxelmorph_file(tmp_path / "old.pth", network, is_old=True, config=None)
    with pytest.raises(ValueError, match="displacement or a velocity"):
        networks.import_weights("voxelmorph", tmp_path / "old.pth")
    assert_same(networks.import_weights("voxelmorph", tmp_path / "old.pth", parametrisation="displacement"), network)


def test_nothing_but_tensors_is_loaded(tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save({"numbers": [1, 2]}, tmp_path / "numbers.pth")
    for name in ("pickled", "text", "numbers"):
        with pytest.raises(ValueError, match="tensors"):
            networks.import_weights("symnet", tmp_path / f"{name}.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        networks.import_weights("symnet", tmp_path / "nothing.pth")


def test_files_of_other_families_are_refused(tmp_path: Path):
    torch.save(publish("fourier-net", original("fourier-net", 2)), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="no checkpoint of 'symnet'"):
        networks.import_weights("symnet", tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="no checkpoint of 'voxelmorph'"):
        networks.import_weights("voxelmorph", tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="`family` is 'unet-control'"):
        networks.import_weights("unet-control", tmp_path / "weights.pth")


def test_tensors_too_many_or_of_another_shape_are_refused(tmp_path: Path):
    tensors = publish("symnet", original("symnet", 2))
    torch.save(tensors | {"dc11.0.weight": torch.zeros(1)}, tmp_path / "many.pth")
    with pytest.raises(ValueError, match=r"dc11\.0\.weight"):
        networks.import_weights("symnet", tmp_path / "many.pth")
    torch.save(tensors | {"ec1.0.weight": torch.zeros(2, 2, 5, 5)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="do not fit"):
        networks.import_weights("symnet", tmp_path / "other.pth")
