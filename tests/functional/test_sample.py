"""Sampling: exact on ramps, like SciPy and ITK, kernels like the plain PyTorch path, gradients, labels."""

import numpy as np
import pytest
import SimpleITK
import torch
from scipy import ndimage
from torch import Tensor

from examples import SHAPES, noise, voxel_points
from pullback.functional import sample, spline_coefficients, warp


def scattered(shape: tuple[int, ...], num: int = 300, margin: float = 0.5, seed: int = 1) -> Tensor:
    """Random positions up to `margin` voxels outside the outer centres, ``(num, D)``."""
    unit = torch.rand(num, len(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return unit * (torch.tensor(shape) - 1 + 2 * margin) - margin


def ramp(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A linear function of the position, ``(1, *shape)``."""
    slopes = torch.tensor([2.0, -3.0, 5.0], dtype=torch.float64)[: len(shape)]
    return (voxel_points(*shape) @ slopes + 1.0)[None].to(dtype)


def some_matrix(num_dims: int) -> np.ndarray:
    """A map near the identity, far from any symmetry."""
    matrix = np.eye(num_dims + 1)
    matrix[:-1] += 0.15 * noise(num_dims, num_dims + 1, seed=3).numpy()
    return matrix


def outside(shape: tuple[int, ...]) -> Tensor:
    """A displacement that leaves the image by a few voxels now and then, ``(2, D, *shape)``."""
    return 1.5 * noise(2, len(shape), *shape, seed=2)


# --- positions in a list ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 7, 8), (6, 7)])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_ramps_are_sampled_exactly(shape, interpolation):
    # The cubic spline mirrors at the edges, so that a ramp is straight only some way inside.
    image = ramp(*(n + 16 for n in shape), dtype=torch.float64)
    positions = scattered(shape, margin=0.0) + 8
    values = sample(image, positions, interpolation=interpolation)
    slopes = torch.tensor([2.0, -3.0, 5.0], dtype=torch.float64)[: len(shape)]
    torch.testing.assert_close(
        values[0], positions @ slopes + 1, rtol=0, atol=1e-3 if interpolation == "cubic" else 1e-12
    )


@pytest.mark.parametrize("shape", [(7, 8, 9), (1, 5, 6), (2, 2, 2), (9, 8), (6, 1)])
@pytest.mark.parametrize(
    ("interpolation", "order", "mode"), [("nearest", 0, "nearest"), ("linear", 1, "nearest"), ("cubic", 3, "mirror")]
)
def test_random_points_agree_with_scipy(shape, interpolation, order, mode):
    image = noise(2, *shape, dtype=torch.float64)
    positions = scattered(shape)
    values = sample(image, positions, interpolation=interpolation)
    for channel, row in zip(image, values, strict=True):
        expected = ndimage.map_coordinates(channel.numpy(), positions.T.numpy(), order=order, mode=mode)
        np.testing.assert_allclose(row.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_inside_ends_half_a_voxel_from_the_outer_centres_as_in_itk(interpolation):
    """A sweep through the image in steps of 1/16 voxel, which meets -0.5 and n - 0.5 exactly."""
    values = noise(1, 5, 4, 3, dtype=torch.float64)
    image = SimpleITK.GetImageFromArray(values[0].numpy().T)
    method = SimpleITK.sitkLinear if interpolation == "linear" else SimpleITK.sitkNearestNeighbor
    for axis, size in enumerate((5, 4, 3)):
        start, count, steps = [1.25, 1.75, 1.0], [1, 1, 1], [1.0, 1.0, 1.0]
        start[axis], count[axis], steps[axis] = -1.0, 16 * (size + 1), 1 / 16
        swept = SimpleITK.Resample(
            image, count, SimpleITK.Transform(), method, start, steps, np.eye(3).ravel().tolist(), -9.0
        )
        positions = torch.tensor(start, dtype=torch.float64).repeat(count[axis], 1)
        positions[:, axis] += torch.arange(count[axis], dtype=torch.float64) / 16
        ours = sample(values, positions, interpolation=interpolation, fill=-9.0)
        np.testing.assert_allclose(ours[0].numpy(), SimpleITK.GetArrayFromImage(swept).ravel(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "label"])
def test_outside_is_filled(interpolation):
    image = torch.ones(1, 4, 5)
    positions = torch.tensor([[-0.51, 2], [-0.5, 2], [3.49, 2], [3.5, 2], [1, -0.51], [1, 4.51], [99, 99]])
    values = sample(image, positions.double(), interpolation=interpolation, fill=7.0)
    torch.testing.assert_close(values[0], torch.tensor([7.0, 1, 1, 7, 7, 7, 7]))


def test_the_edge_is_repeated_when_there_is_no_fill():
    positions = torch.tensor([[-9.0, 2.0], [50.0, 2.0], [1.0, -3.0]], dtype=torch.float64)
    inner = torch.tensor([[0.0, 2.0], [3.0, 2.0], [1.0, 0.0]], dtype=torch.float64)
    image = noise(2, 4, 5)
    assert torch.equal(sample(image, positions, fill=None), sample(image, inner))
    with pytest.raises(ValueError, match="cannot"):
        sample(image, positions, interpolation="cubic", fill=None)


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "label"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 6)])
def test_voxel_centres_return_the_voxels(shape, interpolation):
    image = noise(1, *shape) if interpolation != "label" else noise(1, *shape).mul(9).to(torch.int32)
    assert torch.equal(sample(image, voxel_points(*shape), interpolation=interpolation), image)


def test_nearest_sends_halves_up():
    image = torch.arange(5.0)[None, None]
    positions = torch.tensor([[0, 0.5], [0, 1.5], [0, 2.49999], [0, -0.5]], dtype=torch.float64)
    assert sample(image, positions, interpolation="nearest")[0].tolist() == [1, 2, 2, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_integers_are_interpolated_and_rounded(dtype, interpolation):
    image = torch.tensor([[[0, 250, 0, 250, 3, 8]]], dtype=dtype)
    positions = scattered((1, 6))
    exact = sample(image.double(), positions, interpolation=interpolation)
    values = sample(image, positions, interpolation=interpolation)
    assert values.dtype == dtype
    limits = torch.iinfo(dtype)
    assert torch.equal(values, exact.round().clamp(limits.min, limits.max).to(dtype))


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "label"])
def test_the_type_of_the_image_is_kept(interpolation):
    positions = scattered((4, 5)).reshape(30, 10, 2)
    for dtype in (torch.float32, torch.float64):
        values = sample(noise(3, 4, 5, dtype=dtype), positions, interpolation=interpolation)
        assert values.dtype == dtype
        assert values.shape == (3, 30, 10)


def test_prefiltered_coefficients_give_the_same_spline():
    image, positions = noise(2, 5, 6, 7, dtype=torch.float64), scattered((5, 6, 7))
    direct = sample(image, positions, interpolation="cubic")
    assert torch.equal(
        sample(spline_coefficients(image), positions, interpolation="cubic", is_prefiltered=True), direct
    )


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "label"])
def test_no_positions_give_no_values(interpolation):
    assert sample(noise(2, 4, 5), torch.zeros(3, 0, 2), interpolation=interpolation).shape == (2, 3, 0)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_gradient_stays_behind(interpolation):
    image, positions = noise(1, 4, 5), scattered((4, 5))
    tracked = sample(image.clone().requires_grad_(), positions.clone().requires_grad_(), interpolation=interpolation)
    assert torch.equal(tracked, sample(image, positions, interpolation=interpolation))


def test_an_unknown_interpolation_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'nearest'"):
        sample(noise(1, 4, 5), scattered((4, 5)), interpolation="neerest")


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 7, 8), (6, 7)])
def test_labels_are_never_averaged(shape):
    labels = torch.tensor([0, 3, 200])[noise(1, *shape).abs().long().clamp(max=2)].to(torch.int16)
    values = sample(labels, scattered(shape, num=2000), interpolation="label", fill=0)
    assert set(values.unique().tolist()) <= {0, 3, 200}


def test_most_neighbours_win():
    labels = torch.full((1, 4, 4, 4), 5, dtype=torch.int32)
    labels[0, 1, 1, 1] = 9
    middle = torch.full((1, 3), 1.5, dtype=torch.float64)
    assert sample(labels, middle, interpolation="label").item() == 5
    labels[0, 1:3, 1:3, 1:3] = 9
    assert sample(labels, middle, interpolation="label").item() == 9


def test_a_plane_border_lies_between_the_voxels():
    labels = torch.zeros(1, 6, 5, 5, dtype=torch.int32)
    labels[0, 3:] = 4
    positions = torch.tensor([[2.45, 2.2, 1.7], [2.55, 2.2, 1.7]], dtype=torch.float64)
    assert sample(labels, positions, interpolation="label")[0].tolist() == [0, 4]


def test_a_tie_goes_to_the_smaller_label():
    for first, second in ((1, 2), (2, 1)):
        labels = torch.tensor([[[first, first, second, second]]], dtype=torch.int32)
        assert sample(labels, torch.tensor([[0.0, 1.5]]), interpolation="label").item() == 1


def test_a_lone_voxel_stays_when_nothing_moves():
    labels = torch.zeros(1, 5, 5, 5, dtype=torch.int32)
    labels[0, 2, 2, 2] = 7
    assert torch.equal(sample(labels, voxel_points(5, 5, 5), interpolation="label"), labels)


# --- warping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [None, 0.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_displacement_is_the_identity_to_the_last_bit(shape, fill):
    image = noise(2, 2, *shape) * 1000
    assert torch.equal(warp(image, torch.zeros(2, len(shape), *shape), fill=fill), image)


@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_shift_by_whole_voxels_picks_the_neighbour(num_dims):
    image = noise(1, 1, *(6, 7, 8)[:num_dims])
    displacement = torch.zeros(1, num_dims, *image.shape[2:])
    displacement[:, 1] = 2.0
    warped = warp(image, displacement, fill=-1.0)
    assert torch.equal(warped.narrow(3, 0, 5), image.narrow(3, 2, 5))
    assert (warped.narrow(3, 5, 2) == -1).all()
    assert torch.equal(
        warp(image, displacement).narrow(3, 5, 2), image.narrow(3, 6, 1).expand_as(warped.narrow(3, 5, 2))
    )


def test_the_matrix_acts_after_the_displacement():
    image = ramp(40, 40, 40)[None]
    matrix = np.eye(4)
    matrix[:3] = [[0.9, 0.1, -0.2, 9.0], [0.0, 1.1, 0.1, 8.0], [0.2, -0.1, 1.0, 7.0]]
    displacement = torch.rand(1, 3, 9, 10, 11)
    points = (voxel_points(9, 10, 11) + displacement[0].movedim(0, -1)).numpy() @ matrix[:3, :3].T + matrix[:3, 3]
    expected = torch.from_numpy(points @ [2.0, -3.0, 5.0] + 1)
    torch.testing.assert_close(warp(image, displacement, matrix)[0, 0].double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fill", [None, -2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_agrees_with_the_reference(shape, fill):
    image, displacement, matrix = noise(2, 3, *shape), outside(shape), some_matrix(len(shape))
    exact = warp(image.double(), displacement.double(), matrix, fill=fill)
    torch.testing.assert_close(warp(image, displacement, matrix, fill=fill).double(), exact, rtol=0, atol=5e-5)


def test_the_reference_agrees_with_the_list_of_positions():
    image, displacement = noise(1, 2, 7, 8, 9, dtype=torch.float64), outside((7, 8, 9))[:1].double()
    positions = voxel_points(7, 8, 9) + displacement[0].movedim(0, -1)
    for fill in (None, 3.0):
        torch.testing.assert_close(warp(image, displacement, fill=fill)[0], sample(image[0], positions, fill=fill))


@pytest.mark.parametrize("num_dims", [2, 3])
def test_output_may_have_another_shape(num_dims):
    image, displacement = noise(1, 2, *(6, 7, 8)[:num_dims]), noise(1, num_dims, *(3, 9, 4)[:num_dims], seed=1)
    warped = warp(image, displacement)
    assert warped.shape == (1, 2, *displacement.shape[2:])
    torch.testing.assert_close(warped.double(), warp(image.double(), displacement.double()), rtol=0, atol=2e-5)
    out = torch.empty_like(warped)
    assert warp(image, displacement, out=out) is out
    assert torch.equal(out, warped)


def test_a_batch_of_two_is_twice_a_batch_of_one():
    image, displacement = noise(2, 2, 5, 6, 7), outside((5, 6, 7))
    single = [warp(image[b : b + 1], displacement[b : b + 1]) for b in range(2)]
    assert torch.equal(warp(image, displacement), torch.cat(single))


def test_memory_layout_does_not_matter():
    image, displacement = noise(1, 7, 6, 5, 2).movedim(-1, 1), noise(1, 7, 6, 5, 3, seed=1).movedim(-1, 1)
    assert not image.is_contiguous()
    assert torch.equal(warp(image, displacement), warp(image.contiguous(), displacement.contiguous()))
    flipped = image.transpose(2, 4)[..., ::2, :]
    field = displacement.transpose(2, 4)[..., ::2, :]
    assert torch.equal(warp(flipped, field), warp(flipped.contiguous(), field.contiguous()))


def gradients_of_warp(image: Tensor, displacement: Tensor, matrix: np.ndarray, fill: float | None) -> list[Tensor]:
    leaves = [image.clone().requires_grad_(), displacement.clone().requires_grad_()]
    warped = warp(*leaves, matrix, fill=fill)
    upstream = noise(*warped.shape, seed=5, dtype=image.dtype)
    return list(torch.autograd.grad((warped * upstream).sum(), leaves))


@pytest.mark.parametrize("fill", [None, -2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_the_kernel_agree_with_autograd(shape, fill):
    image, displacement, matrix = noise(2, 3, *shape), outside(shape), some_matrix(len(shape))
    exact = gradients_of_warp(image.double(), displacement.double(), matrix, fill)
    for ours, theirs in zip(gradients_of_warp(image, displacement, matrix, fill), exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(3, 4, 3), (4, 3)])
def test_gradcheck_of_the_reference(shape):
    image = noise(1, 2, *shape, dtype=torch.float64).requires_grad_()
    displacement = (0.4 * noise(1, len(shape), *shape, seed=4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, d: warp(i, d, some_matrix(len(shape)), fill=0.5), (image, displacement))


def test_gradients_flow_to_one_input_alone():
    image, displacement = noise(1, 1, 4, 5, 6), 0.3 * noise(1, 3, 4, 5, 6, seed=1)
    for leaf in (image, displacement):
        leaf.requires_grad_()
        warp(image, displacement).sum().backward()
        assert leaf.grad is not None
        leaf.requires_grad_(False)
