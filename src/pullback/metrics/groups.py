r"""Numbers over many subjects that were brought into one space: how well do they agree with each other.

The evaluation table of the sources, with $w_i = T_i(h_{ij}(x))$ the i-th of M subjects warped onto j, and R a region:

- average volume difference $\frac{1}{M} \sum_i (\frac{1}{|R|} \sum_R w_i - \frac{1}{|R|} \sum_R T_j)^2$, best 0 (for
  tissue probabilities the means over R are volumes; the sources' slide lost the first sum sign);
- average sum of squared differences $\frac{1}{M} \sum_i \sum_R (w_i - T_j)^2$, best 0 (not the surface distance that is
  also called ASSD);
- intensity variance $\frac{1}{M - 1} \sum_i (w_i(x) - \bar w(x))^2$, a map, best 0;
- average correlation and average mutual information (in bits) of $w_i$ with $T_j$ over R; 1, and the higher the better.

Subjects are added one by one and let go, so that a thousand need the memory of one.
"""

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from pullback.metrics.intensity import correlation, entropy_bits, joint_probability


@dataclass(frozen=True)
class GroupSummary:
    """Averages over subjects; see the module for the definitions.

    Attributes:
        num_subjects: M.
        volume_difference: Average volume difference, squared units of intensity.
        sum_of_squares: Average sum of squared differences.
        mean_of_squares: The same per voxel of the region.
        intensity_variance: Mean of the variance map over the region; NaN for one subject.
        correlation: Average correlation coefficient.
        mutual_information: Average mutual information in bits.
    """

    num_subjects: int
    volume_difference: float
    sum_of_squares: float
    mean_of_squares: float
    intensity_variance: float
    correlation: float
    mutual_information: float

    as_dict = asdict


@dataclass
class Group:
    """Collects subjects in one space.

    Args:
        target: T_j, ``(*shape,)``.
        region: Bool ``(*shape,)``; None takes all.

    Example:
        >>> group = Group(torch.arange(4.0))
        >>> group.add(torch.arange(4.0))
        >>> group.summary().sum_of_squares
        0.0
    """

    target: Tensor
    region: Tensor | None = None
    num_subjects: int = field(default=0, init=False)
    _sums: Tensor = field(init=False, repr=False)
    _mean: Tensor = field(init=False, repr=False)
    _squares: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.region is None:
            self.region = torch.ones(self.target.shape, dtype=torch.bool)
        if not bool(self.region.any()):
            raise ValueError("`region` is empty: there is no voxel to compare.")
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._mean = torch.zeros(self.target.shape, dtype=torch.float64)
        self._squares = torch.zeros(self.target.shape, dtype=torch.float64)

    def add(self, warped: Tensor) -> None:
        """Take in one subject, ``(*shape,)`` on the target's grid.

        Raises:
            ValueError: If the shape is another.
        """
        if warped.shape != self.target.shape:
            raise ValueError(
                f"`warped` has shape {tuple(warped.shape)}, but the target has {tuple(self.target.shape)}."
            )
        w, t = (image[self.region].to(torch.float64) for image in (warped, self.target))
        joint = joint_probability(t.numpy(), w.numpy())
        information = entropy_bits(joint.sum(axis=0)) + entropy_bits(joint.sum(axis=1)) - entropy_bits(joint)
        self._sums += torch.tensor(
            [(w.mean() - t.mean()) ** 2, ((w - t) ** 2).sum(), correlation(t, w), information], dtype=torch.float64
        )
        self.num_subjects += 1
        gap = warped.to(torch.float64) - self._mean  # Welford's running mean and sum of squares
        self._mean += gap / self.num_subjects
        self._squares += gap * (warped.to(torch.float64) - self._mean)

    @property
    def mean(self) -> Tensor:
        """The mean subject, ``(*shape,)`` float64."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """The intensity variance at each voxel, ``(*shape,)`` float64; NaN for fewer than two subjects."""
        return self._squares / (self.num_subjects - 1 if self.num_subjects > 1 else float("nan"))

    def summary(self) -> GroupSummary:
        """The averages so far.

        Raises:
            ValueError: If no subject was added.
        """
        if not self.num_subjects:
            raise ValueError("The group has no subject yet; add one first.")
        volume, squares, correlations, information = (self._sums / self.num_subjects).tolist()
        return GroupSummary(
            num_subjects=self.num_subjects,
            volume_difference=volume,
            sum_of_squares=squares,
            mean_of_squares=squares / int(self.region.sum()),
            intensity_variance=float(self.variance[self.region].mean()),
            correlation=correlations,
            mutual_information=information,
        )
