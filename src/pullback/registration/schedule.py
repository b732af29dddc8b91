"""Coarse to fine: levels, how far each may go, and when it stops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pullback.registration.volume import Volume

SMALLEST_LEVEL_VOXELS = 22
"""A level's longest axis has at least this many voxels: of fewer, windows of 5 see nothing local, and mislead."""
CHEAP_VOXELS = 2**20
"""Lattices of fewer voxels are small: they have time for more than one round, and little detail."""
BRAIN_VOXELS = 5_400_000
"""The lattice of a brain without its skull at 1 mm, for which the steps of a level are meant."""


def is_cheap(num_voxels: int) -> bool:
    """Whether a lattice of so many voxels has time for more than one round."""
    return num_voxels < CHEAP_VOXELS


@dataclass(frozen=True)
class Level:
    """One resolution.

    Attributes:
        factor: Voxels of the finest axis averaged into one.
        num_steps: Steps at most, of each round.
        num_rounds: How often to go through it where the lattice is small. Rounds before the last are solved both ways.
        most_steps: On lattices between the small ones and a brain's at 1 mm there are more steps in proportion, which
            take as long, but at most so many (default: no more). Whole heads need them.
    """

    factor: int
    num_steps: int
    num_rounds: int = 1
    most_steps: int = 0

    def steps_on(self, num_voxels: int) -> int:
        """Steps of each round, at most, on a lattice of so many voxels."""
        if is_cheap(num_voxels):
            return self.num_steps
        return max(self.num_steps, min(self.num_steps * BRAIN_VOXELS // num_voxels, self.most_steps))

    def rounds_on(self, num_voxels: int) -> int:
        """Rounds on a lattice of so many voxels."""
        return self.num_rounds if is_cheap(num_voxels) else 1

    def factors(self, volume: Volume) -> tuple[int, ...]:
        """Voxels to average along each axis: less along axes that are coarse already, never along a flat one."""
        spacing = volume.spacing_mm()
        finest = float(spacing.min())
        return tuple(
            2 ** max(0, round(math.log2(self.factor * finest / s))) if math.isfinite(s) else 1 for s in spacing
        )


@dataclass(frozen=True)
class Plateau:
    """Stop a level when the similarity has gained less than `tolerance` over the last `window` steps.

    Attributes:
        window: Steps to look back over.
        tolerance: Smallest gain, in units of the similarity; minus infinity never stops.
    """

    window: int = 10
    tolerance: float = 1e-4

    def is_reached(self, values: Sequence[float]) -> bool:
        """Whether to stop after these values."""
        return len(values) > self.window and values[-1] - values[-1 - self.window] < self.tolerance


def fitting_levels(levels: Sequence[Level], volume: Volume) -> tuple[Level, ...]:
    """The levels at which the volume is still large enough to see anything; the finest always stays."""

    def is_large(level: Level) -> bool:
        factors = level.factors(volume)
        return max(n // f for n, f in zip(volume.grid.shape, factors, strict=True)) >= SMALLEST_LEVEL_VOXELS

    return (*(level for level in levels[:-1] if is_large(level)), levels[-1])
