"""Whether to trust a registration: good, doubtful or failed, with reasons in words.

The thresholds were set on right and on deliberately wrong alignments of the development data (``docs/accuracy.md``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pullback.metrics import Consistency, JacobianSummary

GOOD, DOUBTFUL, FAILED = "good", "doubtful", "failed"

PLAUSIBLE_MARGIN, HOPELESS_MARGIN = 0.1, -0.15
"""Share of its score by which a result must beat every other pose, and the one at which it has plainly lost."""
PLAUSIBLE_SCALE, HOPELESS_SCALE = 1.6, 2.5
"""Scale factors (or their inverses) beyond which anatomy is doubtful, or the result cannot be right."""
PLAUSIBLE_OVERLAP, HOPELESS_OVERLAP = 0.8, 0.3
"""Of 400 hard starts 5 right ones that passed every other rule have less than the first, and one that is off by 3
voxels; whole pairs of brains and mice have 0.94 and more."""
CLOSE_OVERLAP, CLOSE_MARGIN = 0.9, 0.2
"""Below both, two weak signs make one doubt: of 160 hard starts both that were off by 2 voxels or more and not doubted
before were there, and 10 of the others."""
PLAUSIBLE_VIEW, HOPELESS_VIEW = 0.5, 0.2
PLAUSIBLE_VIEW_OF_WHOLE = 0.8
"""The same where the fixed image shows the whole object: what the moving image lacks of it is guessed by the map. Of 55
cut heads 14 show less, among them all three that are off by more than 2 voxels of 2 mm; the others stay below 1.7."""
WEAK_DEPENDENCE = 0.6
"""Mutual information, in nats, below which images of two contrasts without an outline say too little about a pose."""
PLAUSIBLE_AGREEMENT = 0.88
"""Agreement of local contrasts (`choice.sign_agreement`) below which images that were compared as of one contrast are
of two, or not in place: right maps of one contrast have 0.94 and more, of hard starts 0.90; with FLAIR- and T1-like
brains local correlation ends at 0.78 to 0.93."""
CONSISTENT_VOXELS = 0.1
NOTICEABLE_LOSS = 1e-4
"""Of similarity: two scans that lie on each other from the start, but for 3 % of noise, lose up to 5e-5 by a map within
0.06 voxel of the identity."""
HOPELESS_FOLDS_PERCENT = 1.0


@dataclass(frozen=True)
class Verdict:
    """A judgement.

    Attributes:
        value: ``good``, ``doubtful`` or ``failed``.
        reasons: Why, most serious first.
    """

    value: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What a verdict is based on.

    Attributes:
        margin: How far every other pose stays behind, as a share of the result's score; negative if one is better.
        scales: Scale factors of the linear part along its axes.
        overlap: Dice of the two foregrounds after registration; None where an image has no background.
        view: Share of one object that lies in the other image's field of view.
        gain: Similarity after minus before; of a linear map as the linear stage compares, by the middle above all.
        jacobian: Of the whole map over the fixed object.
        consistency: There and back.
        overlap_inside: The same where both images see.
        shown: Share of the moving object that lies in the fixed image's field of view.
        dependence: Mutual information after the linear part, in nats, where nothing but it speaks for the pose: two
            contrasts, and no outline; else None.
        agreement: Of local contrasts after the linear part, where somebody asked to compare the images as of one
            contrast; else None.
        seen: Whose object that is: ``fixed``, or ``moving`` if that was cut out.
        is_whole: Whether the fixed image shows the whole object.
        is_small_part: Whether the moving image shows a part of something, far smaller than the fixed object, which was
            looked for the other way round.
        is_held: Whether no pose was clear, so that the map was held near the middles of the fields of view.
        silhouette: Which image, ``fixed`` or ``moving``, shows an outline alone where the other shows more; else None.
        is_taken_back: Whether the deformation was taken back, as it did not help, so that the map is linear.
        is_alike: Whether local structures agree so well after the linear part that a better score of another pose says
            little, as that of a small overlap of two contrasts does; asked only where such a pose was found.
    """

    margin: float
    scales: tuple[float, ...]
    overlap: float | None
    view: float
    gain: float
    jacobian: JacobianSummary
    consistency: Consistency
    overlap_inside: float | None = None
    shown: float = 0.0
    dependence: float | None = None
    agreement: float | None = None
    seen: str = "fixed"
    is_whole: bool = False
    is_small_part: bool = False
    is_held: bool = False
    silhouette: str | None = None
    is_taken_back: bool = False
    is_alike: bool = False

    @property
    def largest_stretch(self) -> float:
        """The scale factor farthest from 1, as a factor above 1."""
        return max(max(abs(s), 1 / max(abs(s), 1e-9)) for s in self.scales)

    @property
    def is_part(self) -> bool:
        """Whether the moving image shows a part of the fixed object, clearly in its place, as a slab of slices does."""
        wanted = PLAUSIBLE_MARGIN if self.is_small_part else CLOSE_MARGIN
        is_clear = self.margin >= wanted and self.shown >= PLAUSIBLE_VIEW_OF_WHOLE
        return is_clear and (self.overlap_inside is None or self.overlap_inside >= CLOSE_OVERLAP)

    @property
    def shows_little(self) -> bool:
        """Whether much of the object is not in view."""
        return self.view < (PLAUSIBLE_VIEW_OF_WHOLE if self.is_whole else PLAUSIBLE_VIEW)


def judge(evidence: Evidence) -> Verdict:
    """Weigh the evidence: any failure fails, any doubt is doubtful, and nothing of either is good."""
    failures, doubts = tuple(_failures(evidence)), tuple(_doubts(evidence))
    if failures:
        return Verdict(FAILED, failures + doubts)
    if doubts:
        return Verdict(DOUBTFUL, doubts)
    overlap = "" if evidence.overlap is None else "the objects overlap, "
    why = f"no other pose fits as well, {overlap}the map does not fold and its inverse leads back"
    notes = []
    if evidence.is_taken_back:
        notes.append("no deformation was found that helps, so the map is linear")
    if evidence.shows_little:
        notes.append(f"{_little_in_view(evidence)}: beyond, the map is a guess")
    return Verdict(GOOD, (why, *notes))


def _failures(e: Evidence) -> Iterator[str]:
    if e.view < HOPELESS_VIEW and not e.is_part:
        yield _little_in_view(e)
    if e.overlap is not None and e.overlap < HOPELESS_OVERLAP and not e.is_part:
        yield f"the objects hardly overlap (Dice {e.overlap:.2f} of their outlines)"
    if e.margin < HOPELESS_MARGIN and not e.is_alike:
        yield f"another pose fits better (by {-100 * e.margin:.0f} %)"
    if e.largest_stretch > HOPELESS_SCALE:
        yield f"the linear part stretches by a factor of {e.largest_stretch:.2f}"
    if e.jacobian.percent_nonpositive > HOPELESS_FOLDS_PERCENT:
        yield f"the map folds in {e.jacobian.percent_nonpositive:.2f} % of the object"


def _doubts(e: Evidence) -> Iterator[str]:
    if e.is_held:
        yield (
            "no pose is clear, so the map was held near the one with the middles of the fields of view together, and "
            "no deformation was looked for"
        )
    if 0 <= e.margin < PLAUSIBLE_MARGIN:
        yield f"another pose fits nearly as well (within {100 * e.margin:.0f} %)"
    if HOPELESS_MARGIN <= e.margin < 0:
        yield f"another pose, far from the headers' orientation, fits as well (by {-100 * e.margin:.0f} % better)"
    if e.margin < HOPELESS_MARGIN and e.is_alike:
        yield f"another pose fits better (by {-100 * e.margin:.0f} %), though local structures are alike in this one"
    if e.view >= HOPELESS_VIEW and e.shows_little and not e.is_part:
        yield _little_in_view(e)
    if e.overlap is not None and HOPELESS_OVERLAP <= e.overlap < PLAUSIBLE_OVERLAP and not e.is_part:
        yield f"the objects' outlines overlap little (Dice {e.overlap:.2f})"
    if _is_weak_twice(e):
        yield (
            f"the objects' outlines overlap by Dice {e.overlap:.2f} only, and another pose comes within "
            f"{100 * e.margin:.0f} %"
        )
    if e.dependence is not None and e.dependence < WEAK_DEPENDENCE:
        yield f"the images say little about each other (mutual information {e.dependence:.2f} nat)"
    if e.silhouette is not None:
        yield f"the {e.silhouette} image is of one value within its outline, so nothing tells what belongs where inside"
    if e.agreement is not None and e.agreement < PLAUSIBLE_AGREEMENT:
        yield (
            f"local contrasts of the images differ (agreement {e.agreement:.2f}), as those of two contrasts do, which "
            "`auto` and `mi` compare, or those of a wrong pose"
        )
    if PLAUSIBLE_SCALE < e.largest_stretch <= HOPELESS_SCALE:
        yield f"the linear part stretches by a factor of {e.largest_stretch:.2f}"
    if e.gain < -NOTICEABLE_LOSS:
        yield f"the images agree less than before (similarity changed by {e.gain:.4f})"
    if e.jacobian.num_nonpositive > 0 and e.jacobian.percent_nonpositive <= HOPELESS_FOLDS_PERCENT:
        yield f"the map folds in {e.jacobian.num_nonpositive} voxels"
    if e.consistency.mean_voxels > CONSISTENT_VOXELS:
        yield f"the inverse misses by {e.consistency.mean_voxels:.2f} voxels on average"


def _little_in_view(e: Evidence) -> str:
    other = "fixed" if e.seen == "moving" else "moving"
    return f"only {100 * e.view:.0f} % of the {e.seen} object lies inside the {other} image"


def _is_weak_twice(e: Evidence) -> bool:
    """Whether overlap and margin, each plausible alone, are both weak."""
    if e.overlap is None:
        return False
    return PLAUSIBLE_OVERLAP <= e.overlap < CLOSE_OVERLAP and PLAUSIBLE_MARGIN <= e.margin < CLOSE_MARGIN
