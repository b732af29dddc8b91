"""What a registration needs is given back after each stage."""

import sys
from pathlib import Path

import pytest
import torch

import phantoms
from pullback.registration import Plan, work
from pullback.registration.memory import give_back
from pullback.registration.volume import prepare

NUM_BLOCKS, BLOCK_MB = 40, 8


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_blocks_go_back():
    blocks = [torch.ones(BLOCK_MB * 2**18) for _ in range(NUM_BLOCKS)]
    last = torch.ones(2**18)  # on top of the heap, so that what is below stays
    full = resident_mb()
    del blocks
    give_back()
    assert full - resident_mb() > 0.8 * NUM_BLOCKS * BLOCK_MB
    assert bool(last.all())


def test_each_stage_gives_back(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(work, "give_back", lambda: calls.append("given"))
    head = prepare(phantoms.head())
    with work.Work(Plan(), head, head, lambda *told: None).stage("some"):
        assert not calls
    assert calls == ["given"]
