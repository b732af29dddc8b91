"""itk-elastix, dipy and FireANTs, run in memory, from the identity and deformable alone.

FireANTs pins an old SimpleITK, so that it is installed beside the others and not with them:
``pip install --no-deps fireants``.

Nothing of pullback is imported before a tool's peak memory has been read.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs import Found, Job, measured
from peers import check, read

DIPY = {"level_iters": [100, 100, 25], "radius": 2}
"""The default iterations of dipy's SyN, coarse to fine; the window of greedy's and ANTs' rows in place of radius 4."""
DIPY_TUTORIAL = {"level_iters": [10, 10, 5], "radius": 4}
"""What dipy's tutorials and ``syn_registration`` run."""
DIPY_SETTINGS = {"": DIPY, "tutorial": DIPY_TUTORIAL}
FIREANTS_SETTINGS: dict[str, dict[str, Any]] = {
    "": {"scales": [4, 2, 1], "iterations": [200, 100, 50], "optimizer_lr": 0.5, "cc_kernel_size": 7},
    "oasis": {
        "scales": [4, 2, 1],
        "iterations": [250, 200, 100],
        "optimizer_lr": 0.25,
        "optimizer_params": {"beta1": 0.1, "scaledown": False},
        "cc_kernel_size": 7,
        "smooth_grad_sigma": 1.0,
        "smooth_warp_sigma": 0.25,
    },
}
"""Greedy registration: its defaults, and what its authors' OASIS script sets. Its SyN cannot give an inverse either."""


def run_elastix(job: Job) -> Found:
    """Elastix's default ``bspline`` parameters; only the result image's interpolation is linear, for the check.

    Threads come from ``ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS``, which ``jobs.py`` sets: asked for with
    ``number_of_threads``, two of them end the process (ITKElastix issue 160).
    """
    import itk

    fixed, moving = (itk.imread(path, itk.F) for path in (job.fixed, job.moving))
    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("bspline")
    settings["ResampleInterpolator"] = ["FinalLinearInterpolator"]
    parameters.AddParameterMap(settings)
    with measured() as measure:
        warped, made = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "TransformParameters.0.txt"
        made.WriteParameterFile(str(path))
        transform = read(path)
    return Found(transform, measure, notes=check(job, transform, itk.array_from_image(warped).T))


def run_dipy(job: Job) -> Found:
    """Dipy's SyN with local correlation; it knows no number of threads and uses one."""
    import nibabel
    import numpy as np
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    logging.disable(logging.INFO)
    fixed, moving = (nibabel.load(path) for path in (job.fixed, job.moving))
    arrays = [np.asarray(image.dataobj, dtype=np.float32) for image in (fixed, moving)]
    settings = DIPY_SETTINGS[job.tool.partition(":")[2]]
    metric = CCMetric(3, radius=settings["radius"])
    registration = SymmetricDiffeomorphicRegistration(metric, level_iters=settings["level_iters"])
    with measured() as measure:
        mapping = registration.optimize(*arrays, static_grid2world=fixed.affine, moving_grid2world=moving.affine)
    transform = _ras_field(mapping.get_forward_field(), fixed.affine)
    return Found(transform, measure, notes=check(job, transform, mapping.transform(arrays[1])))


def _ras_field(vectors: Any, voxel_to_world: Any) -> Any:
    """Vectors ``(I, J, K, 3)`` in RAS mm as our field."""
    import numpy as np
    import torch

    from pullback.space import Grid
    from pullback.transforms import DisplacementField

    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(vectors, -1, 0), dtype=np.float32))
    matrix = torch.as_tensor(np.asarray(voxel_to_world), dtype=torch.float64)
    return DisplacementField(values, Grid(tuple(values.shape[1:]), matrix))


def run_fireants(job: Job) -> Found:
    """FireANTs' greedy registration on the CPU, without its fused CUDA operations."""
    import torch
    from fireants.io import BatchedImages, Image
    from fireants.registration.greedy import GreedyRegistration

    logging.disable(logging.WARNING)
    torch.set_num_threads(job.threads)
    images = [BatchedImages(Image.load_file(path, device="cpu")) for path in (job.fixed, job.moving)]
    settings = {**FIREANTS_SETTINGS[job.tool.partition(":")[2]]}
    with measured() as measure:
        registration = GreedyRegistration(
            settings.pop("scales"), settings.pop("iterations"), *images, progress_bar=False, **settings
        )
        registration.optimize()
    with TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "warp.nii"
        registration.save_as_ants_transforms(str(path))
        transform = read(path)
        warped = registration.evaluate(*images)[0, 0].numpy().T
    return Found(transform, measure, notes=check(job, transform, warped))
