"""Networks that register: one paper, one file, all under one contract."""

from pullback.networks import (  # noqa: F401 (importing a file registers its families)
    airnet,
    c2fvit,
    conditional_lapirn,
    cyclemorph,
    fourier_net,
    fourier_net_plus,
    hsyn,
    im2grid,
    keymorph,
    lapirn,
    modet,
    nice_trans,
    symnet,
    transmorph,
    unet_control,
    vit_v_net,
    voxelmorph,
    voxelmorph_probabilistic,
)
from pullback.networks.contract import STATE_NAMES, AbstractNetwork, State
from pullback.networks.coordinate_translator import CoordinateTranslator
from pullback.networks.cost import Cost, measure_cost, num_parameters
from pullback.networks.exporting import compare_onnx, export_onnx, has_onnxruntime
from pullback.networks.importing import Transcript, import_weights, importable, transcribe
from pullback.networks.keymorph import anchors
from pullback.networks.mirroring import Mirrored
from pullback.networks.padding import padded_shape, run_padded
from pullback.networks.patch_descriptor import PatchDescriptor
from pullback.networks.registry import Family, build, family, find, names
from pullback.networks.voxelmorph_probabilistic import graph_laplacian_kl

__all__ = [
    "STATE_NAMES",
    "AbstractNetwork",
    "CoordinateTranslator",
    "Cost",
    "Family",
    "Mirrored",
    "PatchDescriptor",
    "State",
    "Transcript",
    "anchors",
    "build",
    "compare_onnx",
    "export_onnx",
    "family",
    "find",
    "graph_laplacian_kl",
    "has_onnxruntime",
    "import_weights",
    "importable",
    "measure_cost",
    "names",
    "num_parameters",
    "padded_shape",
    "run_padded",
    "transcribe",
]
