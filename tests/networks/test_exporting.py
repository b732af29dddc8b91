"""ONNX: every network gives the same displacement in another runtime."""

import pytest
import torch

from examples import noise
from pullback import networks


def small(name: str, num_dims: int) -> networks.AbstractNetwork:
    settings = {"num_dims": num_dims, "head_std": 0.05}
    defaults = networks.find(name).defaults
    settings |= {"start_channels": 2} if "start_channels" in defaults else {}
    settings |= {"encoder": [2, 2], "decoder": [2, 2, 2]} if "encoder" in defaults else {}
    settings |= {"num_squarings": 1} if "num_squarings" in defaults else {}
    torch.manual_seed(0)
    return networks.build(name, **settings).eval()


@pytest.mark.parametrize("name", ["voxelmorph"])
@pytest.mark.parametrize("num_dims", [3])
def test_onnxruntime_agrees(name, num_dims):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network = small(name, num_dims)
    model = networks.export_onnx(network, (16,) * num_dims)
    pair = noise(1, 1, *[16] * num_dims), noise(1, 1, *[16] * num_dims, seed=1)
    assert networks.compare_onnx(model, network, *pair) < 1e-5
    assert network(*pair)["displacement"].abs().max() > 0.01


def test_it_says_what_does_not_fit():
    pytest.importorskip("onnxscript")
    network = small("fourier-net", 2)
    with pytest.raises(ValueError, match="multiples of 16"):
        networks.export_onnx(network, (16, 17))
    with pytest.raises(ValueError, match="training mode"):
        networks.export_onnx(network.train(), (16, 16))


def test_a_family_that_onnx_cannot_express_is_named():
    pytest.importorskip("onnxscript")
    network = networks.build("airnet-matches", num_dims=2, start_channels=1).eval()
    with pytest.raises(ValueError, match="'airnet-matches' cannot be written as ONNX: "):
        networks.export_onnx(network, (16, 16))
