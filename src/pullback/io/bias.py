"""N4 bias-field correction, by SimpleITK."""

import numpy as np
import SimpleITK
import torch

from pullback.data import Image
from pullback.io.simpleitk import to_simpleitk

LONGEST_AXIS_VOXELS = 96
"""The field is estimated on a copy whose longest axis has about this many voxels."""
ITERATIONS = (50, 50, 50, 50)


def correct_bias(image: Image) -> Image:
    """Divide each channel by its smooth bias field, estimated where Otsu's threshold finds the object.

    Reference:
        Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 29 (2010), doi:10.1109/TMI.2010.2046908.
    """
    return image.with_tensor(torch.stack([_correct(image, number) for number in range(image.num_channels)]))


def _correct(image: Image, number: int) -> torch.Tensor:
    channel = image.tensor[number].to(torch.float32)
    volume = to_simpleitk(channel.numpy()[None], image.grid, image.name)
    factor = max(1, max(image.grid.shape) // LONGEST_AXIS_VOXELS)
    small = SimpleITK.Shrink(volume, [factor] * image.grid.num_dims)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.Execute(small, SimpleITK.OtsuThreshold(small, 0, 1))
    log_field = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(volume))
    return channel / torch.from_numpy(np.exp(log_field).T.astype(np.float32).copy())
