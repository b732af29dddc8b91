"""Our hot loops against PyTorch, SciPy and SimpleITK on one brain-sized volume, and against the memory's bandwidth.

Every operation is run until it is warm, then timed at least seven times. Bytes that must move count every input and
output voxel once; the share of the bandwidth sets their rate against that of a plain copy in the same run.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import SimpleITK
import torch
import torch.nn.functional as nnf
from scipy import ndimage
from torch import Tensor

from common import Column, Table, parser_of
from pullback import functional
from pullback.functional import reference
from pullback.functional.smooth import gaussian_taps
from this_process import use_threads

SHAPE = (160, 192, 160)
SIGMA_VOXELS = 1.7
RADIUS_VOXELS = 2
AMPLITUDE_VOXELS, SMOOTHNESS_VOXELS = 4.0, 10.0
"""Longest vector of the test displacement, and how smooth it is: it does not fold."""
TORCH_INVERSE_STEPS = 20
COLUMNS = (
    Column("operation", "operation"),
    Column("by", "by"),
    Column("median_ms", "median ms", 2),
    Column("smallest_ms", "smallest ms", 2),
    Column("largest_ms", "largest ms", 2),
    Column("times_ours", "times ours", 1),
    Column("moved_mb", "must move MB", 0),
    Column("rate_gb_s", "GB/s", 2),
    Column("share_percent", "of copying, %", 0),
    Column("difference", "largest difference from ours", 6),
    Column("note", "note"),
)


@dataclass(frozen=True)
class Contender:
    """One way to do an operation.

    Attributes:
        operation: What is done.
        by: Who does it.
        call: Does it.
        volumes: Volumes that must be read or written.
        as_array: Turns what `call` returned into an array like ours; None where they cannot be compared.
        note: What is different about it.
    """

    operation: str
    by: str
    call: Callable[[], Any]
    volumes: int
    as_array: Callable[[Any], np.ndarray] | None = None
    note: str = ""


@dataclass(frozen=True)
class Inputs:
    """What everything works on: two images and a displacement in voxels, also as SimpleITK has them."""

    fixed: Tensor
    moving: Tensor
    field: Tensor
    itk_fixed: SimpleITK.Image
    itk_moving: SimpleITK.Image
    itk_field: SimpleITK.Image

    @property
    def still(self) -> tuple[np.ndarray, ...]:
        """Positions of all voxels along each axis."""
        return np.meshgrid(*(np.arange(n, dtype=np.float32) for n in self.fixed.shape[2:]), indexing="ij")


def main() -> None:
    """Run the benchmark."""
    options = _options()
    use_threads(options.threads)
    table = Table(
        "kernels",
        f"Hot loops on {' x '.join(map(str, options.shape))} voxels, float32",
        COLUMNS,
        folder=options.results,
        settings={"threads": f"{options.threads} (SciPy uses one)", "repeats": options.repeats, "after": "a warm-up"},
        spread=False,
    )
    inputs = _inputs(tuple(options.shape))
    bandwidth = _copy(table, inputs, options.repeats)
    for make in (_warp, _compose, _smooth, _correlation, _jacobian, _invert):
        with torch.inference_mode(make is not _correlation):
            _contest(table, list(make(inputs)), bandwidth, options.repeats)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


def _inputs(shape: tuple[int, ...]) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    images = [functional.gaussian_smooth(torch.randn(1, 1, *shape, generator=generator), 1.0) for _ in range(2)]
    field = functional.gaussian_smooth(torch.randn(1, 3, *shape, generator=generator), SMOOTHNESS_VOXELS)
    field *= AMPLITUDE_VOXELS / functional.largest_length(field)
    vectors = np.ascontiguousarray(field[0].numpy().T)
    itk = [SimpleITK.GetImageFromArray(np.ascontiguousarray(image[0, 0].numpy().T)) for image in images]
    return Inputs(
        images[0],
        images[1],
        field,
        itk[0],
        itk[1],
        SimpleITK.GetImageFromArray(vectors.astype(np.float64), isVector=True),
    )


def _copy(table: Table, inputs: Inputs, repeats: int) -> float:
    """The bandwidth of a plain copy of the field, GB/s."""
    target = torch.empty_like(inputs.field)
    times = _times(lambda: target.copy_(inputs.field), repeats)
    moved = 2 * inputs.field.numel() * 4
    rate = moved / median(times) / 1e9
    row = {"operation": "copy a field", "by": "PyTorch", "moved_mb": moved / 1e6, "rate_gb_s": rate}
    table.add({**row, **_milliseconds(times), "share_percent": 100.0})
    return rate


def _contest(table: Table, contenders: Sequence[Contender], bandwidth: float, repeats: int) -> None:
    ours, own_time = None, None
    for contender in contenders:
        times = _times(contender.call, repeats)
        row: dict[str, Any] = {"operation": contender.operation, "by": contender.by, **_milliseconds(times)}
        if contender.as_array is not None:
            result = contender.as_array(contender.call())
            row["difference"] = None if ours is None else float(np.abs(result - ours).max())
            ours = result if ours is None else ours
        own_time = own_time or median(times)
        moved = contender.volumes * table_volume_bytes(table)
        rate = moved / median(times) / 1e9
        row |= {"times_ours": median(times) / own_time, "moved_mb": moved / 1e6, "rate_gb_s": rate}
        table.add({**row, "share_percent": 100 * rate / bandwidth, "note": contender.note})


def table_volume_bytes(table: Table) -> int:
    """Bytes of one volume: a sixth of what the copy of the field moved."""
    return round(table.rows[0]["moved_mb"] * 1e6 / 6)


def _times(call: Callable[[], Any], repeats: int) -> list[float]:
    call()
    times = []
    for _ in range(max(repeats, 1)):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _milliseconds(times: Sequence[float]) -> dict[str, float]:
    values = {"median_ms": median(times), "smallest_ms": min(times), "largest_ms": max(times)}
    return {key: 1e3 * value for key, value in values.items()}


def _first(values: Tensor) -> np.ndarray:
    return values[0].detach().numpy()


def _from_itk(image: SimpleITK.Image) -> np.ndarray:
    """Voxels, or components and voxels, in our order."""
    return SimpleITK.GetArrayFromImage(image).T


def _normalised(inputs: Inputs) -> Tensor:
    """The positions as ``grid_sample`` wants them."""
    sizes = torch.tensor(inputs.fixed.shape[2:]).reshape(1, 3, 1, 1, 1)
    positions = reference.positions_of(inputs.field, np.eye(4)[:3])
    return ((2 * positions + 1) / sizes - 1).movedim(1, -1).flip(-1).contiguous()


def _grid_sample(image: Tensor, positions: Tensor) -> Tensor:
    return nnf.grid_sample(image, positions, mode="bilinear", padding_mode="border", align_corners=False)


def _warp(inputs: Inputs) -> Iterator[Contender]:
    name, moving, out = "warp an image", inputs.moving, torch.empty_like(inputs.fixed)
    yield Contender(name, "pullback", lambda: functional.warp(moving, inputs.field, out=out), 5, _first)
    positions = _normalised(inputs)
    ready = "positions normalised before"
    yield Contender(name, "PyTorch grid_sample", lambda: _grid_sample(moving, positions), 5, _first, ready)
    where = np.stack(inputs.still) + inputs.field[0].numpy()
    values = moving[0, 0].numpy()
    yield Contender(
        name,
        "SciPy map_coordinates",
        lambda: ndimage.map_coordinates(values, where, order=1, mode="nearest"),
        5,
        lambda result: result[None],
        "positions added before",
    )
    transform = SimpleITK.DisplacementFieldTransform(SimpleITK.Image(inputs.itk_field))
    yield Contender(
        name,
        "SimpleITK Resample",
        lambda: SimpleITK.Resample(inputs.itk_moving, inputs.itk_fixed, transform, SimpleITK.sitkLinear, 0.0),
        5,
        note="0 outside, so not compared",
    )


def _compose(inputs: Inputs) -> Iterator[Contender]:
    name, field, out = "compose two fields", inputs.field, torch.empty_like(inputs.field)
    yield Contender(name, "pullback", lambda: functional.compose(field, field, out=out), 9, _first)
    positions = _normalised(inputs)
    ready = "positions normalised before"
    yield Contender(name, "PyTorch grid_sample", lambda: field + _grid_sample(field, positions), 9, _first, ready)
    where = np.stack(inputs.still) + field[0].numpy()

    def by_scipy() -> np.ndarray:
        parts = [ndimage.map_coordinates(u, where, order=1, mode="nearest") for u in field[0].numpy()]
        return field[0].numpy() + np.stack(parts)

    yield Contender(name, "SciPy map_coordinates", by_scipy, 9, lambda result: result, "positions added before")


def _smooth(inputs: Inputs) -> Iterator[Contender]:
    name = f"smooth a field, sigma {SIGMA_VOXELS}"
    field, out, scratch = inputs.field, torch.empty_like(inputs.field), torch.empty_like(inputs.field)
    yield Contender(
        name, "pullback", lambda: functional.gaussian_smooth(field, SIGMA_VOXELS, out=out, scratch=scratch), 6, _first
    )
    half = gaussian_taps(SIGMA_VOXELS)
    taps = torch.from_numpy(np.concatenate([half[:0:-1], half]))

    def by_torch() -> Tensor:
        result = field
        for axis in range(3):
            result = reference.convolve(result, taps, axis)
        return result

    yield Contender(name, "PyTorch conv3d", by_torch, 6, _first, "separable")
    values = field[0].numpy()

    def by_scipy() -> np.ndarray:
        return np.stack(
            [ndimage.gaussian_filter(u, SIGMA_VOXELS, mode="nearest", radius=len(half) - 1) for u in values]
        )

    yield Contender(name, "SciPy gaussian_filter", by_scipy, 6, lambda result: result)
    image = SimpleITK.Cast(inputs.itk_field, SimpleITK.sitkVectorFloat32)
    yield Contender(
        name,
        "SimpleITK SmoothingRecursiveGaussian",
        lambda: SimpleITK.SmoothingRecursiveGaussian(image, [SIGMA_VOXELS] * 3),
        6,
        _from_itk,
        "recursive: another filter",
    )


def _correlation(inputs: Inputs) -> Iterator[Contender]:
    name, out = f"local correlation and its derivative, radius {RADIUS_VOXELS}", torch.empty_like(inputs.fixed)
    fixed, moving = inputs.fixed, inputs.moving
    radii = (RADIUS_VOXELS, RADIUS_VOXELS, RADIUS_VOXELS)
    yield Contender(
        name,
        "pullback",
        lambda: functional.local_correlation(fixed, moving, radius_voxels=RADIUS_VOXELS, out=out),
        3,
        lambda result: result[1][0].numpy() * fixed.numel(),
    )

    def by_torch() -> Tensor:
        leaf = moving.clone().requires_grad_()
        reference.local_correlation(fixed, leaf, None, radii, 1e-3, True).sum().backward()
        return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad

    yield Contender(name, "PyTorch avg_pool3d, autograd", by_torch, 3, _first)
    f, m = fixed[0, 0].numpy(), moving[0, 0].numpy()

    def by_scipy() -> list[np.ndarray]:
        return [ndimage.uniform_filter(v, 2 * RADIUS_VOXELS + 1) for v in (f, m, f * f, m * m, f * m)]

    yield Contender(name, "SciPy uniform_filter", by_scipy, 3, note="five windowed means only, no derivative")
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsANTSNeighborhoodCorrelation(RADIUS_VOXELS)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetInitialTransform(SimpleITK.TranslationTransform(3))
    yield Contender(
        name,
        "SimpleITK ANTSNeighborhoodCorrelation",
        lambda: method.MetricEvaluate(inputs.itk_fixed, inputs.itk_moving),
        3,
        note="value only, through a translation",
    )


def _jacobian(inputs: Inputs) -> Iterator[Contender]:
    name, field = "Jacobian determinant", inputs.field
    yield Contender(name, "pullback", lambda: functional.jacobian_determinant(field), 4, _first)
    yield Contender(name, "PyTorch", lambda: reference.jacobian_determinant(field), 4, _first, "central differences")
    values = field[0].numpy()

    def by_numpy() -> np.ndarray:
        slopes = np.stack([np.stack(np.gradient(u)) for u in values])
        return np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3, dtype=np.float32))

    yield Contender(name, "NumPy gradient, det", by_numpy, 4, lambda result: result)
    image = SimpleITK.Cast(inputs.itk_field, SimpleITK.sitkVectorFloat32)
    yield Contender(
        name,
        "SimpleITK DisplacementFieldJacobianDeterminant",
        lambda: SimpleITK.DisplacementFieldJacobianDeterminant(image),
        4,
        note="other edges, so not compared",
    )


def _invert(inputs: Inputs) -> Iterator[Contender]:
    name, field = "invert a field", inputs.field
    yield Contender(name, "pullback", lambda: functional.invert(field)[0], 6, _first, "Newton, to 1e-3 voxel")

    def by_torch() -> Tensor:
        inverse = -field
        for _ in range(TORCH_INVERSE_STEPS):
            inverse = -reference.warp(field, inverse, np.eye(4)[:3], None)
        return inverse

    yield Contender(name, "PyTorch grid_sample", by_torch, 6, _first, f"{TORCH_INVERSE_STEPS} fixed-point steps")
    yield Contender(
        name,
        "SimpleITK InvertDisplacementField",
        lambda: SimpleITK.InvertDisplacementField(inputs.itk_field, maximumNumberOfIterations=TORCH_INVERSE_STEPS),
        6,
        _from_itk,
        f"{TORCH_INVERSE_STEPS} steps, 0 at the edges",
    )


if __name__ == "__main__":
    main()
