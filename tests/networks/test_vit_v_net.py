"""ViT-V-Net: tokens of any lattice, and the file of the original."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import networks
from pullback.networks import AbstractNetwork
from pullback.networks.vit_v_net import Block

NAMES = {"first_norm": "attention_norm", "second_norm": "ffn_norm", "into": "ffn.fc1", "out": "ffn.fc2"}
SCALES = ("inc", "down1.maxpool_conv.1", "down2.maxpool_conv.1")


def small(**settings) -> AbstractNetwork:
    torch.manual_seed(0)
    own = {"num_dims": 2, "start_channels": 2, "width": 24, "depth": 2, "num_heads": 12, "hidden": 16, "head_std": 0.1}
    return networks.build("vit-v-net", **own | settings).eval()


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return noise(1, 1, *shape), noise(1, 1, *shape, seed=1)


@pytest.mark.parametrize("num_stages", [2, 3, 4, 5])
def test_tokens_of_every_number_of_halvings(num_stages: int):
    network = small(num_stages=num_stages)
    assert network.multiple == 2**num_stages
    tokens = []
    network.norm.register_forward_hook(lambda layer, given, out: tokens.append(out.shape[1]))
    with torch.no_grad():
        state = network(*pair(64, 32))
    assert tokens == [64 * 32 // 4**num_stages]
    assert state["displacement"].shape == (1, 2, 64, 32)


def test_positions_are_interpolated_to_other_lattices():
    network = small(num_stages=2, positions=[4, 4])
    torch.nn.init.normal_(network.positions)
    with torch.no_grad():
        features = torch.zeros(1, 4, 8, 8)
        tokens = network.embed(features)
        expected = torch.nn.functional.interpolate(network.positions, size=(8, 8), mode="bilinear")
        plain = network.norm(network.blocks((tokens + expected).flatten(2).mT)).mT.unflatten(2, (8, 8))
        torch.testing.assert_close(network._tokens(features), plain)


def test_tokens_without_a_place_are_all_alike():
    torch.manual_seed(0)
    block, x = Block(8, 2, 16, 0.0), noise(1, 6, 8)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])


def publish(network: AbstractNetwork) -> dict[str, Tensor]:
    """The state under the original's names."""
    tensors = {"spatial_trans.grid": torch.zeros(1)}
    for name, value in network.state_dict().items():
        part, *rest = name.split(".")
        if part == "positions":
            tensors["transformer.embeddings.position_embeddings"] = value.flatten(2).mT
        elif part == "encoder":
            where = f"hybrid_model.{SCALES[int(rest[0])]}.double_conv.{rest[1]}.{rest[2]}"
            tensors[f"transformer.embeddings.{where}"] = value
        elif part == "embed":
            tensors[f"transformer.embeddings.patch_embeddings.{rest[0]}"] = value
        elif part == "blocks" and rest[1] == "query_key_value":
            for ours, own in zip(("query", "key", "value"), value.chunk(3), strict=True):
                tensors[f"transformer.encoder.layer.{rest[0]}.attn.{ours}.{rest[2]}"] = own
        elif part == "blocks":
            theirs = NAMES.get(rest[1], "attn.out")
            tensors[f"transformer.encoder.layer.{rest[0]}.{theirs}.{rest[2]}"] = value
        elif part == "norm":
            tensors[f"transformer.encoder.encoder_norm.{rest[0]}"] = value
        elif part == "head":
            tensors[f"reg_head.0.{rest[0]}"] = value
        else:
            where = "conv_more" if part == "mix" else f"blocks.{rest[0]}.conv{int(rest[1]) + 1}"
            tensors[f"decoder.{where}.{int(rest[-2] == 'norm')}.{rest[-1]}"] = value
    return tensors


@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_file_of_the_original_is_read(tmp_path: Path, num_dims: int):
    lattice = [2, 1, 1][:num_dims]
    network = small(num_dims=num_dims, positions=lattice)
    torch.nn.init.normal_(network.positions)
    torch.save(publish(network), tmp_path / "weights.pth")
    ours = networks.import_weights("vit-v-net", tmp_path / "weights.pth", positions=lattice)
    images = pair(*[64, 32, 32][:num_dims])
    with torch.no_grad():
        torch.testing.assert_close(ours(*images)["displacement"], network(*images)["displacement"])


@pytest.mark.parametrize(
    "settings",
    [
        {"num_stages": 1},
        {"start_channels": 0},
        {"depth": 0},
        {"num_heads": 5},
        {"positions": [3]},
        {"dropout": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build("vit-v-net", **settings)
