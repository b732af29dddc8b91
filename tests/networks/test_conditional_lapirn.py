"""Conditional LapIRN: one network, many weights of smoothness, and the files of the original."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import networks
from pullback.networks import AbstractNetwork
from pullback.training.state import TrainingState
from pullback.training.terms import DiffusionTerm

WITHIN = ("model_lvl2.model_lvl1.", "model_lvl2.", "")
PARTS = {"encoder": "input_encoder_lvl1", "down": "down_conv", "up": "up"}
PARTS |= {"decoder": "output_lvl1.0", "head": "output_lvl1.2"}
BLOCK = {"first": "conv1", "second": "conv2", "first_style": "ai1.style", "second_style": "ai2.style"}
BLOCK |= {"mapping": "mapping"}
LAYOUTS = pytest.mark.parametrize("layout", ["full", "lite"])


def small(**settings) -> AbstractNetwork:
    torch.manual_seed(0)
    own = {"num_dims": 2, "start_channels": 1, "head_std": 0.1}
    return networks.build("conditional-lapirn", **own | settings).eval()


def pair(num_dims: int = 2, batch: int = 1) -> tuple[Tensor, Tensor]:
    return noise(batch, 1, *[16] * num_dims), noise(batch, 1, *[16] * num_dims, seed=1)


def test_it_answers_for_every_smoothness():
    network = small(smoothness=0.25)
    with torch.no_grad():
        answers = [network(*pair(), smoothness=value)["displacement"] for value in (0.0, 0.25, 1.0)]
        usual = network(*pair())
    assert torch.equal(usual["displacement"], answers[1])
    assert usual["smoothness"].tolist() == [0.25]
    assert not torch.allclose(answers[0], answers[2], atol=1e-4)
    with pytest.raises(ValueError, match=r"`smoothness` is 1\.5"):
        network(*pair(), smoothness=1.5)
    with pytest.raises(ValueError, match="`num_levels` is 4"):
        network(*pair(), num_levels=4)


def test_training_draws_one_for_each_pair():
    network = small().train()
    torch.manual_seed(3)
    told = network(*pair(batch=4))["smoothness"]
    assert len(told.unique()) == 4
    assert ((told >= 0) & (told <= 1)).all()
    assert network(*pair(batch=4), smoothness=0.5)["smoothness"].tolist() == [0.5] * 4


def test_the_term_weighs_each_pair_by_its_own():
    state = TrainingState({"displacement": noise(2, 2, 8, 8), "smoothness": torch.tensor([0.5, 0.0])})
    plain, scaled = DiffusionTerm()(state), DiffusionTerm(scaled_by="smoothness")(state)
    torch.testing.assert_close(scaled, plain * state["smoothness"])


def publish(network: AbstractNetwork) -> dict[str, Tensor]:
    """The state under the original's names, components last axis first."""
    tensors = {}
    for name, value in network.state_dict().items():
        _, level, part, *rest = name.split(".")
        if part == "head" or (level != "0" and (part, rest[0]) == ("encoder", "0")):
            value = value.flip(0) if part == "head" else torch.cat([value[:, :2], value[:, 2:].flip(1)], dim=1)
        if part == "blocks":
            published = f"resblock_group_lvl1.{2 * int(rest[0])}.{BLOCK[rest[1]]}"
            rest = rest[1:]
        else:
            published = PARTS[part]
        numbers = rest[:-1] if part == "encoder" else rest[1:-1] if part == "blocks" else []
        tensors[WITHIN[int(level)] + ".".join([published, *numbers, rest[-1]])] = value
    return tensors


@LAYOUTS
@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_files_of_the_original_are_read(tmp_path: Path, num_dims: int, layout: str):
    network = small(num_dims=num_dims, layout=layout, start_channels=2)
    torch.save(publish(network), tmp_path / "weights.pth")
    ours = networks.import_weights("conditional-lapirn", tmp_path / "weights.pth")
    with torch.no_grad():
        expected = network(*pair(num_dims), smoothness=0.7)["displacement"]
        found = ours(*pair(num_dims), smoothness=0.7)["displacement"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert ours.settings["layout"] == layout


@pytest.mark.parametrize("settings", [{"layout": "tiny"}, {"smoothness": -0.1}, {"start_channels": 0}])
def test_settings_that_make_no_sense_are_refused(settings: dict):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build("conditional-lapirn", **settings)
