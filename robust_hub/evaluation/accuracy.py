"""What attacks left of a classifier, in numbers: accuracies with intervals, masks, costs, and reasons for doubt."""

from dataclasses import dataclass

import numpy as np

from robust_hub.names import DECIMALS

# Images that a spot check attacks, where nobody says how many; here, as the command line starts without torch.
SPOTS = 80


@dataclass(frozen=True)
class Accuracy:
    """A share of n images, with its exact binomial (Clopper-Pearson) 95 % interval; fractions."""

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        for end in ("low", "high"):
            object.__setattr__(self, end, round(getattr(self, end), DECIMALS))

    @classmethod
    def of(cls, mask: np.ndarray) -> "Accuracy":
        """Computes the share of true entries."""
        # Imported here, as lists of models need no statistics and should start at once.
        from scipy.stats import binomtest

        interval = binomtest(int(mask.sum()), len(mask)).proportion_ci(0.95, method="exact")
        return cls(float(mask.mean()), float(interval.low), float(interval.high), len(mask))

    def __str__(self) -> str:
        """Writes the share in percent."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Difference:
    """By how much one share of n images exceeds another share of the same images, with its 95 % interval; fractions.

    The interval is exact given how many images the two differ on: Clopper-Pearson for the share of those that speak for
    the one.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray) -> "Difference":
        """Compares two masks of the same images.

        Raises:
            ValueError: when they are of different numbers of images.
        """
        from scipy.stats import binomtest

        if len(one) != len(other):
            raise ValueError(f"only masks of the same images can be compared, got {len(one)} and {len(other)} images")
        for_one, differing, n = int((one & ~other).sum()), int((one ^ other).sum()), len(one)
        if not differing:
            return cls(0.0, 0.0, 0.0, n)
        interval = binomtest(for_one, differing).proportion_ci(0.95, method="exact")
        low, high = (differing / n * (2 * float(share) - 1) for share in (interval.low, interval.high))
        return cls((2 * for_one - differing) / n, low, high, n)

    def __str__(self) -> str:
        """Writes the difference in points of a percent, with its sign."""
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class Evaluation:
    """What attacks left of a classifier: the masks, of which accuracies are means; `Report` holds it and all around it.

    Attributes:
        attack: the attack, or the ensemble of them, as it prints itself.
        labels: the true classes, in the order of the split.
        clean: which images are classified rightly; one boolean an image.
        survivors: which of them still are after each attack and those before it, in the order the attacks ran.
        seconds: time the evaluation took.
    """

    attack: str
    labels: np.ndarray
    clean: np.ndarray
    survivors: dict[str, np.ndarray]
    seconds: float

    @property
    def robust(self) -> np.ndarray:
        """Which images are classified rightly after all attacks."""
        return [self.clean, *self.survivors.values()][-1]

    @property
    def clean_accuracy(self) -> Accuracy:
        """Accuracy on the images as they are."""
        return Accuracy.of(self.clean)

    @property
    def robust_accuracy(self) -> Accuracy:
        """Accuracy on the images both as they are and attacked."""
        return Accuracy.of(self.robust)

    @property
    def largest_class(self) -> float:
        """The accuracy of whoever names the most frequent class for every image, as a fraction."""
        return float(np.unique(self.labels, return_counts=True)[1].max() / len(self.labels))

    def balanced(self, mask: np.ndarray) -> float:
        """Computes the mean of the accuracies of the classes, of a mask of this evaluation; no class counts more."""
        return float(np.mean([mask[self.labels == label].mean() for label in np.unique(self.labels)]))

    def of_class(self, label: int) -> tuple[Accuracy, Accuracy] | None:
        """Gives clean and robust accuracy on the images of one class; None where there are none."""
        chosen = self.labels == label
        return (Accuracy.of(self.clean[chosen]), Accuracy.of(self.robust[chosen])) if chosen.any() else None


@dataclass(frozen=True)
class Cost:
    """What one stage took, over all images and processes.

    Attributes:
        attacked: images it was given.
        forward: forward passes of the network it searched on.
        backward: backward passes of that network.
        seconds: its time, added up over the processes.
    """

    attacked: int
    forward: int
    backward: int
    seconds: float


@dataclass(frozen=True)
class Check:
    """One reason to believe a robust accuracy, or not to.

    Attributes:
        name: what is checked.
        value: what was measured.
        threshold: what it may be at most; for the precision, at least.
        flagged: whether it is beyond.
        meaning: what the value is, and what it means when it is beyond the threshold.
    """

    name: str
    value: float
    threshold: float
    flagged: bool
    meaning: str

    @property
    def is_beyond(self) -> bool:
        """Whether the value is beyond the threshold; nan is no reason to believe anything."""
        return self.value < self.threshold if self.name == "precision" else not self.value <= self.threshold
