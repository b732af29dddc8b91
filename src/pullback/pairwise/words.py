"""From words to parts: what ``model``, ``initial``, ``similarity`` and ``preset`` stand for."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pullback.checks import check_choice, check_device
from pullback.io import read_transform
from pullback.registration import Candidate, Choice, DeformablePlan, Level, LinearPlan, Plan, build
from pullback.registration.card import LINEAR, Card
from pullback.registration.initialisation import METHODS
from pullback.registration.planes import lift_matrix
from pullback.space import Grid
from pullback.transforms import AbstractLinear, AbstractTransform

MODELS = ("rigid", "similarity", "affine", "deformable")
INITIALS = ("none", *METHODS)
SIMILARITIES = ("auto", "mse", "ncc", "lncc", "mi", "mind")

PRESETS: dict[str, tuple[Level, ...]] = {
    "brain": tuple(DeformablePlan().levels),
    "fast": (Level(8, 100), Level(4, 100), Level(2, 30)),
    "fine": (Level(8, 100), Level(4, 100), Level(2, 100), Level(1, 40, num_rounds=3)),
}
"""Steps at each level: ``brain`` is the default, ``fast`` stops at half resolution, ``fine`` takes its time."""

LARGEST_SMOOTHNESS = 10
"""Wider filters than ten times the usual leave no deformation, and take long."""

Start = str | Path | AbstractTransform
WEIGHTS = ".safetensors"
"""Suffix of the weights of a network, which may stand where a start does."""


def plan_from_words(
    *,
    model: str = "deformable",
    initial: Start | Sequence[Start] | None = None,
    similarity: str = "auto",
    preset: str = "brain",
    smoothness: float = 1.0,
    channel_weights: Sequence[float] | None = None,
    device: str = "auto",
    seed: int = 0,
    fixed: Grid,
    moving: Grid,
    num_channels: int = 1,
) -> Plan:
    """Build a plan for two grids. The meaning of each word is in :func:`pullback.register`.

    Raises:
        ValueError: If a word is unknown, or the words contradict each other.
        FileNotFoundError: If a transform to start from does not exist.
    """
    check_choice("model", model, MODELS)
    check_choice("similarity", similarity, SIMILARITIES)
    check_choice("preset", preset, tuple(PRESETS))
    if not 0 <= smoothness <= LARGEST_SMOOTHNESS:  # NaN too
        raise ValueError(
            f"`smoothness` is {smoothness}, but a number from 0 to {LARGEST_SMOOTHNESS} is needed (1 is the default)."
        )
    _check_weights(channel_weights, num_channels)
    methods, given = _start(initial, fixed, moving)
    from_identity = methods == ("none",) and not given
    linear = (
        None if from_identity and model == "deformable" else LinearPlan("affine" if model == "deformable" else model)
    )
    return Plan(
        methods=methods,
        given=given,
        similarity=_builder(similarity),
        linear=linear,
        deformable=_deformable(preset, smoothness) if model == "deformable" else None,
        channel_weights=None if channel_weights is None else tuple(channel_weights),
        device=check_device(device),
        seed=seed,
    )


def learned_start(
    initial: Start | Sequence[Start] | None, initial_model: str | Path | None
) -> tuple[Start | Sequence[Start] | None, str | Path | None]:
    """The starts and the weights of a network, where those stand among the starts.

    Raises:
        ValueError: If there are weights of two networks.
    """
    starts = (
        [initial] if isinstance(initial, str | Path | AbstractTransform) else list(() if initial is None else initial)
    )
    weights = [s for s in starts if isinstance(s, str | Path) and Path(s).suffix == WEIGHTS]
    if not weights:
        return initial, initial_model
    if initial_model is not None or len(weights) > 1:
        raise ValueError(
            "`initial` and `initial_model` give the weights of two networks, but one start is tried first."
        )
    return [s for s in starts if s not in weights] or None, weights[0]


def check_words_for_network(
    card: Card,
    *,
    model: str,
    initial: Start | Sequence[Start] | None,
    preset: str,
    smoothness: float,
    refine: int,
    initial_model: str | Path | None = None,
) -> None:
    """Refuse words that a network leaves no room for.

    Raises:
        ValueError: If `model` or `preset` is not the default, or `smoothness` without a refinement, or a start is given
            where the card asks for no registration before the network.
    """
    if model != "deformable":
        raise ValueError(f"`model` is '{model}', but a network gives a deformable map; leave `model` or `model_file`.")
    if preset != "brain":
        raise ValueError(f"`preset` is '{preset}', but a network has no levels; use `refine` for steps after it.")
    if smoothness != 1 and not refine:
        raise ValueError(f"`smoothness` is {smoothness}, but a network's answer is not smoothed; it is for `refine`.")
    for name, start in (("initial", initial), ("initial_model", initial_model)):
        if start is not None and card.alignment not in LINEAR:
            raise ValueError(
                f"`{name}` is given, but these weights want images brought together by '{card.alignment}'; leave it "
                "out."
            )
    if isinstance(initial, str | list | tuple) and initial in ("none", ["none"], ("none",)):
        raise ValueError(f"`initial` is 'none', but these weights want a {card.alignment} registration first.")


def _check_weights(weights: Sequence[float] | None, num_channels: int) -> None:
    if weights is None:
        return
    if len(weights) != num_channels:
        raise ValueError(
            f"`channel_weights` holds {len(weights)} numbers, but the images have {num_channels} channels."
        )
    if not np.isfinite(weights).all() or min(weights) < 0 or max(weights) == 0:
        raise ValueError(
            f"`channel_weights` is {list(weights)}, but finite numbers of 0 or more are needed, one of them above 0."
        )


def _builder(similarity: str) -> Callable[..., Choice] | None:
    return None if similarity == "auto" else partial(build, similarity, why="it was asked for")


def _deformable(preset: str, smoothness: float) -> DeformablePlan:
    plain = DeformablePlan()
    coarse, fine = (
        tuple(regularity.scaled(smoothness) for regularity in regularities)
        for regularities in (plain.regularities, plain.fine_regularities)
    )
    return DeformablePlan(PRESETS[preset], coarse, fine)


def _start(
    initial: Start | Sequence[Start] | None, fixed: Grid, moving: Grid
) -> tuple[tuple[str, ...], tuple[Candidate, ...]]:
    """Methods and given candidates. One transform alone is started from as it is; several starts compete."""
    if initial is None:
        return Plan().methods, ()
    starts = [initial] if isinstance(initial, str | Path | AbstractTransform) else list(initial)
    if not starts:
        raise ValueError("`initial` is empty; give starts, or leave it out to have them searched.")
    for start in starts:
        if not isinstance(start, str | Path | AbstractTransform):
            raise TypeError(
                f"`initial` holds a {type(start).__name__}, but words, paths and transforms are needed; make a matrix "
                "an Affine."
            )
    methods = tuple(str(s) for s in starts if isinstance(s, str) and s in INITIALS)
    given = tuple(_candidate(s, fixed, moving) for s in starts if not (isinstance(s, str) and s in INITIALS))
    if "none" in methods and len(starts) > 1:
        raise ValueError("`initial` holds 'none' and other starts; 'none' stands alone.")
    if len(given) == 1 and not methods:
        return ("none",), given
    return methods, given


def _candidate(start: Start, fixed: Grid, moving: Grid) -> Candidate:
    if not isinstance(start, AbstractTransform):
        if not Path(start).exists() and Path(start).suffix == "":
            check_choice("initial", str(start), INITIALS)
        transform, name = read_transform(start, fixed=fixed, moving=moving), str(start)
    else:
        transform, name = start, "given"
    if not isinstance(transform, AbstractLinear):
        raise ValueError(
            f"The start '{name}' is not linear; start from its affine part and give the images as they are."
        )
    if transform.num_dims != fixed.num_dims:
        raise ValueError(f"The start '{name}' has {transform.num_dims} dimensions, the images have {fixed.num_dims}.")
    return Candidate(name, lift_matrix(transform.matrix.numpy()))
