"""Measures clean and robust accuracy. An image counts as robust when it is classified rightly clean and attacked."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, tqdm
from scipy.stats import binomtest
from torch import nn

from robust_hub.attacks import Attack, eval_mode
from robust_hub.data import Loader
from robust_hub.types import Images, Labels, Mask


@dataclass(frozen=True)
class Accuracy:
    """A share of n images, with its exact binomial (Clopper-Pearson) 95 % interval; fractions."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, mask: np.ndarray) -> "Accuracy":
        """Computes the share of true entries."""
        interval = binomtest(int(mask.sum()), len(mask)).proportion_ci(0.95, method="exact")
        return cls(float(mask.mean()), float(interval.low), float(interval.high), len(mask))

    def __str__(self) -> str:
        """Writes the share in percent."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Scores:
    """Clean and robust accuracy on validation images, by which an epoch is chosen; fractions."""

    clean: float
    robust: float


@dataclass(frozen=True)
class Evaluation:
    """What attacks left of a classifier.

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

    def of_class(self, label: int) -> tuple[Accuracy, Accuracy] | None:
        """Gives clean and robust accuracy on the images of one class; None where there are none."""
        chosen = self.labels == label
        return (Accuracy.of(self.clean[chosen]), Accuracy.of(self.robust[chosen])) if chosen.any() else None


def evaluate(
    accelerator: Accelerator, classifier: nn.Module, loader: Loader, attack: Attack, *, label: str = ""
) -> Evaluation:
    """Attacks every image that is classified rightly, in float32, each process its share.

    Args:
        accelerator: of the run; its autocast is not used.
        classifier: the unwrapped classifier, returned to the mode it was in.
        loader: this process's share of a split, from `evaluation_loader`.
        attack: what to withstand.
        label: named on the progress bar; without it there is none.
    """
    start = time.perf_counter()
    true, clean, robust = [], [], []
    with eval_mode(classifier), strict_float32():
        for images, labels in tqdm(loader, desc=label, leave=False, disable=not label):
            correct = right(classifier, images, labels)
            withstood = correct.clone()
            if correct.any():
                adversarial = attack(classifier, images[correct], labels[correct])
                withstood[correct] = right(classifier, adversarial, labels[correct])
            true.append(labels.cpu().numpy())
            clean.append(correct.cpu().numpy())
            robust.append(withstood.cpu().numpy())
    true, clean, robust = (_gather(accelerator, share) for share in (true, clean, robust))
    return Evaluation(repr(attack), true, clean, {repr(attack): robust}, time.perf_counter() - start)


def accuracy_curve(
    accelerator: Accelerator,
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    attack: Callable[[float], Attack],
    eps: Sequence[float],
) -> list[float]:
    """Measures robust accuracy at growing eps; an image that fell at a smaller eps has fallen at a larger one.

    Args:
        accelerator: of the run.
        classifier: the unwrapped classifier, returned to the mode it was in.
        images: this process's share.
        labels: of these images.
        attack: makes the attack for one eps.
        eps: radii in pixel units, growing.
    """
    masks = []
    with eval_mode(classifier), strict_float32():
        standing = right(classifier, images, labels)
        for radius in eps:
            if radius > 0 and standing.any():
                adversarial = attack(radius)(classifier, images[standing], labels[standing])
                withstood = right(classifier, adversarial, labels[standing])
                standing = standing.clone()
                standing[standing.clone()] = withstood
            masks.append(standing.cpu().numpy())
    return [float(_gather(accelerator, [mask]).mean()) for mask in masks]


def strict_float32() -> AbstractContextManager:
    """Keeps cuDNN from TensorFloat-32, its default for convolutions."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


@torch.no_grad()
def right(classifier: nn.Module, images: Images, labels: Labels) -> Mask:
    """Tells which images are classified rightly."""
    return classifier(images).argmax(1) == labels


def _gather(accelerator: Accelerator, share: list[np.ndarray]) -> np.ndarray:
    """Puts the shares (rows r, r + w, r + 2 w, ... of process r of w) back into the order of the split."""
    shares = gather_object([np.concatenate(share) if share else np.zeros(0, bool)])
    whole = np.empty(sum(map(len, shares)), dtype=np.result_type(*shares))
    for rank, mask in enumerate(shares):
        whole[rank :: accelerator.num_processes] = mask
    return whole
