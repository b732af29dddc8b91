"""How alike two images on one grid are: mean squared difference, correlation, mutual information."""

import numpy as np
import torch
from torch import Tensor

from pullback.functional import local_correlation

NUM_BINS = 64
LNCC_RADIUS_VOXELS = 4
LNCC_NOISE = 1e-5


def mean_squared_difference(fixed: Tensor, warped: Tensor, region: Tensor | None = None) -> float:
    r"""MSE, $\frac{1}{|R|} \sum_{x \in R} (f(x) - w(x))^2$, in squared units of intensity; 0 for equal images."""
    f, w = _values(fixed, warped, region)
    return float(np.mean((f - w) ** 2))


def correlation(fixed: Tensor, warped: Tensor, region: Tensor | None = None) -> float:
    """Global NCC: Pearson's correlation over the region, -1 to 1; NaN where an image is constant."""
    f, w = _values(fixed, warped, region)
    f, w = f - f.mean(), w - w.mean()
    scale = float(np.sqrt((f**2).mean() * (w**2).mean()))
    return float((f * w).mean()) / scale if scale > 0 else float("nan")


def mean_local_correlation(
    fixed: Tensor, warped: Tensor, region: Tensor | None = None, *, radius_voxels: int = LNCC_RADIUS_VOXELS
) -> float:
    r"""Local NCC: the mean over windows of $\mathrm{cov}^2 / (\mathrm{var}_f \mathrm{var}_w)$, 0 to 1.

    Windows have ``2 radius + 1`` voxels a side (default 9, as in most papers on learned registration). Both images are
    divided by their standard deviation over the region first; windows whose variance is far below 1e-5 of that say 0.
    The region weights the windows' centres and, within windows, the voxels.

    Args:
        fixed, warped: ``(*shape,)``.
        region: Bool ``(*shape,)``; None takes all.
        radius_voxels: Half width of the windows.
    """
    scaled = [_unit_variance(image, region)[None, None] for image in (fixed, warped)]
    weights = None if region is None else region[None, None].to(torch.float32)
    values, _ = local_correlation(*scaled, weights, radius_voxels=radius_voxels, noise=LNCC_NOISE)
    return float(values[0])


def normalised_mutual_information(
    fixed: Tensor, warped: Tensor, region: Tensor | None = None, *, num_bins: int = NUM_BINS
) -> float:
    """NMI of Studholme, ``(H(f) + H(w)) / H(f, w)``: 1 without any relation, 2 for a one-to-one relation.

    Hard bins of equal width between each image's extremes in the region; NaN where both are constant.

    Reference:
        Studholme et al., An overlap invariant entropy measure of 3D medical image alignment, Pattern Recognition 32
        (1999), doi:10.1016/S0031-3203(98)00091-0.
    """
    joint = joint_probability(*_values(fixed, warped, region), num_bins)
    entropy = entropy_bits(joint)
    apart = entropy_bits(joint.sum(axis=0)) + entropy_bits(joint.sum(axis=1))
    return apart / entropy if entropy > 0 else float("nan")


def joint_probability(fixed: np.ndarray, warped: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Joint histogram with hard bins, rows for the fixed image, summing to 1."""
    rows, columns = _bins(fixed, num_bins), _bins(warped, num_bins)
    counts = np.bincount(rows * num_bins + columns, minlength=num_bins**2)
    return counts.reshape(num_bins, num_bins) / counts.sum()


def entropy_bits(probability: np.ndarray) -> float:
    """Shannon entropy in bits."""
    p = probability[probability > 0]
    return float(-(p * np.log2(p)).sum())


def _bins(values: np.ndarray, num_bins: int) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (num_bins / (high - low) if high > low else 0.0)
    return np.minimum(scaled.astype(np.int64), num_bins - 1)


def _values(fixed: Tensor, warped: Tensor, region: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Both images' intensities over the region as flat float64."""
    if fixed.shape != warped.shape:
        raise ValueError(f"The images have the shapes {tuple(fixed.shape)} and {tuple(warped.shape)}; warp one first.")
    pair = (fixed, warped) if region is None else (fixed[region], warped[region])
    if not pair[0].numel():
        raise ValueError("`region` is empty: there is no voxel to compare.")
    return tuple(values.reshape(-1).to(torch.float64).numpy() for values in pair)


def _unit_variance(image: Tensor, region: Tensor | None) -> Tensor:
    values = (image if region is None else image[region]).to(torch.float64)
    spread = float(values.std(correction=0))
    return ((image - values.mean()) / (spread if spread > 0 else 1.0)).to(torch.float32)
