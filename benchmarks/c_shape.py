"""The C-shape experiment of HSyN's figure 1, and the maps of its figure 5: a disc onto a C, one way and half-way.

Networks of one size learn from turned copies of the two shapes for the same number of steps: one moves the disc all the
way, the others move both to the mean shape between them, with and without the symmetric magnitude constraint (levels as
in HSyN, inverses computed). Prints, for turns that were not learned, Dice, folds and the mean squared residual of the
inverses; writes figures into --out.

  python benchmarks/c_shape.py --out OUT [--steps 150]
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pullback import functional, networks
from pullback.data import Image, Pair, c_shape_pair
from pullback.networks import AbstractNetwork, State
from pullback.regularity import Diffusion
from pullback.reports import figures
from pullback.transforms import DisplacementField, warp

SIZE, BATCH = 64, 4
SHOWN_TURN, UNSEEN = 40.0, (15.0, 40.0, 100.0, 160.0, 215.0, 250.0, 305.0, 340.0)
SMOOTHNESS = 0.02
CONSTRAINT = 0.01
"""Weight of the symmetric magnitude constraint, without which both shapes shrink to nothing and so agree."""
WAYS: dict[str, tuple[dict[str, Any], float]] = {
    "one way": ({"is_symmetric": False}, 0.0),
    "half-way": ({"is_symmetric": True}, CONSTRAINT),
    "half-way, unconstrained": ({"is_symmetric": True}, 0.0),
}


def main() -> None:
    """Learn, score, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--results", type=Path, help="json file for the figures in numbers.")
    told = parser.parse_args()
    torch.set_num_threads(1)
    rows, states = [], {}
    shown = c_shape_pair(SIZE, turn_degrees=SHOWN_TURN)
    for name, (settings, constraint) in WAYS.items():
        began = time.process_time()
        network = learn(settings, constraint, told.steps)
        seconds = time.process_time() - began
        scores = [score(network, c_shape_pair(SIZE, turn_degrees=turn)) for turn in UNSEEN]
        means = {key: sum(one[key] for one in scores) / len(scores) for key in scores[0]}
        rows.append({"name": name, "steps": told.steps, "cpu_seconds": round(seconds, 1), **means})
        print(json.dumps(rows[-1]), flush=True)
        states[name] = answer(network, shown)
    draw(shown, states, told.out)
    if told.results is not None:
        told.results.write_text(json.dumps({"study": "c-shape", "rows": rows}, indent=1) + "\n", encoding="utf-8")


def learn(settings: dict[str, Any], constraint: float, num_steps: int) -> AbstractNetwork:
    """Mean squared differences where the images meet, and diffusion of what moves them; coarse levels first."""
    torch.manual_seed(0)
    own = {"num_dims": 2, "inversion": "fixed-point", "encoder": [16, 32, 32, 32], **settings}
    network = networks.build("hsyn", **own)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    random = torch.Generator().manual_seed(0)
    for step in range(num_steps):
        turns = (360 * torch.rand(BATCH, generator=random)).tolist()
        pairs = [c_shape_pair(SIZE, turn_degrees=turn) for turn in turns]
        fixed, moving = (torch.stack([getattr(pair, side).tensor for pair in pairs]) for side in ("fixed", "moving"))
        state = network(fixed, moving, num_levels=min(1 + 6 * step // num_steps, 3))
        optimiser.zero_grad()
        loss(state, fixed, moving, constraint).backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def loss(state: State, fixed: Tensor, moving: Tensor, constraint: float) -> Tensor:
    """In the mean space, for both fields, which should be opposite."""
    to_moving, to_fixed = state["half_displacement"], state["inverse_half_displacement"]
    gap = functional.warp(moving, to_moving) - functional.warp(fixed, to_fixed)
    energy = Diffusion().energy(to_moving) + Diffusion().energy(to_fixed)
    uneven = (to_moving + to_fixed).square().sum(1).mean()
    return gap.square().mean() + SMOOTHNESS * energy.mean() / 4 + constraint * uneven


@torch.no_grad()
def answer(network: AbstractNetwork, pair: Pair) -> State:
    """The state of one pair."""
    return network(pair.fixed.tensor[None], pair.moving.tensor[None])


def score(network: AbstractNetwork, pair: Pair) -> dict[str, float]:
    """Dice of what covers half a voxel or more, percent of folds, residual of the first half-way inverse."""
    state = answer(network, pair)
    warped = functional.warp(pair.moving.tensor[None], state["displacement"])[0] >= 0.5
    fixed = pair.fixed_labels.tensor > 0
    folds = (functional.jacobian_determinant(state["displacement"]) <= 0).double().mean()
    left = functional.compose(state["half_displacement"], state["moving_to_half"]).square().mean()
    dice = 2 * (warped & fixed).sum() / (warped.sum() + fixed.sum())
    return {"dice": float(dice), "percent_folds": 100 * float(folds), "inverse_residual_voxel2": float(left)}


def draw(pair: Pair, states: dict[str, State], out: Path) -> None:
    """Figure 1 side by side with the mean shapes, and the maps of figure 5."""
    out.mkdir(parents=True, exist_ok=True)

    def moved(image: Image, field: Tensor) -> Image:
        return warp(image, DisplacementField.from_voxels(field[0], pair.fixed.grid), onto=pair.fixed.grid)

    half = states["half-way"]
    pictures = {name: moved(pair.moving, state["displacement"]) for name, state in states.items()}
    pictures |= {
        "disc at the mean": moved(pair.moving, half["half_displacement"]),
        "C at the mean": moved(pair.fixed, half["inverse_half_displacement"]),
    }
    figures.save_figure(out / "c-shape.png", figures.methods(pair.fixed, pictures))
    to_moving, back = (DisplacementField.from_voxels(half[name][0], pair.fixed.grid) for name in HALVES)
    figures.save_figure(out / "c-shape-maps.png", figures.displacement_and_inverse(pair.fixed, to_moving, back))


HALVES = ("half_displacement", "moving_to_half")

if __name__ == "__main__":
    main()
