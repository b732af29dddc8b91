"""Writing a submission to Learn2Reg: one displacement per pair, checked by reading it back."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pullback.evaluation.case import Files, to_voxel_displacement
from pullback.evaluation.learn2reg import Learn2RegDataset, Learn2RegPair
from pullback.io import read_transform, read_voxel_displacement, write_voxel_displacement
from pullback.transforms import AbstractTransform, chain

TOLERANCE_VOXELS = 1e-4


def write_submission(
    dataset: Learn2RegDataset,
    split: str,
    transform_of: Callable[[Learn2RegPair], AbstractTransform],
    folder: str | Path,
) -> list[Path]:
    """Write ``disp_....nii.gz`` for every pair of a split, or none, by the long name, which the challenge always takes.

    Args:
        dataset: With the images, whose grids say what a voxel is.
        split: Which pairs.
        transform_of: The map from fixed to moving world of a pair.
        folder: Where to write; made if its parent exists.

    Returns:
        The files.

    Raises:
        ValueError: If a file does not say the same when it is read back, or the images of a pair differ in shape.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".pullback-", dir=folder))
    try:
        for pair in dataset.pairs(split):
            _write_one(dataset, pair, transform_of(pair), staging / f"{pair.long_name}.nii.gz")
        return [path.replace(folder / path.name) for path in sorted(staging.iterdir())]
    except BaseException:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_one(dataset: Learn2RegDataset, pair: Learn2RegPair, transform: AbstractTransform, path: Path) -> None:
    """One displacement, read back."""
    files = Files(dataset.case(pair, None))
    displacement = to_voxel_displacement(transform, files.grid, files.moving_grid)
    write_voxel_displacement(path, displacement)
    gap = float((read_voxel_displacement(path, files.grid.shape) - displacement).abs().max())
    if gap > TOLERANCE_VOXELS:
        raise ValueError(f"'{path.name}' differs by {gap:.3g} voxels from what was written; the disk may be damaged.")


def transforms_by_pattern(pattern: str) -> Callable[[Learn2RegPair], AbstractTransform]:
    """Find each pair's transforms by a pattern such as ``results/{fixed}_{moving}/fixed_to_moving.h5``.

    ``{fixed}`` and ``{moving}`` stand for the images' names without suffix, ``{fixed_subject}`` and
    ``{moving_subject}`` for their four digits; semicolons separate several files, applied in the order given.

    Raises:
        ValueError: If the pattern has other words in braces, or none.
    """
    try:
        pattern.format(fixed="", moving="", fixed_subject="", moving_subject="")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"`transforms` is '{pattern}', but {{fixed}}, {{moving}}, {{fixed_subject}} and {{moving_subject}} are all "
            f"that can stand in it ({error})."
        ) from None
    if "{" not in pattern:
        raise ValueError(f"`transforms` is '{pattern}', but it must name the pair, such as '{{fixed}}_{{moving}}.h5'.")

    def transform_of(pair: Learn2RegPair) -> AbstractTransform:
        words = {
            "fixed": pair.fixed.name.removesuffix(".nii.gz"),
            "moving": pair.moving.name.removesuffix(".nii.gz"),
            "fixed_subject": pair.long_name.split("_")[1],
            "moving_subject": pair.long_name.split("_")[3],
        }
        return chain(*(read_transform(part.strip()) for part in reversed(pattern.format(**words).split(";"))))

    return transform_of
