"""The figures of source 002: bars of each experiment (Figs. 15, 16), overlays of its best and worst image (Fig. 17)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from learned_affine_data import scan, template
from learned_affine_scores import Bench, answers_of, scores_of
from learned_affine_training import weights_path
from pullback.reports.figures import overlay, save_figure
from pullback.training.weights import load_network
from pullback.transforms import Affine, warp

TITLES = {"mse": "MSE", "ncc": "NCC", "dice": "tissue Dice", "affine_error_mm": "mm from the conventional map"}


def draw_bars(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One panel per measure, one bar per experiment: the mean over folds, and their standard deviation."""
    names = list(dict.fromkeys(row["experiment"] for row in rows))
    figure, panels = plt.subplots(1, len(TITLES), figsize=(14, 3.4), constrained_layout=True)
    for axes, (measure, title) in zip(panels, TITLES.items(), strict=True):
        values = [[row[measure] for row in rows if row["experiment"] == name] for name in names]
        axes.bar(names, [np.mean(v) for v in values], yerr=[np.std(v) for v in values], capsize=3, color="#4878a8")
        axes.set_title(title, fontsize=10)
        axes.tick_params(axis="x", labelrotation=90, labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_overlays(folder: Path, bench: Bench, experiment: str) -> None:
    """Best and worst test image of a training, brought to the template at 2 mm."""
    path = weights_path(folder, experiment, 0)
    if not path.exists():
        return
    matrices = answers_of(load_network(path)[0], bench.data, bench.index)
    errors = scores_of(bench, matrices)["affine_error_mm"]
    world = bench.data.world_matrices(matrices, bench.index)
    for word, n in (("success", int(np.argmin(errors))), ("failure", int(np.argmax(errors)))):
        number = int(bench.index[n])
        there = Affine(bench.data.carried[number] @ world[n])
        registered = warp(scan(bench.data.scans[number]), there, onto=template().grid)
        registered = registered.with_tensor(registered.tensor / torch.quantile(registered.tensor[::4, ::4, ::4], 0.999))
        save_figure(folder / f"airnet-{experiment}-{word}.png", overlay(template(), registered))
        print(f"{word}: {bench.data.scans[number]}, {errors[n]:.1f} mm off")
