"""TRADES: adversarial training that names its price in clean accuracy."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from robust_hub.attacks import ascend, eval_mode
from robust_hub.losses import cross_entropy, kl_divergence
from robust_hub.methods.base import AttackOptions, Losses, Objective, check_at_least, check_has_effect
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class TRADESOptions(AttackOptions):
    """How TRADES weighs, and how it attacks.

    Attributes:
        weight: the paper's 1 / lambda, of the divergence, dimensionless; more is more robust and less accurate.
        steps: gradients of the inner maximisation; its step is 2.5 eps / steps.
    """

    method: ClassVar[str] = "TRADES"
    weight: float = 6.0
    steps: int = 10


class TRADES(Objective):
    """Clean cross-entropy plus the divergence between clean and adversarial predictions.

    Args:
        student: the classifier to train.
        threat: the ball in which the divergence is maximised.
        options: how it weighs, and attacks.

    Raises:
        ValueError: when an option is out of its range, or does nothing.

    Source: Zhang et al., ICML 2019, arXiv 1901.08573, equation 5 and Algorithm 1.
    Deviations: clean and adversarial images share one forward pass, and so BatchNorm statistics; the inner start is
        uniform in a thousandth of the ball where the authors add Gaussian noise of deviation 0.001.
    """

    def __init__(self, student: PixelClassifier, threat: Threat, options: TRADESOptions = TRADESOptions()):
        super().__init__()
        check_at_least(0, "TRADES", weight=options.weight)
        if not options.weight:
            for name in ("steps", "delay", "eps_warmup"):
                check_has_effect(options, name, needs="a --weight above 0")
        self.student, self.threat, self.options = student, threat, options

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        threat = self.threat_now(self.threat, self.options)
        if not threat.eps:
            plain = cross_entropy(self.student(images), labels).mean()
            return Losses(plain, {"cross_entropy": plain.detach(), "divergence": torch.zeros_like(plain)})
        adversarial = self._most_divergent(images, threat)
        clean, perturbed = self.student(torch.cat([images, adversarial])).chunk(2)
        accuracy_term = cross_entropy(clean, labels).mean()
        robustness_term = kl_divergence(perturbed, clean).mean()
        terms = {"cross_entropy": accuracy_term.detach(), "divergence": robustness_term.detach()}
        return Losses(accuracy_term + self.options.weight * robustness_term, terms)

    def _most_divergent(self, images: Images, threat: Threat) -> Images:
        with eval_mode(self.student):
            with torch.no_grad():
                clean = self.student(images)
            return ascend(
                lambda adversarial: kl_divergence(self.student(adversarial), clean),
                images,
                0.001 * threat.sample(images),
                threat=threat,
                steps=self.options.steps,
                step_size=2.5 * threat.eps / self.options.steps,
            )
