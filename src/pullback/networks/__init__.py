"""Networks that register: one paper, one file, all under one contract."""

from pullback.networks import fourier_net, voxelmorph
from pullback.networks.contract import STATE_NAMES, AbstractNetwork, State
from pullback.networks.padding import run_padded
from pullback.networks.registry import Family, build, family, find, names

ZOO = (fourier_net, voxelmorph)
"""The files whose import registers the families."""

__all__ = ["STATE_NAMES", "ZOO", "AbstractNetwork", "Family", "State", "build", "family", "find", "names", "run_padded"]
