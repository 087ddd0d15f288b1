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
from robust_hub.types import Images, Labels


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
    """What an attack left of a classifier.

    Attributes:
        attack: the attack as it prints itself.
        clean: which images are classified rightly; one boolean an image, in the order of the split.
        robust: which of them still are after the attack.
        seconds: time the evaluation took.
    """

    attack: str
    clean: np.ndarray
    robust: np.ndarray
    seconds: float

    @property
    def clean_accuracy(self) -> Accuracy:
        """Accuracy on the images as they are."""
        return Accuracy.of(self.clean)

    @property
    def robust_accuracy(self) -> Accuracy:
        """Accuracy on the images both as they are and attacked."""
        return Accuracy.of(self.robust)


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
    clean, robust = [], []
    with eval_mode(classifier), _float32():
        for images, labels in tqdm(loader, desc=label, leave=False, disable=not label):
            right = _right(classifier, images, labels)
            withstood = right.clone()
            if right.any():
                adversarial = attack(classifier, images[right], labels[right])
                withstood[right] = _right(classifier, adversarial, labels[right])
            clean.append(right.cpu().numpy())
            robust.append(withstood.cpu().numpy())
    masks = [_gather(accelerator, mask) for mask in (clean, robust)]
    return Evaluation(repr(attack), *masks, seconds=time.perf_counter() - start)


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
    with eval_mode(classifier), _float32():
        standing = _right(classifier, images, labels)
        for radius in eps:
            if radius > 0 and standing.any():
                adversarial = attack(radius)(classifier, images[standing], labels[standing])
                withstood = _right(classifier, adversarial, labels[standing])
                standing = standing.clone()
                standing[standing.clone()] = withstood
            masks.append(standing.cpu().numpy())
    return [float(_gather(accelerator, [mask]).mean()) for mask in masks]


def _float32() -> AbstractContextManager:
    """Keeps cuDNN from TensorFloat-32, its default for convolutions."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


@torch.no_grad()
def _right(classifier: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return classifier(images).argmax(1) == labels


def _gather(accelerator: Accelerator, share: list[np.ndarray]) -> np.ndarray:
    """Puts the shares (rows r, r + w, r + 2 w, ... of process r of w) back into the order of the split."""
    shares = gather_object([np.concatenate(share) if share else np.zeros(0, bool)])
    whole = np.empty(sum(map(len, shares)), dtype=bool)
    for rank, mask in enumerate(shares):
        whole[rank :: accelerator.num_processes] = mask
    return whole
