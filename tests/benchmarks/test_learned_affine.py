"""The study of source 002: images moved further and mirrored keep their true maps; its truth by several tools."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from examples import noise
from pullback import functional
from pullback.data import Image
from pullback.space import Grid
from pullback.training.augmentation import RandomAffine, about_voxel_0, carry_away

FOLDER = Path(__file__).parents[2] / "benchmarks"
SHAPE = (32, 32, 32)


@pytest.fixture(scope="module")
def study() -> Iterator[dict[str, ModuleType]]:
    """The scripts, which import each other by name, taken away again after the tests."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: import_module(f"learned_affine_{name}") for name in ("tools", "training")}
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def test_images_moved_further_keep_their_true_maps(study):
    smooth = functional.gaussian_smooth(noise(1, 1, *SHAPE, seed=1), 3.0)
    axes = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij"))
    template = (smooth + smooth.flip(2)) * torch.exp(-4 * axes.square().sum(0))  # its own mirror image
    true = about_voxel_0(RandomAffine(10.0, 0.05, 0.02, 1.0).draw(6, 3, torch.Generator().manual_seed(0)), SHAPE)
    (moving,) = carry_away([template.expand(6, -1, -1, -1, -1)], true)
    given = {"moving": moving, "true_matrix": true.double()}
    training = study["training"]
    further = training.moved_further(given, training.SPREAD, 3)
    straight = functional.warp_by_matrix(further["moving"], further["true_matrix"].float())
    both = [torch.corrcoef(torch.stack([one.flatten(), template.flatten()]))[0, 1] for one in straight]
    assert min(both) > 0.95
    changed = (further["moving"] - moving).abs().flatten(1).mean(1) / moving.abs().mean()
    assert (changed > 0.1).sum() >= 4
    assert torch.linalg.det(further["true_matrix"][:, :3, :3]).min() > 0
    again = training.moved_further(given, training.SPREAD, 3)
    assert all(torch.equal(again[name], further[name]) for name in further)


def test_the_truth_is_made_by_a_known_tool(study, tmp_path):
    tools = study["tools"]
    with pytest.raises(ValueError, match="ours, greedy, antspyx, elastix or flirt:FOLDER"):
        tools.tool_of("fsl", "1000")
    image = Image(torch.zeros(1, 4, 4, 4), Grid((4, 4, 4), torch.eye(4, dtype=torch.float64)))
    with pytest.raises(FileNotFoundError, match=r"1000\.mat"):
        tools.tool_of(f"flirt:{tmp_path}", "1000")(image, image)
