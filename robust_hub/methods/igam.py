"""Input gradient alignment: what the robust teacher finds important, the student learns to find important."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from robust_hub.attacks import without_float16
from robust_hub.losses import cosine_distance, cross_entropy, kl_divergence, relative, squared_distance
from robust_hub.methods.base import Losses, Objective, check_at_least, check_has_effect, check_same_task, with_noise
from robust_hub.methods.discriminator import Discriminator
from robust_hub.methods.input_gradients import GradientOptions, students_gradient, twice_differentiable
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images, Labels, Logits, PerExample

# Logits, and features, of which student and teacher have each their own number.
Answer: TypeAlias = tuple[Tensor, Tensor]
OfLogits: TypeAlias = Callable[[Logits], PerExample]
Scalar: TypeAlias = Callable[[Logits, Labels], OfLogits]


def loss(logits: Logits, labels: Labels) -> OfLogits:
    """Chooses the cross-entropy with the true label, as the paper does."""
    return lambda logits: cross_entropy(logits, labels)


def probability(logits: Logits, labels: Labels) -> OfLogits:
    """Chooses the probability of the true label, as the authors' code does."""
    return lambda logits: logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def random_logits(logits: Logits, labels: Labels) -> OfLogits:
    """Chooses a combination of the logits with random normal coefficients of sum zero, drawn anew for each image.

    Its gradient is a random direction of the whole Jacobian and, unlike that of the loss, does not vanish where the
    classifier is sure.
    """
    return combination(_centred(torch.randn_like(logits)))


def combination(coefficients: Logits) -> OfLogits:
    """Gives a combination of the logits, with these coefficients for each image."""
    return lambda logits: (logits * coefficients).sum(1)


SCALARS: dict[str, Scalar] = {"loss": loss, "probability": probability, "random-logits": random_logits}


@dataclass(frozen=True)
class IGAMOptions(GradientOptions):
    """What IGAM compares.

    Attributes:
        weight: of the squared gradient distance, as a share of the squared length of the teacher's gradients.
        gradient_of: the scalar whose input gradients are compared: the paper's, its authors' code's, or ours, which
            learns faster.
        target: the teacher's answer about the image that the student sees; or the mean of those about the image and its
            mirror image before it is cropped, for which the teacher is asked once, before training, for gradients too:
            a step then costs what the student does, however large the teacher.
        divergence_weight: of the divergence from the teacher's predictions.
        logit_weight: of the mean squared difference of centred logits, which says more of a teacher that is sure of all
            its predictions; 0 leaves the term out.
        feature_weight: of the cosine distance between the teacher's features and the student's, behind a linear layer
            that learns with it and is not published; 0 leaves the term out.
        cross_entropy_weight: of the labels.
        adversarial_weight: of the cross-entropy of a discriminator between the gradients of student and teacher, which
            the student raises and the discriminator lowers; 0 leaves the discriminator out.
        discriminator_period: the discriminator learns at every so manieth step, the last one among them.
        noise: radius of uniform noise on the images, in pixel units.
    """

    method: ClassVar[str] = "IGAM"
    start: float = 0.33
    weight: float = 3.0
    gradient_of: Literal["loss", "probability", "random-logits"] = "random-logits"
    target: Literal["clean", "once"] = "clean"
    divergence_weight: float = 1.0
    logit_weight: float = 0.0
    feature_weight: float = 10.0
    cross_entropy_weight: float = 0.1
    adversarial_weight: float = 0.0
    discriminator_period: int = 5
    noise: float = 8 / 255

    @classmethod
    def published(cls, mean_square: float) -> "IGAMOptions":
        """Gives the settings of the authors' runs from CIFAR-10 to CIFAR-100.

        Args:
            mean_square: mean squared length of the teacher's gradients of the true class's probability, for images in
                [0, 1]. Their gamma of 10 in batches of 32 on pixels from 0 to 255 is no share of it.
        """
        return cls(
            weight=10 * 32 / 255**2 * mean_square,
            gradient_of="probability",
            divergence_weight=0.0,
            feature_weight=0.0,
            cross_entropy_weight=1.0,
            adversarial_weight=2.0,
            start=7 / 8,
            ramp=0.0,
        )


class IGAM(Objective):
    """The squared distance between input gradients of student and teacher, beside those of features and predictions.

    The default compares features and predictions at natural images and, from a third of the run on, gradients of random
    combinations of the logits. With AdamW and a teacher that was asked once, a ResNet of CIFAR-10 so kept 73 % of its
    teacher's AutoAttack accuracy, and 55 % with logits and labels beside gradients that weigh 37. On digits the default
    is no less robust than the one before (weight 1 from the start, no features), for 0.84 of the passes, and 10 points
    less than gradients that weigh 50 beside logits (docs/results.md). The paper's gradient of the loss, and its
    authors' settings (`IGAMOptions.published`), are options.

    Args:
        student: the classifier to train.
        teacher: the robust classifier.
        options: what is compared.

    Raises:
        ValueError: when student and teacher do not share the task, or an option is out of its range.

    Source: Chan et al., CVPR 2020, arXiv 1912.05699, Algorithm 1; `random_logits` and the logit term are Jacobian
        matching, Srinivas and Fleuret, ICML 2018, arXiv 1803.00443.
    Deviations: the divergence, features (the distance is that of Vaishnavi et al., USENIX Security 2022, arXiv
        2202.09994), a teacher that is asked once, pooled gradients and a period are ours. The distance of gradients is
        a share of the mean square of the teacher's at the images of a step, so that one weight serves images of all
        sizes: the authors' gamma of 10 at batch size 32 on pixels from 0 to 255 is a weight of 4.9e-3 times that mean
        square on [0, 1].
        Student and discriminator step at the same time, with one optimizer, not one after the other; the teacher is in
        eval mode. Each image's scalar has a random sign while the student's gradient is taken, so that what BatchNorm
        mixes into it from other images cancels on average. Attention is computed in its unfused form, which alone has a
        second derivative, and what a run computes in float16 in float32.
    """

    needs_second_derivatives = True
    takes_soft_labels = False

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: IGAMOptions = IGAMOptions()):
        super().__init__()
        check_same_task(student, teacher)
        weights = {"weight": options.weight, "divergence_weight": options.divergence_weight}
        weights |= {"logit_weight": options.logit_weight, "cross_entropy_weight": options.cross_entropy_weight}
        weights |= {"feature_weight": options.feature_weight, "adversarial_weight": options.adversarial_weight}
        check_at_least(0, "IGAM", **weights, noise=options.noise)
        check_at_least(1, "IGAM", discriminator_period=options.discriminator_period)
        if not options.adversarial_weight:
            check_has_effect(options, "discriminator_period", needs="--adversarial-weight")
        if not options.weight and not options.adversarial_weight:
            raise ValueError("IGAM compares gradients; give a --weight or --adversarial-weight above 0, or use kd")
        if options.target == "once" and options.gradient_of != "random-logits":
            raise ValueError("a teacher is asked once for gradients of random logits alone; drop --gradient-of")
        self.student, self.teacher, self.options = student, teacher, options
        self.discriminator = Discriminator(student.input_size) if options.adversarial_weight else None
        taught = teacher.classifier.num_features if options.feature_weight else 0
        self.projection = nn.Linear(student.num_features, taught) if taught else None
        # Logits, coefficients, features; and a gradient.
        self.asked_once = (2 * student.num_classes + taught, 1) if options.target == "once" else (0, 0)

    def forward(self, images: Images, labels: Labels, *answers: Tensor) -> Losses:
        """Computes the loss of a batch; with the teacher's answers where it was asked once."""
        options = self.options
        images = with_noise(images, options.noise)
        share = options.share(self.step, self.steps)
        if share == 0:
            taught = self._recalled(*answers)[0] if answers else self._told(images)
            return self._total(self._terms(self.student.forward_with_features(images), taught, labels), share)
        with twice_differentiable(images.device.type):
            images.requires_grad_()
            taught, scalar, target = self._recalled(*answers) if answers else self._told_with_gradient(images, labels)
            learnt = self.student.forward_with_features(images)
            gradient = students_gradient(scalar(learnt[0]), images, self.student)
            terms = self._terms(learnt, taught, labels)
            pooled = options.pooled(gradient), options.pooled(target)
            terms["gradient_distance"] = relative(squared_distance, *pooled)
            if self.discriminator is not None:
                terms["discriminator"] = self._discrimination(gradient, target, share * options.adversarial_weight)
            return self._total(terms, share)

    def ask(self, images: Images) -> Tensor:
        """Gives the teacher's logits, coefficients, features where they count, and the gradient of logits so combined.

        The coefficients depend on an image's place in the batch alone, so that they are one for both of its views.
        """
        with torch.enable_grad(), without_float16(images.device.type):
            pixels = images.detach().requires_grad_()
            logits, features = self.teacher.forward_with_features(pixels)
            drawn = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
            coefficients = _centred(drawn).to(logits)
            (gradient,) = torch.autograd.grad(combination(coefficients)(logits).sum(), pixels)
        counted = [features.detach()] if self.projection is not None else []
        return torch.cat([logits.detach(), coefficients, *counted, gradient.flatten(1)], 1)

    def _recalled(self, numbers: Tensor, maps: Tensor) -> tuple[Answer, OfLogits, Images]:
        """Takes what was asked once apart again: the answer, the scalar, and its gradient."""
        classes = self.student.num_classes
        logits, coefficients, features = numbers.tensor_split([classes, 2 * classes], dim=1)
        return (logits, features), combination(coefficients), maps.squeeze(1)

    def _told(self, images: Images) -> Answer | None:
        """Asks the teacher for no gradient, and for nothing where nothing of its answer counts."""
        options = self.options
        if not (options.divergence_weight or options.logit_weight or options.feature_weight):
            return None
        with torch.no_grad():
            return self.teacher.forward_with_features(images)

    def _told_with_gradient(self, images: Images, labels: Labels) -> tuple[Answer, OfLogits, Images]:
        """Asks the teacher for its answer and, of the scalar that it chooses, the gradient."""
        logits, features = self.teacher.forward_with_features(images)
        scalar = SCALARS[self.options.gradient_of](logits, labels)
        (gradient,) = torch.autograd.grad(scalar(logits).sum(), images)
        return (logits.detach(), features.detach()), scalar, gradient

    def _terms(self, learnt: Answer, taught: Answer | None, labels: Labels) -> dict[str, Tensor]:
        """What is compared without gradients: logits, and features where they count."""
        options, (logits, features) = self.options, learnt
        terms = {"cross_entropy": cross_entropy(logits, labels).mean()}
        if taught is None:
            return terms
        if options.divergence_weight:
            terms["divergence"] = kl_divergence(logits, taught[0]).mean()
        if options.logit_weight:
            terms["logit_distance"] = (_centred(logits) - _centred(taught[0])).square().mean()
        if self.projection is not None:
            projected = self.projection(features)
            terms["feature_distance"] = cosine_distance(projected, taught[1].to(projected.dtype)).mean()
        return terms

    def _total(self, terms: dict[str, Tensor], share: float) -> Losses:
        """Adds up the terms there are."""
        weights = {
            "cross_entropy": self.options.cross_entropy_weight,
            "divergence": self.options.divergence_weight,
            "logit_distance": self.options.logit_weight,
            "feature_distance": self.options.feature_weight,
            "gradient_distance": share * self.options.weight,
            "discriminator": 1.0,
        }
        total = sum((weights[name] * term for name, term in terms.items()), start=terms["cross_entropy"].new_zeros(()))
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    def _discrimination(self, gradient: Images, target: Images, weight: float) -> Tensor:
        """The discriminator's cross-entropy, which goes back to the student with the opposite sign and a weight."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_((self.steps - 1 - self.step) % self.options.discriminator_period == 0)
        reversed_gradient = gradient.clone()
        reversed_gradient.register_hook(lambda back: -weight * back)
        told = self.discriminator(torch.cat([reversed_gradient, target]))
        is_teacher = torch.arange(2, device=told.device).repeat_interleave(len(gradient))
        return cross_entropy(told, is_teacher).mean()


def _centred(logits: Logits) -> Logits:
    return logits - logits.mean(1, keepdim=True)
