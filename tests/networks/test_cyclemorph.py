"""CycleMorph's generator: the file of the original."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import networks
from pullback.networks import AbstractNetwork


def publish(network: AbstractNetwork) -> dict[str, Tensor]:
    """The state under the original's names."""
    tensors = {}
    for name, value in network.state_dict().items():
        part, number, kind = (name.split(".")[n] for n in (0, 1, -1))
        level = int(number) + 1 if number.isdigit() else 0
        published = {
            "encoder": f"downconv{level - 1}.block.block.0" if level > 1 else "inconv.block.block.0",
            "ups": f"upconv{level}.upconv",
            "decoder": f"upconv{level}.block.block.0",
            "narrow": "keepblock.block.0",
            "head": "outconv.upconv",
        }[part]
        tensors[f"model.{published}.{kind}"] = value
    return tensors


@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_file_of_the_original_is_read(tmp_path: Path, num_dims: int):
    torch.manual_seed(0)
    network = networks.build("cyclemorph", num_dims=num_dims, start_channels=2, head_std=0.1).eval()
    torch.save(publish(network), tmp_path / "weights.pth")
    ours = networks.import_weights("cyclemorph", tmp_path / "weights.pth")
    images = noise(1, 1, *[32, 16, 16][:num_dims]), noise(1, 1, *[32, 16, 16][:num_dims], seed=1)
    with torch.no_grad():
        expected = network(*images)["displacement"]
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(ours(*images)["displacement"], expected)


def test_an_odd_number_of_channels_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="start_channels"):
        networks.build("cyclemorph", start_channels=3)
