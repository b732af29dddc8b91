"""A registration on its way: what is known so far."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pullback.registration.memory import give_back
from pullback.registration.plan import Plan
from pullback.registration.result import StageHistory
from pullback.registration.volume import Volume

OnProgress = Callable[[str, float, str], None]
"""Called with the stage, the share of it that is done, and a word."""


@dataclass
class Work:
    """What is known so far."""

    plan: Plan
    fixed: Volume
    moving: Volume
    on_progress: OnProgress
    seconds: dict[str, float] = field(default_factory=dict)
    history: list[StageHistory] = field(default_factory=list)
    margin: float | None = None
    """Of the linear map over rivals, if it was looked for already."""
    cut_out: str = ""
    """The side whose object was cut out of what the other image shows, so that its background is unknown; or empty."""
    is_led_by_part: bool = False
    """Whether the moving image shows a small part, from which the linear map was looked for."""

    @property
    def has_outlines(self) -> bool:
        """Whether background surrounds both objects, so that their outlines tell something about the pose."""
        return self.fixed.has_background and self.moving.has_background

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, say that it begins and ends, and give back what it needed."""
        self.on_progress(name, 0.0, "")
        start = time.perf_counter()
        yield
        give_back()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)
        self.on_progress(name, 1.0, "")
