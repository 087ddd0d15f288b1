"""What methods that attack by a single step share: the noise it starts from, and a guard against its failing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_hub.losses import cross_entropy
from robust_hub.methods.base import AttackOptions, check_at_least
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class OneStepOptions(AttackOptions):
    """What may be chosen of every method that attacks by a single step.

    Attributes:
        noise: radius of the noise that the step starts from, as a multiple of eps.
        step_size: length of the step, as a multiple of eps; a longer one trades clean accuracy for robustness.
        linearity_weight: of the squared amount by which the loss is not linear between two random points of the ball;
            above 0 it keeps training with one step from failing suddenly (catastrophic overfitting), at the price of
            three more forward and backward passes an image.
    """

    noise: float = 2.0
    step_size: float = 1.0
    linearity_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, self.method, noise=self.noise, linearity_weight=self.linearity_weight)
        check_at_least(0.1, self.method, step_size=self.step_size)


def nonlinearity(student: PixelClassifier, images: Images, labels: Targets, threat: Threat) -> Tensor:
    """Averages the squared amount by which the loss at a point between two others differs from what lies between.

    Args:
        student: whose cross-entropy is measured.
        images: around which the two are drawn.
        labels: true classes.
        threat: the ball they are drawn from.

    Returns:
        A scalar, in squared nats.

    Source: Abad Rocamora et al., ICLR 2024, arXiv 2401.11618, equation 5 (ELLE).
    """
    ends = [(images + threat.sample(images)).clamp(0, 1) for _ in range(2)]
    share = torch.rand_like(images[:, 0, 0, 0])
    between = torch.lerp(*ends, share.view(-1, 1, 1, 1))
    logits = student(torch.cat([*ends, between]))
    start, end, middle = (cross_entropy(each, labels) for each in logits.chunk(3))
    return (middle - torch.lerp(start, end, share)).square().mean()
