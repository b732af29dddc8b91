"""Registration by corresponding landmarks, in closed form, and by keypoints that are found and matched."""

from pullback.landmarks.closed_form import matrices_of
from pullback.landmarks.consensus import agreeing
from pullback.landmarks.fit import MODELS, LandmarkFit, fit_landmarks, pair_by_name
from pullback.landmarks.keypoints import Keypoints, find_keypoints
from pullback.landmarks.matching import Matches, fit_keypoints, match, precision_and_recall
from pullback.landmarks.patches import patches_at

__all__ = [
    "MODELS",
    "Keypoints",
    "LandmarkFit",
    "Matches",
    "agreeing",
    "find_keypoints",
    "fit_keypoints",
    "fit_landmarks",
    "match",
    "matrices_of",
    "pair_by_name",
    "patches_at",
    "precision_and_recall",
]
