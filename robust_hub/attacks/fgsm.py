"""Single-step attacks: FGSM, and the noisy one that adversarial training can be built on."""

from dataclasses import dataclass, replace

from torch import nn

from robust_hub.attacks.base import eval_mode, loss_and_gradient
from robust_hub.losses import cross_entropy
from robust_hub.threats import Threat
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class FGSM:
    """Takes one step of length eps along the steepest ascent of the cross-entropy.

    Source: Goodfellow et al., ICLR 2015, arXiv 1412.6572.
    """

    threat: Threat

    def __call__(self, classifier: nn.Module, images: Images, labels: Targets) -> Images:
        """Returns adversarial images."""
        with eval_mode(classifier):
            _, gradient = loss_and_gradient(lambda pixels: cross_entropy(classifier(pixels), labels), images)
        return (images + self.threat.eps * self.threat.steepest_ascent(gradient)).clamp(0, 1)


@dataclass(frozen=True)
class NFGSM:
    """Adds noise, then takes one step from there; for training only, as it leaves the ball on purpose.

    Args:
        threat: the ball.
        noise: radius of the noise as a multiple of eps.
        step_size: length of the step as a multiple of eps.

    Source: de Jorge et al., NeurIPS 2022, arXiv 2202.01181, Algorithm 1 with k = 2 and alpha = eps.
    Deviations: the gradient is taken in eval mode; images are clipped to [0, 1] after the noise and after the step.
    """

    threat: Threat
    noise: float = 2.0
    step_size: float = 1.0

    def __call__(self, classifier: nn.Module, images: Images, labels: Targets) -> Images:
        """Returns images up to (noise + step_size) * eps away."""
        noisy = (images + self.noise * self.threat.sample(images)).clamp(0, 1)
        return FGSM(replace(self.threat, eps=self.step_size * self.threat.eps))(classifier, noisy, labels)
