"""HSyN's DI-Net, trained on its own on random smooth fields, against the fixed-point inversion and minus the field.

Training fields are drawn anew at every step; the unseen ones come from other seeds. The residual is the paper's, the
mean square of ``w(x) + u(x + w(x))`` over voxels and components, in voxel squared. Prints one line per way of
inverting, and writes them as JSON where that is asked for. ``again`` is the same asked ``--passes`` times, each time
for the inverse of what remains.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pullback import functional
from pullback.networks.hsyn import DECODER, ENCODER, DeformationInverse
from pullback.regularity import Diffusion
from pullback.training.augmentation import smooth_noise
from pullback.training.loop import CHANNELS_LAST, FEWEST_VOXELS

UNET = {"encoder": ENCODER, "decoder": DECODER, "downsampling": "stride"}


def main() -> None:
    """Train, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs="+", default=[48, 64, 48], help="2 or 3 numbers.")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=float, default=12.0, help="Voxels between the fields' random vectors.")
    parser.add_argument("--largest", type=float, default=6.0, help="Voxels of the largest displacement.")
    parser.add_argument("--smoothness", type=float, default=1.0, help="Weight of diffusion, lambda 3 of the paper.")
    parser.add_argument("--rate", type=float, default=3e-3, help="Largest learning rate.")
    parser.add_argument("--half", action="store_true", help="Train in half precision where that does no harm.")
    parser.add_argument("--residual", action="store_true", help="The network gives what minus the field lacks.")
    parser.add_argument("--passes", type=int, default=2, help="How often the trained network is asked.")
    parser.add_argument("--unseen", type=int, default=8, help="Fields to judge by.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, help="File of the trained network: read if it exists, else written.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file.")
    parser.add_argument("--study", type=Path, help="JSON file of HSyN's study, which gets the network's residual.")
    told = parser.parse_args()
    coarsest = min(told.shape) // 2 ** len(ENCODER)
    if told.half and coarsest < FEWEST_VOXELS:
        parser.error(f"--half: {told.shape} voxels come down to {coarsest}, where half precision is not sound")
    torch.set_num_threads(told.threads)
    numba.set_num_threads(told.threads)
    network = trained(told)
    unseen = [fields(1, told, seed) for seed in range(10**6, 10**6 + told.unseen)]
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "network": network,
        "network, again": again(network, told),
        "minus, again": again(None, told),
        "fixed-point": lambda field: functional.invert(field)[0],
        "minus": torch.neg,
    }
    rows = [{"name": name, **judge(way, unseen)} for name, way in ways.items()]
    for row in rows:
        print("{name:<14} residual {inverse_residual_voxel2:.2e} voxel^2, {seconds:.3f} s per field".format(**row))
    settings = {name: value for name, value in vars(told).items() if name not in ("out", "weights", "study")}
    if told.study is not None:
        found = json.loads(told.study.read_text()) if told.study.is_file() else {"study": "hsyn"}
        residuals = {row["name"]: row["inverse_residual_voxel2"] for row in rows}
        about = {"inverse_residual_voxel2": residuals["network"], "inverse_residuals": residuals}
        about |= {"inverse_settings": settings}
        told.study.write_text(json.dumps(found | about, indent=1) + "\n")
    if told.out is not None:
        told.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n")


def trained(told: argparse.Namespace) -> DeformationInverse:
    """The network of the file, or a new one, which is kept there."""
    if told.weights is None or not told.weights.is_file():
        network = train(told)
        if told.weights is not None:
            save_file({name: one.contiguous() for name, one in network.state_dict().items()}, told.weights)
        return network
    network = new(told)
    network.load_state_dict(load_file(told.weights))
    return network.eval()


def new(told: argparse.Namespace, **settings: Any) -> DeformationInverse:
    """A network of the settings."""
    settings = {"is_residual": told.residual, **settings}
    return DeformationInverse(len(told.shape), UNET, head_std=1e-5, **settings).to(told.device)


def again(network: DeformationInverse | None, told: argparse.Namespace) -> DeformationInverse:
    """The same asked several times; None is one that knows nothing and gives minus the field."""
    if network is not None:
        other = new(told, num_passes=told.passes)
        other.load_state_dict(network.state_dict())
        return other.eval()
    other = new(told, num_passes=told.passes, is_residual=True)
    torch.nn.init.zeros_(other.head.weight)
    return other.eval()


def train(told: argparse.Namespace) -> DeformationInverse:
    """Adam on the composition loss and diffusion of the inverse, equations 4 and 5 of the paper."""
    torch.manual_seed(0)
    network = new(told)
    if told.half:
        network.to(memory_format=CHANNELS_LAST[len(told.shape)])
    optimiser = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, told.rate, total_steps=told.steps, pct_start=0.1)
    for step in range(told.steps):
        field = fields(told.batch, told, step)
        with torch.autocast(told.device, torch.bfloat16, enabled=told.half):
            inverse = network(field)
        loss = residual(field, inverse) + told.smoothness * Diffusion().energy(inverse).mean() / len(told.shape) ** 2
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % max(told.steps // 10, 1) == 0:
            print(f"step {step + 1}: loss {loss.item():.2e}", flush=True)
    return network.eval()


def fields(count: int, told: argparse.Namespace, seed: int) -> Tensor:
    """Smooth random displacements, each with its own largest one, evenly up to the largest of all."""
    generator = torch.Generator(told.device).manual_seed(seed)
    field = smooth_noise(count, len(told.shape), tuple(told.shape), told.width, generator)
    strength = torch.rand(count, 1, *[1] * len(told.shape), generator=generator, device=told.device)
    return told.largest * strength * field


def residual(field: Tensor, inverse: Tensor) -> Tensor:
    """Mean square over voxels and components."""
    return functional.compose(field, inverse).square().mean()


def judge(way: Callable[[Tensor], Tensor], unseen: list[Tensor]) -> dict[str, float]:
    """Mean residual and seconds per field, after one field to warm up."""
    with torch.no_grad():
        float(way(unseen[0]).sum())
        started = time.perf_counter()
        inverses = [way(field) for field in unseen]
        float(inverses[-1].sum())
        seconds = (time.perf_counter() - started) / len(unseen)
        values = [float(residual(field, inverse)) for field, inverse in zip(unseen, inverses, strict=True)]
    return {"inverse_residual_voxel2": sum(values) / len(values), "seconds": seconds}


if __name__ == "__main__":
    main()
