"""Small pairs for the tests of reports."""

import numpy as np
import pytest
import torch

from pullback.data import Image, LabelMap, Points
from pullback.reports import RegistrationView
from pullback.space import Grid

SHAPE_3D = (24, 30, 20)
SHAPE_2D = (40, 28)
SUMMARY = {
    "pullback": "0.1.0",
    "command": "pullback register a.nii b.nii",
    "model": "deformable",
    "seed": 0,
    "threads": 2,
    "device": "cpu",
    "fixed": {
        "path": "/data/a.nii",
        "shape": [24, 30, 20],
        "spacing_mm": [1.0, 1.0, 2.0],
        "orientation": "RAS",
        "notes": ["A note on the fixed image."],
    },
    "moving": {"path": "/data/b.nii", "notes": []},
    "timings_seconds": {"read": 0.2, "affine": 3.0, "total": 3.4},
    "peak_memory_mb": 1234.5,
    "initialisation": {"chosen": "moments", "score": 0.4, "candidates": [{"name": "moments", "score": 0.4}]},
    "similarity": {"name": "lncc", "why": "Same contrast.", "before": 0.2, "after": 0.7},
    "jacobian": {"minimum": 0.3, "maximum": 2.0, "percent_nonpositive": 0.0, "sd_log": 0.2},
    "inverse_consistency": {"mean_mm": 0.01, "max_mm": 0.2, "mean_voxels": 0.01, "max_voxels": 0.2},
    "labels": {"mean_dice_before": 0.3, "mean_dice_after": 0.8, "per_label": {"4": {"before": 0.3, "after": 0.8}}},
    "points": {"mean_mm_before": 5.0, "mean_mm_after": 1.0, "median_mm_after": 0.9, "max_mm_after": 2.0},
    "history": [
        {"stage": "deformable", "level": 1, "factor": 2, "steps": 3, "values": [0.1, 0.2, 0.3], "reason": "converged"},
        {"stage": "deformable", "level": 2, "factor": 1, "steps": 1, "values": [0.4], "reason": "step limit"},
    ],
    "settings": {"regularity": {"weight": 1.0}, "levels": [4, 2, 1]},
    "verdict": {"value": "good", "reasons": []},
}


@pytest.fixture
def summary():
    """A complete summary."""
    return dict(SUMMARY)


@pytest.fixture
def make_grid():
    """Grids about the world's origin, of any orientation."""

    def make(shape, spacing=1.0, direction=None):
        grid = Grid.from_spacing(shape, spacing, direction=direction)
        return Grid.from_spacing(shape, spacing, direction=direction, origin=-grid.centre)

    return make


@pytest.fixture
def make_view(make_grid):
    """Views of smooth random images with everything a report may show."""

    def make(shape=SHAPE_3D, *, spacing=1.0, summary=None, header=None, extras=True):
        generator = torch.Generator().manual_seed(0)
        grid = make_grid(shape, spacing)
        header = header or {"name": "scan"}
        tensor = _blob(grid)
        noise = torch.rand(tensor.shape, generator=generator)
        moving = Image(tensor * (0.8 + 0.2 * noise), grid, header)
        displacement = torch.stack([torch.sin(grid.centres()[..., axis] / 5) for axis in range(len(shape))])
        jacobian = torch.ones(shape)
        jacobian[tuple(n // 2 for n in shape)] = -0.5
        labels = LabelMap((tensor > 0.5).int(), grid)
        points = Points(np.outer([1.0, 3.0], np.ones(len(shape))), names=["one", "two"])
        more = {}
        if extras:
            more = {f"{side}_labels": labels for side in ("fixed", "before", "warped")}
            more |= {f"{side}_points": points for side in ("fixed", "before", "warped")}
        fixed = Image(tensor, grid, header)
        return RegistrationView(
            fixed,
            moving,
            moving,
            moving,
            displacement.float(),
            jacobian,
            SUMMARY if summary is None else summary,
            **more,
        )

    return make


def _blob(grid):
    """An ellipsoid on a dark ground, in world coordinates."""
    half = torch.tensor(grid.shape, dtype=torch.float64) * grid.spacing_mm / 3
    radius = (grid.centres() / half).square().sum(dim=-1)
    return torch.clamp(1.5 - radius, 0.0, 1.0).float()[None]
