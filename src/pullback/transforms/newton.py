"""Where a smooth map takes its points from, by Newton's method at each point."""

from typing import Protocol

import torch
from torch import Tensor

NUM_ITERATIONS = 30
CONVERGED_MM = 1e-8
"""Where the method stops; it doubles the digits at each step, so the last step is far better than this."""


class Differentiable(Protocol):
    """A map of points ``(N, D)`` in mm with its derivative."""

    def map_points(self, points: Tensor) -> Tensor:
        """The mapped points ``(N, D)``."""

    def derivative_at(self, points: Tensor) -> Tensor:
        """The derivatives ``(N, D, D)``."""


def origins_of(forward: Differentiable, points: Tensor, guess: Tensor) -> Tensor:
    """The points that `forward` takes to `points`, ``(N, D)`` float64 in mm; the best found where there are none.

    Args:
        forward: The map.
        points: ``(N, D)`` float64 in mm.
        guess: Where to start, ``(N, D)``.
    """
    best = guess.clone()
    least = torch.full((len(points),), torch.inf, dtype=torch.float64)
    left, guess = torch.arange(len(points)), guess.clone()
    for _ in range(NUM_ITERATIONS):
        gap = forward.map_points(guess) - points[left]
        length = torch.linalg.vector_norm(gap, dim=-1)
        better = length < least[left]
        best[left[better]], least[left[better]] = guess[better], length[better]
        going = torch.isfinite(length) & (least[left] > CONVERGED_MM)
        left, guess, gap = left[going], guess[going], gap[going]
        if len(left) == 0:
            break
        guess = guess - torch.linalg.solve_ex(forward.derivative_at(guess), gap)[0]
    return best
