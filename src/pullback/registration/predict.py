"""Registration by a trained network, in the physical space of any two images."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pullback.data import Image, Pair
from pullback.functional.lifting import lift_field
from pullback.networks import AbstractNetwork, State, affine, run_padded
from pullback.registration.card import LINEAR, Card
from pullback.registration.deformable import Deformation
from pullback.registration.initialisation import Candidate
from pullback.registration.placement import place, see
from pullback.registration.plan import Answer, DeformablePlan, LinearPlan, Plan
from pullback.registration.planes import lift_grid, lift_matrix
from pullback.registration.register import register
from pullback.registration.result import RegistrationResult
from pullback.registration.schedule import Level
from pullback.registration.work import OnProgress
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, DisplacementField

SMALLEST_MARGIN_VOXELS = 4
"""Room around the network's lattice in which its displacement fades to none."""
ALWAYS_ALLOWED_MARGIN_VOXELS = 16
"""Of that room, however small the lattice."""
REFINEMENTS = 3
"""Rounds of refinement on small lattices (see :class:`pullback.registration.schedule.Level`)."""
LINEAR_VOXELS = 1e-3
"""A displacement that has less than this beyond the network's matrix is that matrix."""


def predict(
    network: AbstractNetwork,
    card: Card,
    pair: Pair,
    *,
    refine: int = 0,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> RegistrationResult:
    """Register a pair by a network: both images go to its lattice, and its answer comes back to the world.

    Args:
        network: The network; its weights are not changed.
        card: Its papers: lattice, intensities, and how images are brought together before it.
        pair: Images on any grids.
        refine: Steps of the classical engine, at full resolution, from the network's answer; on lattices of fewer
            than a million voxels so many in each of three rounds.
        device: ``cpu`` or ``cuda``.
        on_progress: As in :func:`pullback.registration.register`.

    Returns:
        As from :func:`pullback.registration.register`.

    Raises:
        ValueError: If the images do not suit the network, or `refine` is negative.
    """
    plan = plan_of(network, card, pair, refine=refine, base=Plan(device=device))
    return register(pair, plan, on_progress=on_progress)


def plan_of(network: AbstractNetwork, card: Card, pair: Pair, *, refine: int = 0, base: Plan | None = None) -> Plan:
    """The plan of a registration by a network; see :func:`predict`.

    Args:
        network, card, pair, refine: As there.
        base: What the card does not decide: similarity, starts of a linear stage, smoothing of the refinement, device.
    """
    base = base or Plan()
    if not isinstance(refine, int) or refine < 0:
        raise ValueError(f"`refine` is {refine}, but 0 or more steps are needed.")
    _check(card, pair)
    deformable = None
    if refine:
        deformable = replace(base.deformable or DeformablePlan(), levels=(Level(1, refine, num_rounds=REFINEMENTS),))
    plan = replace(base, network=NetworkPart(network, card, base.device), deformable=deformable)
    if card.alignment in LINEAR:
        return replace(plan, linear=LinearPlan(card.alignment))
    start = Candidate(card.alignment, lift_matrix(start_matrix(card, pair)))
    return replace(plan, methods=("none",), given=(start,), first=None, linear=None)


def predict_start(network: AbstractNetwork, card: Card, pair: Pair, *, device: str = "cpu") -> Candidate:
    """The linear start that an affine network gives: its matrix, exact everywhere, where a field would fade out.

    Args:
        network: Of an affine family; its weights are not changed.
        card: Its papers.
        pair: Images on any grids.
        device: ``cpu`` or ``cuda``.

    Returns:
        For :attr:`pullback.registration.Plan.given`; its name is the family's.

    Raises:
        ValueError: If the images do not suit the network, it gives no matrix, or its card wants a linear registration
            first, which needs a start itself.
    """
    _check(card, pair)
    if card.alignment in LINEAR:
        raise ValueError(
            f"The card's alignment is '{card.alignment}', a registration, but a start comes before any; take a network "
            "whose images were brought together by header, view or mass."
        )
    fixed_grid = place_for(card, pair.fixed)
    moving_grid = Grid(fixed_grid.shape, torch.from_numpy(start_matrix(card, pair)) @ fixed_grid.voxel_to_world)
    seen = see(pair.fixed, card, fixed_grid), see(pair.moving, card, moving_grid)
    matrix = run(network, *seen, device)[0]
    if matrix is None:
        raise ValueError(
            f"The family '{network.family}' gives no `matrix`, which a start needs; take an affine family."
        )
    world = moving_grid.voxel_to_world @ matrix @ fixed_grid.world_to_voxel
    return Candidate(card.family, lift_matrix(world.numpy()))


def predict_levels(network: AbstractNetwork, card: Card, pair: Pair, *, device: str = "cpu") -> list[AbstractTransform]:
    """How a network's answer grew: the map before it, then what each level found, coarse to fine.

    Args:
        network: Of a family whose levels are composed; its weights are not changed.
        card: Its papers.
        pair: Images on any grids.
        device: ``cpu`` or ``cuda``.

    Returns:
        Maps whose chain, in this order, is the network's answer; after n of them the image has been moved by n.

    Raises:
        ValueError: If the images do not suit the network, its levels are not composed, or its card wants a
            registration first.
    """
    _check(card, pair)
    if not network.are_levels_composed:
        raise ValueError(f"The answer of the family '{network.family}' is no composition of levels.")
    if card.alignment in LINEAR:
        raise ValueError(
            f"The card's alignment is '{card.alignment}', a registration; register first, or take a network whose "
            "images were brought together by header, view or mass."
        )
    start = Affine(torch.from_numpy(start_matrix(card, pair)))
    fixed_grid = place_for(card, pair.fixed)
    moving_grid = Grid(fixed_grid.shape, start.matrix @ fixed_grid.voxel_to_world)
    seen = see(pair.fixed, card, fixed_grid), see(pair.moving, card, moving_grid)
    levels = [level[0].to("cpu", torch.float32) for level in _state_of(network, *seen, device)["levels"]]
    return [start, *(DisplacementField.from_voxels(level, fixed_grid) for level in levels)]


def start_matrix(card: Card, pair: Pair) -> np.ndarray:
    """World matrix ``(D+1, D+1)`` that brings the images together as the card says, without a registration."""
    if card.alignment == "header":
        return np.eye(card.num_dims + 1)
    fixed, moving = (place_for(card, image) for image in (pair.fixed, pair.moving))
    return (moving.voxel_to_world @ fixed.world_to_voxel).numpy()


def place_for(card: Card, image: Image) -> Grid:
    """Where the network's lattice lies in an image."""
    centre = "mass" if card.alignment == "mass" else "view"
    return place(image, card.shape, card.spacing_mm, centre=centre, orientation=card.orientation)


@dataclass(frozen=True)
class NetworkPart:
    """A network as a part of a registration: from a pair and a linear map to a better one and a deformation.

    The matrix of an affine network is taken as such, since it holds everywhere, and a field ends with its lattice.
    """

    network: AbstractNetwork
    card: Card
    device: str = "cpu"

    def __call__(self, pair: Pair, matrix: np.ndarray) -> Answer:
        """The network's answer from a world matrix ``(4, 4)`` on; a deformation has its lattice and a margin."""
        skip = 3 - self.card.num_dims
        linear = torch.from_numpy(matrix[skip:, skip:])
        fixed_grid = place_for(self.card, pair.fixed)
        moving_grid = Grid(fixed_grid.shape, linear @ fixed_grid.voxel_to_world)
        fixed, moving = see(pair.fixed, self.card, fixed_grid), see(pair.moving, self.card, moving_grid)
        voxels, displacement = run(self.network, fixed, moving, self.device)
        self._check(displacement if voxels is None else torch.cat([displacement.flatten(), voxels.flatten()]))
        if voxels is not None:
            matrix = lift_matrix((moving_grid.voxel_to_world @ voxels @ fixed_grid.world_to_voxel).numpy())
            displacement = beyond(displacement, voxels)
            if float(displacement.abs().max()) < LINEAR_VOXELS:
                return Answer(matrix)
        displacement, margin = fade_out(displacement)
        grid = fixed_grid.crop([-margin] * self.card.num_dims, [n + margin for n in fixed_grid.shape])
        return Answer(matrix, Deformation(lift_field(displacement, self.card.num_dims), lift_grid(grid)))

    def _check(self, answer: Tensor) -> None:
        if not bool(torch.isfinite(answer).all()):
            raise ValueError(
                f"The network '{self.network.family}' gives numbers that are not finite for these images; its weights "
                "are damaged, or the images are unlike those it was trained on."
            )


def run(network: AbstractNetwork, fixed: Tensor, moving: Tensor, device: str) -> tuple[Tensor | None, Tensor]:
    """What a network says of a batch of one, on the CPU; its mode and device are as before afterwards.

    Returns:
        The voxel matrix ``(D + 1, D + 1)`` float64, if the family gives one, and the displacement ``(1, D, *S)``.
    """
    state = _state_of(network, fixed, moving, device)
    matrix = state["matrix"][0].detach().to("cpu", torch.float64) if "matrix" in state else None
    return matrix, state["displacement"].detach().to("cpu", torch.float32)


def _state_of(network: AbstractNetwork, fixed: Tensor, moving: Tensor, device: str) -> State:
    was_training, home = network.training, next(network.parameters(), torch.empty(0)).device
    try:
        network.eval().to(device)
        with torch.no_grad():
            return run_padded(network, fixed.to(device), moving.to(device))
    finally:
        network.train(was_training).to(home)


def beyond(displacement: Tensor, matrix: Tensor) -> Tensor:
    """What a displacement ``(1, D, *S)`` has beyond a voxel matrix, of one lattice: what acts before the matrix."""
    shape, back = tuple(displacement.shape[2:]), torch.linalg.inv(matrix)
    from_identity = affine.displacement_of(back[None].to(displacement), shape)
    turned = torch.einsum("rc,bc...->br...", back[:-1, :-1].to(displacement), displacement)
    return from_identity + turned


def fade_out(displacement: Tensor) -> tuple[Tensor, int]:
    """A displacement with a margin in which it fades to zero, slowly enough not to fold; and the margin in voxels.

    Outside of a lattice nothing is moved, so a field that ends abruptly would tear the image there. The margin is at
    most as wide as the lattice: what moves its edges farther than that is nonsense, folds, and is called so.
    """
    num_dims, widest = displacement.ndim - 2, max(*displacement.shape[2:], ALWAYS_ALLOWED_MARGIN_VOXELS)
    margin = 2 * math.ceil(min(_largest_at_edges(displacement), widest / 2))
    margin = max(SMALLEST_MARGIN_VOXELS, margin)
    for axis in range(2, 2 + num_dims):
        n = displacement.shape[axis]
        index = torch.arange(-margin, n + margin)
        beyond = torch.maximum(-index, index - (n - 1)).clamp(min=0)
        weights = (1 - beyond / margin).reshape([-1 if a == axis else 1 for a in range(displacement.ndim)])
        displacement = displacement.index_select(axis, index.clamp(0, n - 1)) * weights
    return displacement.contiguous(), margin


def _largest_at_edges(displacement: Tensor) -> float:
    edges = [displacement.select(axis, end).abs().amax() for axis in range(2, displacement.ndim) for end in (0, -1)]
    return float(max(edges))


def _check(card: Card, pair: Pair) -> None:
    if pair.fixed.grid.num_dims != card.num_dims:
        raise ValueError(
            f"The images have {pair.fixed.grid.num_dims} dimensions, but these weights are for {card.num_dims}."
        )
    if pair.fixed.num_channels != card.num_channels:
        raise ValueError(
            f"The images have {pair.fixed.num_channels} channels, but these weights are for {card.num_channels}."
        )
