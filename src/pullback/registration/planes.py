"""A 2-D image as a volume of one plane: matrices and grids with a first axis that nothing changes, and without it."""

import numpy as np
import torch

from pullback.space import Grid


def lift_matrix(matrix: np.ndarray) -> np.ndarray:
    """A world matrix ``(3, 3)`` or ``(4, 4)`` as one of volumes, ``(4, 4)``."""
    lifted = np.eye(4)
    skip = 4 - len(matrix)
    lifted[skip:, skip:] = matrix
    return lifted


def lower_matrix(matrix: np.ndarray, is_flat: bool) -> np.ndarray:
    """A world matrix ``(4, 4)`` of volumes as one of their images; `is_flat` where these are 2-D."""
    return matrix[1:, 1:] if is_flat else matrix


def lift_grid(grid: Grid) -> Grid:
    """A grid of an image as that of its volume."""
    if grid.num_dims == 3:
        return grid
    return Grid((1, *grid.shape), torch.from_numpy(lift_matrix(grid.voxel_to_world.numpy())))


def lower_grid(grid: Grid, is_flat: bool) -> Grid:
    """A grid of a volume as that of its image; `is_flat` where this is 2-D."""
    return Grid(grid.shape[1:], grid.voxel_to_world[1:, 1:]) if is_flat else grid
