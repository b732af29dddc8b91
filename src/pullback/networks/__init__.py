"""Networks that register: one paper, one file, all under one contract."""

from pullback.networks.contract import STATE_NAMES, AbstractNetwork, State
from pullback.networks.registry import Family, build, family, find, names

__all__ = ["STATE_NAMES", "AbstractNetwork", "Family", "State", "build", "family", "find", "names"]
