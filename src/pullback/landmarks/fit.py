"""Registration by corresponding landmarks: which belong together, the map, and how far it is off."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pullback.checks import check_at_least, check_choice, check_positive
from pullback.data import Points, check_points
from pullback.landmarks.closed_form import LINEAR_CLASSES, is_degenerate, matrices_of, num_needed
from pullback.landmarks.consensus import agreeing
from pullback.transforms import AbstractTransform, ThinPlateSpline

MODELS = (*LINEAR_CLASSES, "tps")
MOST_FOLDS = 20


@dataclass(frozen=True)
class LandmarkFit:
    """A map from landmarks.

    Attributes:
        transform: From the fixed to the moving world.
        errors_mm: Distance of each mapped fixed landmark from its moving one, ``(N,)``.
        is_used: Which landmarks the map was fitted to, ``(N,)`` bool: all, unless outliers were looked for.
        held_out_mm: The same distances of the used landmarks, ``(number used,)``, from maps that were fitted without
            them (each a part of at most `MOST_FOLDS`); None where too few are left. A spline that goes through every
            landmark has no other error to show.
        tolerance_mm: From which distance landmarks counted as outliers; None if none were looked for.
    """

    transform: AbstractTransform
    errors_mm: Tensor = field(repr=False)
    is_used: Tensor = field(repr=False)
    held_out_mm: Tensor | None = field(repr=False)
    tolerance_mm: float | None = None


def fit_landmarks(
    fixed: Points,
    moving: Points,
    model: str = "affine",
    *,
    smoothing: float = 0.0,
    robust: bool = False,
    tolerance_mm: float | None = None,
    seed: int = 0,
) -> LandmarkFit:
    """The map of a model that brings fixed landmarks nearest to their moving ones.

    Args:
        fixed, moving: Corresponding landmarks in world mm, in the same order (see :func:`pair_by_name`).
        model: ``rigid``, ``similarity`` or ``affine``: least squares in closed form; ``tps``: a thin-plate spline.
        smoothing: Of the spline: 0 goes through every landmark (see :meth:`pullback.ThinPlateSpline.fit`).
        robust: Leave out landmarks that disagree with the map most of them agree on (RANSAC; for a spline an affine
            map, so give a tolerance where the true map is far from one).
        tolerance_mm: How far a landmark may be off before it counts as an outlier; None estimates it.
        seed: Of the search for outliers.

    Raises:
        TypeError: If landmarks are no `Points`.
        ValueError: If the numbers differ, there are too few landmarks, or they lie so that no map follows.

    Example:
        >>> corners = torch.tensor([[0.0, 0], [8, 0], [0, 8], [8, 8]])
        >>> fit = fit_landmarks(Points(corners), Points(2 * corners + 1), "similarity")
        >>> bool(fit.errors_mm.max() < 1e-9), round(float(fit.transform.linear[0, 0]), 9)
        (True, 2.0)
    """
    check_choice("model", model, MODELS)
    check_points("fixed", fixed)
    check_points("moving", moving)
    _check(fixed, moving, model, smoothing, robust, tolerance_mm)
    x, y = fixed.coordinates, moving.coordinates
    is_used = torch.ones(len(x), dtype=torch.bool)
    if robust:
        kind = "affine" if model == "tps" else model
        is_used, tolerance_mm = agreeing(x, y, kind, tolerance_mm=tolerance_mm, seed=seed)
    transform = _fit(x[is_used], y[is_used], model, smoothing)
    held_out = _held_out_errors(x[is_used], y[is_used], model, smoothing)
    return LandmarkFit(transform, _errors(transform, x, y), is_used, held_out, tolerance_mm)


def pair_by_name(fixed: Points, moving: Points) -> tuple[Points, Points]:
    """Landmarks in one order: by the names they share, or as they stand where they share none.

    Landmarks whose name the other side lacks are left out.

    Raises:
        ValueError: If no name is shared and the numbers differ.
    """
    shared = _shared_names(fixed, moving)
    if shared:
        return _take(fixed, shared), _take(moving, shared)
    if len(fixed) != len(moving):
        raise ValueError(
            f"There are {len(fixed)} fixed and {len(moving)} moving landmarks, but they must correspond; give them "
            "names that both files share, or the same number in the same order."
        )
    return fixed, moving


def _shared_names(fixed: Points, moving: Points) -> list[str]:
    """Names that each side has once."""
    if fixed.names is None or moving.names is None:
        return []
    once = [{name for name in side.names if name and list(side.names).count(name) == 1} for side in (fixed, moving)]
    return [name for name in fixed.names if name in once[0] & once[1]]


def _take(points: Points, names: list[str]) -> Points:
    places = {name: place for place, name in enumerate(points.names)}
    return Points(points.coordinates[[places[name] for name in names]], tuple(names))


def _fit(x: Tensor, y: Tensor, model: str, smoothing: float) -> AbstractTransform:
    if model == "tps":
        return ThinPlateSpline.fit(x, y, smoothing=smoothing)
    needed = num_needed(model, x.shape[1])
    if len(x) < needed:
        raise ValueError(f"{len(x)} landmarks are left to fit to, but the model '{model}' needs {needed} or more.")
    for side, points in (("fixed", x), ("moving", y)):
        if not bool(is_degenerate(points, model)):
            continue
        raise ValueError(
            f"The {side} landmarks lie {_flat_place(model, x.shape[1])}, so the model '{model}' does not follow from "
            "them; add one beside it, or take a model with fewer freedoms."
        )
    return LINEAR_CLASSES[model](matrices_of(model, x, y))


def _flat_place(model: str, num_dims: int) -> str:
    if model == "affine":
        return "in a plane" if num_dims == 3 else "on a line"
    return "on a line" if num_dims == 3 else "at one point"


def _held_out_errors(x: Tensor, y: Tensor, model: str, smoothing: float) -> Tensor | None:
    num_folds = min(len(x), MOST_FOLDS)
    fold = torch.arange(len(x)) % num_folds
    errors = torch.empty(len(x), dtype=torch.float64)
    try:
        for number in range(num_folds):
            out = fold == number
            errors[out] = _errors(_fit(x[~out], y[~out], model, smoothing), x[out], y[out])
    except ValueError:
        return None
    return errors


def _errors(transform: AbstractTransform, x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vector_norm(transform(x) - y, dim=1)


def _check(
    fixed: Points, moving: Points, model: str, smoothing: float, robust: bool, tolerance_mm: float | None
) -> None:
    if fixed.coordinates.shape != moving.coordinates.shape:
        raise ValueError(
            f"`fixed` has shape {tuple(fixed.coordinates.shape)} and `moving` {tuple(moving.coordinates.shape)}, but "
            "landmarks must correspond one by one; see `pair_by_name`."
        )
    if smoothing and model != "tps":
        raise ValueError(f"`smoothing` is {smoothing}, but the model '{model}' has nothing to smooth; leave it out.")
    check_at_least("smoothing", smoothing, 0)
    if tolerance_mm is not None and not robust:
        raise ValueError(f"`tolerance_mm` is {tolerance_mm}, but outliers are not looked for; set `robust` too.")
    if tolerance_mm is not None:
        check_positive("tolerance_mm", tolerance_mm)
    needed = num_needed("affine" if model == "tps" else model, fixed.coordinates.shape[1])
    if len(fixed) < needed:
        raise ValueError(f"{len(fixed)} landmarks came, but the model '{model}' needs {needed} or more.")
