"""Surface distances: closed forms, and DeepMind's own package where it is installed."""

import math

import numpy as np
import pytest
import torch

from examples import smooth_noise
from pullback.data import LabelMap
from pullback.metrics import surface_distance, surface_distance_per_label
from pullback.metrics.surface_elements import codes_of, element_sizes
from pullback.space import Grid

SPACINGS = [(1.0, 1.0, 1.0), (1.0, 1.3, 2.1), (0.5, 0.7)]


def box(shape: tuple[int, ...], start: tuple[int, ...], stop: tuple[int, ...]) -> torch.Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def ball(radius_mm: float, spacing: torch.Tensor, size: int = 48) -> torch.Tensor:
    shape = [int(size / s) for s in spacing.tolist()]
    points = Grid.from_spacing(shape, spacing).centres()
    return torch.linalg.vector_norm(points - points.reshape(-1, 3).mean(dim=0), dim=-1) < radius_mm


def test_equal_surfaces_are_not_apart():
    mask = box((9, 8, 7), (2, 2, 2), (6, 5, 5))
    assert set(surface_distance(mask, mask, torch.ones(3)).as_dict().values()) == {0.0}


def test_a_missing_surface_is_infinitely_far_and_two_missing_are_no_number():
    mask, nothing = box((5, 5, 5), (1, 1, 1), (3, 3, 3)), torch.zeros(5, 5, 5, dtype=torch.bool)
    assert set(surface_distance(mask, nothing, torch.ones(3)).as_dict().values()) == {math.inf}
    assert set(surface_distance(nothing, mask, torch.ones(3)).as_dict().values()) == {math.inf}
    assert all(math.isnan(v) for v in surface_distance(nothing, nothing, torch.ones(3)).as_dict().values())


def test_parallel_walls_are_apart_by_their_gap():
    spacing = torch.tensor([1.5, 1.0, 2.0], dtype=torch.float64)
    a, b = box((12, 6, 6), (0, 0, 0), (12, 6, 3)), box((12, 6, 6), (0, 0, 0), (12, 6, 5))
    found = surface_distance(a, b, spacing)
    assert found.hausdorff == pytest.approx(4.0)
    assert 0 < found.mean < found.rms < found.hausdorff


def test_a_ball_in_a_ball():
    spacing = torch.tensor([1.0, 1.0, 0.8], dtype=torch.float64)
    found = surface_distance(ball(14, spacing), ball(17, spacing), spacing)
    # pieces of surface sit at the middles of blocks, a layer a voxel thick: the nearest is up to half a voxel nearer
    assert 2.4 < found.mean < found.rms < 3.0
    assert found.hausdorff95 == pytest.approx(3.0, abs=0.6)


def test_a_shifted_ball_has_the_shift_as_its_hausdorff_distance():
    mask = ball(12, torch.ones(3))
    found = surface_distance(mask, mask.roll(4, dims=0), torch.ones(3))
    assert found.hausdorff == pytest.approx(4.0, abs=0.5)
    assert found.hausdorff95 == pytest.approx(4.0, abs=0.6)
    assert found.mean == pytest.approx(2.0, abs=0.4)  # |cos| averaged over a sphere, from both sides


def test_the_area_of_a_ball_and_of_a_box():
    mask = box((10, 10, 10), (2, 2, 2), (8, 7, 6)).numpy()
    spacing = (2.0, 3.0, 4.0)
    area = element_sizes(spacing)[codes_of(mask)].sum()
    a, b, c = 12.0, 15.0, 16.0
    assert area == pytest.approx(2 * (a * b + b * c + a * c), rel=0.12)  # marching cubes cuts edges and corners
    sphere = element_sizes((1.0, 1.0, 1.0))[codes_of(ball(15, torch.ones(3)).numpy())].sum()
    assert sphere == pytest.approx(4 * math.pi * 15**2, rel=0.1)


def test_per_label_and_errors():
    grid = Grid.from_spacing((8, 8, 8), (1.0, 2.0, 1.0))
    a, b = (torch.zeros(1, *grid.shape, dtype=torch.int32) for _ in range(2))
    a[0, 1:4, 1:4, 1:4], b[0, 1:4, 2:5, 1:4] = 3, 3
    a[0, 6, 6, 6] = 5
    found = surface_distance_per_label(LabelMap(a, grid), LabelMap(b, grid))
    assert found[3].hausdorff == pytest.approx(2.0)
    assert math.isinf(found[5].mean)
    assert list(surface_distance_per_label(LabelMap(a, grid), LabelMap(b, grid), LabelMap(b, grid))) == [3]
    other = LabelMap(b, Grid.from_spacing((8, 8, 8)))
    with pytest.raises(ValueError, match="different grids"):
        surface_distance_per_label(LabelMap(a, grid), other)
    sheared = Grid((8, 8, 8), [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(ValueError, match="sheared"):
        surface_distance_per_label(LabelMap(a, sheared), LabelMap(b, sheared))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_element_has_deepminds_size(spacing: tuple[float, ...]):
    tables = pytest.importorskip("surface_distance").lookup_tables
    num_corners = 2 ** len(spacing)
    theirs = (
        tables.create_table_neighbour_code_to_surface_area(spacing)
        if len(spacing) == 3
        else tables.create_table_neighbour_code_to_contour_length(spacing)
    )
    # their first corner is the highest bit, ours the lowest
    reversed_code = [sum(1 << num_corners - 1 - bit for bit in range(num_corners) if c >> bit & 1) for c in range(256)]
    np.testing.assert_allclose(element_sizes(spacing), theirs[reversed_code[: 2**num_corners]], atol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_are_deepminds(spacing: tuple[float, ...], seed: int):
    theirs = pytest.importorskip("surface_distance")
    shape = (17, 20, 14)[: len(spacing)]
    a, b = (smooth_noise(1, *shape, sigma=2, seed=seed + n)[0] > level for n, level in ((0, 0.1), (7, 0.2)))
    found = surface_distance(a, b, torch.tensor(spacing, dtype=torch.float64))
    other = theirs.compute_surface_distances(a.numpy(), b.numpy(), spacing)
    assert found.hausdorff == pytest.approx(theirs.compute_robust_hausdorff(other, 100.0))
    assert found.hausdorff95 == pytest.approx(theirs.compute_robust_hausdorff(other, 95.0))
    sums = [other["surfel_areas_gt"].sum(), other["surfel_areas_pred"].sum()]
    means = theirs.compute_average_surface_distance(other)
    assert found.mean == pytest.approx(np.average(means, weights=sums))
