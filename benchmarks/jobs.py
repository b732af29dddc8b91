"""Registrations in processes of their own, so that time and peak memory are one registration's alone.

A job says what to register and with which tool; ``worker.py`` does it and answers with numbers. Numba caches what it
compiles on disk, so one unmeasured job (`warm_up`) makes every later process start warm; loading from that cache is
part of what is measured.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common import HERE

MARK = "@@result "
"""Starts the lines of a worker's output that are answers."""
THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Job:
    """One registration.

    Attributes:
        name: For the table.
        fixed, moving: Image files.
        fixed_labels, moving_labels: Label files, scored afterwards.
        label_volume: Of a 4-D label file, the volume that counts.
        fixed_points, moving_points: Landmarks in pixels, scored afterwards.
        region: File whose voxels above 0 are the region of Jacobian and probe; default: the fixed image above 0.
        tool: ``pullback``, ``greedy``, ``greedy:OPTIONS``, ``greedy-affine``, ``ants:TYPE``, ``elastix``, ``dipy``,
            ``dipy:SETTINGS``, ``fireants`` or ``fireants:SETTINGS``.
        aligned: The images are aligned: no initialisation and no linear stage.
        deformable: Whether the deformable stage runs.
        similarity: ``auto`` or the name of one.
        schedule: What our deformable stage does otherwise than by default: ``levels`` (factor and steps of each),
            ``window``, ``tolerance``.
        threads: Of the tool.
        mapped: File to write ``fixed_to_moving`` of every voxel of `region` into (.npy).
        digest: Whether the answer holds hashes of the transforms.
        inverse: Whether greedy computes its inverse, after the clock has stopped.
    """

    name: str
    fixed: str
    moving: str
    fixed_labels: str | None = None
    moving_labels: str | None = None
    label_volume: int | None = None
    fixed_points: str | None = None
    moving_points: str | None = None
    region: str | None = None
    tool: str = "pullback"
    aligned: bool = False
    deformable: bool = True
    similarity: str = "auto"
    schedule: dict[str, Any] | None = None
    threads: int = 2
    mapped: str | None = None
    digest: bool = False
    inverse: bool = False


@dataclass
class Measure:
    """What a call took: seconds, and the most memory that its process has had resident by its end, in MB (2**20)."""

    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Measure]:
    """Measure what happens inside."""
    found, start = Measure(), time.perf_counter()
    yield found
    found.seconds = time.perf_counter() - start
    found.peak_memory_mb = peak_memory_mb()


def peak_memory_mb() -> float:
    """The most memory this process has had resident, in MB (2**20 bytes).

    Linux's own VmHWM, because the ``ru_maxrss`` of a young process still holds what its parent had.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True)
class Found:
    """What a tool found.

    Attributes:
        transform: Fixed to moving.
        measure: Of the call, with images in memory before and transforms in memory after.
        inverse: Moving to fixed, if the tool has one.
        linear: The linear part, if it is not all.
        notes: Further numbers for the table.
    """

    transform: Any
    measure: Measure
    inverse: Any = None
    linear: Any = None
    notes: dict[str, Any] = field(default_factory=dict)


def labelled(name: str, fixed: dict[str, Path], moving: dict[str, Path], **options: Any) -> Job:
    """A job between two of ``common.image_and_labels``."""
    files = {"fixed": fixed["image"], "moving": moving["image"]}
    files |= {"fixed_labels": fixed["labels"], "moving_labels": moving["labels"]}
    return Job(name, **{key: str(path) for key, path in files.items()}, **options)


def run_fresh(job: Job) -> dict[str, Any]:
    """Run one job in a fresh process; its answer, with the wall clock of the whole process."""
    start = time.perf_counter()
    [answer] = run_batch([job])
    return {**answer, "process_seconds": time.perf_counter() - start}


def run_batch(jobs: Sequence[Job], *, warm: bool = False) -> Iterator[dict[str, Any]]:
    """Run jobs one after another in one fresh process, for many small registrations; answers as they come.

    Args:
        jobs: All with the same number of threads.
        warm: Run the first job once before, unmeasured.
    """
    todo = [jobs[0], *jobs] if warm else list(jobs)
    with TemporaryDirectory(prefix="pullback-benchmark-") as folder:
        path = Path(folder) / "jobs.json"
        path.write_text(json.dumps([asdict(job) for job in todo]))
        environment = os.environ | {name: str(jobs[0].threads) for name in THREAD_VARIABLES}
        command = [sys.executable, str(HERE / "worker.py"), str(path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            yield from _answers(process, todo, skip=len(todo) - len(jobs))


def _answers(process: subprocess.Popen, jobs: Sequence[Job], skip: int) -> Iterator[dict[str, Any]]:
    """The answers of a worker; jobs that it did not live to answer have an error."""
    number = 0
    for line in process.stdout or ():
        if line.startswith(MARK):
            number += 1
            if number > skip:
                yield json.loads(line.removeprefix(MARK))
    process.wait()
    for job in jobs[max(number, skip) :]:
        yield {"name": job.name, "error": f"the process ended with {process.returncode}"}


def warm_up(job: Job) -> None:
    """Run a job unmeasured, so that what Numba compiles is on disk."""
    print(f"warm-up, not measured: {job.name}")
    answer = run_fresh(replace(job, mapped=None))
    if "error" in answer:
        raise SystemExit(f"The warm-up failed: {answer['error']}")
