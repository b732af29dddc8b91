"""A network as an ONNX model, and the check that another runtime computes the same with it."""

import contextlib
import importlib.util
import io
import logging
import warnings

import torch
from torch import Tensor, nn

from pullback.networks.contract import AbstractNetwork
from pullback.networks.padding import padded_shape

OPSET = 20
"""The first whose GridSample knows volumes."""


class _OnlyDisplacement(nn.Module):
    """Both images in, the displacement out: ONNX knows no named state."""

    def __init__(self, network: AbstractNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return self.network(fixed, moving)["displacement"]


def export_onnx(network: AbstractNetwork, shape: tuple[int, ...]) -> bytes:
    """The network for one pair on one lattice as a serialised ONNX model.

    Inputs `fixed` and `moving` are ``(1, C, *shape)``, the output `displacement` is ``(1, D, *shape)`` in voxels, all
    float32.

    Args:
        network: In evaluation mode, on the CPU.
        shape: Multiples of the network's `multiple`.

    Raises:
        ValueError: If the shape does not fit, the family computes what ONNX does not know, or without the packages of
            the extra ``onnx``.
    """
    _require("onnx", "onnxscript")
    if len(shape) != network.num_dims or padded_shape(network, shape) != tuple(shape):
        raise ValueError(
            f"`shape` is {tuple(shape)}, but this network exports for {network.num_dims} sizes that are multiples of "
            f"{network.multiple}."
        )
    if network.training:
        raise ValueError("`network` is in training mode; call network.eval() first.")
    example = torch.zeros(1, network.num_channels, *shape)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _OnlyDisplacement(network),
                (example, example.clone()),
                input_names=["fixed", "moving"],
                output_names=["displacement"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        why = str(error.__cause__ or error).partition("\n")[0].partition(" : ")[0]
        raise ValueError(f"The family '{network.family}' cannot be written as ONNX: {why}.") from None
    return program.model_proto.SerializeToString()


def compare_onnx(model: bytes, network: AbstractNetwork, fixed: Tensor, moving: Tensor) -> float:
    """Run both on one pair with onnxruntime.

    Returns:
        The largest difference of a displacement's component, in voxels.

    Raises:
        ValueError: Without onnxruntime.
    """
    _require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["displacement"], {"fixed": fixed.numpy(), "moving": moving.numpy()})
    with torch.no_grad():
        ours = network(fixed, moving)["displacement"]
    return float((ours - torch.from_numpy(theirs)).abs().max())


def has_onnxruntime() -> bool:
    """Whether :func:`compare_onnx` can run."""
    return importlib.util.find_spec("onnxruntime") is not None


def _require(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"ONNX needs the package {package}; install it with pip install 'pullback[onnx]'.")


@contextlib.contextmanager
def _quiet() -> contextlib.AbstractContextManager[None]:
    """The exporter prints and warns of its own deprecated parts, and of what it cannot write shows the whole graph."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    unheard = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(unheard),
            contextlib.redirect_stderr(unheard),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
