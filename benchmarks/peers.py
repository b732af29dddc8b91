"""picsl-greedy and antspyx, run in memory as far as they allow (``pip install -e '.[benchmark]'``).

Nothing of pullback is imported before a tool's peak memory has been read.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs import Found, Job, measured

GREEDY_OPTIONS = "-m NCC 2x2x2 -n 100x50x10"
"""What a job of the tool ``greedy`` asks for; ``greedy:OPTIONS`` asks for others."""
GREEDY_FRAME = "-d 3 -i fixed moving {options} -wp 0 -V 0 -threads {threads} -o warp"
"""Deformable, from the headers' alignment. ``-wp 0`` keeps the warp exact; by default it is rounded to 0.1 voxel."""
GREEDY_AFFINE = (
    "-d 3 -a -dof 12 -ia-image-centers -i fixed moving -m NCC 2x2x2 -n 100x50x10 -V 0 -threads {threads} -o matrix"
)


def greedy_command(tool: str, threads: int) -> str:
    """The words of ``greedy`` or ``greedy:OPTIONS``."""
    return GREEDY_FRAME.format(options=tool.partition(":")[2] or GREEDY_OPTIONS, threads=threads)


def run_greedy(job: Job) -> Found:
    """Greedy's deformable registration; the clock covers the call with images in memory."""
    greedy, images = _greedy(), _images(job)
    with measured() as measure:
        greedy.execute(greedy_command(job.tool, job.threads), **images, warp=None)
    notes: dict[str, Any] = {"deformable_seconds": measure.seconds}
    inverse = None
    with TemporaryDirectory() as folder:
        path = _write_warp(Path(folder), greedy["warp"])
        field = read(path)
        notes |= _check_greedy(job, images, path, field)
        if job.inverse:
            with measured() as inversion:
                greedy.execute(f"-d 3 -iw {path} {folder}/inverse.nii.gz -wp 0 -V 0 -threads {job.threads}")
            inverse = read(Path(folder) / "inverse.nii.gz")
            notes["inverse_seconds"] = inversion.seconds
    return Found(field, measure, inverse, notes=notes)


def run_greedy_affine(job: Job) -> Found:
    """Greedy's affine registration, from the middles of the images; its matrix is RAS mm, fixed to moving."""
    greedy, images = _greedy(), _images(job)
    with measured() as measure:
        greedy.execute(GREEDY_AFFINE.format(threads=job.threads), **images, matrix=None)
    from pullback.transforms import Affine

    return Found(Affine(greedy["matrix"]), measure)


def run_greedy_both(job: Job) -> Found:
    """Greedy's affine, and its deformable registration from there; the clock covers both calls."""
    greedy, images = _greedy(), _images(job)
    with measured() as measure:
        greedy.execute(GREEDY_AFFINE.format(threads=job.threads), **images, matrix=None)
        greedy.execute(f"{greedy_command(job.tool, job.threads)} -it matrix", warp=None)
    from pullback.transforms import Affine, chain

    linear = Affine(greedy["matrix"])
    with TemporaryDirectory() as folder:
        field = read(_write_warp(Path(folder), greedy["warp"]))
    return Found(chain(linear, field), measure, linear=linear)


def run_ants(job: Job) -> Found:
    """``ants.registration`` of the type after ``ants:``; its call includes its own temporary files and a resampling."""
    import ants

    fixed, moving = ants.image_read(job.fixed), ants.image_read(job.moving)
    with TemporaryDirectory() as folder:
        with measured() as measure:
            kind = job.tool.removeprefix("ants:")
            made = ants.registration(fixed, moving, type_of_transform=kind, outprefix=f"{folder}/")
        from pullback.transforms import chain

        transform = chain(*(read(path) for path in made["fwdtransforms"]))
    return Found(transform, measure, notes=check(job, transform, made["warpedmovout"].numpy()))


def _greedy() -> Any:
    from picsl_greedy import Greedy3D

    return Greedy3D()


def _images(job: Job) -> dict[str, Any]:
    import SimpleITK

    files = {"fixed": job.fixed, "moving": job.moving}
    return {name: SimpleITK.ReadImage(path, SimpleITK.sitkFloat32) for name, path in files.items()}


def _write_warp(folder: Path, warp: Any) -> Path:
    """Greedy's warp as a file: float32, LPS mm, as ITK has it."""
    import SimpleITK

    path = folder / "warp.nii"
    SimpleITK.WriteImage(SimpleITK.Cast(warp, SimpleITK.sitkVectorFloat32), str(path))
    return path


def read(path: str | Path) -> Any:
    """A tool's transform, by our reader."""
    from pullback.io import read_transform

    return read_transform(path)


def check(job: Job, transform: Any, theirs: Any) -> dict[str, Any]:
    """Whether we read a tool's transform as the tool does, by its own resampled image ``(I, J, K)``.

    ``check_share`` is how far our resampling is from it, where the image as it was is at 1 (means of differences).
    """
    import torch

    from pullback.io import read_image
    from pullback.transforms import identity, warp

    fixed, moving, theirs = read_image(job.fixed), read_image(job.moving), torch.as_tensor(theirs)
    gaps = [
        (warp(moving, by, onto=fixed.grid).tensor[0] - theirs).abs().mean()
        for by in (transform, identity(fixed.grid.num_dims))
    ]
    return {"check_share": float(gaps[0] / gaps[1])}


def _check_greedy(job: Job, images: dict[str, Any], path: Path, field: Any) -> dict[str, Any]:
    """Whether we read greedy's warp as greedy does: its own resampled image and labels against ours."""
    import SimpleITK

    from pullback.io import read_image
    from pullback.metrics import dice_per_label, mean_dice
    from pullback.transforms import warp
    from scoring import read_label_file

    greedy = _greedy()
    words = f"-d 3 -rf fixed -rm moving resliced -ri NN -rm labels labels_resliced -r {path} -V 0"
    labels_path = job.moving_labels or job.moving
    more = {"labels": SimpleITK.ReadImage(labels_path), "labels_resliced": None, "resliced": None}
    greedy.execute(f"{words} -threads {job.threads}", **images, **more)
    moving = read_image(job.moving)
    ours = warp(moving, field, onto=field.grid)
    gap = (ours.tensor - _tensor(greedy["resliced"])).abs().max() / moving.tensor.max()
    notes = {"check_largest_difference": float(gap), **check(job, field, _tensor(greedy["resliced"])[0])}
    if job.fixed_labels is not None and job.moving_labels is not None:
        fixed, labels = (read_label_file(p, job.label_volume) for p in (job.fixed_labels, job.moving_labels))
        theirs = labels.with_tensor(_tensor(greedy["labels_resliced"]).round().int(), fixed.grid)
        notes["dice_by_greedy"] = mean_dice(dice_per_label(fixed, theirs, among=labels))
    return notes


def _tensor(image: Any) -> Any:
    """The voxels of a SimpleITK image in our order of axes, with a channel."""
    import numpy as np
    import SimpleITK
    import torch

    values = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.T))[None]
