"""How well two images agree. Every similarity grows with agreement and knows its derivative by the warped image."""

from pullback.similarity.abstract import AbstractSimilarity
from pullback.similarity.channels import WeightedChannels
from pullback.similarity.lncc import LNCC
from pullback.similarity.mind import MIND
from pullback.similarity.mse import MSE
from pullback.similarity.mutual_information import MutualInformation
from pullback.similarity.ncc import NCC

__all__ = ["LNCC", "MIND", "MSE", "NCC", "AbstractSimilarity", "MutualInformation", "WeightedChannels"]
