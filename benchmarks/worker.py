"""The process that registers: reads jobs (see ``jobs.py``), runs each, and prints one line of numbers for each.

Libraries are imported by what needs them, so that a tool's peak memory holds no other tool. The peak is read when the
registration is over and before it is scored.
"""

import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs import MARK, Found, Job, measured


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
    found = register(job)
    numbers = {"seconds": found.measure.seconds, "peak_memory_mb": found.measure.peak_memory_mb, **found.notes}
    from scoring import score

    return numbers | score(job, found)


def register(job: Job) -> Found:
    """Let the job's tool register."""
    if job.tool == "pullback":
        return run_pullback(job)
    import peers
    import peers_more

    run_by = {
        "greedy": peers.run_greedy,
        "greedy-affine": peers.run_greedy_affine,
        "ants": peers.run_ants,
        "elastix": peers_more.run_elastix,
        "dipy": peers_more.run_dipy,
        "fireants": peers_more.run_fireants,
    }
    return run_by[job.tool.partition(":")[0]](job)


def run_pullback(job: Job) -> Found:
    """Our own registration."""
    import torch

    from pullback.data import Pair
    from pullback.io import read_image
    from pullback.registration import register as register_pair

    torch.set_num_threads(job.threads)
    pair = Pair(read_image(job.fixed), read_image(job.moving))
    plan = plan_of(job)
    with measured() as measure:
        result = register_pair(pair, plan)
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
    return Found(result.fixed_to_moving, measure, result.moving_to_fixed, result.linear, notes)


def plan_of(job: Job) -> Any:
    """The plan of a job: the default, without what the job leaves out."""
    from pullback.registration import Plan, build

    options: dict[str, Any] = {}
    if job.aligned:
        options |= {"methods": ("none",), "linear": None}
    if not job.deformable:
        options |= {"deformable": None}
    elif job.schedule:
        options |= {"deformable": deformable_of(job.schedule)}
    if job.similarity != "auto":
        options |= {"similarity": lambda fixed, moving: build(job.similarity, fixed, moving, "asked for")}
    return Plan(**options)


def deformable_of(schedule: dict[str, Any]) -> Any:
    """The default deformable stage with some things changed: ``levels``, ``window`` and ``tolerance``.

    Raises:
        ValueError: If something else is to be changed.
    """
    from pullback.registration import DeformablePlan, Level

    plan, stop = DeformablePlan(), {name: schedule[name] for name in ("window", "tolerance") if name in schedule}
    unknown = set(schedule) - {"levels", "window", "tolerance"}
    if unknown:
        raise ValueError(f"`schedule` has {sorted(unknown)}, but only levels, window and tolerance are known.")
    levels = [Level(*level) for level in schedule.get("levels", ())] or plan.levels
    return replace(plan, levels=tuple(levels), stop=replace(plan.stop, **stop))


if __name__ == "__main__":
    main()
