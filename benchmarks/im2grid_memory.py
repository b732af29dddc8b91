"""Memory and time of im2grid forward at full size, beside matching with a copy of the features per candidate.

Each variant runs in a process of its own, whose peak is what the system says; the images are noise. Both give the same
displacement, which is checked on a small pair first. ``cube`` searches 3x3x3 candidates on the finest level too, as the
author's class does. Prints peak GiB (with Python, torch and the images) and seconds, and adds them to a json file.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pullback import networks
from pullback.networks import coordinate_translator

VARIANTS = ("im2grid", "im2grid-lite", "im2grid-copies", "im2grid-cube", "im2grid-cube-copies")


def main() -> None:
    """Run all variants, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[160, 192, 160])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--results", type=Path, help="json file to which the row of each variant is added.")
    told = parser.parse_args()
    if told.variant is None:
        for variant in VARIANTS:
            subprocess.run([sys.executable, *sys.argv, "--variant", variant], check=True)
        return
    torch.set_num_threads(told.threads)
    if told.variant.endswith("copies"):
        check_same()
        coordinate_translator.match_window = match_copies
    seconds = run(told.variant, tuple(told.shape))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{told.variant}: {peak:.2f} GiB, {seconds:.1f} s")
    if told.results is not None:
        row = {"name": told.variant, "shape": told.shape, "threads": told.threads}
        add(told.results, row | {"peak_gib": round(peak, 2), "seconds": round(seconds, 1)})


def add(path: Path, row: dict[str, Any]) -> None:
    """Put a row in place of an older one of its name."""
    content = json.loads(path.read_text()) if path.is_file() else {"study": "im2grid-memory", "rows": []}
    content["rows"] = [old for old in content["rows"] if old["name"] != row["name"]] + [row]
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def run(variant: str, shape: tuple[int, ...]) -> float:
    """Seconds of one pass."""
    torch.manual_seed(0)
    window = {"finest_window": "cube"} if "cube" in variant else {}
    family = "im2grid-lite" if variant == "im2grid-lite" else "im2grid"
    network = networks.build(family, head_std=0.1, **window).eval()
    fixed, moving = torch.randn(1, 1, *shape), torch.randn(1, 1, *shape)
    with torch.no_grad():
        network(fixed[..., :32, :32, :32], moving[..., :32, :32, :32])  # compiles the kernels
        started = time.perf_counter()
        network(fixed, moving)
    return time.perf_counter() - started


def match_copies(tokens: Tensor, candidates: Tensor, radii: tuple[int, ...]) -> Tensor:
    """All candidates of all voxels side by side, then one softmax."""
    offsets = list(itertools.product(*(range(-r, r + 1) for r in radii)))
    around = []
    for offset in offsets:
        place = [slice(r + o, r + o + n) for r, o, n in zip(radii, offset, tokens.shape[2:], strict=True)]
        around.append(candidates[(..., *place)])
    shares = torch.softmax((tokens[:, None] * torch.stack(around, dim=1)).sum(2), dim=1)
    return torch.einsum("bk...,kd->bd...", shares, torch.tensor(offsets, dtype=tokens.dtype))


def check_same() -> None:
    """Both ways of matching give one answer."""
    tokens, candidates = torch.randn(1, 8, 6, 7, 8), torch.randn(1, 8, 8, 9, 10)
    plain = coordinate_translator.match_window(tokens, candidates, (1, 1, 1))
    torch.testing.assert_close(match_copies(tokens, candidates, (1, 1, 1)), plain, atol=1e-5, rtol=1e-4)


if __name__ == "__main__":
    main()
