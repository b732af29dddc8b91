"""Dense fields whose vectors stand in a frame of each tool's own: voxels, scaled voxels, positions instead of steps.

Such a field says for each voxel of the fixed grid where it lands in a *frame* of the moving image, either as the
position there or as the step from its position in the same kind of frame of the fixed image. A frame is an affine
relation to voxels (voxel indices themselves, FSL's flipped and scaled voxels) or the world.
"""

import torch
from torch import Tensor

from pullback.space import Grid, apply_matrix
from pullback.transforms import DisplacementField


def field_from_frames(
    vectors: Tensor, grid: Grid, voxel_to_frame: Tensor, frame_to_world: Tensor, *, is_absolute: bool
) -> DisplacementField:
    """A displacement field in mm from vectors in the frames of the fixed and the moving image.

    Args:
        vectors: ``(D, *grid.shape)``: positions in the moving frame, or steps from the fixed to the moving frame.
        grid: The voxels of the field.
        voxel_to_frame: ``(D+1, D+1)``, voxels of `grid` to the fixed frame.
        frame_to_world: ``(D+1, D+1)``, the moving frame to the moving world, mm.
        is_absolute: Whether `vectors` are positions.

    Raises:
        ValueError: If a vector is not finite.
    """
    positions = vectors.to(torch.float64).movedim(0, -1)
    if not is_absolute:
        positions = positions + apply_matrix(voxel_to_frame, _indices(grid))
    displacement = apply_matrix(frame_to_world, positions) - grid.centres()
    dtype = torch.float64 if vectors.dtype == torch.float64 else torch.float32
    return DisplacementField(displacement.movedim(-1, 0).to(dtype).contiguous(), grid)


def vectors_in_frames(
    field: DisplacementField, voxel_to_frame: Tensor, world_to_frame: Tensor, *, is_absolute: bool
) -> Tensor:
    """The inverse of `field_from_frames`, ``(D, *grid.shape)`` float64.

    Args:
        field: In mm.
        voxel_to_frame: Voxels of the field's grid to the fixed frame.
        world_to_frame: The moving world, mm, to the moving frame.
        is_absolute: Whether to give positions.
    """
    grid = field.grid
    world = grid.centres() + field.displacement.detach().cpu().to(torch.float64).movedim(0, -1)
    positions = apply_matrix(world_to_frame, world)
    if not is_absolute:
        positions = positions - apply_matrix(voxel_to_frame, _indices(grid))
    return positions.movedim(-1, 0).contiguous()


def field_from_voxels(vectors: Tensor, fixed: Grid, moving: Grid) -> DisplacementField:
    """From steps ``(D, *fixed.shape)`` between voxel indices of the fixed and of the moving array, axis by axis."""
    identity = torch.eye(fixed.num_dims + 1, dtype=torch.float64)
    return field_from_frames(vectors, fixed, identity, moving.voxel_to_world, is_absolute=False)


def vectors_in_voxels(field: DisplacementField, moving: Grid) -> Tensor:
    """Steps ``(D, *shape)`` from voxel indices of the field's grid to voxel indices of `moving`, float64."""
    identity = torch.eye(field.num_dims + 1, dtype=torch.float64)
    return vectors_in_frames(field, identity, moving.world_to_voxel, is_absolute=False)


def _indices(grid: Grid) -> Tensor:
    axes = [torch.arange(n, dtype=torch.float64) for n in grid.shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
