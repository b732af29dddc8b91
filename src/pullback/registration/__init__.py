"""Registration of one pair: the driver, its parts, and the verdict."""

from pullback.registration.card import ALIGNMENTS, Card
from pullback.registration.choice import Choice, build
from pullback.registration.deformable import Deformation, SteepestAscent, deform
from pullback.registration.initialisation import Candidate, Initialisation, initialise
from pullback.registration.normalisation import Normalisation
from pullback.registration.plan import Answer, DeformablePlan, LinearPlan, Plan
from pullback.registration.predict import predict, predict_levels, predict_start
from pullback.registration.register import register
from pullback.registration.result import RegistrationResult, SimilarityReport, StageHistory
from pullback.registration.schedule import Level, Plateau
from pullback.registration.verdict import Evidence, Verdict

__all__ = [
    "ALIGNMENTS",
    "Answer",
    "Candidate",
    "Card",
    "Choice",
    "DeformablePlan",
    "Deformation",
    "Evidence",
    "Initialisation",
    "Level",
    "LinearPlan",
    "Normalisation",
    "Plan",
    "Plateau",
    "RegistrationResult",
    "SimilarityReport",
    "StageHistory",
    "SteepestAscent",
    "Verdict",
    "build",
    "deform",
    "initialise",
    "predict",
    "predict_levels",
    "predict_start",
    "register",
]
