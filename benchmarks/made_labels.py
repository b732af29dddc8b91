"""One structure out of label maps, so that data sets that number their labels differently can be scored together."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np


class MadeLabels:
    """A folder of label maps with the one label 1, removed with this object."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="pullback-labels-")

    def make(self, labels: Path, values: Sequence[int]) -> Path:
        """The file of a label map in which voxels of any of some values are 1 and all others 0."""
        source = nibabel.load(labels)
        chosen = np.isin(np.asarray(source.dataobj), values).astype(np.uint8)
        path = Path(self._folder.name) / f"{labels.parent.parent.name}_{labels.parent.name}_{labels.name}"
        nibabel.save(nibabel.Nifti1Image(chosen, source.affine), path)
        return path
