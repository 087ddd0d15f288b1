"""Accuracy against eps, as a report keeps it, and its mean over a range of eps."""

import math
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Curve:
    """Accuracy under PGD at growing radii; an image that fell at a smaller one has fallen at a larger one.

    Attributes:
        steps: of PGD.
        n: so many images were attacked, the first ones of those that are tested.
        eps: the radii in pixel units, growing from 0.
        accuracy: at each of them; fractions.
    """

    steps: int
    n: int
    eps: list[float]
    accuracy: list[float]

    def __post_init__(self) -> None:
        if min(self.steps, self.n) < 1:
            raise ValueError(f"a curve must be of at least 1 step and 1 image, got {self.steps} and {self.n}")
        if len(self.eps) != len(self.accuracy) or len(self.eps) < 2 or self.eps[0] != 0:
            raise ValueError("a curve must have an accuracy at each of two radii at least, of which the first is 0")
        if not all(low < high < math.inf for low, high in pairwise(self.eps)):
            raise ValueError("the radii of a curve must be finite, and each larger than the one before")
        if not all(0 <= low <= high <= 1 for high, low in pairwise(self.accuracy)):
            raise ValueError("the accuracies of a curve must be in [0, 1], and none larger than the one before")

    @property
    def attack(self) -> str:
        """What the images were attacked by."""
        return f"PGD-{self.steps}"

    def mean_until(self, eps: float) -> float:
        """Computes the mean accuracy over the radii from 0 to eps, by the trapezoid rule.

        Args:
            eps: one of the radii, in pixel units.

        Returns:
            A fraction.

        Source: Ngnawé et al., 2025, arXiv 2509.23325, who average robust accuracy over a range of eps.
        """
        last = self.eps.index(eps)
        widths = [high - low for low, high in pairwise(self.eps[: last + 1])]
        heights = [(before + after) / 2 for before, after in pairwise(self.accuracy[: last + 1])]
        return sum(width * height for width, height in zip(widths, heights, strict=True)) / eps
