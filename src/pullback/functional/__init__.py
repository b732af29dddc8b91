"""Pure tensor functions in voxel coordinates: sampling, composing, smoothing, derivatives, windows.

Compiled kernels serve float32 tensors on the CPU; other tensors take the plain PyTorch path of
:mod:`pullback.functional.reference`. Callers never know.
"""

from pullback.functional.affine_sampling import warp_by_matrix
from pullback.functional.compose import Inversion, balance_inverse, compose, exponential, gap, invert
from pullback.functional.derivatives import (
    affine_derivative,
    jacobian_determinant,
    largest_length,
    multiply_by_gradient,
    relax,
)
from pullback.functional.pooled_convolution import pooled_convolution
from pullback.functional.sample import INTERPOLATIONS, sample, spline_coefficients, warp
from pullback.functional.smooth import block_mean, coarsen, dense_strides, gaussian_smooth
from pullback.functional.spectrum import fourier_resize
from pullback.functional.statistics import histogram_gradient, joint_histogram, weighted_moments
from pullback.functional.window_matching import match_window
from pullback.functional.windows import local_correlation

__all__ = [
    "INTERPOLATIONS",
    "Inversion",
    "affine_derivative",
    "balance_inverse",
    "block_mean",
    "coarsen",
    "compose",
    "dense_strides",
    "exponential",
    "fourier_resize",
    "gap",
    "gaussian_smooth",
    "histogram_gradient",
    "invert",
    "jacobian_determinant",
    "joint_histogram",
    "largest_length",
    "local_correlation",
    "match_window",
    "multiply_by_gradient",
    "pooled_convolution",
    "relax",
    "sample",
    "spline_coefficients",
    "warp",
    "warp_by_matrix",
    "weighted_moments",
]
