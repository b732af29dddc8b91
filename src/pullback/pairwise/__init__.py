"""One pair from files to files: the main job."""

from pullback.pairwise.main_job import Registration, register
from pullback.pairwise.output import check_directory
from pullback.pairwise.words import INITIALS, MODELS, PRESETS, SIMILARITIES

__all__ = ["INITIALS", "MODELS", "PRESETS", "SIMILARITIES", "Registration", "check_directory", "register"]
