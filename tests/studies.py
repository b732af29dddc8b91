"""Small studies on disk whose numbers are known: boxes that moved by whole voxels."""

import csv
import json
from pathlib import Path

import numpy as np
import torch

import pullback as pb
from pullback.data import Image, LabelMap, Points
from pullback.io import write_voxel_displacement
from pullback.space import Grid
from pullback.transforms import Translation

SHAPE, SPACING = (16, 14, 12), (1.0, 1.5, 2.0)
GRID = Grid.from_spacing(SHAPE, SPACING, origin=(-5.0, 3.0, 7.0))
SHIFT = 3
"""Voxels along the first axis by which the moving boxes lie further."""


def labels(shift: int = 0) -> LabelMap:
    """Label 1 is 5 voxels long along the first axis, label 2 4 voxels."""
    tensor = torch.zeros(1, *SHAPE, dtype=torch.int32)
    tensor[0, 2 + shift : 7 + shift, 3:8, 3:8] = 1
    tensor[0, 4 + shift : 8 + shift, 9:12, 4:9] = 2
    return LabelMap(tensor, GRID)


def image(shift: int = 0, seed: int = 0) -> Image:
    """The labels with noise inside."""
    texture = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
    return Image((labels().tensor * (50 + 20 * texture)).roll(shift, dims=1), GRID)


def shift_by(voxels: float) -> Translation:
    """The map that finds what lies `voxels` further along the first axis."""
    return Translation.by([voxels * SPACING[0], 0.0, 0.0])


def write_study(folder: Path, errors: dict[str, list[float]], seconds: float = 1.0) -> dict[str, Path]:
    """A table of pairs per method; pair n of a method is wrong by ``errors[method][n]`` voxels.

    Returns:
        Method to table.
    """
    pb.write_image(folder / "fixed.nii.gz", image())
    pb.write_image(folder / "moving.nii.gz", image(SHIFT))
    pb.write_image(folder / "fixed_labels.nii.gz", labels())
    pb.write_image(folder / "moving_labels.nii.gz", labels(SHIFT))
    points = GRID.to_world([[3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [2.0, 9.0, 4.0]])
    pb.write_points(folder / "fixed.csv", Points(points))
    pb.write_points(folder / "moving.csv", Points(shift_by(SHIFT)(points)))
    tables = {}
    for method, wrong_by in errors.items():
        tables[method] = folder / f"{method}.tsv"
        with tables[method].open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            names = ["fixed", "moving", "fixed_labels", "moving_labels", "fixed_points", "moving_points"]
            writer.writerow(["pair", *names, "transform", "reference", "seconds"])
            for number, error in enumerate(wrong_by):
                for name, transform in ((f"{method}{number}", shift_by(SHIFT + error)), ("true", shift_by(SHIFT))):
                    pb.write_transform(folder / f"{name}.tfm", transform)
                files = [f"{name.replace('_points', '')}.{'csv' if 'points' in name else 'nii.gz'}" for name in names]
                writer.writerow([f"p{number}", *files, f"{method}{number}.tfm", "true.tfm", seconds + 0.1 * number])
    return tables


def write_dataset(folder: Path, num_pairs: int = 2, *, modality: str = "0000") -> Path:
    """A Learn2Reg data set of the same boxes, subject 1 fixed, with keypoints in voxels and masks."""
    for kind in ("imagesTr", "labelsTr", "masksTr", "keypointsTr"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    pairs = []
    for subject in range(1, num_pairs + 2):
        shift = 0 if subject == 1 else SHIFT
        name = f"Boxes_{subject:04d}_{'0000' if subject == 1 else modality}"
        pb.write_image(folder / "imagesTr" / f"{name}.nii.gz", image(shift, seed=subject))
        pb.write_image(folder / "labelsTr" / f"{name}.nii.gz", labels(shift))
        pb.write_image(folder / "masksTr" / f"{name}.nii.gz", LabelMap((labels().tensor > 0).int(), GRID))
        points = np.array([[3.0, 4, 5], [6, 7, 8]]) + np.array([shift, 0, 0])
        np.savetxt(folder / "keypointsTr" / f"{name}.csv", points, delimiter=",", fmt="%.3f")
        if subject > 1:
            pairs.append({"fixed": "./imagesTr/Boxes_0001_0000.nii.gz", "moving": f"./imagesTr/{name}.nii.gz"})
    path = folder / "Boxes_dataset.json"
    names = {"0": {"0": "nothing", "1": "long", "2": "short"}}
    path.write_text(json.dumps({"name": "Boxes", "registration_val": pairs, "labels": names}))
    return path


def write_displacements(folder: Path, names: list[str], voxels: float) -> None:
    """Constant displacements along the first axis."""
    folder.mkdir(exist_ok=True)
    displacement = torch.zeros(3, *SHAPE)
    displacement[0] = voxels
    for name in names:
        write_voxel_displacement(folder / f"{name}.nii.gz", displacement)


def damage(path: Path) -> None:
    """Cut a file short."""
    path.write_bytes(path.read_bytes()[:200])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
