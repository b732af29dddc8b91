"""What a registration found, and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pullback.data import LabelMap
from pullback.registration.initialisation import Initialisation
from pullback.registration.verdict import Evidence, Verdict
from pullback.transforms import AbstractLinear, AbstractTransform, DisplacementField


@dataclass(frozen=True)
class StageHistory:
    """The similarity at every step of one level of one stage."""

    stage: str
    level: str
    values: list[float] = field(repr=False)
    reason: str


@dataclass(frozen=True)
class SimilarityReport:
    """Which similarity was used, why, and its value at the resolution of the evidence.

    Attributes:
        name: ``mse``, ``ncc``, ``lncc``, ``mi`` or ``mind``.
        why: The reason.
        before: Under the alignment named in :attr:`RegistrationResult.before_name`.
        after_linear: After the linear stage.
        after: At the end.
    """

    name: str
    why: str
    before: float
    after_linear: float
    after: float


@dataclass(frozen=True)
class RegistrationResult:
    """The map both ways and the evidence.

    Attributes:
        fixed_to_moving: World points of the fixed image to the moving image; resamples moving onto fixed.
        moving_to_fixed: Its inverse.
        linear: The linear part.
        field: The deformable part, acting first, or None.
        before: The alignment that "before" refers to: the headers', or centres of mass where those hardly overlap.
        before_name: Which of the two.
        fixed_object: 1 where the fixed object is, over which Jacobian and inverse consistency are summarised.
        initialisation: Starts tried, or None when the start was given.
        similarity: Name, reason and values.
        evidence: Jacobian, inverse consistency, overlap and the rest of what the verdict is based on.
        history: Similarity by step.
        seconds: Time by stage.
        verdict: good, doubtful or failed, with reasons.
    """

    fixed_to_moving: AbstractTransform
    moving_to_fixed: AbstractTransform
    linear: AbstractLinear
    field: DisplacementField | None
    before: AbstractTransform
    before_name: str
    fixed_object: LabelMap
    initialisation: Initialisation | None
    similarity: SimilarityReport
    evidence: Evidence
    history: tuple[StageHistory, ...]
    seconds: Mapping[str, float]
    verdict: Verdict
