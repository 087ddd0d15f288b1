"""Knowledge distillation on clean images: the baseline that does not pass robustness on."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from robust_hub.losses import cross_entropy, distillation
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_same_task
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class KDOptions(Options):
    """How predictions are imitated.

    Attributes:
        temperature: divides the logits of both before the softmax.
        cross_entropy_weight: of the labels, beside the divergence times the squared temperature.
    """

    method: ClassVar[str] = "KD"
    temperature: float = 4.0
    cross_entropy_weight: float = 0.1


class KD(Objective):
    """The divergence of the student's softened predictions from the teacher's, and some cross-entropy.

    Args:
        student: the classifier to train.
        teacher: the classifier to imitate.
        options: how it is imitated.

    Raises:
        ValueError: when the tasks differ or an option is out of its range.

    Source: Hinton et al., NIPS 2014 workshop, arXiv 1503.02531.
    """

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: KDOptions = KDOptions()):
        super().__init__()
        check_same_task(student, teacher)
        check_at_least(0.1, "KD", temperature=options.temperature)
        check_at_least(0, "KD", cross_entropy_weight=options.cross_entropy_weight)
        self.student, self.teacher, self.options = student, teacher, options

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        with torch.no_grad():
            target = self.teacher(images)
        logits = self.student(images)
        divergence = distillation(logits, target, self.options.temperature).mean()
        label_term = cross_entropy(logits, labels).mean()
        terms = {"divergence": divergence.detach(), "cross_entropy": label_term.detach()}
        return Losses(divergence + self.options.cross_entropy_weight * label_term, terms)
