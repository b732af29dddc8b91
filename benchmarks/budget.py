"""Where the time of a full-resolution step goes, against what the memory allows; and how it grows with the volume.

Two tables. ``budget``: each operation of a step of the deformable stage on a brain pair, the bytes that it must move
(each input and output voxel once), what a copy of a field reaches in the same run, and the time. ``scaling``: a whole
step, and local correlation alone, from 64^3 to 320^3 voxels with one thread and with all. Both are also written into
``docs/performance.md``, between its markers.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from common import REPOSITORY, Column, Table, data_folder, parser_of
from pullback import functional
from pullback.data import Image
from pullback.functional.lifting import empty_like_shape
from pullback.io import read_image
from pullback.kernels.threads import use_threads
from pullback.registration.deformable import deform, domain_of
from pullback.registration.plan import DeformablePlan
from pullback.registration.schedule import Level, Plateau
from pullback.registration.volume import Volume, prepare
from pullback.similarity import LNCC
from pullback.space import Grid

PAIR = ("1000", "1001")
COARSE_LEVELS = (Level(8, 60), Level(4, 40), Level(2, 15))
SIZES = (64, 96, 128, 192, 256, 320)
NEVER = Plateau(tolerance=-np.inf)
BUDGET_COLUMNS = (
    Column("operation", "operation"),
    Column("volumes", "volumes to move", 0),
    Column("moved_mb", "MB", 0),
    Column("bound_ms", "bound ms", 2),
    Column("median_ms", "median ms", 2),
    Column("smallest_ms", "smallest ms", 2),
    Column("largest_ms", "largest ms", 2),
    Column("times_bound", "times the bound", 1),
)
SCALING_COLUMNS = (
    Column("size", "voxels a side", 0),
    Column("threads", "threads", 0),
    Column("step_ms", "one step, ms", 1),
    Column("step_ns", "ns a voxel", 2),
    Column("lncc_ms", "local correlation, ms", 1),
    Column("lncc_ns", "ns a voxel", 2),
)


@dataclass(frozen=True)
class State:
    """What a step at full resolution finds: both images and the displacement so far."""

    fixed: Tensor
    moving: Tensor
    displacement: Tensor
    pair: tuple[Volume, Volume]


def main() -> None:
    """Run both tables and write them."""
    options = _options()
    if "budget" in options.tables:
        use_threads(options.threads)
        write_into_page("budget", _budget(_state(), options))
    if "scaling" in options.tables:
        write_into_page("scaling", _scaling(options))


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--tables", nargs="*", choices=("budget", "scaling"), default=["budget", "scaling"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--steps", type=int, default=4, help="steps at full resolution of which the median is taken")
    return parser.parse_args()


def _state() -> State:
    folder = data_folder("brains", "affine-1mm")
    fixed, moving = (prepare(read_image(folder / f"{subject}_image.nii.gz")) for subject in PAIR)
    plan = DeformablePlan()
    coarse = deform(fixed, moving, np.eye(4), similarity=LNCC(), regularities=plan.regularities, levels=COARSE_LEVELS)
    domain = domain_of(fixed, moving, np.eye(4))
    to_coarse = domain.grid.voxel_to_voxel(coarse.grid).numpy()
    finer = functional.warp(coarse.displacement, torch.zeros(1, 3, *domain.grid.shape), to_coarse)
    scale = torch.from_numpy(1 / np.diag(to_coarse)[:3]).to(finer).reshape(1, 3, 1, 1, 1)
    voxel_map = moving.grid.world_to_voxel.numpy() @ domain.grid.voxel_to_world.numpy()
    onto = functional.warp(moving.tensor, torch.zeros(1, 3, *domain.grid.shape), voxel_map, fill=0.0)
    return State(domain.tensor.contiguous(), onto, finer * scale, (fixed, moving))


def _budget(state: State, options: argparse.Namespace) -> Table:
    shape = tuple(state.fixed.shape[2:])
    zeros = float((state.fixed == 0).to(torch.float32).mean())
    table = Table(
        "budget",
        f"One step at full resolution on {' x '.join(map(str, shape))} voxels",
        BUDGET_COLUMNS,
        folder=options.results,
        settings={"threads": options.threads, "repeats": options.repeats, "pair": " <- ".join(PAIR)},
        spread=False,
    )
    volume_mb = state.fixed.numel() * 4 / 1e6
    rate = None
    total_volumes, total_ms = 0, 0.0
    for name, volumes, call in _operations(state):
        times = _milliseconds(call, options.repeats)
        rate = rate or volumes * volume_mb / median(times)
        if name != "copy a field":
            total_volumes, total_ms = total_volumes + volumes, total_ms + median(times)
        table.add(_row(name, volumes, volumes * volume_mb, rate, times))
    table.add(_row("their sum", total_volumes, total_volumes * volume_mb, rate, [total_ms]))
    steps = _step_milliseconds(state.pair, options.steps)
    table.add(_row("a whole step as it runs", total_volumes, total_volumes * volume_mb, rate, steps))
    table.remark(f"A copy of a field moves {rate:.1f} GB/s. {100 * zeros:.0f} % of the fixed voxels are background.")
    return table


def _row(name: str, volumes: int, moved_mb: float, rate: float, times: list[float]) -> dict[str, object]:
    bound = moved_mb / rate
    return {
        "operation": name,
        "volumes": volumes,
        "moved_mb": moved_mb,
        "bound_ms": bound,
        "median_ms": median(times),
        "smallest_ms": min(times),
        "largest_ms": max(times),
        "times_bound": median(times) / bound,
    }


def _operations(state: State) -> list[tuple[str, int, Callable[[], object]]]:
    """Each operation of a step, in order: its name, the volumes that it must read or write, and a call."""
    shape = tuple(state.fixed.shape[2:])
    fixed, moving, field = state.fixed, state.moving, state.displacement
    warped, slope = empty_like_shape(1, 1, *shape), empty_like_shape(1, 1, *shape)
    force, room, update, spare = (empty_like_shape(1, 3, *shape) for _ in range(4))
    functional.warp(moving, field, fill=0.0, out=warped)
    guide, (gaussian, elasticity) = LNCC().as_guide(fixed), DeformablePlan().fine_regularities
    guide.value_and_gradient(fixed, warped, out=slope)
    raw = functional.multiply_by_gradient(slope, warped)
    width = gaussian.fluid_voxels
    smooth = functional.gaussian_smooth(raw, width)
    functional.relax(smooth, 0.0, elasticity.fluid_volume, out=update)
    update *= 1 / functional.largest_length(update)
    return [
        ("copy a field", 6, lambda: room.copy_(field)),
        ("warp", 5, lambda: functional.warp(moving, field, fill=0.0, out=warped)),
        ("local correlation and derivative", 3, lambda: guide.value_and_gradient(fixed, warped, out=slope)),
        ("times gradient", 5, lambda: functional.multiply_by_gradient(slope, warped, out=force)),
        (f"Gaussian, {width} voxels", 6, lambda: functional.gaussian_smooth(raw, width, out=force, scratch=room)),
        ("relax the update", 6, lambda: elasticity.smooth_update(smooth, room)),
        ("longest vector", 3, lambda: functional.largest_length(update)),
        ("compose", 9, lambda: functional.compose(field, update, out=spare)),
        ("relax the field", 6, lambda: elasticity.smooth_field(field, room)),
    ]


def _milliseconds(call: Callable[[], object], repeats: int) -> list[float]:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def _step_milliseconds(pair: tuple[Volume, Volume], steps: int) -> list[float]:
    """How long each of some steps at full resolution takes, from one report of progress to the next."""
    ends: list[float] = []
    deform(
        *pair,
        np.eye(4),
        similarity=LNCC(),
        regularities=DeformablePlan().fine_regularities,
        levels=(Level(1, steps + 2),),  # the first is the warm-up
        stop=NEVER,
        on_step=lambda factor, share, value: ends.append(time.perf_counter()),
    )
    return [1e3 * (b - a) for a, b in pairwise(ends[1:])]


def _scaling(options: argparse.Namespace) -> Table:
    counts = sorted({1, options.threads})
    table = Table(
        "scaling",
        "A step of the deformable stage, and local correlation, on cubes",
        SCALING_COLUMNS,
        folder=options.results,
        settings={"threads": counts, "steps": options.steps, "images": "smooth noise in a ball, 35 % of the cube"},
        expected=len(counts) * len(options.sizes),
        spread=False,
    )
    for size in options.sizes:
        pair = _balls(size)
        for threads in counts:
            use_threads(threads)
            step = median(_step_milliseconds(pair, options.steps))
            lncc = median(_milliseconds(lambda pair=pair: functional.local_correlation(*(v.tensor for v in pair)), 3))
            each = {"step_ns": 1e6 * step / size**3, "lncc_ns": 1e6 * lncc / size**3}
            table.add({"size": size, "threads": threads, "step_ms": step, "lncc_ms": lncc, **each})
    return table


def _balls(size: int) -> tuple[Volume, Volume]:
    """Two volumes of smooth noise in a ball: the same but for a shift of a voxel and a little noise."""
    generator = torch.Generator().manual_seed(size)
    noise = functional.gaussian_smooth(torch.rand(1, 1, size, size, size, generator=generator), 2.0)
    axis = torch.linspace(-1, 1, size)
    ball = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2 < 0.76)[None]
    grid = Grid((size, size, size), torch.eye(4, dtype=torch.float64))
    values = (noise - noise.min())[0] + 0.1
    shifted = 0.95 * values.roll(1, dims=1) + 0.05 * torch.rand(values.shape, generator=generator) * values.mean()
    return prepare(Image(values * ball, grid)), prepare(Image(shifted * ball, grid))


def write_into_page(name: str, table: Table) -> None:
    """Put the readable table between the markers of its name in ``docs/performance.md``."""
    page = REPOSITORY / "docs" / "performance.md"
    text = page.read_text(encoding="utf-8")
    start, stop = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, after = text.split(start)[0], text.split(stop)[1]
    lines = (Path(table.folder) / f"{name}.md").read_text(encoding="utf-8").splitlines()
    body = "\n".join(lines[2:]).strip()
    page.write_text(f"{before}{start}\n{body}\n{stop}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
