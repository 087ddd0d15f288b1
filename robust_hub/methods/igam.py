"""Input gradient alignment: what the robust teacher finds important, the student learns to find important."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from robust_hub.losses import cross_entropy, relative, squared_distance
from robust_hub.methods.base import (
    Losses,
    Objective,
    Options,
    check_at_least,
    check_has_effect,
    check_same_task,
    twice_differentiable,
)
from robust_hub.methods.discriminator import Discriminator
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images, Labels, Logits, PerExample

Scalar: TypeAlias = Callable[[Logits, Labels], Callable[[Logits], PerExample]]


def loss(logits: Logits, labels: Labels) -> Callable[[Logits], PerExample]:
    """Chooses the cross-entropy with the true label, as the paper does."""
    return lambda logits: cross_entropy(logits, labels)


def probability(logits: Logits, labels: Labels) -> Callable[[Logits], PerExample]:
    """Chooses the probability of the true label, as the authors' code does."""
    return lambda logits: logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def random_logits(logits: Logits, labels: Labels) -> Callable[[Logits], PerExample]:
    """Chooses a combination of the logits with random normal coefficients of sum zero, drawn anew for each image.

    Its gradient is a random direction of the whole Jacobian and, unlike that of the loss, does not vanish where the
    classifier is sure.
    """
    coefficients = torch.randn_like(logits)
    coefficients = coefficients - coefficients.mean(1, keepdim=True)
    return lambda logits: (logits * coefficients).sum(1)


SCALARS: dict[str, Scalar] = {"loss": loss, "probability": probability, "random-logits": random_logits}


@dataclass(frozen=True)
class IGAMOptions(Options):
    """What IGAM compares.

    Attributes:
        weight: of the squared gradient distance, as a share of the squared length of the teacher's gradients.
        gradient_of: the scalar whose input gradients are compared: the paper's, its authors' code's, or ours, which
            learns faster.
        logit_weight: of the mean squared difference of centred logits; 0 leaves the term out.
        adversarial_weight: of the cross-entropy of a discriminator between the gradients of student and teacher, which
            the student raises and the discriminator lowers; 0 leaves the discriminator out.
        discriminator_period: the discriminator learns at every so manieth step.
        noise: radius of uniform noise on the images, in pixel units.
        start: steps trained with cross-entropy alone, without any second derivative.
        ramp: steps over which the weights then grow from 0.
    """

    method: ClassVar[str] = "IGAM"
    weight: float = 1.0
    gradient_of: Literal["loss", "probability", "random-logits"] = "loss"
    logit_weight: float = 0.0
    adversarial_weight: float = 0.0
    discriminator_period: int = 5
    noise: float = 8 / 255
    start: int = 0
    ramp: int = 500


class IGAM(Objective):
    """Cross-entropy plus the squared distance between input gradients of student and teacher at natural images.

    Args:
        student: the classifier to train.
        teacher: the robust classifier.
        options: what is compared.

    Raises:
        ValueError: when student and teacher do not share the task, or an option is out of its range.

    Source: Chan et al., CVPR 2020, arXiv 1912.05699, Algorithm 1; `random_logits` and the logit term are Jacobian
        matching, Srinivas and Fleuret, ICML 2018, arXiv 1803.00443.
    Deviations: gradients of the loss are compared, as in the paper, where the authors' code takes those of the true
        class's probability (`probability`). The distance is a share of the mean square of the teacher's gradients at
        the images of a step, so that one weight serves images of all sizes: the authors' gamma of 10 at batch size 32
        on pixels from 0 to 255 is a weight of 4.9e-3 times that mean square on [0, 1]; their beta of 2 is an
        adversarial weight of 2. Student and discriminator step at the same time, with one optimizer, not one after the
        other; the teacher is in eval mode. The objective is computed in float32 whatever the run's precision, and
        attention in its unfused form, which alone has a second derivative.
    """

    needs_second_derivatives = True
    takes_soft_labels = False

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: IGAMOptions = IGAMOptions()):
        super().__init__()
        check_same_task(student, teacher)
        weights = {"weight": options.weight, "logit_weight": options.logit_weight}
        check_at_least(0, "IGAM", **weights, adversarial_weight=options.adversarial_weight, noise=options.noise)
        check_at_least(0, "IGAM", start=options.start, ramp=options.ramp)
        check_at_least(1, "IGAM", discriminator_period=options.discriminator_period)
        if not options.adversarial_weight:
            check_has_effect(options, "discriminator_period", needs="--adversarial-weight")
        if not options.weight and not options.adversarial_weight:
            check_has_effect(options, "gradient_of", needs="a --weight or --adversarial-weight above 0")
        self.student, self.teacher, self.options = student, teacher, options
        self.discriminator = Discriminator(student.input_size) if options.adversarial_weight else None

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        images = (images + self.options.noise * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
        scale = self._scale()
        if scale == 0:
            label_term = cross_entropy(self.student(images), labels).mean()
            return Losses(label_term, {"cross_entropy": label_term.detach()})
        with twice_differentiable(images.device.type):
            images.requires_grad_()
            taught, learnt = self.teacher(images), self.student(images)
            scalar = SCALARS[self.options.gradient_of](taught, labels)
            (target,) = torch.autograd.grad(scalar(taught).sum(), images)
            (gradient,) = torch.autograd.grad(scalar(learnt).sum(), images, create_graph=True)
            gradient.register_hook(self.student.count_backward)
            gradient_term = relative(squared_distance, gradient, target)
            logit_term = (_centred(learnt) - _centred(taught.detach())).square().mean()
            label_term = cross_entropy(learnt, labels).mean()
            terms = {"cross_entropy": label_term, "gradient_distance": gradient_term, "logit_distance": logit_term}
            total = label_term + scale * (self.options.weight * gradient_term + self.options.logit_weight * logit_term)
            if self.discriminator is not None:
                terms["discriminator"] = self._discrimination(gradient, target, scale * self.options.adversarial_weight)
                total = total + terms["discriminator"]
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    def _discrimination(self, gradient: Images, target: Images, weight: float) -> Tensor:
        """The discriminator's cross-entropy, which goes back to the student with the opposite sign and a weight."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_(self.step % self.options.discriminator_period == 0)
        reversed_gradient = gradient.clone()
        reversed_gradient.register_hook(lambda back: -weight * back)
        told = self.discriminator(torch.cat([reversed_gradient, target]))
        is_teacher = torch.arange(2, device=told.device).repeat_interleave(len(gradient))
        return cross_entropy(told, is_teacher).mean()

    def _scale(self) -> float:
        """The share of the weights that is in force at this step."""
        step = self.step - self.options.start
        if step < 0:
            return 0.0
        return min(1.0, (step + 1) / self.options.ramp) if self.options.ramp else 1.0


def _centred(logits: Logits) -> Logits:
    return logits - logits.mean(1, keepdim=True)
