"""T1 images turned into other contrasts by curves, with noise of their own, so that labels still say what is right.

No real pair of two contrasts with labels of many structures is at hand. These share their texture with the T1 image
more than real ones do; what they test is the choice of a similarity, the pose, and that the deformation helps.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
from scipy import ndimage

AIR, FLUID, GREY, WHITE = 0.05, 0.25, 0.65, 1.0
"""What T1 images show, in units of white matter (the 90th percentile of the brain)."""
NOISE = 2.0
"""Standard deviation; the brightest tissue is 100."""
PET_SIGMA_MM = 2.5


@dataclass(frozen=True)
class Contrast:
    """A curve from T1 intensities to another contrast's.

    Attributes:
        x: T1 intensities, white matter 1.
        y: Of the other contrast, brightest 1.
        sigma_mm: Of the blur.
        skull: Intensity around the brain in place of the curve's; None keeps the curve's.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    sigma_mm: float = 0.0
    skull: float | None = None


CONTRASTS = {
    "T1": Contrast((0.0, 2.0), (0.0, 2.0)),
    "T2": Contrast((0.0, AIR, FLUID, GREY, WHITE, 1.5, 2.0), (0.02, 0.2, 1.0, 0.55, 0.35, 0.7, 0.7)),
    "FLAIR": Contrast((0.0, FLUID, 0.45, GREY, 0.85, WHITE, 1.3, 2.0), (0.03, 0.12, 0.5, 1.0, 0.85, 0.75, 0.8, 0.9)),
    "PET": Contrast(
        (0.0, FLUID, 0.45, GREY, 0.85, WHITE, 2.0), (0.05, 0.15, 0.5, 1.0, 0.5, 0.3, 0.3), PET_SIGMA_MM, skull=0.15
    ),
}
"""T2: fluid bright, white matter dark. FLAIR: fluid dark, grey matter brighter than white. PET: grey matter alone."""


class MadeContrasts:
    """A folder of made images, removed with this object."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="pullback-contrasts-")

    def make(self, kind: str, image: Path, brain_mask: Path | None = None) -> Path:
        """The file of an image in another contrast; T1 is the image as it is.

        Args:
            kind: One of `CONTRASTS`.
            image: A T1 image: a head with its brain mask, or a brain in background of 0.
            brain_mask: Of a head.
        """
        if kind == "T1":
            return image
        source = nibabel.load(image)
        values = np.asarray(source.dataobj, np.float32)
        brain = values > 0 if brain_mask is None else np.asarray(nibabel.load(brain_mask).dataobj) > 0
        made = _made(CONTRASTS[kind], values, brain, source.header.get_zooms()[:3])
        noise = np.random.default_rng([*kind.encode(), *image.name.encode()]).standard_normal(values.shape)
        made = 100 * made + NOISE * noise
        made = np.abs(made) if brain_mask is not None else np.where(brain, np.maximum(made, 0.5), 0)
        path = Path(self._folder.name) / f"{kind}_{image.parent.name}_{image.name}"
        nibabel.save(nibabel.Nifti1Image(made.astype(np.float32), source.affine), path)
        return path


def _made(contrast: Contrast, values: np.ndarray, brain: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    white = np.percentile(values[brain], 90)
    made = np.interp(np.clip(values / white, 0, 2), contrast.x, contrast.y)
    if contrast.skull is not None:
        made = np.where(brain, made, contrast.skull * (values > 0.2 * white))
    if contrast.sigma_mm:
        made = ndimage.gaussian_filter(made, [contrast.sigma_mm / s for s in spacing_mm])
    return made
