"""What is to be done: the parts of a registration, already built."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pullback.checks import check_choice
from pullback.data import Pair
from pullback.registration.choice import Choice
from pullback.registration.deformable import Deformation, SteepestAscent
from pullback.registration.initialisation import METHODS, Candidate
from pullback.registration.schedule import Level, Plateau
from pullback.registration.volume import Volume
from pullback.regularity import AbstractRegularity, Elasticity, Gaussian


@dataclass(frozen=True)
class LinearPlan:
    """The linear stage.

    Attributes:
        kind: ``translation``, ``rigid``, ``similarity`` or ``affine``.
        object_voxels: Length of the fixed object at each level, coarse to fine, in voxels.
        max_steps: Iterations per level.
    """

    kind: str = "affine"
    object_voxels: tuple[int, ...] = (40, 80)
    max_steps: int = 50


@dataclass(frozen=True)
class DeformablePlan:
    """The deformable stage: its parts.

    Attributes:
        levels: Coarse to fine.
        regularities: Applied in order.
        fine_regularities: In their place at the finest level where the lattice is large: what is left to move there is
            small, and is seen in detail.
        optimiser: From force to update.
        stop: When to leave a level early.
    """

    levels: Sequence[Level] = (
        Level(8, 100),
        Level(4, 100),
        Level(2, 50),
        Level(1, 15, num_rounds=3, most_steps=30),
    )
    regularities: Sequence[AbstractRegularity] = field(default_factory=lambda: (Gaussian(), Elasticity()))
    fine_regularities: Sequence[AbstractRegularity] = field(
        default_factory=lambda: (Gaussian(), Elasticity(shear=0.005, volume=0.01))
    )
    optimiser: SteepestAscent = field(default_factory=SteepestAscent)
    stop: Plateau = field(default_factory=Plateau)


@dataclass(frozen=True)
class Answer:
    """What a network says of a pair.

    Attributes:
        matrix: World matrix ``(4, 4)``: the linear map, with what the network added to it.
        deformation: What acts before that, or None where the network's map is linear.
    """

    matrix: np.ndarray
    deformation: Deformation | None = None


@dataclass(frozen=True)
class Plan:
    """A whole registration.

    Attributes:
        methods: Sources of starts (see :mod:`pullback.registration.initialisation`); ``("none",)`` starts from `given`
            or the identity as it is.
        given: Starts from elsewhere, such as a transform read from a file.
        first: A start that is tried alone, before all others; these are looked for only if it does not look right.
        similarity: Builds the similarity for two normalised volumes (mutual information needs their ranges); None
            chooses by looking at the pair.
        linear: The linear stage; None leaves it out.
        network: Gives its answer from the pair and the linear map; None leaves it out.
        deformable: The deformable stage, from the network's answer if there is one; None leaves it out.
        channel_weights: Factor of each channel.
        device: ``cpu`` or ``cuda``.
        seed: Recorded; every step is deterministic, so that it changes nothing.

    Raises:
        ValueError: If a method is none, or `none` is not alone.
    """

    methods: tuple[str, ...] = METHODS
    given: tuple[Candidate, ...] = ()
    first: Candidate | None = None
    similarity: Callable[[Volume, Volume], Choice] | None = None
    linear: LinearPlan | None = LinearPlan()
    network: Callable[[Pair, np.ndarray], Answer] | None = None
    deformable: DeformablePlan | None = DeformablePlan()
    channel_weights: tuple[float, ...] | None = None
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.methods:
            check_choice("methods", name, ("none", *METHODS))
        if "none" in self.methods and len(self.methods) > 1:
            raise ValueError(f"`methods` is {list(self.methods)}, but 'none' stands alone: nothing is searched then.")
