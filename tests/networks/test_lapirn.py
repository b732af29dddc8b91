"""LapIRN: levels that add up, coarse ones first, and the file of the original.

The originals' own weights and outputs are compared in ``benchmarks/published_weights.py``.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import functional, networks
from pullback.networks import AbstractNetwork

WITHIN = ("model_lvl2.model_lvl1.", "model_lvl2.", "")
PARTS = {"encoder": "input_encoder_lvl1", "down": "down_conv", "up": "up", "decoder.0": "output_lvl1.0"}
PARTS |= {"head": "output_lvl1.2"}
PARTS |= {f"blocks.{n}.first": f"resblock_group_lvl1.{2 * n}.conv1" for n in range(5)}
PARTS |= {f"blocks.{n}.second": f"resblock_group_lvl1.{2 * n}.conv2" for n in range(5)}


def small(num_dims: int, parametrisation: str, **settings) -> AbstractNetwork:
    torch.manual_seed(0)
    own = {"num_dims": num_dims, "start_channels": 1, "parametrisation": parametrisation, "head_std": 0.1}
    return networks.build("lapirn", **own | settings).eval()


def pair(num_dims: int) -> tuple[Tensor, Tensor]:
    return noise(1, 1, *[16] * num_dims), noise(1, 1, *[16] * num_dims, seed=1)


def publish(network: AbstractNetwork) -> dict[str, Tensor]:
    """The state under the original's names, components last axis first."""
    tensors = {}
    for name, value in network.state_dict().items():
        _, level, rest = name.split(".", 2)
        ours = next(part for part in PARTS if rest.startswith(f"{part}."))
        if ours == "head":
            value = value.flip(0)
        if level != "0" and rest == "encoder.0.weight":
            value = torch.cat([value[:, :2], value[:, 2:].flip(1)], dim=1)
        tensors[WITHIN[int(level)] + PARTS[ours] + rest.removeprefix(ours)] = value
    return tensors


@pytest.mark.parametrize("num_dims", [2, 3])
def test_levels_add_up(num_dims: int):
    state = small(num_dims, "displacement")(*pair(num_dims))
    assert state["displacement"].abs().max() > 0.01
    torch.testing.assert_close(sum(state["levels"]), state["displacement"])
    state = small(num_dims, "velocity")(*pair(num_dims))
    torch.testing.assert_close(sum(state["levels"]), state["velocity"])
    torch.testing.assert_close(functional.exponential(state["velocity"], num_steps=7), state["displacement"])


def test_no_level_goes_further_than_its_share():
    network = small(2, "displacement", head_std=100.0, largest_share=0.4)
    assert all(level.abs().max() <= 0.4 * 7.5 for level in network(*pair(2))["levels"])


@pytest.mark.parametrize("count", [1, 2])
def test_coarse_levels_come_first(count: int):
    network = small(2, "velocity")
    state = network(*pair(2), num_levels=count)
    assert len(state["levels"]) == count
    state["displacement"].sin().mean().backward()
    learned = {int(n.split(".")[1]) for n, p in network.named_parameters() if p.grad is not None}
    assert learned == set(range(count))
    with pytest.raises(ValueError, match="`num_levels` is 4"):
        network(*pair(2), num_levels=4)


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("parametrisation", ["displacement", "velocity"])
def test_the_file_of_the_original_is_read(tmp_path: Path, parametrisation: str, num_dims: int):
    network = small(num_dims, parametrisation)
    torch.save(publish(network), tmp_path / "weights.pth")
    ours = networks.import_weights("lapirn", tmp_path / "weights.pth", parametrisation=parametrisation)
    with torch.no_grad():
        expected = network(*pair(num_dims))["displacement"]
        torch.testing.assert_close(ours(*pair(num_dims))["displacement"], expected, rtol=1e-5, atol=1e-8)
    assert {n: v for n, v in ours.settings.items() if n != "head_std"} == {
        n: v for n, v in network.settings.items() if n != "head_std"
    }


def test_the_file_needs_to_be_told_what_its_field_is(tmp_path: Path):
    torch.save(publish(small(2, "velocity")), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="displacement or a velocity"):
        networks.import_weights("lapirn", tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "settings", [{"parametrisation": "spline"}, {"start_channels": 0}, {"num_squarings": 0}, {"largest_share": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build("lapirn", **settings)
