"""2-D as 3-D: a first axis of one voxel, so that every kernel has one form."""

import math

import numpy as np
import torch
from torch import Tensor

CACHE_LINE_BYTES = 64


def lift_volumes(tensor: Tensor, num_dims: int) -> Tensor:
    """``(..., I, J)`` becomes ``(..., 1, I, J)``; 3-D stays as it is."""
    return tensor if num_dims == 3 else tensor.unsqueeze(-3)


def lift_field(field: Tensor, num_dims: int) -> Tensor:
    """A field ``(B, 2, I, J)`` becomes ``(B, 3, 1, I, J)`` with a first component of zeros; 3-D stays as it is."""
    if num_dims == 3:
        return field
    field = field.unsqueeze(-3)
    return torch.cat([torch.zeros_like(field[:, :1]), field], dim=1)


def lift_matrix(matrix: np.ndarray | Tensor, num_dims: int) -> np.ndarray:
    """A homogeneous matrix as ``(3, 4)`` float64; 2-D gets a first axis that it leaves alone."""
    matrix = np.asarray(matrix, dtype=np.float64)
    lifted = np.eye(4)
    skip = 3 - num_dims
    lifted[skip:, skip:] = matrix
    return lifted[:3]


def as_array(tensor: Tensor) -> np.ndarray:
    """A C-contiguous NumPy view (or copy, where it was not contiguous) of a CPU tensor without its graph."""
    return np.ascontiguousarray(tensor.detach().numpy())


def empty_like_shape(*shape: int) -> Tensor:
    """Uninitialised float32, from the start of a cache line on, so that no vector of a full line crosses two.

    NumPy's allocation takes huge pages, which is several times faster to touch first.
    """
    size = math.prod(shape)
    room = np.empty(size + CACHE_LINE_BYTES // 4, dtype=np.float32)
    first = -room.ctypes.data % CACHE_LINE_BYTES // 4
    return torch.from_numpy(room[first : first + size].reshape(shape))


def has_kernels(*tensors: Tensor) -> bool:
    """Whether the compiled kernels can serve: float32 on the CPU, and nobody is tracing the graph to export it."""
    if torch.compiler.is_compiling():
        return False
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
