"""Projected gradient descent, the attack that adversarial training trains against."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from robust_hub.attacks.base import eval_mode, loss_and_gradient, without_float16
from robust_hub.losses import cross_entropy
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, Logits, PerExample, Targets


def ascend(
    loss: Callable[[Images], PerExample], images: Images, start: Images, *, threat: Threat, steps: int, step_size: float
) -> Images:
    """Climbs a loss from a starting perturbation, by steps of fixed length, inside the ball and inside [0, 1].

    Args:
        loss: gives one value per image; a classifier in it should be in eval mode.
        images: the clean images.
        start: the first perturbation.
        threat: the ball.
        steps: number of gradients taken.
        step_size: length of a step in pixel units, in the norm of the threat.
    """
    adversarial = (images + start).clamp(0, 1)
    for _ in range(steps):
        _, gradient = loss_and_gradient(loss, adversarial)
        step = adversarial + step_size * threat.steepest_ascent(gradient)
        adversarial = (images + threat.project(step - images)).clamp(0, 1)
    return adversarial.detach()


@dataclass(frozen=True)
class PGD:
    """Climbs the cross-entropy from uniform random starts and keeps the best restart for each image.

    Args:
        threat: the ball.
        steps: gradients a restart.
        step_size: length of a step in pixel units.
        restarts: number of random starts.
        stop_when_fooled: leaves an image where it is first misclassified, for evaluation: no image withstands more, and
            only those that withstand cost all steps. Without it each is climbed with to the end, for training.

    Source: Madry et al., ICLR 2018, arXiv 1706.06083.
    Deviations: the best restart is one that fools, else that of highest loss; an image that one has fooled is not
        attacked again.
    """

    threat: Threat
    steps: int
    step_size: float
    restarts: int = 1
    stop_when_fooled: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or self.step_size < 0:
            raise ValueError(f"PGD needs steps >= 1, restarts >= 1 and step_size >= 0, got {self}")

    @classmethod
    def standard(cls, threat: Threat, *, steps: int, restarts: int = 1, stop_when_fooled: bool = False) -> "PGD":
        """Makes PGD with steps of 2.5 eps / steps (Madry et al.), which can cross the ball and still settle."""
        return cls(threat, steps, 2.5 * threat.eps / max(steps, 1), restarts, stop_when_fooled)

    def __call__(self, classifier: nn.Module, images: Images, labels: Targets) -> Images:
        """Returns adversarial images."""
        with eval_mode(classifier):
            adversarial = self._run(classifier, images, labels)
            for _ in range(self.restarts - 1):
                remaining = _logits(classifier, adversarial).argmax(1) == labels
                if not remaining.any():
                    break
                adversarial[remaining] = self._stronger(
                    classifier, images[remaining], labels[remaining], adversarial[remaining]
                )
        return adversarial

    def _run(self, classifier: nn.Module, images: Images, labels: Targets) -> Images:
        if self.stop_when_fooled:
            return self._run_until_fooled(classifier, images, labels)
        return ascend(
            lambda adversarial: cross_entropy(classifier(adversarial), labels),
            images,
            self.threat.sample(images),
            threat=self.threat,
            steps=self.steps,
            step_size=self.step_size,
        )

    def _run_until_fooled(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """As `ascend`, each image for as long as it is classified rightly."""
        adversarial = (images + self.threat.sample(images)).clamp(0, 1)
        standing = torch.arange(len(images), device=images.device)
        for _ in range(self.steps):
            with torch.enable_grad(), without_float16(images.device.type):
                here = adversarial[standing].requires_grad_()
                logits = classifier(here)
                (gradient,) = torch.autograd.grad(cross_entropy(logits, labels[standing]).sum(), here)
            stands = logits.argmax(1) == labels[standing]
            if not stands.any():
                break
            standing = standing[stands]
            step = here.detach()[stands] + self.step_size * self.threat.steepest_ascent(gradient[stands])
            clean = images[standing]
            adversarial[standing] = (clean + self.threat.project(step - clean)).clamp(0, 1)
        return adversarial

    def _stronger(self, classifier: nn.Module, images: Images, labels: Labels, best: Images) -> Images:
        fresh = self._run(classifier, images, labels)
        logits = _logits(classifier, fresh)
        higher = cross_entropy(logits, labels) > cross_entropy(_logits(classifier, best), labels)
        # With three or more classes an image may be fooled at a lower cross-entropy than one that is not.
        better = higher | (logits.argmax(1) != labels)
        return torch.where(better[:, None, None, None], fresh, best)


def _logits(classifier: nn.Module, images: Images) -> Logits:
    with torch.no_grad():
        return classifier(images)
