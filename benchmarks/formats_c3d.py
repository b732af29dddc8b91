"""Checks of ``formats.py``: Convert3D resamples with our matrices, ITK's and greedy's.

It has no command for points, so it resamples one image of each world coordinate: linear interpolation is exact for a
matrix, up to float32, and the values are the mapped points.
"""

import io
from functools import partial
from pathlib import Path

import numpy as np
import torch

from format_cases import WRITTEN, Check, Difference, Geometry, affine_of, largest_mm, largest_percent, moving_image
from pullback.data import Image
from pullback.io import read_image, write_image, write_transform


def c3d_uses(geometry: Geometry, folder: Path, *, option: str, suffix: str, form: str) -> Difference:
    """A matrix of ours resamples an image and the images of the coordinates."""
    transform, path = affine_of(geometry), folder / f"a{suffix}"
    write_transform(path, transform, format=form)
    coordinates = geometry.moving.centres().movedim(-1, 0).to(torch.float32)
    *mapped, warped = (
        _resliced(geometry, folder, Image(channel[None], geometry.moving), option, path)
        for channel in (*coordinates, moving_image(geometry).tensor[0])
    )
    ours = transform(geometry.fixed.centres())
    voxels = geometry.moving.to_voxel(ours)
    inside = ((voxels >= 0) & (voxels <= torch.tensor(geometry.moving.shape) - 1)).all(dim=-1)
    mm = largest_mm(ours[inside], np.stack(mapped, axis=-1)[inside.numpy()])
    return Difference(mm, largest_percent(geometry, transform, warped))


def _resliced(geometry: Geometry, folder: Path, image: Image, option: str, path: Path) -> np.ndarray:
    import picsl_c3d

    fixed, moving, out = folder / "fixed.nii.gz", folder / "moving.nii.gz", folder / "out.nii.gz"
    write_image(fixed, Image(torch.zeros(1, *geometry.fixed.shape), geometry.fixed))
    write_image(moving, image)
    tool = picsl_c3d.Convert3D if geometry.num_dims == 3 else picsl_c3d.Convert2D
    command = f"{fixed} {moving} -interpolation Linear -background 0 {option} {path} -type float -o {out}"
    tool().execute(command, out=io.StringIO())
    return read_image(out).tensor[0].numpy()


CHECKS = (
    Check(
        "itk",
        "affine .tfm",
        WRITTEN,
        "picsl_c3d",
        partial(c3d_uses, option="-reslice-itk", suffix=".tfm", form="itk"),
    ),
    Check(
        "greedy",
        "matrix .mat",
        WRITTEN,
        "picsl_c3d",
        partial(c3d_uses, option="-reslice-matrix", suffix=".mat", form="greedy"),
    ),
)
