"""The end of a registration: the evidence for and against what was found, the verdict, and both in one result."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pullback.data import LabelMap
from pullback.metrics import inverse_consistency, summarise_jacobian
from pullback.registration.alignment import COARSE_OBJECT_VOXELS, CONTRAST_OBJECT_VOXELS, at, build_again, emphasised
from pullback.registration.choice import ACROSS_CONTRASTS, Choice, is_alike, mutual_information, sign_agreement
from pullback.registration.evidence import (
    View,
    comes_nearer,
    is_whole,
    look_through,
    margin_over_rivals,
    overlap_of,
    similarity_through,
)
from pullback.registration.initialisation import Initialisation, geometry_of
from pullback.registration.linear import Comparison
from pullback.registration.planes import lift_matrix
from pullback.registration.result import RegistrationResult, SimilarityReport
from pullback.registration.swapping import swap
from pullback.registration.verdict import HOPELESS_MARGIN, Evidence, judge
from pullback.registration.volume import Volume
from pullback.registration.work import Work
from pullback.transforms import (
    AbstractLinear,
    AbstractTransform,
    Affine,
    DisplacementField,
    Translation,
    chain,
    identity,
)

EVIDENCE_OBJECT_VOXELS = 80
"""Resolution, as the length of the fixed object in voxels, at which images are compared for the evidence: that of the
last level of the linear stage."""
USEFUL_OVERLAP = 0.25
"""Overlap (Dice) of the objects by headers from which "before" means the headers' alignment."""
TAKEN_BACK = "taken back, with all levels before it: the images agreed less than after the linear stage"
NOT_NEARER = (
    "taken back, with all levels before it: mutual information rose, but local structures came hardly nearer to each "
    "other than after the linear stage"
)
"""Reasons of the last level of a deformation that did not help."""
BY_HEADERS, BY_CENTRES = "as the headers say", "centres of mass together"
"""What "before" can mean; reports say it where it is not the first."""


@dataclass(frozen=True)
class Maps:
    """What was found.

    Attributes:
        linear: The linear map.
        field: The deformation before it, which knows its inverse; None if there is none.
    """

    linear: AbstractLinear
    field: DisplacementField | None

    @property
    def forward(self) -> AbstractTransform:
        """Fixed to moving."""
        return self.linear if self.field is None else chain(self.linear, self.field)

    @property
    def backward(self) -> AbstractTransform:
        """Moving to fixed."""
        back = self.linear.inverse()
        return back if self.field is None else chain(self.field.inverse(), back)

    def without_deformation(self) -> "Maps":
        """The same linear map after a field of zeros."""
        zeros, grid = torch.zeros_like(self.field.displacement), self.field.grid
        inverse = DisplacementField(zeros, grid, DisplacementField(zeros, grid))
        return replace(self, field=DisplacementField(zeros, grid, inverse))


def conclude(
    work: Work, initialisation: Initialisation | None, choice: Choice, maps: Maps, *, has_to_gain: bool
) -> RegistrationResult:
    """Gather the evidence and judge.

    Args:
        work: With the volumes at full resolution.
        initialisation: The starts that were tried; None if the start was given.
        choice: The similarity that was used.
        maps: What was found.
        has_to_gain: Whether the deformation is taken back where the images agree less by it. The finest level sees the
            noise of both and follows it, the resolution of the evidence is too coarse for that. Of two contrasts local
            structures have to come nearer, too.
    """
    fixed, moving = at(work, EVIDENCE_OBJECT_VOXELS)
    before, before_name, view_before = _before(fixed, moving)
    view_linear = look_through(fixed, moving, maps.linear)
    view = view_linear if maps.field is None else look_through(fixed, moving, maps.forward)
    at_first, after_linear = (similarity_through(fixed, seen, choice.similarity) for seen in (view_before, view_linear))
    after = after_linear if view is view_linear else similarity_through(fixed, view, choice.similarity)
    harm = _harm(choice, fixed, view_linear, view, after - after_linear) if has_to_gain else None
    if harm is not None:
        maps, view, after = maps.without_deformation(), view_linear, after_linear
        work.history[-1] = replace(work.history[-1], reason=harm)
    is_linear = maps.field is None or harm is not None
    grid, region = work.fixed.image_grid, _in_image(work.fixed)
    forward, backward = maps.forward, maps.backward
    margin = _margin(work, initialisation, choice, maps.linear)
    led = _as_it_was_led(work, choice, maps.linear)
    evidence = Evidence(
        margin=margin,
        scales=tuple(float(s) for s in Affine(maps.linear.matrix).decompose().scaling),
        overlap=overlap_of(fixed.foreground, view.foreground) if work.has_outlines else None,
        overlap_inside=overlap_of(fixed.foreground & view.inside, view.foreground) if work.has_outlines else None,
        shown=_share_shown(fixed, moving, maps.linear, view_linear),
        view=_share_in_view(work, fixed, moving, maps.linear, view),
        gain=_gain_of_linear(*led, before if led[0] is work else before.inverse()) if is_linear else after - at_first,
        jacobian=summarise_jacobian(forward.jacobian_determinant(grid), region),
        consistency=inverse_consistency(forward, backward, grid, region),
        dependence=_dependence(*led),
        seen=_whose_view(work),
        agreement=_agreement(*led),
        is_whole=is_whole(work.fixed),
        is_small_part=work.is_led_by_part,
        is_held=choice.restraint > 0,
        silhouette=_silhouette(work),
        is_taken_back=harm is not None,
        is_alike=margin < HOPELESS_MARGIN and choice.name in ACROSS_CONTRASTS and _is_alike(led[0], led[2]),
    )
    return RegistrationResult(
        fixed_to_moving=forward,
        moving_to_fixed=backward,
        linear=maps.linear,
        field=maps.field,
        before=before,
        before_name=before_name,
        fixed_object=LabelMap(region[None].to(torch.uint8), grid),
        initialisation=initialisation,
        similarity=SimilarityReport(choice.name, _why(work, choice), at_first, after_linear, after),
        evidence=evidence,
        history=tuple(work.history),
        seconds=work.seconds,
        verdict=judge(evidence),
    )


def _harm(choice: Choice, fixed: Volume, linear: View, view: View, gain: float) -> str | None:
    """Why a deformation is taken back, if it is."""
    if gain < 0:
        return TAKEN_BACK
    is_asked = choice.name == "mi" and not fixed.is_flat
    return NOT_NEARER if is_asked and not comes_nearer(fixed, linear, view) else None


def _as_it_was_led(work: Work, choice: Choice, linear: AbstractLinear) -> tuple[Work, Choice, AbstractLinear]:
    """What the linear stage had before it: the other way round where a small part led, which is hardly seen else."""
    if not work.is_led_by_part:
        return work, choice, linear
    swapped = swap(work)
    return swapped, build_again(swapped, choice), linear.inverse()


def _gain_of_linear(work: Work, choice: Choice, linear: AbstractLinear, before: AbstractLinear) -> float:
    """What a linear map gained over another, as the linear stage compares; 0 if there was nothing to compare before.

    That stage follows the middle of the object, whose outer parts may agree less than they did.
    """
    fixed, moving = at(work, EVIDENCE_OBJECT_VOXELS, is_dense=True)
    comparison = Comparison(emphasised(work, choice, fixed), moving, choice.linear.as_judge())
    there, now = (comparison.value(lift_matrix(one.matrix.numpy())) for one in (before, linear))
    return now - there if math.isfinite(there) else 0.0


def _before(fixed: Volume, moving: Volume) -> tuple[AbstractLinear, str, View]:
    """What "before" means: the headers' alignment, or centres of mass where the objects hardly overlap by headers."""
    num_dims = 2 if fixed.is_flat else 3
    by_headers = identity(num_dims)
    view = look_through(fixed, moving, by_headers)
    if overlap_of(fixed.foreground, view.foreground) >= USEFUL_OVERLAP:
        return by_headers, BY_HEADERS, view
    shift = (geometry_of(moving)[0] - geometry_of(fixed)[0])[3 - num_dims :]
    by_centres = Translation.by(shift)
    return by_centres, BY_CENTRES, look_through(fixed, moving, by_centres)


def _why(work: Work, choice: Choice) -> str:
    if not work.cut_out:
        return choice.why
    return f"{choice.why}; the {work.cut_out} object was cut out, so what lay around it did not count"


def _share_in_view(work: Work, fixed: Volume, moving: Volume, linear: AbstractLinear, view: View) -> float:
    """How much of the fixed object the moving field of view shows; if the moving one was cut out, it the other way."""
    if _whose_view(work) == "moving":
        return _share_shown(fixed, moving, linear, view)
    return float((view.inside & fixed.foreground).sum()) / max(float(fixed.foreground.sum()), 1.0)


def _share_shown(fixed: Volume, moving: Volume, linear: AbstractLinear, view: View) -> float:
    """How much of the moving object the fixed field of view shows."""
    shown = float(view.foreground.sum()) * fixed.grid.voxel_volume * abs(float(torch.linalg.det(linear.linear)))
    return min(shown / max(float(moving.foreground.sum()) * moving.grid.voxel_volume, 1e-9), 1.0)


def _whose_view(work: Work) -> str:
    """Whose object should be in view: the fixed one; if the moving one was cut out, that, as the rest is nowhere."""
    return "moving" if work.cut_out == "moving" else "fixed"


def _margin(work: Work, initialisation: Initialisation | None, choice: Choice, linear: AbstractLinear) -> float:
    """How far other poses stay behind: as the search for the start found, or as a search now finds; 0 if held."""
    if choice.restraint:
        return 0.0
    if work.margin is not None:
        return work.margin
    if initialisation is not None and "search" in work.plan.methods:
        return initialisation.margin
    return margin_over_rivals(work.fixed, work.moving, choice, lift_matrix(linear.matrix.numpy()))


def _dependence(work: Work, choice: Choice, linear: AbstractLinear) -> float | None:
    """Mutual information after the linear part, where nothing else speaks for the pose; else None."""
    if choice.name not in ACROSS_CONTRASTS or work.has_outlines:
        return None
    if _is_alike(work, linear):
        return None
    fixed, moving = at(work, EVIDENCE_OBJECT_VOXELS)
    measure = choice.similarity if choice.name == "mi" else mutual_information(fixed, moving)
    return similarity_through(fixed, look_through(fixed, moving, linear), measure)


def _is_alike(work: Work, linear: AbstractLinear) -> bool:
    """Whether local structures agree after the linear part as they do in place."""
    return is_alike(*at(work, COARSE_OBJECT_VOXELS), lift_matrix(linear.matrix.numpy()))


def _agreement(work: Work, choice: Choice, linear: AbstractLinear) -> float | None:
    """Whether local contrasts run the same way after the linear part, where somebody asked for one contrast."""
    if work.plan.similarity is None or choice.name in ACROSS_CONTRASTS:
        return None
    return sign_agreement(*at(work, CONTRAST_OBJECT_VOXELS), lift_matrix(linear.matrix.numpy()))


def _silhouette(work: Work) -> str | None:
    """Which image shows an outline alone, where the other shows more; of two masks none is told off."""
    is_fixed, is_moving = work.fixed.is_silhouette, work.moving.is_silhouette
    if is_fixed == is_moving:
        return None
    return "fixed" if is_fixed else "moving"


def _in_image(fixed: Volume) -> Tensor:
    """The fixed object, in the dimensions of the image."""
    return fixed.foreground[0] if fixed.is_flat else fixed.foreground
