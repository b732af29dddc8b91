"""A small part that is to be brought to a whole: its linear map is looked for the other way round, and inverted.

A search goes over the fixed object at resolutions that suit its length. A crop of a tenth of a head would be a voxel or
two there; as the fixed image it finds its place, and the whole is as good a moving image.
"""

from dataclasses import replace

import numpy as np

from pullback.registration.first_start import nonsense_of
from pullback.registration.initialisation import Candidate, Initialisation
from pullback.registration.work import Work

OTHER = {"fixed": "moving", "moving": "fixed", "": ""}


def swap(work: Work) -> Work:
    """The same work the other way round: the plan's starts are inverted, times and history are shared."""
    plan = work.plan
    first = None if plan.first is None else _invert(plan.first)
    plan = replace(plan, given=tuple(_invert(start) for start in plan.given), first=first)
    return replace(work, plan=plan, fixed=work.moving, moving=work.fixed, cut_out=OTHER[work.cut_out])


def take_over(work: Work, swapped: Work) -> None:
    """What is known the other way round is known in `work`, too."""
    work.fixed, work.moving = swapped.moving, swapped.fixed
    work.margin, work.cut_out = swapped.margin, OTHER[swapped.cut_out]


def invert(found: Initialisation | None) -> Initialisation | None:
    """The same starts the other way round."""
    if found is None:
        return None
    return replace(found, chosen=_invert(found.chosen), candidates=tuple(_invert(one) for one in found.candidates))


def _invert(start: Candidate) -> Candidate:
    if nonsense_of(start):  # whoever looks at it next says so
        return start
    return replace(start, matrix=np.linalg.inv(start.matrix))
