"""Whether an exported file does what the classifier does, on the same images."""

from dataclasses import dataclass

import torch
from torch import nn

from robust_hub.data import Loader


@dataclass(frozen=True)
class Agreement:
    """How alike two classifiers answer.

    Attributes:
        n: images.
        difference: the largest of a logit.
        largest: logit, of the first; what the difference is small or large against.
        equal: images that get the same label.
    """

    n: int
    difference: float
    largest: float
    equal: int

    def __str__(self) -> str:
        """Writes it in one line."""
        share = "equal" if self.equal == self.n else f"{self.equal:,} of {self.n:,} equal"
        return f"largest difference of a logit {self.difference:.2g} (of {self.largest:.3g}), labels {share}"


@torch.no_grad()
def compare(classifier: nn.Module, exported: nn.Module, loader: Loader) -> Agreement:
    """Asks both about every image.

    Args:
        classifier: in eval mode.
        exported: what was made of it.
        loader: of the images.
    """
    answers = [(classifier(images), exported(images)) for images, _ in loader]
    first, second = (torch.cat(each) for each in zip(*answers, strict=True))
    equal = int((first.argmax(1) == second.argmax(1)).sum())
    return Agreement(len(first), float((first - second).abs().max()), float(first.abs().max()), equal)
