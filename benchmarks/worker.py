"""The process that registers: reads jobs (see ``jobs.py``), runs each, and prints one line of numbers for each.

Peak memory is read when the registration is over and before it is scored, so that scoring does not count.
"""

import json
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scoring
from jobs import MARK, Job

from pullback.transforms import AbstractTransform


@dataclass(frozen=True)
class Found:
    """What a tool found.

    Attributes:
        transform: Fixed to moving.
        seconds: Of the call, with images in memory before and transforms in memory after.
        inverse: Moving to fixed, if the tool has one.
        linear: The linear part, if it is not all.
        notes: Further numbers for the table.
    """

    transform: AbstractTransform
    seconds: float
    inverse: AbstractTransform | None = None
    linear: AbstractTransform | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    """Run the jobs of the file named on the command line."""
    for entry in json.loads(Path(sys.argv[1]).read_text()):
        job = Job(**entry)
        try:
            answer = run(job)
        except Exception as error:  # a benchmark goes on, and its table says what went wrong
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(MARK + json.dumps({"name": job.name, "tool": job.tool, **answer}), flush=True)


def run(job: Job) -> dict[str, Any]:
    """Register, then score."""
    found = _tool_of(job)(job)
    peak = peak_memory_mb()
    numbers = {"seconds": found.seconds, "peak_memory_mb": peak, **found.notes}
    return numbers | scoring.score(job, found.transform, found.inverse, found.linear)


def _tool_of(job: Job):  # noqa: ANN202
    import peers

    if job.tool == "pullback":
        return run_pullback
    return {"greedy": peers.run_greedy, "greedy-affine": peers.run_greedy_affine}.get(job.tool, peers.run_ants)


def peak_memory_mb() -> float:
    """The most memory this process has had resident, in MB (2**20 bytes)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 1024)


def run_pullback(job: Job) -> Found:
    """Our own registration."""
    import torch

    from pullback.data import Pair
    from pullback.io import read_image
    from pullback.registration import register

    torch.set_num_threads(job.threads)
    pair = Pair(read_image(job.fixed), read_image(job.moving))
    plan = plan_of(job)
    start = time.perf_counter()
    result = register(pair, plan)
    seconds = time.perf_counter() - start
    evidence, chosen = result.evidence, result.initialisation
    notes = {
        "stages": dict(result.seconds),
        "deformable_seconds": result.seconds.get("deformable"),
        "similarity": result.similarity.name,
        "initialisation": None if chosen is None else chosen.chosen.name,
        "inverse_mean_voxels": evidence.consistency.mean_voxels,
        "inverse_max_voxels": evidence.consistency.max_voxels,
        "verdict": result.verdict.value,
        "reasons": "; ".join(result.verdict.reasons) if result.verdict.value != "good" else "",
    }
    return Found(result.fixed_to_moving, seconds, result.moving_to_fixed, result.linear, notes)


def plan_of(job: Job):  # noqa: ANN201
    """The plan of a job: the default, without what the job leaves out."""
    from pullback.registration import Plan, build

    options: dict[str, Any] = {}
    if job.aligned:
        options |= {"methods": ("none",), "linear": None}
    if not job.deformable:
        options |= {"deformable": None}
    if job.similarity != "auto":
        options |= {"similarity": lambda fixed, moving: build(job.similarity, fixed, moving, "asked for")}
    return Plan(**options)


if __name__ == "__main__":
    main()
