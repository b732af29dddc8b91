"""Networks that register: one paper, one file, all under one contract."""

from pullback.networks import (
    fourier_net,
    fourier_net_plus,
    symnet,
    unet_control,
    voxelmorph,
    voxelmorph_probabilistic,
)
from pullback.networks.contract import STATE_NAMES, AbstractNetwork, State
from pullback.networks.padding import run_padded
from pullback.networks.registry import Family, build, family, find, names
from pullback.networks.voxelmorph_probabilistic import graph_laplacian_kl

ZOO = (fourier_net, fourier_net_plus, symnet, unet_control, voxelmorph, voxelmorph_probabilistic)
"""The files whose import registers the families."""

__all__ = [
    "STATE_NAMES",
    "ZOO",
    "AbstractNetwork",
    "Family",
    "State",
    "build",
    "family",
    "find",
    "graph_laplacian_kl",
    "names",
    "run_padded",
]
