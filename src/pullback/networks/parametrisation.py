"""What the numbers that come out of a network mean, and how they become a displacement of the full lattice."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from pullback import functional
from pullback.checks import check_at_least, check_choice
from pullback.networks import composition
from pullback.networks.blocks import LINEAR_MODE
from pullback.networks.contract import State

RESIZING = ("centres", "corners")
UNITS = ("voxels", "normalised")


def resize_field(field: Tensor, shape: tuple[int, ...], *, resizing: str = "centres") -> Tensor:
    """Resample a displacement or velocity onto a lattice of another size over the same extent; values scale along.

    Args:
        field: ``(B, D, *S)`` in voxels of its lattice.
        shape: Sizes of the new lattice; all from S by one factor.
        resizing: ``centres``: voxels are boxes that share the outer borders (the centre of the first of two coarse
            voxels lies between two fine ones). ``corners``: the first and last centres coincide, though values scale by
            the ratio of sizes, as in VoxelMorph's code; only for weights that were trained so.

    Returns:
        ``(B, D, *shape)`` in voxels of the new lattice.
    """
    check_choice("resizing", resizing, RESIZING)
    old = tuple(field.shape[2:])
    if old == tuple(shape):
        return field
    factor = shape[0] / old[0]
    if resizing == "corners":
        return factor * _between_corners(field, shape)
    if factor < 1:
        return factor * functional.block_mean(field, [round(1 / factor)] * len(old))
    return factor * nnf.interpolate(field, size=tuple(shape), mode=LINEAR_MODE[len(old)])


def _between_corners(field: Tensor, shape: tuple[int, ...]) -> Tensor:
    matrix = np.eye(len(shape) + 1)
    for axis, (new, old) in enumerate(zip(shape, field.shape[2:], strict=True)):
        matrix[axis, axis] = (old - 1) / max(new - 1, 1)
    return functional.warp(field, field.new_zeros(field.shape[0], len(shape), *shape), matrix)


@dataclass(frozen=True)
class Displacement:
    """The field is the displacement."""

    def __call__(self, field: Tensor) -> State:
        """``(B, D, *S)`` in voxels to the state's entries."""
        return {"displacement": field}


@dataclass(frozen=True)
class Velocity:
    """The field is a stationary velocity, integrated by scaling and squaring on its own or a coarser lattice.

    Attributes:
        num_squarings: How often ``v / 2^n`` is composed with itself.
        integration_factor: 1 integrates on the full lattice, 2 on the lattice of half the size.
        is_bidirectional: Whether ``exp(-v)`` is computed too.
        outside: See :func:`pullback.networks.composition.compose`.
        resizing: See :func:`resize_field`.
    """

    num_squarings: int = 7
    integration_factor: int = 1
    is_bidirectional: bool = False
    outside: str = "edge"
    resizing: str = "centres"

    def __post_init__(self) -> None:
        check_at_least("num_squarings", self.num_squarings, 1)
        if self.integration_factor not in (1, 2, 4):
            raise ValueError(f"`integration_factor` is {self.integration_factor}, but it can be 1, 2 or 4.")
        check_choice("outside", self.outside, composition.OUTSIDE)
        check_choice("resizing", self.resizing, RESIZING)

    def __call__(self, velocity: Tensor, shape: tuple[int, ...] | None = None) -> State:
        """Integrate.

        Args:
            velocity: ``(B, D, *L)`` in voxels of its lattice L.
            shape: The full lattice, if L is coarser.

        Returns:
            `velocity` and `displacement` (and `inverse_displacement`) in voxels of the full lattice.
        """
        full = tuple(velocity.shape[2:] if shape is None else shape)
        inner = tuple(size // self.integration_factor for size in full)
        state: State = {"velocity": resize_field(velocity, full, resizing=self.resizing)}
        small = resize_field(velocity, inner, resizing=self.resizing)
        state["displacement"] = self._integrate(small, full)
        if self.is_bidirectional:
            state["inverse_displacement"] = self._integrate(-small, full)
        return state

    def _integrate(self, velocity: Tensor, full: tuple[int, ...]) -> Tensor:
        field = composition.exponential(velocity, num_squarings=self.num_squarings, outside=self.outside)
        return resize_field(field, full, resizing=self.resizing)


@dataclass(frozen=True)
class BandLimited:
    r"""The field is given by few samples of a band-limited function, and continued to the full lattice.

    The samples' Fourier series is padded with zeros; values are kept, so the full field passes through the samples.

    Attributes:
        gain: What the samples are multiplied by first.
        unit: ``voxels`` of the full lattice; or ``normalised``: the lattice spans -1 to 1 from the first to the last
            centre, so that one unit is ``(N - 1) / 2`` voxels.
        is_nyquist_paired: See :func:`pullback.functional.fourier_resize`.
    """

    gain: float = 1.0
    unit: str = "voxels"
    is_nyquist_paired: bool = True

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, UNITS)

    def __call__(self, samples: Tensor, shape: tuple[int, ...]) -> Tensor:
        """``(B, D, *L)`` to ``(B, D, *shape)`` in voxels."""
        field = functional.fourier_resize(self.gain * samples, tuple(shape), is_nyquist_paired=self.is_nyquist_paired)
        if self.unit == "voxels":
            return field
        halves = field.new_tensor([(size - 1) / 2 for size in shape])
        return field * halves.reshape(1, -1, *[1] * len(shape))


def spline(control: Tensor, spacing: int, shape: tuple[int, ...]) -> Tensor:
    """Cubic B-splines of control points every `spacing` voxels, the second of which lies on the first voxel.

    Args:
        control: ``(B, C, *P)``.
        spacing: In voxels.
        shape: Of the lattice; ``ceil((S - 1) / spacing) + 3`` points per axis cover it.

    Returns:
        ``(B, C, *shape)``.
    """
    steps = (torch.arange(4 * spacing - 1, dtype=control.dtype, device=control.device) - 2 * spacing + 1) / spacing
    inner, outer = 2 / 3 + (steps.abs() / 2 - 1) * steps.square(), (2 - steps.abs()) ** 3 / 6
    kernel = torch.where(steps.abs() < 1, inner, outer)
    num_dims = control.ndim - 2
    for axis in range(num_dims):
        sizes = [-1 if a == axis else 1 for a in range(num_dims)]
        stride = [spacing if a == axis else 1 for a in range(num_dims)]
        padding = [2 * spacing - 1 if a == axis else 0 for a in range(num_dims)]
        weights = kernel.reshape(1, 1, *sizes).expand(control.shape[1], *[-1] * (num_dims + 1))
        convolve = nnf.conv_transpose2d if num_dims == 2 else nnf.conv_transpose3d
        control = convolve(control, weights, stride=stride, padding=padding, groups=control.shape[1])
    return control[(slice(None), slice(None), *(slice(spacing, spacing + n) for n in shape))]
