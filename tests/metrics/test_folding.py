"""Folds of the piecewise linear map: what central differences miss, and volumes known in closed form."""

from itertools import product

import numpy as np
import pytest
import torch

from examples import smooth_noise
from pullback import functional
from pullback.metrics import simplex_determinants, summarise_folding, summarise_jacobian


def linear(matrix: list[list[float]], *shape: int) -> torch.Tensor:
    """The displacement ``(A - 1) x`` in voxels."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij")
    a = torch.tensor(matrix, dtype=torch.float64) - torch.eye(len(shape), dtype=torch.float64)
    return torch.einsum("rc,c...->r...", a, torch.stack(axes))


def checkerboard(height: float, *shape: int) -> torch.Tensor:
    """Every other plane moves by `height` voxels: invisible to differences over two voxels."""
    displacement = torch.zeros(len(shape), *shape, dtype=torch.float64)
    displacement[0, ::2] = height
    return displacement


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 5)])
def test_the_identity_has_no_fold_and_4_or_10_determinants(shape):
    found = dict(simplex_determinants(torch.zeros(len(shape), *shape)))
    assert len(found) == {2: 4, 3: 10}[len(shape)]
    for name, determinant in found.items():
        assert torch.equal(determinant, torch.full(shape, 2.0 if name.startswith("centre") else 1.0))
    assert summarise_folding(torch.zeros(len(shape), *shape)).as_dict() == dict.fromkeys(
        ("num_voxels", "percent_voxels", "volume_voxels", "volume_mm3", "percent_volume"), 0
    )


@pytest.mark.parametrize("matrix", [[[1.2, 0.1], [-0.2, 0.9]], [[1.2, 0.1, 0], [-0.2, 0.9, 0.3], [0.1, 0, 1.1]]])
def test_a_linear_map_has_its_determinant_everywhere_inside(matrix):
    shape = (6, 7, 5)[: len(matrix)]
    inner = (slice(1, -1),) * len(shape)
    true = np.linalg.det(matrix)
    for name, determinant in simplex_determinants(linear(matrix, *shape)):
        wanted = true * (2 if name.startswith("centre") else 1)
        assert torch.allclose(determinant[inner], torch.tensor(wanted))


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 7)])
def test_a_checkerboard_folds_though_central_differences_see_nothing(shape):
    displacement = checkerboard(1.5, *shape)
    inner = (slice(1, -1),) * len(shape)
    central = functional.jacobian_determinant(displacement[None].float())[0]
    assert summarise_jacobian(central[inner]).num_nonpositive == 0
    region = torch.zeros(shape, dtype=torch.bool)
    region[inner] = True
    found = summarise_folding(displacement, 2.0, region)
    assert found.num_voxels == int(region.sum())
    assert found.percent_voxels == 100.0
    # in each voxel half of the corner simplices are at -0.5; of the two central tetrahedra one is, at 2 x -0.5
    simplices, factorial = (4, 2) if len(shape) == 2 else (8, 6)
    each = 0.5 / factorial * (simplices / 2 * 0.5 + (1.0 if len(shape) == 3 else 0.0))
    assert found.volume_voxels == pytest.approx(each * int(region.sum()))
    assert found.volume_mm3 == pytest.approx(2 * found.volume_voxels)
    assert found.percent_volume == pytest.approx(100 * each)


def test_a_small_checkerboard_does_not_fold():
    assert summarise_folding(checkerboard(0.9, 6, 6, 6)).num_voxels == 0


def test_a_mirror_turns_all_of_its_volume_over():
    region = torch.zeros(6, 6, 6, dtype=torch.bool)
    region[1:-1, 1:-1, 1:-1] = True
    found = summarise_folding(linear([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], 6, 6, 6), region=region)
    assert found.percent_volume == pytest.approx(100.0)  # both ways to cut a cube fill it once
    flat = torch.ones(6, 6, dtype=torch.bool)
    flat[0] = flat[-1] = flat[:, 0] = flat[:, -1] = False
    assert summarise_folding(linear([[-1, 0], [0, 1]], 6, 6), region=flat).percent_volume == pytest.approx(100.0)


def test_one_vertex_pushed_through_its_neighbour():
    displacement = torch.zeros(2, 7, 7, dtype=torch.float64)
    displacement[0, 3, 3] = 2.0
    found = dict(simplex_determinants(displacement))
    assert found["+-"][3, 3] == pytest.approx(-1.0)
    assert found["--"][3, 3] == pytest.approx(3.0)
    folded = sum((d <= 0) for d in found.values()) > 0
    assert torch.nonzero(folded).tolist() == [[3, 3], [4, 3]]


def test_against_a_loop_over_voxels():
    displacement = 3 * smooth_noise(3, 5, 6, 4, sigma=1.0, dtype=torch.float64)
    padded = np.pad(displacement.numpy(), [(0, 0), (1, 1), (1, 1), (1, 1)], mode="edge")
    stars = [((-1, -1, 0), (-1, 0, -1), (0, -1, -1)), ((1, 1, 0), (0, 1, 1), (1, 0, 1))]
    axes = [tuple(np.diag(signs)) for signs in product((1, -1), repeat=3)]
    volume, count = 0.0, 0
    for voxel in np.ndindex(5, 6, 4):
        here = np.array(voxel)
        at = {o: here + o + padded[:, *(here + o + 1)] for o in product((-1, 0, 1), repeat=3)}
        dets = []
        for offsets in [*axes, *stars]:
            offsets = [tuple(int(v) for v in o) for o in offsets]
            edges = np.stack([at[o] - at[0, 0, 0] for o in offsets])
            dets.append(np.linalg.det(edges) * np.sign(np.linalg.det(np.array(offsets))))
        volume += sum(max(-d, 0) for d in dets) / 12
        count += min(dets) <= 0
    found = summarise_folding(displacement)
    assert found.num_voxels == count > 0
    assert found.volume_voxels == pytest.approx(volume)


def test_an_empty_region_is_refused():
    with pytest.raises(ValueError, match="no voxel"):
        summarise_folding(torch.zeros(2, 4, 4), region=torch.zeros(4, 4, dtype=torch.bool))
