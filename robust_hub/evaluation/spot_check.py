"""A spot check: an attack of our own on a few images that an evaluation calls robust."""

from dataclasses import dataclass

from torch import nn

from robust_hub.attacks import ascend, eval_mode
from robust_hub.data import Loader
from robust_hub.evaluation.robust_accuracy import right, strict_float32
from robust_hub.losses import margin
from robust_hub.threats import Threat

STEPS = 10
# The share of the images that withstood an ensemble which PGD may fool all the same: docs/evaluation.md tells what was
# measured.
USUAL = 0.002
# How often an honest evaluation may be contradicted, at that share.
ERROR = 1e-3


@dataclass(frozen=True)
class SpotCheck:
    """What an attack did to images that an evaluation calls robust.

    Attributes:
        attack: as it prints itself.
        images: how many were attacked.
        fooled: how many of them fell.
    """

    attack: str
    images: int
    fooled: int

    @property
    def contradicts(self) -> bool:
        """Whether more fell than chance lets fall of an honest evaluation."""
        from scipy.stats import binom

        return bool(binom.sf(self.fooled - 1, self.images, USUAL) < ERROR)

    def __str__(self) -> str:
        """Writes how many fell."""
        if not self.images:
            return "none was made"
        return f"{self.attack} fools {self.fooled:,} of {self.images:,} images that it calls robust"


def check_spots(classifier: nn.Module, loader: Loader, threat: Threat) -> SpotCheck:
    """Attacks images by PGD on the margin, whose gradient no scale of the logits can make zero.

    Args:
        classifier: in eval mode.
        loader: of images that an evaluation calls robust.
        threat: the ball.
    """
    images = fooled = 0
    with eval_mode(classifier), strict_float32():
        for batch, labels in loader:
            adversarial = ascend(
                lambda pixels, labels=labels: margin(classifier(pixels), labels),
                batch,
                threat.sample(batch),
                threat=threat,
                steps=STEPS,
                step_size=2.5 * threat.eps / STEPS,
            )
            fooled += int((~right(classifier, adversarial, labels)).sum())
            images += len(labels)
    return SpotCheck(f"PGD-{STEPS} on the margin", images, fooled)
