"""What goes with a network's weights: all that is needed to use them on any image, and where they come from."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pullback.checks import check_choice, check_positive
from pullback.registration.normalisation import Normalisation
from pullback.space import Grid, closest_to

ALIGNMENTS = ("header", "view", "mass", "rigid", "affine")
"""How two images are brought together before the network: as their headers say, by the middles of their fields of view,
by the centres of mass of their foregrounds, or by a linear registration."""
LINEAR = ("rigid", "affine")
"""Those that need a registration."""


@dataclass(frozen=True)
class Card:
    """A network's papers; JSON in the file of its weights.

    Attributes:
        family: As in :func:`pullback.networks.build`.
        settings: The family's settings.
        shape: Voxels of the network's lattice.
        spacing_mm: Their spacing.
        orientation: Where the lattice's axes point, as near as those of the fixed image get; None is R, A, S.
        normalisation: Of the intensities of both images.
        alignment: One of `ALIGNMENTS`.
        num_channels: Channels of each image.
        recipe: The whole recipe it was trained by.
        data_fingerprint: Of the files it was trained on.
        versions: Of pullback, torch and Python.
        figures: What it reached: validation metric, step, seconds.
    """

    family: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    normalisation: Normalisation = field(default_factory=Normalisation)
    alignment: str = "header"
    orientation: str | None = None
    num_channels: int = 1
    recipe: dict[str, Any] = field(default_factory=dict)
    data_fingerprint: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("alignment", self.alignment, ALIGNMENTS)
        for name in ("settings", "recipe", "versions", "figures"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(
                    f"The card's `{name}` holds {getattr(self, name)!r:.40}, but names with values are needed."
                )
        if len(self.shape) != len(self.spacing_mm):
            raise ValueError(
                f"The card's shape {self.shape} and spacing {self.spacing_mm} mm differ in their number of axes."
            )
        for spacing in self.spacing_mm:
            check_positive("spacing_mm", spacing)
        if self.orientation is not None:
            closest_to(Grid.from_spacing(self.shape, self.spacing_mm), self.orientation)

    @property
    def num_dims(self) -> int:
        """2 or 3."""
        return len(self.shape)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The card of :meth:`as_dict`.

        Raises:
            ValueError: If a value is missing or unknown.
        """
        try:
            return cls(
                **values
                | {
                    "shape": tuple(int(n) for n in values["shape"]),
                    "spacing_mm": tuple(float(s) for s in values["spacing_mm"]),
                    "normalisation": Normalisation(**values["normalisation"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"The card of these weights is incomplete or of another version: {error}.") from error
