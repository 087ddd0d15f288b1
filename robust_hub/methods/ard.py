"""Adversarially robust distillation: the strong baseline, at the price of adversarial training."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from robust_hub.attacks import PGD, Attack
from robust_hub.losses import cross_entropy, distillation
from robust_hub.methods.base import AttackOptions, Losses, Objective, check_at_least, check_same_task
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.threats import Threat
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class ARDOptions(AttackOptions):
    """How predictions are imitated.

    Attributes:
        steps: gradients of the PGD attack; its step is 2.5 eps / steps.
        temperature: divides the logits of both before the softmax.
        cross_entropy_weight: of the labels on clean images, beside the divergence times the squared temperature.
    """

    method: ClassVar[str] = "ARD"
    steps: int = 10
    temperature: float = 30.0
    cross_entropy_weight: float = 0.0

    def attack(self, threat: Threat) -> Attack:
        """Makes the attack that the student is trained under."""
        return PGD.standard(threat, steps=self.steps)


class ARD(Objective):
    """The divergence of the student's predictions under attack from the teacher's on the clean image.

    Args:
        student: the classifier to train.
        teacher: the robust classifier.
        threat: the ball.
        options: how it is imitated; they make the attack, which is run against the student of the moment, in eval mode.

    Raises:
        ValueError: when the tasks differ or an option is out of its range.

    Source: Goldblum et al., AAAI 2020, arXiv 1905.09747; the authors' run has PGD-10 with steps of 2/255, temperature
        30 and no cross-entropy.
    Deviations: the attack sees BatchNorm in eval mode; the divergence is summed over classes, where the authors' code
        takes its mean over them; clean and adversarial images share one forward pass, and so BatchNorm statistics.
    """

    def __init__(self, student: PixelClassifier, teacher: Teacher, threat: Threat, options: ARDOptions = ARDOptions()):
        super().__init__()
        check_same_task(student, teacher)
        check_at_least(0.1, "ARD", temperature=options.temperature)
        check_at_least(0, "ARD", cross_entropy_weight=options.cross_entropy_weight)
        self.student, self.teacher, self.threat, self.options = student, teacher, threat, options

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        threat = self.threat_now(self.threat, self.options)
        adversarial = self.options.attack(threat)(self.student, images, labels) if threat.eps else images
        with torch.no_grad():
            target = self.teacher(images)
        if self.options.cross_entropy_weight == 0:
            total = distillation(self.student(adversarial), target, self.options.temperature).mean()
            return Losses(total, {"divergence": total.detach()})
        clean, perturbed = self.student(torch.cat([images, adversarial])).chunk(2)
        divergence = distillation(perturbed, target, self.options.temperature).mean()
        label_term = cross_entropy(clean, labels).mean()
        terms = {"divergence": divergence.detach(), "cross_entropy": label_term.detach()}
        return Losses(divergence + self.options.cross_entropy_weight * label_term, terms)
