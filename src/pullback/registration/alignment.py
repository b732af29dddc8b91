"""The linear map of a pair: its start, the similarity that suits it, and the linear stage.

Start and similarity follow from each other: a search by local correlation comes first, one by mutual information where
that is in doubt, and where no pose is clear the map is held near the middles of the fields of view.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from pullback.registration.choice import (
    ACROSS_CONTRASTS,
    LEAST_FALL,
    SAME_CONTRAST,
    SAME_SIGN,
    SURE_SIGN,
    Choice,
    build,
    correlation_inside,
    dependence_inside,
    fall_of_means,
    is_alike,
    mutual_information,
    sign_agreement,
    structure_distance,
    weigh,
)
from pullback.registration.evidence import is_small_part, margin_over_rivals
from pullback.registration.extraction import cut_out, smaller_object
from pullback.registration.first_start import doubts_about, narrowed, nonsense_of
from pullback.registration.initialisation import (
    CLEAR_MARGIN,
    CLEAR_MARGIN_ACROSS_CONTRASTS,
    ELSEWHERE_DEGREES,
    Candidate,
    Initialisation,
    factors_for,
    geometry_of,
    initialise,
    middles,
    turn_degrees,
)
from pullback.registration.linear import Comparison, Frame, Restraint, optimise
from pullback.registration.plan import Plan
from pullback.registration.result import StageHistory
from pullback.registration.shading import shading_between, without_shading
from pullback.registration.swapping import invert, swap, take_over
from pullback.registration.sweep import search_thoroughly
from pullback.registration.verdict import PLAUSIBLE_MARGIN, WEAK_DEPENDENCE
from pullback.registration.volume import Volume
from pullback.registration.work import Work

COARSE_OBJECT_VOXELS = 40
"""Resolution, as the length of the fixed object in voxels, at which the similarity is chosen."""
CONTRAST_OBJECT_VOXELS = 30
"""The same at which it is asked whether local contrasts run the same way: at 40 noise hides that in small images, at 24
grey matter does not show any more."""
PERHAPS_SAME_SIGN = 0.7
"""Agreement of local contrasts from which two images may still be of one contrast, in a map that is poor."""
SURE_CORRELATION, SURE_MARGIN = 0.6, 0.25
"""Correlation inside the overlap from which a start by local correlation needs no second opinion, and the margin over
other poses that it needs as well not to be searched for again, thoroughly (`CLEAR_MARGIN`
from `CERTAIN_CORRELATION` on)."""
CERTAIN_CORRELATION = 0.8
"""Correlation from which a pose is believed although others fit nearly as well. Wrong poses of two contrasts reach
0.76 (``docs/accuracy.md``)."""
AS_NEAR = 1.1
"""A pose in which the distance of local structures is up to so many times another's fits as well."""
LEAST_SHADING = 0.09
"""Slow shading is taken out where the ratio of both images' local brightness varies by this (the standard deviation of
its logarithm) or more. Of brains that are not shaded a third of the pairs at 2 mm are above this too ..."""
MOST_CORRELATION_LOST = 0.08
"""... but without their slow differences, which are anatomy, these correlate less by 0.1 and more; shaded pairs lose
0.06 at most (``docs/accuracy.md``)."""
RESTRAINT = 0.2
"""Restraint of a map that is held near its start, in units of MIND: prostates like 0.3 a little better, a mouse that is
held by mistake less (``docs/accuracy.md``)."""
CONTENDER_SHARE, CONTENDER_DISTANCE = 0.1, 0.05
"""A candidate contends with the chosen start if it scores less by this share at most, and takes the object elsewhere by
more than this share of half its length."""
EMPHASIS = 0.45
"""Distance from the fixed object's centre at which a voxel counts a quarter in the linear stage, in units of half the
object's length: an affine map that cannot follow everything follows the middle, not a neck that another image lacks.
Volumes only: slices have no voxels to spare (``docs/accuracy.md``)."""
HELD_EMPHASIS = 0.4
"""The same for a map that is held near its start, but as the standard deviation of a Gaussian: prostates, whose middle
is all that both contrasts show, lose a little gland Dice by a tail (``docs/accuracy.md``)."""

LEAST_DEPENDENCE = 0.1
"""Mutual information, in nat, of an object without an outline: what is flat inside has none, brains 0.3 and more."""
LEAST_GAIN = 1e-5
"""Of similarity: less than this the linear stage gains by rounding alone (1e-6 was seen)."""

Aligned = tuple[Initialisation | None, Choice, np.ndarray]
"""A start (None if none was looked for), the similarity that suits it, and the world matrix ``(4, 4)``."""


def find_linear_map(work: Work) -> Aligned:
    """Start and linear stage, from the fixed to the moving volume; a small part leads, whichever it is.

    Raises:
        ValueError: If the plan has a first start, and nothing to fall back on.
    """
    work.is_led_by_part = is_small_part(work.moving, work.fixed)
    if not work.is_led_by_part:
        return _find(work)
    swapped = swap(work)
    found, choice, matrix = _find(swapped)
    take_over(work, swapped)
    return invert(found), build_again(work, choice), np.linalg.inv(matrix)


def build_again(work: Work, choice: Choice) -> Choice:
    """The same similarity for other volumes, or for the same ones the other way round."""
    asked = work.plan.similarity(work.fixed, work.moving) if work.plan.similarity else None
    if asked is None or asked.name != choice.name:
        asked = build(choice.name, work.fixed, work.moving, choice.why)
    return replace(weigh(asked, work.plan.channel_weights), why=choice.why, restraint=choice.restraint)


def _find(work: Work) -> Aligned:
    """From the first start alone if that looks right, before and after; else from all."""
    plan = work.plan
    wanted = weigh(plan.similarity(work.fixed, work.moving), plan.channel_weights) if plan.similarity else None
    given = plan.given
    if plan.linear is not None:
        given = tuple(narrowed(start, plan.linear.kind, work.fixed) for start in given)
    if plan.first is None:
        return _run_from(work, lambda: _compete(work, wanted, given))
    if "none" in plan.methods:
        raise ValueError("`first` is given, but `methods` is 'none', which leaves no start to fall back on.")
    nonsense = nonsense_of(plan.first)
    if nonsense:
        start, choice, matrix = _run_from(work, lambda: _compete(work, wanted, given))
        why = f"'{plan.first.name}' could not be tried: {nonsense}; the classical starts competed without it"
        return replace(start, why=why), choice, matrix
    first = narrowed(plan.first, _kind(plan), work.fixed)
    found, doubts = _try_alone(work, wanted, first)
    if found is not None:
        return found
    start, choice, matrix = _run_from(work, lambda: _compete(work, wanted, (*given, first)))
    why = f"'{first.name}' was not trusted: {'; '.join(doubts)}; it competed with the classical starts"
    return replace(start, why=why), choice, matrix


def _try_alone(work: Work, wanted: Choice | None, first: Candidate) -> tuple[Aligned | None, tuple[str, ...]]:
    """The linear map from one start; None where that looks wrong, before or after the linear stage, and why."""
    with work.stage("initialisation"):
        across = wanted is not None and wanted.name in ACROSS_CONTRASTS
        tried = _search(work, _build(work, "mi", "") if across else None, (first,), methods=())
        doubts = doubts_about(tried, *at(work, COARSE_OBJECT_VOXELS))
    if doubts:
        return None, doubts
    alone = replace(tried, why=f"'{first.name}' was used: it looked right, and no other pose fits better")
    found = _run_from(work, lambda: (alone, wanted or _choose(work, first.matrix), tried.chosen.matrix))
    _, choice, matrix = found
    with work.stage("rivals"):
        margin = margin_over_rivals(work.fixed, work.moving, choice, matrix)
    if margin < 0:
        work.history.clear()
        return None, (f"another pose fits better (by {-100 * margin:.0f} %)",)
    work.margin = margin
    return found, ()


def _run_from(work: Work, start: Callable[[], Aligned]) -> Aligned:
    """The linear stage, if there is one, from a start and with the similarity that follows from it."""
    with work.stage("initialisation"):
        initialisation, choice, matrix = start()
    if work.plan.linear is not None:
        with work.stage(work.plan.linear.kind):
            start = matrix
            matrix = _run_linear(work, choice, [start, *_contenders(work, initialisation, choice)])
            choice, matrix = _reconsider(work, choice, matrix, start)
    return initialisation, choice, matrix


def _contenders(work: Work, found: Initialisation | None, choice: Choice) -> list[np.ndarray]:
    """Where else the linear stage starts from: the best of the candidates in the same pose that ended somewhere else.

    Coarse copies of an object that is partly cut off have several optima a few degrees apart, of which the finest level
    tells the right one. Other poses do not compete again: between these the search and its margin decide.
    """
    if found is None or choice.restraint:
        return []
    chosen = found.chosen
    centre, _, radius = geometry_of(work.fixed)
    near = (
        candidate.matrix
        for candidate in found.candidates
        if candidate.score > (1 - CONTENDER_SHARE) * chosen.score
        and turn_degrees(candidate.matrix, chosen.matrix) <= ELSEWHERE_DEGREES
        and _distance(candidate.matrix, chosen.matrix, centre, radius) > CONTENDER_DISTANCE * radius
    )
    return list(islice(near, 1))


def _distance(a: np.ndarray, b: np.ndarray, centre: np.ndarray, radius: float) -> float:
    """How far two world matrices take a point of a ball from each other, root mean square, in mm."""
    gap = a - b
    shift = gap[:3, :3] @ centre + gap[:3, 3]
    return float(np.sqrt(shift @ shift + radius**2 / 5 * np.sum(gap[:3, :3] ** 2)))


def _compete(work: Work, wanted: Choice | None, given: tuple[Candidate, ...]) -> Aligned:
    """The best of all starts, and the similarity: they follow from each other."""
    plan = work.plan
    if "none" in plan.methods:
        matrix = given[0].matrix if given else np.eye(4)
        if smaller_object(work.fixed, work.moving):
            settle_extraction(work, wanted or _choose(work, matrix), matrix)
        return None, wanted or _choose(work, matrix), matrix
    if wanted is not None and wanted.name in ACROSS_CONTRASTS:
        across = wanted if wanted.name == "mi" else _build(work, "mi", "")
        found = _with_object_alone(work, _search(work, across, given), given, across)
        if wanted.name == "mind" and _may_hold(work) and not _is_clear_across(work, found):
            return _hold(work, wanted.why)
        return found, wanted, found.chosen.matrix
    found = _search(work, None, given)
    found = _with_object_alone(work, found, given)
    correlation = _correlation(work, found)
    if "search" in plan.methods and not _is_sure(correlation, found.margin):
        found = search_thoroughly(
            work.fixed, work.moving, found.candidates, kind=_kind(plan), clear_margin=CLEAR_MARGIN
        )
        correlation = _correlation(work, found)
    is_unclear = correlation < SURE_CORRELATION or found.margin < CLEAR_MARGIN
    is_doubtful = is_unclear and not (_may_hold(work) and _is_alike(work, found))
    choice = wanted or _choose(work, found.chosen.matrix)
    if wanted is None and (is_doubtful or choice.name in ACROSS_CONTRASTS):
        return _ask_mutual_information(work, found, correlation, given)
    return found, choice, found.chosen.matrix


def _ask_mutual_information(
    work: Work, found: Initialisation, correlation: float, given: tuple[Candidate, ...]
) -> Aligned:
    """A second opinion on a start by local correlation that is in doubt: it, the other's, or, if none is clear, held.

    Args:
        work: With the volumes.
        found: The start by local correlation.
        correlation: Of the intensities where the objects overlap, from that start.
        given: Further candidates.
    """
    whole, across = replace(work), _build(work, "mi", "")
    other = _with_object_alone(work, _search(work, across, given), given, across)
    agree = correlation >= SURE_CORRELATION and _agree(found, other)
    is_clear = found.margin >= (PLAUSIBLE_MARGIN if agree else _wanted_margin(correlation))
    is_believed = is_clear or _is_clear_across(work, other) or _is_alike(work, other)
    if _may_hold(work) and correlation < CERTAIN_CORRELATION and not is_believed:
        why = f"neither correlation (margin {found.margin:.2f}) nor mutual information ({other.margin:.2f}) finds a"
        return _hold(work, f"{why} clear pose: two contrasts, compared by local structure")
    distances = [_distance_of_structures(one, start) for one, start in ((whole, found), (work, other))]
    is_one_contrast = _choose(whole, found.chosen.matrix).name not in ACROSS_CONTRASTS
    keeps = is_one_contrast and distances[0] <= AS_NEAR * distances[1]
    if not keeps and distances[1] <= AS_NEAR * distances[0]:
        found = other
    return found, _choose(work, found.chosen.matrix), found.chosen.matrix


def _with_object_alone(
    work: Work, found: Initialisation, given: tuple[Candidate, ...], across: Choice | None = None
) -> Initialisation:
    """The start, searched again where one object may be cut out of what the other image shows.

    Its background is unknown in `work` from then on. All stays as it was where sizes do not say so, the start found
    before is sure and not surrounded, no pose is clear with the object alone, or the object is not surrounded in it.

    Args:
        work: With the volumes.
        found: The start with the whole images.
        given: Further candidates.
        across: The mutual information that it was found by; None for local correlation.
    """

    def is_clear(start: Initialisation) -> bool:
        if across is not None:
            return _is_clear_across(work, start)
        return start.margin >= SURE_MARGIN and _correlation(work, start) >= SURE_CORRELATION

    side = smaller_object(work.fixed, work.moving)
    if not side or (is_clear(found) and _side_cut_out(work, found) != side):
        return found
    whole = replace(work)
    _take_alone(work, side)
    again = _search(work, None if across is None else _build(work, "mi", ""), given)
    if is_clear(again) and _side_cut_out(whole, again) == side:
        return again
    work.fixed, work.moving, work.cut_out = whole.fixed, whole.moving, whole.cut_out
    return found


def _side_cut_out(work: Work, found: Initialisation) -> str:
    """The side whose object seems cut out in the chosen pose; empty if none does."""
    return cut_out(*at(work, COARSE_OBJECT_VOXELS), found.chosen.matrix)


def _take_alone(work: Work, side: str) -> None:
    """From here on only the object of one side is known; what lay around it does not count."""
    setattr(work, side, getattr(work, side).with_object_alone())
    work.cut_out = side


def _wanted_margin(correlation: float) -> float:
    """The margin from which a pose by local correlation is believed although mutual information finds another."""
    return CLEAR_MARGIN if correlation >= SURE_CORRELATION else SURE_MARGIN


def _is_clear_across(work: Work, found: Initialisation) -> bool:
    """Whether a pose found by mutual information is believed; without outlines it needs more than a margin."""
    if found.margin < CLEAR_MARGIN_ACROSS_CONTRASTS:
        return False
    return work.has_outlines or found.chosen.score >= WEAK_DEPENDENCE or _is_alike(work, found)


def _is_sure(correlation: float, margin: float) -> bool:
    """Whether a pose found by local correlation needs no thorough search."""
    if correlation >= CERTAIN_CORRELATION:
        return margin >= CLEAR_MARGIN
    return correlation >= SURE_CORRELATION and margin >= SURE_MARGIN


def _is_alike(work: Work, found: Initialisation) -> bool:
    """Whether local structures agree so well that the objects are in place from the chosen start."""
    return is_alike(*at(work, COARSE_OBJECT_VOXELS), found.chosen.matrix)


def _distance_of_structures(work: Work, found: Initialisation) -> float:
    """How far local structures differ where the objects overlap, from the chosen start, whatever their contrasts."""
    return structure_distance(*at(work, COARSE_OBJECT_VOXELS), found.chosen.matrix)


def _agree(one: Initialisation, other: Initialisation) -> bool:
    """Whether two searches put the same pose first, and neither chose it only because it trusts the headers."""
    near = turn_degrees(one.chosen.matrix, other.chosen.matrix) <= ELSEWHERE_DEGREES
    return near and one.margin > 0 and other.margin > 0


def _may_hold(work: Work) -> bool:
    """Whether a search may be overruled: nobody named other starts, and the objects have no outlines to tell by."""
    return not work.has_outlines and "search" in work.plan.methods and not work.plan.given


def _hold(work: Work, why: str) -> Aligned:
    """Where no pose is clear: stay near the one in which whoever pointed the scanner had the object in the middle.

    A constant background is then where nothing was seen, such as around an ultrasound's fan.
    """
    start = middles(work.fixed, work.moving)
    work.fixed, work.moving = work.fixed.without_background(), work.moving.without_background()
    return Initialisation(start, (start,)), replace(_build(work, "mind", why), restraint=RESTRAINT), start.matrix


def _build(work: Work, name: str, why: str) -> Choice:
    """The similarity of a name, with the channels' weights."""
    return weigh(build(name, work.fixed, work.moving, why), work.plan.channel_weights)


def _kind(plan: Plan) -> str:
    """The kind of linear map that is looked for."""
    return plan.linear.kind if plan.linear is not None else "affine"


def _search(
    work: Work, choice: Choice | None, given: tuple[Candidate, ...], *, methods: tuple[str, ...] | None = None
) -> Initialisation:
    """Search a start by local correlation, or by the mutual information of `choice`; by all methods or those named."""
    methods = work.plan.methods if methods is None else methods
    options: dict[str, Any] = {"methods": methods, "given": given, "kind": _kind(work.plan)}
    if choice is not None:
        options |= {"coarse": choice.similarity, "fine": choice.similarity}
        options["clear_margin"] = CLEAR_MARGIN_ACROSS_CONTRASTS
    return initialise(work.fixed, work.moving, **options)


def _correlation(work: Work, found: Initialisation) -> float:
    """Of the intensities where the objects overlap, from the chosen start."""
    return correlation_inside(*at(work, COARSE_OBJECT_VOXELS), found.chosen.matrix)


def _choose(work: Work, matrix: np.ndarray) -> Choice:
    """Local correlation for one contrast, also where shading hides it; mutual information for two."""
    correlation, agreement = _relation(work, matrix)
    if correlation > SAME_CONTRAST:
        correlate = f"the intensities correlate ({correlation:.2f}) where the objects overlap"
        if agreement >= SAME_SIGN:
            return _build(work, "lncc", f"{correlate}: one contrast")
        return _build(work, "mi", f"{correlate}, but local contrasts differ ({agreement:.2f}): two contrasts")
    evened, agreement = _relation(work, matrix, is_evened=True)
    hardly = f"the intensities hardly correlate ({correlation:.2f}) where the objects overlap"
    if evened > SAME_CONTRAST and agreement >= SAME_SIGN:
        return _build(work, "lncc", f"{hardly}, but do without slow shading ({evened:.2f}): one contrast")
    return _build(work, "mi", f"{hardly}: two contrasts")


def _relation(work: Work, matrix: np.ndarray, *, is_evened: bool = False) -> tuple[float, float]:
    """Correlation of the intensities where the objects overlap, and whether local contrasts run the same way.

    Args:
        work: With the volumes.
        matrix: World matrix ``(4, 4)``.
        is_evened: Without slow shading.
    """
    coarse, coarser = (at(work, object_voxels) for object_voxels in (COARSE_OBJECT_VOXELS, CONTRAST_OBJECT_VOXELS))
    if is_evened:
        coarse, coarser = without_shading(*coarse), without_shading(*coarser)
    return correlation_inside(*coarse, matrix), sign_agreement(*coarser, matrix)


def settle_extraction(work: Work, choice: Choice, matrix: np.ndarray) -> None:
    """Take the background of an object that was cut out for unknown, in `work`, if a search has not found so before.

    Where background surrounds both objects, their outlines may also differ because the map is poor, or because nothing
    but an outline is there: then the object alone has to tell its pose.
    """
    if work.cut_out:
        return
    side = cut_out(*at(work, COARSE_OBJECT_VOXELS), matrix)
    if side and (not work.has_outlines or _tells_its_pose(work, side, choice, matrix)):
        _take_alone(work, side)


def _tells_its_pose(work: Work, side: str, choice: Choice, matrix: np.ndarray) -> bool:
    """Whether the object of one side fits what is there in the other image, and in no other pose."""
    alone = replace(work)
    _take_alone(alone, side)
    margin, volumes = margin_over_rivals(alone.fixed, alone.moving, choice, matrix), at(alone, COARSE_OBJECT_VOXELS)
    if choice.name in ACROSS_CONTRASTS:
        return margin >= CLEAR_MARGIN_ACROSS_CONTRASTS and dependence_inside(*volumes, matrix) >= LEAST_DEPENDENCE
    return margin >= SURE_MARGIN and correlation_inside(*volumes, matrix) >= SURE_CORRELATION


def settle_bins(work: Work, choice: Choice, matrix: np.ndarray) -> Choice:
    """Mutual information over the range of what both show, where one object was cut out.

    What surrounds it in the other image, such as a bright scalp, else takes most of the bins.
    """
    if not work.cut_out or choice.name != "mi":
        return choice
    measure = mutual_information(*at(work, COARSE_OBJECT_VOXELS), matrix)
    part = weigh(replace(choice, similarity=measure, linear=measure), work.plan.channel_weights)
    return replace(choice, similarity=part.similarity)


def settle_shading(work: Work, choice: Choice, matrix: np.ndarray) -> tuple[Choice, Volume, Volume]:
    """What the deformable stage compares: the volumes, without slow shading where they differ by it.

    Then other poses are compared without it too, since shading makes all of them alike.
    """
    if choice.name != "lncc":
        return choice, work.fixed, work.moving
    volumes = at(work, COARSE_OBJECT_VOXELS)
    spread = shading_between(*volumes, matrix)
    if spread < LEAST_SHADING:
        return choice, work.fixed, work.moving
    shaded, evened = (correlation_inside(*pair, matrix) for pair in (volumes, without_shading(*volumes)))
    if evened < shaded - MOST_CORRELATION_LOST:
        return choice, work.fixed, work.moving
    why = f"{choice.why}; slow shading was taken out before deforming (the images differ by {spread:.0%} in it)"
    fixed, moving = without_shading(work.fixed, work.moving)
    work.margin = margin_over_rivals(fixed, moving, choice, matrix)
    return replace(choice, why=why), fixed, moving


def _reconsider(work: Work, choice: Choice, matrix: np.ndarray, start: np.ndarray) -> tuple[Choice, np.ndarray]:
    """Similarity and linear map again, after the linear stage: from a poor start one contrast can look like two.

    Where it still looks like two, but not plainly, local correlation tries too, and stays where it ends with one
    contrast and with structures that are nearer. What looked like one can be two that are alike.
    """
    if work.plan.similarity is not None or choice.name not in ("lncc", "mi"):
        return choice, matrix
    if choice.name == "lncc":
        fall = _fall_of_another_contrast(work, matrix)
        if not fall:
            return choice, matrix
        why = f"the intensities correlate, but means of one fall where the other's rise (by {100 * fall:.0f} %)"
        revised = _build(work, "mi", f"{why}: two contrasts")
        return revised, _run_linear(work, revised, [matrix])
    revised = _choose(work, matrix)
    if revised.name != choice.name and not _fall_of_another_contrast(work, matrix):
        return revised, _run_linear(work, revised, [matrix])
    if sign_agreement(*at(work, CONTRAST_OBJECT_VOXELS), matrix) < PERHAPS_SAME_SIGN:
        return choice, matrix
    num_stages, volumes = len(work.history), at(work, COARSE_OBJECT_VOXELS)
    other = _run_linear(work, _build(work, "lncc", ""), [start])
    revised = _choose(work, other)
    is_one = revised.name != choice.name and not _fall_of_another_contrast(work, other)
    if is_one and structure_distance(*volumes, other) < structure_distance(*volumes, matrix):
        return revised, other
    del work.history[num_stages:]
    return choice, matrix


def _fall_of_another_contrast(work: Work, matrix: np.ndarray) -> float:
    """The fall of means in a map that is right, if two images that are nearly alike are of two contrasts by it; else 0.

    Of volumes alone: in slices few voxels make a mean.
    """
    if work.fixed.is_flat or sign_agreement(*at(work, CONTRAST_OBJECT_VOXELS), matrix) >= SURE_SIGN:
        return 0.0
    fall = fall_of_means(*at(work, COARSE_OBJECT_VOXELS), matrix)
    return fall if fall >= LEAST_FALL else 0.0


def at(work: Work, object_voxels: int, *, is_dense: bool = False) -> tuple[Volume, Volume]:
    """Both volumes where the fixed object is so many voxels long; the moving one dense if it will be sampled."""
    _, _, radius = geometry_of(work.fixed)
    spacing = 2 * radius / object_voxels
    fixed, moving = work.fixed, work.moving
    moving = moving.coarsen(factors_for(moving, spacing), is_dense=is_dense)
    return fixed.coarsen(factors_for(fixed, spacing)), moving


def emphasised(work: Work, choice: Choice, fixed: Volume) -> Volume:
    """The fixed volume, at any resolution, with the weights by which the linear stage compares."""
    if fixed.is_flat:
        return fixed
    centre, _, radius = geometry_of(work.fixed)
    width = HELD_EMPHASIS if choice.restraint else EMPHASIS
    return fixed.emphasise(centre, width * radius, has_tail=not choice.restraint)


def _run_linear(work: Work, choice: Choice, starts: Sequence[np.ndarray]) -> np.ndarray:
    """The linear stage from some world matrices; the end that the finest level likes best, and its history."""
    ends = [_run_linear_from(work, choice, start) for start in starts]
    matrix, _, history = max(ends, key=lambda end: end[1])
    work.history.extend(history)
    return matrix


def _run_linear_from(work: Work, choice: Choice, start: np.ndarray) -> tuple[np.ndarray, float, list[StageHistory]]:
    """From one matrix, coarse to fine; or what was there before, if the finest level likes nothing better."""
    plan, history, matrix = work.plan.linear, [], start
    centre, _, radius = geometry_of(work.fixed)
    restraint = Restraint(start, centre, radius, choice.restraint) if choice.restraint else None
    levels = _linear_levels(work)
    for number, (fixed, moving) in enumerate(levels, start=1):
        done = (number - 1) / len(levels)
        similarity = choice.linear.as_judge() if number == len(levels) else choice.linear
        comparison = Comparison(emphasised(work, choice, fixed), moving, similarity, restraint=restraint)
        matrix, value, values = optimise(
            comparison,
            Frame(matrix, centre, radius, plan.kind, fixed.is_flat),
            max_steps=plan.max_steps,
            on_step=lambda value, done=done: work.on_progress(plan.kind, done, f"similarity {value:.4f}"),
        )
        level = "x".join(map(str, fixed.grid.shape[1:] if fixed.is_flat else fixed.grid.shape))
        history.append(StageHistory(plan.kind, level, values, "converged or made all its steps"))
    there_before = [start] if choice.restraint else [*_told(work), start]
    values = [comparison.value(known) for known in there_before]
    if max(values) < value - LEAST_GAIN:
        return matrix, value, history
    history[-1] = replace(history[-1], reason="gained nothing and was taken back")
    first = next(number for number, known in enumerate(values) if known >= max(values) - LEAST_GAIN)
    return there_before[first], values[first], history


def _told(work: Work) -> list[np.ndarray]:
    """Starts as somebody else wrote them, before the search improved on them: given ones, and that of the headers."""
    headers = [np.eye(4)] if "header" in work.plan.methods else []
    return [narrowed(start, _kind(work.plan), work.fixed).matrix for start in work.plan.given] + headers


def _linear_levels(work: Work) -> list[tuple[Volume, Volume]]:
    """Both volumes at each resolution, coarse to fine; what an image cannot give is left out."""
    levels = [at(work, object_voxels, is_dense=True) for object_voxels in work.plan.linear.object_voxels]
    finer = [fixed.grid.shape for fixed, _ in levels[1:]]
    return [level for level, shape in zip(levels, [*finer, None], strict=True) if level[0].grid.shape != shape]
