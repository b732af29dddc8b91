"""What a network costs: parameters, and multiply-adds of its layers at a stated shape."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pullback.networks.contract import AbstractNetwork
from pullback.networks.padding import padded_shape

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds of one forward pass for one pair.

    Attributes:
        parameters: Trainable numbers.
        multiply_adds: Of convolutions and linear layers, as is usual in tables; sampling, integrating and band-limited
            resizing are not counted.
        shape: The lattice they are for.
    """

    parameters: int
    multiply_adds: int
    shape: tuple[int, ...]


def num_parameters(network: nn.Module) -> int:
    """How many trainable numbers a network has."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def measure_cost(network: AbstractNetwork, shape: tuple[int, ...]) -> Cost:
    """Count without computing: the layers run, as for an answer, on tensors that have a shape and no memory.

    Args:
        network: Any network of the zoo; it stays as it is.
        shape: Of the images; padded as :func:`pullback.networks.run_padded` does.
    """
    if len(shape) != network.num_dims:
        raise ValueError(f"`shape` is {tuple(shape)}, but this network is {network.num_dims}-D.")
    counts: list[int] = []
    handles = [handle for layer in network.modules() if (handle := _count(layer, counts))]
    tensors = {n: t.detach().to("meta") for n, t in [*network.named_parameters(), *network.named_buffers()]}
    image = torch.empty(1, network.num_channels, *padded_shape(network, shape), device="meta")
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad():
            torch.func.functional_call(network, tensors, (image, image))
    finally:
        for module, mode in modes:
            module.training = mode
        for handle in handles:
            handle.remove()
    return Cost(num_parameters(network), sum(counts), tuple(shape))


def _count(layer: nn.Module, counts: list[int]) -> RemovableHandle | None:
    """Write down a layer's multiply-adds whenever it is called; None for a layer without any."""
    if not isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)):
        return None

    def write(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, TRANSPOSED):  # each input number is spread by every weight of its channel
            counts.append(inputs[0].numel() * layer.weight[0].numel())
        else:
            counts.append(output.numel() * layer.weight[0].numel())

    return layer.register_forward_hook(write)
