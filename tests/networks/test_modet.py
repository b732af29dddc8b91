"""ModeT: motions of several heads, their competition, levels that compose, and the file of the original."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import noise
from pullback import networks
from pullback.networks import AbstractNetwork, composition
from pullback.networks.modet import HEADS, Competition, Motions
from pullback.networks.parametrisation import resize_field


def small(**settings) -> AbstractNetwork:
    torch.manual_seed(0)
    own = {"num_dims": 2, "start_channels": 2, "head_std": 0.5}
    return networks.build("modet", **own | settings).eval()


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    return noise(1, 1, *shape), noise(1, 1, *shape, seed=1)


def test_heads_see_their_own_channels():
    torch.manual_seed(0)
    motions = Motions(2, 4, 3, 5, weight_std=1.0, outside="edge")
    fixed, moving = noise(2, 4, 6, 7), noise(2, 4, 6, 7, seed=1)
    found = motions(fixed, moving)
    assert found.shape == (2, 3, 2, 6, 7)
    assert found.abs().max() <= 1
    with torch.no_grad():
        motions.bonuses[1, 0] = 1000.0  # the offset (-1, -1) of the second head
    after = motions(fixed, moving)
    assert (after[:, 1] == -1).all()
    assert torch.equal(after[:, [0, 2]], found[:, [0, 2]])


def test_attention_with_zeros_outside_by_hand():
    torch.manual_seed(0)
    motions = Motions(2, 4, 1, 5, weight_std=1.0, outside="zeros")
    motions.bonuses.data.copy_(noise(1, 9, seed=2))
    fixed, moving = noise(1, 4, 3, 3), noise(1, 4, 3, 3, seed=1)
    here, there = (motions.norm(motions.projection(x.movedim(1, -1)))[0] for x in (fixed, moving))
    scores, steps = [], [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    for number, (i, j) in enumerate(steps):  # of the voxel (0, 1)
        key = there[i, 1 + j] if i >= 0 else torch.zeros(5)
        scores.append(here[0, 1] @ key + motions.bonuses[0, number])
    expected = torch.stack(scores).softmax(0) @ torch.tensor(steps, dtype=torch.float32)
    torch.testing.assert_close(motions(fixed, moving)[0, 0, :, 0, 1], expected)


def test_heads_that_agree_keep_their_motion():
    torch.manual_seed(0)
    competition = Competition(2, 3, resizing="centres")
    motion = noise(1, 1, 2, 4, 4)
    doubled = resize_field(motion[:, 0], (8, 8))
    torch.testing.assert_close(competition(motion.expand(1, 3, 2, 4, 4)), doubled)


def test_levels_compose_coarse_to_fine():
    network, images = small(num_stages=3), pair(16, 24)
    with torch.no_grad():
        state = network(*images)
    assert len(state["levels"]) == 3
    assert len(network.competitions) == 1
    assert all(level.shape == (1, 2, 16, 24) for level in state["levels"])
    with torch.no_grad():
        two = small(num_stages=2)(*images)
        found = two["levels"]
    torch.testing.assert_close(composition.compose(found[0], found[1]), two["displacement"])


def test_every_parameter_of_all_levels_gets_a_gradient():
    network = small().train()
    network(noise(2, 1, 32, 32), noise(2, 1, 32, 32, seed=1))["displacement"].sin().mean().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert missing == []


def publish(network: AbstractNetwork) -> dict[str, Tensor]:
    """The state under the original's names, with the biases that do nothing and the lattices of its warps."""
    tensors = {"transformer.0.grid": torch.zeros(1), "mdt1.grid": torch.zeros(1)}
    for name, value in network.state_dict().items():
        part, number, *rest = name.split(".")
        level = 5 - int(number) if number.isdigit() else 0
        if name.startswith("encoder.first"):
            tensors[f"encoder.conv0.0.main.{rest[0]}"] = value
        elif part == "encoder":
            published = f"encoder.conv{rest[0]}.{int(rest[1]) + 1}.main"
            tensors |= {f"{published}.weight": value, f"{published}.bias": noise(len(value))}
        elif name.endswith("bonuses"):
            tensors[f"mdt{level}.rpb"] = value.reshape(len(value), *[3] * network.num_dims)
        elif part == "motions":
            tensors[f"projblock{level}.{rest[0].replace('projection', 'proj')}.{rest[1]}"] = value
        elif rest[0] == "weigh":
            tensors[f"cwm{level}.conv.2.{rest[1]}"] = value
        else:
            tensors |= {f"cwm{level}.conv.{rest[1]}.main.{kind}": value for kind in ("weight", "bias")}
    return tensors


@pytest.mark.parametrize("num_dims", [2, 3])
def test_the_file_of_the_original_is_read(tmp_path: Path, num_dims: int):
    network = small(num_dims=num_dims, outside="zeros", resizing="corners")
    torch.save({"state_dict": publish(network)}, tmp_path / "weights.pth.tar")
    ours = networks.import_weights("modet", tmp_path / "weights.pth.tar")
    images = pair(*[32, 16, 16][:num_dims])
    with torch.no_grad():
        torch.testing.assert_close(ours(*images)["displacement"], network(*images)["displacement"])
    assert {n: v for n, v in ours.settings.items() if n != "head_std"} == {
        n: v for n, v in network.settings.items() if n != "head_std"
    }


def test_the_biases_that_do_nothing():
    with torch.device("meta"):
        network = networks.build("modet")
    biases = 2 * sum(network.encoder.widths) + sum(2 * 2 * 3 * count for count in HEADS if count > 1)
    assert networks.num_parameters(network) + biases == 1_029_670


@pytest.mark.parametrize(
    "settings",
    [{"num_stages": 1}, {"start_channels": 0}, {"token_channels": 0}, {"outside": "mirror"}, {"resizing": "middle"}],
)
def test_settings_that_make_no_sense_are_refused(settings: dict):
    with torch.device("meta"), pytest.raises(ValueError, match=next(iter(settings))):
        networks.build("modet", **settings)
