"""Registration by corresponding landmarks, in closed form."""

from pullback.landmarks.closed_form import matrices_of
from pullback.landmarks.consensus import agreeing
from pullback.landmarks.fit import MODELS, LandmarkFit, fit_landmarks, pair_by_name

__all__ = ["MODELS", "LandmarkFit", "agreeing", "fit_landmarks", "matrices_of", "pair_by_name"]
