"""A recipe: everything that decides what a training makes, as frozen dataclasses or YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pullback.checks import check_choice, check_each_at_least
from pullback.registration.card import ALIGNMENTS
from pullback.registration.normalisation import Normalisation
from pullback.training.augmentation import Augmentation, Simulation
from pullback.training.manifest import SPLITS
from pullback.training.parsing import merge, parse, plain
from pullback.training.slices import Slices
from pullback.training.terms import SimilarityTerm, Term

SOURCES = ("table", "learn2reg", "bids", "globs")
SPLIT_KINDS = ("fractions", "folds", "file", "source")
PAIR_KINDS = ("all", "random", "atlas", "template", "templates", "given", "kept", "left-out")
STORAGES = ("float16", "float32")
PRECISIONS = ("32-true", "bf16-mixed")
DECAYS = ("constant", "cosine", "linear")
METRICS = ("dice", "similarity")
BASE_KEY = "base"
LOGGED = ("step", "seconds", "learning_rate", "loss")
"""Columns of the log that every training has, and no term may be called."""


@dataclass(frozen=True)
class Source:
    """Where the scans are.

    Attributes:
        format: One of `SOURCES`.
        path: The table, the data set json or the folder, relative to the data folder.
        images, labels, subject: For ``globs``; see :func:`pullback.training.manifest.read_globs`.
        suffix, labels_suffix: For ``bids``.
        same_person: Groups of scans of one person each.
    """

    format: str = "globs"
    path: str = "."
    images: str = "images/*.nii.gz"
    labels: str = ""
    subject: str = ""
    suffix: str = "T1w"
    labels_suffix: str = "dseg"
    same_person: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        check_choice("format", self.format, SOURCES)


@dataclass(frozen=True)
class SplitPlan:
    """Who is for training, validation and test.

    Attributes:
        by: ``fractions`` of the persons, one of several ``folds``, a ``file``, or as the ``source`` says.
        fractions: Training, validation, test.
        num_folds, fold: For ``folds``.
        path: For ``file``, relative to the data folder.
        seed: Of the order of the persons.
    """

    by: str = "fractions"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    num_folds: int = 5
    fold: int = 0
    path: str = "split.json"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("by", self.by, SPLIT_KINDS)
        check_each_at_least(0, self, "seed")


@dataclass(frozen=True)
class PairPlan:
    """Which pairs a part of the split makes.

    Attributes:
        of: ``all`` ordered pairs, a number of ``random`` ones, ``atlas`` to every scan, every scan to one
            ``template``, some ``templates`` fixed and the rest moving, as ``given`` by the source or in `given`; or, of
            all pairs of the training scans, those ``kept`` when one of several folds of pairs is ``left-out``.
        num_pairs: For ``random``.
        atlas: For ``atlas``: the name of the scan that moves.
        template: For ``template``: the name of the scan that is fixed; it may be of any part of the split.
        num_templates: For ``templates``.
        given: For ``given``: fixed and moving names.
        num_folds, fold: For ``kept`` and ``left-out``.
        seed: Of what is drawn.
    """

    of: str = "all"
    num_pairs: int = 0
    atlas: str = ""
    template: str = ""
    num_templates: int = 1
    given: tuple[tuple[str, str], ...] = ()
    num_folds: int = 5
    fold: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("of", self.of, PAIR_KINDS)
        check_each_at_least(0, self, "seed")
        if self.of == "random" and self.num_pairs < 1:
            raise ValueError(f"`num_pairs` is {self.num_pairs}, but random pairs need a number of 1 or more.")
        if (self.of == "template") != bool(self.template):
            raise ValueError(f"`template` is '{self.template}' and `of` is '{self.of}', but one needs the other.")
        if self.of == "atlas" and not self.atlas:
            raise ValueError("`of` is 'atlas', which needs `atlas`, the name of the scan that moves.")
        for name, kind in (("num_pairs", "random"), ("given", "given"), ("atlas", "atlas")):
            if getattr(self, name) and self.of != kind:
                raise ValueError(
                    f"`{name}` is for pairs of the kind '{kind}', but `of` is '{self.of}'; change `of`, or let "
                    f"`{name}` be 0 or empty."
                )
        for fixed, moving in self.given:
            if fixed == moving:
                raise ValueError(f"`given` has the pair '{fixed}', '{moving}', but two different scans make a pair.")

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of scans that are needed whatever their part of the split."""
        return (self.template,) if self.template else ()


@dataclass(frozen=True)
class PairPlans:
    """Pairs of each part.

    Raises:
        ValueError: If pairs are ``kept`` of other folds than those that are ``left-out``.
    """

    training: PairPlan = field(default_factory=PairPlan)
    validation: PairPlan = field(default_factory=PairPlan)
    test: PairPlan = field(default_factory=PairPlan)

    def __post_init__(self) -> None:
        plans = [plan for plan in (self.training, self.validation, self.test) if plan.of in ("kept", "left-out")]
        for name in ("num_folds", "fold", "seed"):
            values = {getattr(plan, name) for plan in plans}
            if len(values) > 1:
                raise ValueError(
                    f"`{name}` is {sorted(values)} for pairs that are kept and left out; it must be the same."
                )


@dataclass(frozen=True)
class Preprocessing:
    """From files to the lattice; kept on disk, keyed by the content of the files and by these numbers.

    Attributes:
        shape: Voxels of the lattice, along R, A, S (of the 3-D lattice when slices are taken).
        spacing_mm: Their spacing; the images' own if empty, which then must be one and the same.
        alignment: How scans are brought together: by their ``header``, the middle of the ``view``, the centre of
            ``mass``, or a ``rigid`` or ``affine`` registration to `reference`.
        reference: Name of the scan whose lattice all share (``header``, ``rigid``, ``affine``; default: the first).
        normalisation: Of intensities.
        bias_correction: N4, before all else.
        slices: 2-D slices in place of the volumes.
        storage: Type of the kept intensities; float16 keeps three digits in half the space.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] = ()
    alignment: str = "header"
    reference: str = ""
    normalisation: Normalisation = field(default_factory=Normalisation)
    bias_correction: bool = False
    slices: Slices | None = None
    storage: str = "float16"

    def __post_init__(self) -> None:
        check_choice("alignment", self.alignment, ALIGNMENTS)
        check_choice("storage", self.storage, STORAGES)
        if len(self.shape) not in (2, 3) or min(self.shape) < 2:
            raise ValueError(f"`shape` is {list(self.shape)}, but 2 or 3 numbers of 2 or more are needed.")
        if self.spacing_mm and (len(self.spacing_mm) != len(self.shape) or min(self.spacing_mm) <= 0):
            raise ValueError(f"`spacing_mm` is {list(self.spacing_mm)}, but one number above 0 per axis is needed.")
        if self.alignment in ("view", "mass") and self.reference:
            raise ValueError(
                f"`reference` is '{self.reference}', but `alignment` is '{self.alignment}', which uses none."
            )

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Of what the network sees: without the axis across which slices are cut."""
        if self.slices is None:
            return self.shape
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.slices.axis)


@dataclass(frozen=True)
class Teacher:
    """How the training pairs are registered, each both ways at once, when the scans are prepared; their maps teach.

    Attributes:
        weights: File of a network that registers, or nothing for the classical engine alone.
        refine: Steps of the classical engine from the network's answer, as ``--refine`` of ``pullback register``.
        has_seen_labels: Whether that network learned from labels: what it teaches is then called semi-supervised.
    """

    weights: str = ""
    refine: int = 0
    has_seen_labels: bool = False

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "refine")
        if self.refine and not self.weights:
            raise ValueError(f"`refine` is {self.refine}, but there is no network to refine; give `weights` too.")


@dataclass(frozen=True)
class NetworkPlan:
    """Which network.

    Attributes:
        family: As in :func:`pullback.networks.build`.
        settings: What differs from the family's defaults.
        weights: File of weights to start from, or nothing.
    """

    family: str = "voxelmorph"
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = ""


@dataclass(frozen=True)
class Stage:
    """From a step on.

    Attributes:
        from_step: The first step.
        frozen: Beginnings of the names of parameters that stay as they are.
        learning_rate: From here on; 0 keeps the recipe's.
        conditions: What the network is told besides the images, such as how many levels take part.
        weights: New weights of loss terms, by their names in the log.
    """

    from_step: int
    frozen: tuple[str, ...] = ()
    learning_rate: float = 0.0
    conditions: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "from_step", "learning_rate")
        for title, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"`weights.{title}` is {weight}, but 0 or more is needed.")


@dataclass(frozen=True)
class Optimisation:
    """How long, how fast, how exactly.

    Attributes:
        num_steps: Steps of the optimiser.
        batch_size: Pairs per step and device.
        learning_rate: Of Adam.
        decay: ``constant``, ``cosine`` or ``linear``: how the learning rate falls until the last step.
        final_share: Share of the learning rate at the last step.
        warm_up_steps: Over which the learning rate rises from 0.
        weight_decay: Of AdamW; 0 is plain Adam.
        betas: Of Adam.
        clip_norm: Largest norm of the gradient; 0 leaves it.
        precision: ``32-true`` or ``bf16-mixed``.
        compile: Whether torch compiles the network first.
    """

    num_steps: int = 10000
    batch_size: int = 1
    learning_rate: float = 1e-4
    decay: str = "constant"
    final_share: float = 0.0
    warm_up_steps: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 0.0
    precision: str = "32-true"
    compile: bool = False

    def __post_init__(self) -> None:
        check_choice("decay", self.decay, DECAYS)
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("num_steps", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}, but a number above 0 is needed.")
        check_each_at_least(0, self, "final_share", "warm_up_steps", "weight_decay", "clip_norm")
        if self.final_share > 1:
            raise ValueError(f"`final_share` is {self.final_share}, but a share from 0 to 1 is needed.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"`betas` is {list(self.betas)}, but two numbers from 0 to below 1 are needed.")


@dataclass(frozen=True)
class Validation:
    """When to look, at what, and when to stop.

    Attributes:
        every_steps: Steps between two looks.
        metric: ``dice`` (mean over labels and pairs) or ``similarity`` (correlation of fixed and warped).
        batch_size: Pairs at a time.
        patience: Looks without a new best after which to stop; 0 never stops.
    """

    every_steps: int = 500
    metric: str = "dice"
    batch_size: int = 8
    patience: int = 0

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, METRICS)
        check_each_at_least(1, self, "every_steps", "batch_size")
        check_each_at_least(0, self, "patience")


@dataclass(frozen=True)
class Logging:
    """What is written down.

    Attributes:
        every_steps: Steps between two rows of the csv log.
        tensorboard: Whether TensorBoard's files are written too (needs the package tensorboard).
    """

    every_steps: int = 50
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_each_at_least(1, self, "every_steps")


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        name: Of the study.
        seed: Of weights, order of pairs and augmentation.
        source, split, pairs: The data.
        labels: Which labels count; all that training scans hold if empty.
        preprocessing, augmentation: What becomes of them.
        simulation: Fixed images are made from the moving ones by a known map.
        teacher: Known maps come from registrations of the training pairs, which are then trained both ways.
        network: The family.
        losses: The terms.
        stages: Changes on the way, in order.
        optimisation, validation, logging: The loop.
    """

    name: str
    preprocessing: Preprocessing
    seed: int = 0
    source: Source = field(default_factory=Source)
    split: SplitPlan = field(default_factory=SplitPlan)
    pairs: PairPlans = field(default_factory=PairPlans)
    labels: tuple[int, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    simulation: Simulation | None = None
    teacher: Teacher | None = None
    network: NetworkPlan = field(default_factory=NetworkPlan)
    losses: tuple[Term, ...] = field(default_factory=lambda: (SimilarityTerm(),))
    stages: tuple[Stage, ...] = ()
    optimisation: Optimisation = field(default_factory=Optimisation)
    validation: Validation = field(default_factory=Validation)
    logging: Logging = field(default_factory=Logging)

    def __post_init__(self) -> None:
        check_each_at_least(0, self, "seed")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"`labels` is {list(self.labels)}, but each label may stand there once.")
        titles = [term.title for term in self.losses]
        if not titles:
            raise ValueError("`losses` is empty, but at least one term is needed.")
        for title in titles:
            if title in LOGGED or title.startswith("validation_"):
                raise ValueError(f"A term is called '{title}', as a column of the log is; give it another `name`.")
            if titles.count(title) > 1:
                raise ValueError(f"Two terms are called '{title}'; give them a `name` each.")
        for stage in self.stages:
            for title in stage.weights:
                check_choice("stages.weights", title, titles)
        if sorted(s.from_step for s in self.stages) != [s.from_step for s in self.stages]:
            raise ValueError("`stages` must stand in the order of their first steps.")
        if self.simulation is not None and (self.augmentation.moves or self.augmentation.flips):
            raise ValueError("`simulation` gives pairs of a known map, which `augmentation` may not move; let it be.")
        self._check_terms()
        if self.teacher is not None:
            self._check_teacher()
        axes = len(self.preprocessing.network_shape)
        if any(not 0 <= axis < axes for axis in self.augmentation.flips):
            raise ValueError(f"`augmentation.flips` is {list(self.augmentation.flips)}, but axes are 0 to {axes - 1}.")

    def _check_terms(self) -> None:
        if not any(getattr(term, "is_differentiable", True) for term in self.losses):
            raise ValueError("No term of `losses` has a derivative, so nothing would be learned; one must have it.")
        if any(type(term).kind == "consistency" for term in self.losses) and not self.augmentation.again.is_on:
            raise ValueError("`losses` has a consistency term, but `augmentation.again` moves nothing; set its bounds.")

    def _check_teacher(self) -> None:
        if not any(type(term).kind == "true-displacement" for term in self.losses):
            raise ValueError("`teacher` is given, but no term of `losses` learns from it; add 'true-displacement'.")
        if self.simulation is not None:
            raise ValueError("`simulation` and `teacher` both say what is true; leave one out.")
        if self.preprocessing.slices is not None:
            raise ValueError("`teacher` registers whole scans, but `preprocessing.slices` cuts them; leave one out.")
        if self.augmentation.deformation_voxels:
            raise ValueError(
                f"`augmentation.deformation_voxels` is {self.augmentation.deformation_voxels:g}, but what a teacher "
                "found moves along with affine maps alone; set it to 0."
            )

    @property
    def supervision(self) -> str:
        """``semi-supervised`` if labels steer, ``supervised`` if a known map does, else ``unsupervised``.

        What a teacher found is not known but found: without labels, unless it has seen some itself.
        """
        if self.needs_labels or (self.teacher is not None and self.teacher.has_seen_labels):
            return "semi-supervised"
        known = {"true-matrix", "keypoints"} | ({"true-displacement"} if self.teacher is None else set())
        return "supervised" if {type(term).kind for term in self.losses} & known else "unsupervised"

    @property
    def needs_labels(self) -> bool:
        """Whether a term compares labels."""
        return any(type(term).kind == "dice" for term in self.losses)

    @property
    def needs_views(self) -> bool:
        """Whether a term asks what the scans saw."""
        return any(getattr(term, "in_view", False) for term in self.losses)

    def as_dict(self) -> dict[str, Any]:
        """JSON values, of which :func:`recipe_of` makes the same recipe again."""
        return plain(self)


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The recipe of plain values.

    Raises:
        ValueError: If a key is unknown (the message names the near ones), missing, or a value does not fit.
    """
    return parse(Recipe, values)


def read_recipe(path: Path, changes: Sequence[str] = (), over: Sequence[Path] = ()) -> Recipe:
    """Read a recipe; ``base: other.yaml`` in it takes the rest from another file beside it.

    A file that names another family than its base takes none of the settings of the base's network. A change of the
    family alone (`changes`) keeps them: relatives share them.

    Args:
        path: A YAML file.
        over: Files with parts of a recipe that are laid over it in their order, such as ``recipes/budgets/cpu.yaml``.
        changes: Such as ``optimisation.num_steps=200``, as on the command line; values are YAML. They come last.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no recipe.
    """
    values = read_values(path)
    for part in over:
        values = merge(values, read_values(part))
    for change in changes:
        values = merge(values, _nested(change))
    return recipe_of(values)


def read_values(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The plain values of a recipe's file, with those of its base beneath; `above` are the files it is a base of.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no names with values, or is a base of itself.
    """
    if path.resolve() in above:
        raise ValueError(f"'{path}' is a base of itself; take another `{BASE_KEY}`.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe '{path}'.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no YAML: {error}") from None
    if not isinstance(values, Mapping):
        raise ValueError(f"'{path}' holds no names with values.")
    base = values.get(BASE_KEY)
    own = {key: value for key, value in values.items() if key != BASE_KEY}
    if base is None:
        return own
    beneath = read_values(path.parent / str(base), (*above, path.resolve()))
    families = [_network_of(one).get("family") for one in (beneath, own)]
    if families[1] not in (None, families[0]) and "settings" in _network_of(beneath):
        rest = {key: value for key, value in beneath["network"].items() if key != "settings"}
        beneath = beneath | {"network": rest}
    return merge(beneath, own)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a name that stands twice: the last one would win, and the first be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See :class:`yaml.SafeLoader`."""
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' stands there {names.count(key.value)} times", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _network_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about the network, if there is a sound one; what is not is refused later, with its name."""
    network = values.get("network")
    return network if isinstance(network, Mapping) else {}


def _nested(change: str) -> dict[str, Any]:
    """``a.b=1`` as ``{"a": {"b": 1}}``."""
    name, sign, text = change.partition("=")
    if not sign or not name:
        raise ValueError(f"'{change}' changes nothing; write name=value, such as optimisation.num_steps=200.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(
            f"'{change}' gives '{text}', which is no YAML value, such as 200, [1, 2], {{a: 1}} or '\"*.gz\"' (a text "
            "that begins with a sign stands in quotes of its own)."
        ) from None
    for key in reversed(name.split(".")):
        value = {key: value}
    return value


__all__ = [
    "SPLITS",
    "Logging",
    "NetworkPlan",
    "Optimisation",
    "PairPlan",
    "PairPlans",
    "Preprocessing",
    "Recipe",
    "Source",
    "SplitPlan",
    "Stage",
    "Teacher",
    "Validation",
    "read_recipe",
    "recipe_of",
]
