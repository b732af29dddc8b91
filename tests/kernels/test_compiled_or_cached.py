"""What is compiled computes the same, to the last bit, as what a later run loads from the cache."""

import os
import subprocess
import sys
from pathlib import Path

CORRELATE = """
import hashlib, torch
from pullback.functional import local_correlation
fixed, noise, weights = torch.rand(3, 1, 1, 34, 40, 36, generator=torch.Generator().manual_seed(0))
for options in ({"contrast": 0.2, "noise_is_shared": True}, {"squared": False}, {"radius_voxels": 1}):
    for each in (None, weights):
        value, slope = local_correlation(fixed, fixed + noise, each, **options)
        print(value.item().hex(), hashlib.sha256(slope.numpy().tobytes()).hexdigest())
"""


def test_local_correlation_is_the_same_in_a_first_run(tmp_path: Path):
    settings = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}
    runs = [
        subprocess.run([sys.executable, "-c", CORRELATE], env=settings, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*correlation*.nbi"))
    assert runs[0].stdout == runs[1].stdout
