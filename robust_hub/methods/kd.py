"""Knowledge distillation on clean images: the baseline that does not pass robustness on."""

import torch

from robust_hub.classifiers import PixelClassifier, Teacher
from robust_hub.losses import cross_entropy, distillation
from robust_hub.methods.base import Losses, Objective, check_at_least, check_same_task
from robust_hub.types import Images, Labels


class KD(Objective):
    """The divergence of the student's softened predictions from the teacher's, and some cross-entropy.

    Args:
        student: the classifier to train.
        teacher: the classifier to imitate.
        temperature: divides the logits of both before the softmax.
        cross_entropy_weight: of the labels, beside the divergence times the squared temperature.

    Raises:
        ValueError: when the tasks differ or an option is out of its range.

    Source: Hinton et al., NIPS 2014 workshop, arXiv 1503.02531.
    """

    def __init__(
        self, student: PixelClassifier, teacher: Teacher, *, temperature: float = 4.0, cross_entropy_weight: float = 0.1
    ):
        super().__init__()
        check_same_task(student, teacher)
        check_at_least(0.1, "KD", temperature=temperature)
        check_at_least(0, "KD", cross_entropy_weight=cross_entropy_weight)
        self.student, self.teacher = student, teacher
        self.temperature, self.cross_entropy_weight = temperature, cross_entropy_weight

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        with torch.no_grad():
            target = self.teacher(images)
        logits = self.student(images)
        divergence = distillation(logits, target, self.temperature).mean()
        label_term = cross_entropy(logits, labels).mean()
        terms = {"divergence": divergence.detach(), "cross_entropy": label_term.detach()}
        return Losses(divergence + self.cross_entropy_weight * label_term, terms)
