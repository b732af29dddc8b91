r"""Losses: weighted, logged terms on named entries of the training state.

Each term gives one number per pair, ``(B,)``, smaller is better. Displacements and velocities are in voxels of the full
lattice, so that a weight means the same for every family.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pullback import functional
from pullback.checks import check_choice, check_each_at_least, check_positive
from pullback.networks import affine, anchors, graph_laplacian_kl
from pullback.regularity import Bending, Diffusion
from pullback.similarity import LNCC, MSE, NCC, AbstractSimilarity
from pullback.training.state import TrainingState

SMALLEST_MASS = 1e-5
"""Added to both sides of Dice's fraction, so that a label that neither image holds counts as perfect."""

IN_VIEW = 0.99
"""Share of a voxel that must have been seen, for terms that count no others."""

MAGNITUDE_FORMS = ("means", "moduli", "sum", "literal-sum")
"""How :class:`MagnitudeTerm` compares two fields."""


@dataclass(frozen=True)
class AbstractTerm(ABC):
    """One term.

    Attributes:
        weight: Its factor in the sum.
        name: In the log (default: kind and entries).
    """

    kind: ClassVar[str]
    weight: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "weight")

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or self.kind

    @abstractmethod
    def __call__(self, state: TrainingState) -> Tensor:
        """The value of each pair, ``(B,)``, without the weight."""


@dataclass(frozen=True)
class SimilarityTerm(AbstractTerm):
    """Minus a similarity of two entries, differentiable in both.

    Attributes:
        measure: ``mse``, ``ncc`` or ``lncc``.
        fixed, warped: The entries: ``fixed`` and ``warped`` one way, ``moving`` and ``warped_fixed`` the other,
            ``half_warped_fixed`` and ``half_warped`` half-way.
        radius_voxels: Half width of the windows of ``lncc``: 4 is a window of 9.
        noise: The variance below which a window of ``lncc`` says nothing, in squared units of the normalised images.
        squared: Whether correlations are squared.
        is_differentiable: False computes the number without its derivative, so that it changes no weight, as source
            002 did, which warped outside of the graph. Only to show what such a term does.
        in_view: Whether only those voxels count that both scans saw. What a lattice is filled with beyond a scan's
            field of view ends in an edge, often the sharpest there is, and networks learn to bring the edges of the
            views together. For scans that show a part of something, not for heads within air.
    """

    kind: ClassVar[str] = "similarity"
    measure: str = "lncc"
    fixed: str = "fixed"
    warped: str = "warped"
    radius_voxels: int = 4
    noise: float = 1e-4
    squared: bool = True
    is_differentiable: bool = True
    in_view: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("measure", self.measure, ("mse", "ncc", "lncc"))
        check_each_at_least(1, self, "radius_voxels")
        check_positive("noise", self.noise)

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or (self.measure if self.warped == "warped" else f"{self.measure}_{self.warped}")

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        fixed, warped = state[self.fixed], state[self.warped]
        value = -between(self._similarity(), fixed, warped, self._weights(state))
        return value if self.is_differentiable else value.detach()

    def _weights(self, state: TrainingState) -> Tensor | None:
        if not self.in_view:
            return None
        return ((state[f"{self.fixed}_view"] * state[f"{self.warped}_view"]).detach() > IN_VIEW).to(torch.float32)

    def _similarity(self) -> AbstractSimilarity:
        if self.measure == "lncc":
            return LNCC(radius_voxels=self.radius_voxels, noise=self.noise, squared=self.squared)
        return MSE() if self.measure == "mse" else NCC(squared=self.squared)


def between(similarity: AbstractSimilarity, a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
    """A similarity that does not care which image comes first, differentiable in both."""
    value = similarity(a, b, weights)
    if a.requires_grad:  # a similarity is differentiable in its second image: the other order adds the derivative alone
        other = similarity(b, a, weights)
        value = value + (other - other.detach())
    return value


@dataclass(frozen=True)
class DiffusionTerm(AbstractTerm):
    r"""$\frac{1}{|\Omega| D^2} \sum_x \|\nabla u(x)\|^2$: squared forward differences, a mean over components and axes.

    The weights of VoxelMorph's and Fourier-Net's papers are meant for this mean.

    Attributes:
        field: ``displacement``, ``velocity``, ``inverse_velocity``, ..., or a list: ``velocities`` (of a cascade),
            ``levels`` (the mean over them).
        scaled_by: An entry ``(B,)`` that multiplies each pair's value, such as ``smoothness``, or nothing.
    """

    kind: ClassVar[str] = "diffusion"
    field: str = "displacement"
    scaled_by: str = ""

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or f"diffusion_{self.field}"

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        fields = state[self.field]
        fields = fields if isinstance(fields, list) else [fields]
        value = sum(Diffusion().energy(field) / field.shape[1] ** 2 for field in fields) / len(fields)
        return value * state[self.scaled_by] if self.scaled_by else value


@dataclass(frozen=True)
class BendingTerm(AbstractTerm):
    """The bending energy of :class:`pullback.regularity.Bending`, blind to affine maps.

    Attributes:
        field: The entry.
    """

    kind: ClassVar[str] = "bending"
    field: str = "displacement"

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        return Bending().energy(state[self.field])


@dataclass(frozen=True)
class DiceTerm(AbstractTerm):
    r"""$1 - \frac{1}{L} \sum_l \frac{2 |A_l B_l|}{|A_l| + |B_l|}$ of one-hot labels, the warped ones sampled linearly.

    Attributes:
        fixed, warped: The entries.
    """

    kind: ClassVar[str] = "dice"
    fixed: str = "fixed_labels"
    warped: str = "warped_labels"

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or ("dice" if self.warped == "warped_labels" else f"dice_{self.warped}")

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        a, b = state[self.fixed].flatten(2), state[self.warped].flatten(2)
        both, each = (a * b).sum(-1), a.sum(-1) + b.sum(-1)
        return 1 - ((2 * both + SMALLEST_MASS) / (each + SMALLEST_MASS)).mean(dim=1)


@dataclass(frozen=True)
class KullbackLeiblerTerm(AbstractTerm):
    """The divergence of a velocity's posterior from smooth ones: :func:`pullback.networks.graph_laplacian_kl`.

    Attributes:
        precision: In 1 / voxels^2 of the lattice where the velocity is integrated.
    """

    kind: ClassVar[str] = "kl"
    precision: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("precision", self.precision)

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        return graph_laplacian_kl(state["mean"], state["log_variance"], precision=self.precision)


@dataclass(frozen=True)
class OrientationTerm(AbstractTerm):
    r"""$\frac{1}{|\Omega|} \sum_x \max(0, -\det \nabla \phi(x))$ by forward differences: a price for folds.

    Attributes:
        field: The displacement.

    Reference:
        Mok and Chung, Fast symmetric diffeomorphic image registration, CVPR 2020, doi:10.1109/CVPR42600.2020.00470.
    """

    kind: ClassVar[str] = "orientation"
    field: str = "displacement"

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or f"orientation_{self.field}"

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        return (-forward_determinant(state[self.field])).clamp(min=0).flatten(1).mean(1)


def forward_determinant(displacement: Tensor) -> Tensor:
    """Determinant of the map's derivative by forward differences, ``(B, *(S - 1))``."""
    num_dims = displacement.ndim - 2
    inner = tuple(slice(0, n - 1) for n in displacement.shape[2:])
    columns = []
    for axis in range(num_dims):
        rest = tuple(s for a, s in enumerate(inner) if a != axis)
        cut = [slice(None), slice(None), *rest]
        cut.insert(2 + axis, slice(None))
        columns.append(displacement.diff(dim=2 + axis)[tuple(cut)])
    m = [[columns[c][:, r] + (1.0 if r == c else 0.0) for c in range(num_dims)] for r in range(num_dims)]
    if num_dims == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )


@dataclass(frozen=True)
class MagnitudeTerm(AbstractTerm):
    r"""How unevenly two fields share the way, so that neither direction does all the work.

    With a and b the fields, per pair: ``means`` is SYMNet's $|\overline{|a|} - \overline{|b|}|$ of all components;
    ``moduli`` compares lengths voxel by voxel, $\overline{\left|\|a\|^2 - \|b\|^2\right|}$ (HSyN's $L_{mc}$, whose
    print lacks the outer bars); ``sum`` wants a and b opposite, $\overline{\|a + b\|^2}$ (HSyN's $L_{smc}$ as a norm);
    ``literal-sum`` is $L_{smc}$ as printed, the mean of $a + b$ itself, added up over components: it has no lower
    bound and is here for the comparison only.

    Attributes:
        field, against: The fields.
        form: One of the above.

    Reference:
        Sha et al., Hierarchical symmetric normalization registration using deformation-inverse network, MICCAI 2024.
    """

    kind: ClassVar[str] = "magnitude"
    field: str = "velocity"
    against: str = "inverse_velocity"
    form: str = "means"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("form", self.form, MAGNITUDE_FORMS)

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        a, b = state[self.field], state[self.against]
        if self.form == "means":
            return (a.abs().flatten(1).mean(1) - b.abs().flatten(1).mean(1)).abs()
        if self.form == "moduli":
            return (a.square().sum(1) - b.square().sum(1)).abs().flatten(1).mean(1)
        if self.form == "sum":
            return (a + b).square().sum(1).flatten(1).mean(1)
        return (a + b).sum(1).flatten(1).mean(1)


@dataclass(frozen=True)
class InverseTerm(AbstractTerm):
    r"""Mean squared length of $v(x) + u(x + v(x))$: how far two displacements are from each other's inverse.

    HSyN's composition loss of its DI-Net is a third of this in 3-D, where it is a mean over components too.

    Attributes:
        field: u.
        against: v.
        is_field_held: Whether v alone learns.
    """

    kind: ClassVar[str] = "inverse"
    field: str = "displacement"
    against: str = "inverse_displacement"
    is_field_held: bool = False

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or ("inverse" if self.against == "inverse_displacement" else f"inverse_{self.against}")

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        field = state[self.field].detach() if self.is_field_held else state[self.field]
        gap = functional.compose(field, state[self.against])
        return gap.square().sum(dim=1).flatten(1).mean(1)


@dataclass(frozen=True)
class DisplacementTerm(AbstractTerm):
    """Mean squared distance in voxels from a displacement that is known (simulated pairs) or was found by a teacher.

    Attributes:
        in_view: Whether only voxels within the fixed scan's field of view count.
    """

    kind: ClassVar[str] = "true-displacement"
    in_view: bool = False

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        squares = (state["displacement"] - state["true_displacement"]).square().sum(dim=1).flatten(1)
        if not self.in_view:
            return squares.mean(1)
        seen = (state["fixed_view"] > IN_VIEW).to(squares).flatten(1)
        return (seen * squares).sum(1) / seen.sum(1).clamp(min=1)


@dataclass(frozen=True)
class MatrixTerm(AbstractTerm):
    """Mean squared difference of the numbers of a voxel matrix from one that is known.

    Attributes:
        unit_voxels: By which translations are divided, so that they weigh like the other numbers; 1 leaves them.
        origin: ``corner`` or ``middle``: for which point of the lattice translations stand.
    """

    kind: ClassVar[str] = "true-matrix"
    unit_voxels: float = 32.0
    origin: str = "corner"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers(self.unit_voxels, self.origin)

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        gap = state["matrix"] - state["true_matrix"]
        return _mean_square(gap, state, self.unit_voxels, self.origin)


@dataclass(frozen=True)
class ConsistencyTerm(AbstractTerm):
    r"""Mean squared difference of Y from T Z: what the network says of a moving image, and of it moved further by T.

    A second copy of the moving image, ``again(x) = moving(T x)``, is registered too. Z leads from fixed points to the
    copy's and T from there to the moving image's, so a perfect predictor has Y = T Z, and the term vanishes. Source 002
    writes Z T, since its matrices lead from moving to fixed.

    Attributes:
        unit_voxels, origin: As for :class:`MatrixTerm`.
    """

    kind: ClassVar[str] = "consistency"
    unit_voxels: float = 32.0
    origin: str = "corner"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers(self.unit_voxels, self.origin)

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        gap = state["matrix"] - state["again_matrix"] @ state["matrix_again"]
        return _mean_square(gap, state, self.unit_voxels, self.origin)


@dataclass(frozen=True)
class KeypointTerm(AbstractTerm):
    r"""Mean distance in voxels of a moving image's points from where a known map sends the fixed image's.

    For families that find points (``keymorph``), whose pairs are simulated: the known map is ``true_matrix``.

    Attributes:
        of: ``points``: those that were found. ``map``: the fixed image's points as the fitted map sends them, so that
            errors count as far as they spoil the map.
        is_anchored: Whether the fixed image's points are to lie at :func:`pullback.networks.anchors`, and the moving
            image's where the known map sends those: for pairs with one template, or together but for the simulation.
            Points that need only agree could all fall into one.

    Reference:
        Yu et al., KeyMorph, MIDL 2022: such targets begin its training.
    """

    kind: ClassVar[str] = "keypoints"
    of: str = "points"
    is_anchored: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("of", self.of, ("points", "map"))

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.name or (self.kind if self.of == "points" else f"{self.kind}_{self.of}")

    def __call__(self, state: TrainingState) -> Tensor:
        """See :class:`AbstractTerm`."""
        true, points = state["true_matrix"], state["fixed_points"]
        wanted = points
        if self.is_anchored:
            wanted = anchors(tuple(state["fixed"].shape[2:]), points.shape[1]).to(points).expand_as(points)
        if self.of == "map":
            return _distance(_moved(wanted, state["matrix"]), _moved(wanted, true))
        gap = _distance(state["moving_points"], _moved(wanted, true))
        return (gap + _distance(points, wanted)) / 2 if self.is_anchored else gap


def _moved(points: Tensor, matrix: Tensor) -> Tensor:
    """Points ``(B, K, D)`` by matrices ``(B, D + 1, D + 1)``."""
    return points @ matrix[:, :-1, :-1].mT + matrix[:, None, :-1, -1]


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """``(B,)``: mean distance of points ``(B, K, D)``."""
    return torch.linalg.vector_norm(a - b, dim=2).mean(1)


def _check_numbers(unit_voxels: float, origin: str) -> None:
    check_positive("unit_voxels", unit_voxels)
    check_choice("origin", origin, affine.ORIGINS)


def _mean_square(gap: Tensor, state: TrainingState, unit_voxels: float, origin: str) -> Tensor:
    """``(B,)``: mean square of the rows of a difference of two voxel matrices ``(B, D + 1, D + 1)``."""
    linear, translation = gap[:, :-1, :-1], gap[:, :-1, -1]
    if origin == "middle":
        translation = translation + (linear * affine.origin_of(state["fixed"].shape[2:], origin, gap)).sum(-1)
    rows = torch.cat([linear, translation[:, :, None] / unit_voxels], dim=2)
    return rows.square().flatten(1).mean(1)


Term = (
    SimilarityTerm
    | DiffusionTerm
    | BendingTerm
    | DiceTerm
    | KullbackLeiblerTerm
    | OrientationTerm
    | MagnitudeTerm
    | InverseTerm
    | DisplacementTerm
    | MatrixTerm
    | ConsistencyTerm
    | KeypointTerm
)
