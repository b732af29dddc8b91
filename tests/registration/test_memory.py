"""What a registration needs is given back after each stage."""

from pathlib import Path

import pytest
import torch

import phantoms
from pullback.registration import Plan, memory, work
from pullback.registration.volume import prepare

NUM_BLOCKS, BLOCK_MB = 40, 8


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.skipif(memory._TRIM is None, reason="the C library is not glibc")
def test_freed_blocks_go_back():
    torch.ones(2 * BLOCK_MB * 2**18)  # once a larger block was freed, glibc keeps smaller ones
    pairs = [(torch.ones(BLOCK_MB * 2**18), torch.ones(2**12)) for _ in range(NUM_BLOCKS)]
    between = [small for _, small in pairs]  # they hold the heap up, so that the blocks leave holes
    full = resident_mb()
    del pairs
    memory.give_back()
    assert full - resident_mb() > 0.8 * NUM_BLOCKS * BLOCK_MB
    assert all(bool(small.all()) for small in between)


def test_each_stage_gives_back(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(work, "give_back", lambda: calls.append("given"))
    head = prepare(phantoms.head())
    with work.Work(Plan(), head, head, lambda *told: None).stage("some"):
        assert not calls
    assert calls == ["given"]
