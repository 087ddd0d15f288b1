"""Adversarial training: how the teachers are made."""

from dataclasses import dataclass
from typing import ClassVar

from robust_hub.attacks import NFGSM, PGD, Attack
from robust_hub.losses import cross_entropy
from robust_hub.methods.base import AttackOptions, Losses, Objective
from robust_hub.methods.one_step import OneStepOptions, nonlinearity
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class PGDOptions(AttackOptions):
    """How Madry's training attacks.

    Attributes:
        steps: gradients of the attack; its step is 2.5 eps / steps.
    """

    method: ClassVar[str] = "PGD"
    steps: int = 7

    def attack(self, threat: Threat) -> Attack:
        """Makes the attack that the student is trained under."""
        return PGD.standard(threat, steps=self.steps)


@dataclass(frozen=True)
class NFGSMOptions(OneStepOptions):
    """How the fast training attacks."""

    method: ClassVar[str] = "NFGSM"

    def attack(self, threat: Threat) -> Attack:
        """Makes the attack that the student is trained under."""
        return NFGSM(threat, self.noise, self.step_size)


class AdversarialTraining(Objective):
    """Cross-entropy on the images that an attack finds: `PGD` for Madry's training, `NFGSM` for the fast one.

    Args:
        student: the classifier to train.
        threat: the ball.
        options: make the attack, which is run against the student of the moment, in eval mode.

    Source: Madry et al., ICLR 2018, arXiv 1706.06083, equation 2.1; with NFGSM de Jorge et al., NeurIPS 2022,
        arXiv 2202.01181.
    Deviations: the attack sees BatchNorm in eval mode, so it neither uses nor changes batch statistics.
    """

    def __init__(self, student: PixelClassifier, threat: Threat, options: PGDOptions | NFGSMOptions):
        super().__init__()
        self.student, self.threat, self.options = student, threat, options
        self.attacks_in_one_step = isinstance(options, OneStepOptions)

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        threat = self.threat_now(self.threat, self.options)
        adversarial = self.options.attack(threat)(self.student, images, labels) if threat.eps else images
        total = cross_entropy(self.student(adversarial), labels).mean()
        terms = {"adversarial_cross_entropy": total.detach()}
        if isinstance(self.options, OneStepOptions) and self.options.linearity_weight and threat.eps:
            bend = nonlinearity(self.student, images, labels, threat)
            total = total + self.options.linearity_weight * bend
            terms["nonlinearity"] = bend.detach()
        return Losses(total, terms)
